from pathlib import Path

import pytest
import yaml

from bench import markup, spec
from bench.cells import cells_of, trials_of
from bench.cli import DEFAULT_SPEC
from bench.errors import UserError

SMALL = DEFAULT_SPEC


def sizes_of(name: str, sizes: list[int]) -> list[int]:
    return sizes if "unet" in name else [0]


def test_resolved_benchmark_reads_back_as_itself() -> None:
    benchmark = spec.load(SMALL)
    assert spec.parse(yaml.safe_load(benchmark.dump())) == benchmark


def test_cells_are_tasks_times_methods_times_sizes() -> None:
    benchmark = spec.load(SMALL)
    found = spec.cells(benchmark, sizes_of)
    assert len(found) == 2 * (5 + 2 * 2)
    assert len({cell.id for cell in found}) == len(found)
    assert all(cell.id.startswith(cell.task.id) for cell in found)
    assert [cell.n_train for cell in found] == sorted(cell.n_train for cell in found)


def test_options_make_another_task() -> None:
    degradations = [
        {"name": "gaussian_noise", "levels": [0.1]},
        {"name": "gaussian_noise", "levels": [0.1], "clip": True},
    ]
    benchmark = spec.load(SMALL, {"degradations": degradations})
    assert len({task.id for task in spec.tasks(benchmark)}) == 2


def test_overrides_reach_into_the_file() -> None:
    benchmark = spec.load(SMALL, {"dataset.image_size": 128, "budget.trials": 3})
    assert benchmark.dataset.image_size == 128
    assert benchmark.budget.trials == 3
    assert benchmark.budget.steps == spec.load(SMALL).budget.steps


