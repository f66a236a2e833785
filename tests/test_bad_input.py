"""Whatever a benchmark file says: one line and exit status 2, or it is accepted and runs."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from benchmark_files import accepted, right, spoilt
from hypothesis import HealthCheck, Phase, given, settings

import search_spaces
from bench import markup, methods, physics, rules, spec, training
from bench.data import ImageSet
from bench.errors import DivergedError, UserError
from bench.spec import Budget
from bench.sweep.trial import CellTrial, Job

# Something that the strategies import makes random numbers of its own.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")
MANY = settings(
    derandomize=True, deadline=None, database=None, phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def odd_modules(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Modules that do what no module should."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "exiting_module.py").write_text("import sys\nsys.exit(0)\n")
    (folder / "raising_module.py").write_text("1 / 0\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield


@settings(MANY, max_examples=1000)
@given(content=spoilt())
def test_a_benchmark_file_is_accepted_or_refused_in_one_line(content: Any) -> None:
    accepted(content)


@settings(MANY, max_examples=12)
@given(content=right())
def test_a_right_file_runs(content: Any) -> None:
    benchmark = accepted(content)
    if benchmark is None:  # its parts do not go together
        return
    method, size = benchmark.methods[0], benchmark.dataset.image_size
    degradation = benchmark.degradations[0]
    operator = physics.create(degradation.name, degradation.levels[0], size, **degradation.options)
    noise = torch.rand(3, 1, size, size, generator=torch.Generator().manual_seed(0))
    images = torch.nn.functional.avg_pool2d(noise, 3, stride=1, padding=1).numpy()
    some = ImageSet(images, ["a", "b", "c"], ["a", "b", "c"])
    space = methods.find(method.name).space(method.fixed)
    config = {**search_spaces.defaults(space), **method.fixed}
    budget = Budget(steps=1, batch_size=2, reports=1)
    try:
        fit = training.fit(method.name, config, some, some, operator, budget, 0)
    except DivergedError:
        return  # its rate may be anything in its range
    assert fit.psnr == fit.psnr


def refused(text: str) -> str:
    """Return the line that refuses a file."""
    with pytest.raises(UserError) as caught:
        rules.check(spec.parse(markup.read(text, "file.yaml"), "file.yaml"))
    return str(caught.value)


FILE = """
degradations: [{name: gaussian_noise, levels: [0.1]%s}]
n_train: [2]
methods: [tv]
"""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (FILE % ", level: 0.1", "'level'; did you mean 'levels'"),
        (FILE % ", image_size: 8", "'image_size'"),
        (FILE.replace("0.1", ".nan") % "", "levels.0: Input should be a finite number"),
        (FILE.replace("0.1", ".inf") % "", "finite number"),
        (FILE.replace("0.1", "true") % "", "levels.0: Input should be a valid number"),
        (FILE % "" + "seeds: 1:30", "seeds: Input should be a valid integer (given: '1:30')"),
        (FILE % "" + "seeds: 2\nseeds: 3", "the key 'seeds' is a duplicate"),
        (FILE % "" + "seeds: true", "seeds: Input should be a valid integer"),
        (FILE.replace("tv", "':X'") % "", ":X: cannot be imported; write it as"),
        (FILE.replace("tv", ".rel:x") % "", ".rel:x: cannot be imported; write it as"),
        (FILE.replace("tv", "raising_module:Net") % "", "ends in ZeroDivisionError: division"),
        (FILE.replace("tv", "exiting_module:Net") % "", "ends in SystemExit: 0"),
        (FILE.replace("tv", "os:path") % "", "os:path: is not a method"),
        (FILE.replace("tv", "{name: unet, fixed: {loss: 5}}") % "", "unet.loss: Input should be a"),
        (FILE % "" + "dataset: {path: %s}" % ("x" * 5000), "dataset.path: cannot be read"),
        (FILE % "" + 'dataset: {path: "a\\0b"}', "dataset.path: a path cannot contain the null"),
        ("a: " + "[" * 1500, "nested more than 50 deep"),
        ("a: &a [*a]", "more than 100,000 values once its aliases are expanded"),
        ("n: " + "9" * 6000, "not valid YAML"),
        ("!!python/object/apply:os.getcwd []", "not valid YAML"),
    ],
)  # fmt: skip
def test_what_once_ended_in_a_traceback(text: str, says: str) -> None:
    line = refused(text)
    assert says in line
    assert "\n" not in line


def test_aliases_that_multiply_are_refused_at_once() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 20)]
    assert "values once its aliases are expanded" in refused("\n".join(lines))


def test_aliases_that_do_not_are_taken() -> None:
    text = FILE % "" + "n: &n [2]\nm: {<<: {a: 1}, n: *n}"
    assert markup.read(text, "x")["m"] == {"a": 1, "n": [2]}


@pytest.mark.parametrize("text", ["1e-3", "yes", "1:30", "0x10", "~", "2024-01-01", "07", ""])
def test_text_that_looks_like_something_else_stays_text(text: str) -> None:
    assert markup.read(markup.write({"a": text}), "x") == {"a": text}
    assert yaml.safe_load(markup.write({"a": text})) == {"a": text}


def test_numbers_are_what_they_look_like() -> None:
    read = markup.read("[1e-3, 0.1, 1., .5, -2, 0x10, 010, no, 1_000, .inf, 1.0e-05]", "x")
    assert read == [1e-3, 0.1, 1.0, 0.5, -2, 16, 10, "no", "1_000", float("inf"), 1e-5]


@pytest.mark.parametrize("message", [None, "the node is going down"])
def test_sys_exit_in_a_trial_is_the_methods_failure_unless_ray_ends_it(message: str | None) -> None:
    def run() -> Iterator[dict[str, Any]]:
        ended = SystemExit(0)
        if message is not None:
            ended.ray_terminate_msg = message
        raise ended
        yield {}

    folder = SimpleNamespace(folder="run")
    trial = SimpleNamespace(ends=None, shared=folder, job=Job("cell", {}, trial=0), run=run())
    if message is None:
        assert CellTrial._result(trial) == {"failed": "SystemExit: 0", "done": True}
    else:
        with pytest.raises(SystemExit):
            CellTrial._result(trial)