def test_smoke_is_smaller_in_every_respect() -> None:
    full, smoke = spec.load(SMALL), spec.load(SMALL).smoke()
    assert smoke.budget.steps < full.budget.steps
    assert smoke.dataset.image_size < full.dataset.image_size
    assert smoke.methods == full.methods
    assert smoke.name != full.name


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"methdos": 1}, "did you mean 'methods'"),
        ({"budget.trails": 1}, "did you mean 'trials'"),
        ({"budget.trials": 0}, "budget.trials"),
        ({"n_train": [25, 25]}, "distinct"),
        ({"n_train": [0]}, "at least 1"),
        ({"dataset.image_size": "big"}, "dataset.image_size"),
        ({"methods": []}, "methods"),
        ({"methods": ["tv", "tv"]}, "'tv' is a duplicate label"),
        ({"methods": [{"name": "tv", "fixd": {}}]}, "did you mean 'fixed'"),
        ({"name": "../elsewhere"}, "name"),
        ({"methods": [{"name": "tv", "label": "../tv"}]}, "part of a path"),
        ({"degradations": [{"name": "g", "levels": [0.1, 0.1000000001]}]}, "duplicate level"),
        ({"name.first": "x"}, "not a mapping"),
        ({"degradations": [{"name": "gaussian_noise"}]}, "levels"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(overrides: dict, says: str) -> None:
    with pytest.raises(UserError) as caught:
        spec.load(SMALL, overrides)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    ["- a\n- b\n", "a: [1\n", "\xff"],
)
def test_a_file_that_is_no_benchmark(tmp_path: Path, content: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=r"spec\.yaml"):
        spec.load(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such benchmark file"):
        spec.load(tmp_path / "none.yaml")


def test_budgets_have_names() -> None:
    base = {"degradations": [{"name": "x", "levels": [1]}], "n_train": [1], "methods": ["m"]}
    small = spec.parse({**base, "budget": "small"}).budget
    assert (small.trials, small.steps) == (6, 120)
    assert spec.parse({**base, "budget": "paper"}).budget.steps > 100 * small.steps
    with pytest.raises(UserError, match="did you mean 'paper'"):
        spec.parse({**base, "budget": "papr"})
    with pytest.raises(UserError, match=r"unknown key 'search\.samplr'; did you mean 'sampler'"):
        spec.parse({**base, "search": {"samplr": "tpe"}})


def test_methods_of_greater_priority_run_first() -> None:
    benchmark = spec.parse(
        {
            "degradations": [{"name": "x", "levels": [1]}],
            "n_train": [8, 4],
            "methods": ["a", {"name": "b", "priority": 1}],
        }
    )
    order = [
        (cell.method.name, cell.n_train) for cell in spec.cells(benchmark, lambda _, sizes: sizes)
    ]
    assert order == [("b", 4), ("b", 8), ("a", 4), ("a", 8)]


METHODS = spec.load(SMALL).model_dump()["methods"]
LEVELS = [{"name": "gaussian_noise", "levels": [0.5, 0.2, 0.1]}]


@pytest.mark.parametrize(
    "change",
    [
        {"description": "another"},
        {"name": "another"},
        {"time_limit": 60},
        {"checkpoint_seconds": 1},
        {"seeds": 5},
        {"budget.trials": 12},
        {"n_train": [500, 25, 100]},
        {"degradations": LEVELS},
        {"degradations": [{"name": "gaussian_blur", "levels": [1]}, *LEVELS]},
        {"methods": [*METHODS[::-1], "dncnn"]},
        {"methods": [{**one, "priority": 3, "cpus": 2, "gpus": 0.5} for one in METHODS]},
        {"methods": [{**one, "trials": 16} for one in METHODS]},
    ],
    ids=str,
)
def test_a_run_goes_on_with_what_changes_no_number(change: dict) -> None:
    assert spec.conflicts(spec.load(SMALL), spec.load(SMALL, change)) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"dataset.image_size": 128}, "dataset.image_size"),
        ({"dataset.n_test": 30}, "dataset.n_test"),
        ({"dataset.subjects": 40}, "dataset.subjects"),
        ({"budget.steps": 1200}, "budget.steps"),
        ({"budget.batch_size": 16}, "budget.batch_size"),
        ({"budget.reports": 2}, "budget.reports"),
        ({"budget.trials": 2}, "budget.trials: not less than 6"),
        (
            {"methods": [*METHODS[1:], {**METHODS[0], "trials": 5}]},
            "methods.degraded.trials: not less than 6",
        ),
        ({"seeds": 1}, "seeds: not less than 3"),
        ({"precision": "fp32"}, "precision"),
        ({"deterministic": True}, "deterministic"),
        ({"search.sampler": "random"}, "search.sampler"),
        ({"n_train": [25]}, "n_train: without 100"),
        (
            {"degradations": [{"name": "gaussian_noise", "levels": [0.5]}]},
            "degradations.gaussian_noise.levels: without 0.1",
        ),
        (
            {"degradations": [{**LEVELS[0], "clip": True, "label": "gaussian_noise"}]},
            "degradations.gaussian_noise.clip",
        ),
        ({"methods": ["tv"]}, "methods: without degraded, constant"),
        (
            {"methods": [*METHODS[1:], {"name": "degraded", "fixed": {"a": 1}}]},
            "methods.degraded.fixed",
        ),
    ],
    ids=str,
)
def test_what_changes_numbers_is_named(change: dict, says: str) -> None:
    (found,) = spec.conflicts(spec.load(SMALL), spec.load(SMALL, change))
    assert found.startswith(says)


def test_a_method_may_have_its_own_number_of_trials() -> None:
    benchmark = spec.load(SMALL, {"methods": [{"name": "tv", "trials": 16}, "unet", "degraded"]})
    trials = {cell.method.label: trials_of(cell, benchmark.budget) for cell in cells_of(benchmark)}
    assert trials == {"tv": 16, "unet": 6, "degraded": 1}


def test_the_same_images_may_be_named_by_another_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scans").mkdir()
    monkeypatch.chdir(tmp_path)
    names = ("scans", "scans/../scans", str(tmp_path / "scans"))
    first, *others = (spec.load(SMALL, {"dataset.path": name}) for name in names)
    assert all(spec.conflicts(first, other) == [] for other in others)
    elsewhere = spec.load(SMALL, {"dataset.path": "images"})
    assert spec.conflicts(first, elsewhere) == ["dataset.name"]


def test_a_default_that_is_a_tuple_is_no_change_to_a_written_file() -> None:
    first = spec.load(SMALL).with_options({"include": ()}, [{"sizes": (1, 2)}])
    written = spec.parse(markup.read(first.dump(), "spec.yaml"))
    assert spec.conflicts(written, first) == []
    changed = spec.load(SMALL).with_options({"include": ("*.png",)}, [{"sizes": (1, 3)}])
    assert spec.conflicts(written, changed) == [
        "dataset.include",
        "degradations.gaussian_noise.sizes",
    ]
