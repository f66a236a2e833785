import json
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

import search_spaces
from bench import methods, plugins
from bench.errors import UserError
from bench.score_columns import ScoreColumn
from bench.spec import Budget, Cell, DegradationSpec, MethodSpec, Search, Task
from bench.sweep.cell_study import CellStudy
from bench.sweep.journal import Journal
from bench.sweep.studies import Studies

BUDGET = Budget(trials=6, steps=10)


def cell(method: str = "tv") -> Cell:
    task = Task("data", DegradationSpec(name="gaussian_noise", levels=[0.1]), 0.1)
    return Cell(task, 0, MethodSpec.model_validate(method))


def study(folder: Path, method: str = "tv", **more: object) -> CellStudy:
    return CellStudy(cell(method), BUDGET, Studies(folder / "journal.log"), **more)


def quality(config: dict) -> float:
    return 20 - (config["weight"] - 1.4) ** 2


def run(one: CellStudy, count: int) -> list[tuple[int, dict]]:
    """Run `count` trials to their end."""
    seen = []
    for _ in range(count):
        candidate = one.ask()
        assert candidate is not None
        one.tell(candidate.index, quality(candidate.config), step=10)
        seen.append((candidate.index, candidate.config))
    return seen


def test_the_first_trial_is_the_defaults_and_the_best_is_found(tmp_path: Path) -> None:
    one = study(tmp_path)
    tried = run(one, 6)
    assert tried[0] == (0, {"weight": 0.7})
    assert one.done
    assert one.ask() is None
    assert one.best == max((config for _, config in tried), key=quality)


def test_where_lower_is_better_the_lowest_is_the_best(tmp_path: Path) -> None:
    one = study(tmp_path, objective=ScoreColumn("mae", "MAE", direction="lower"))
    tried = []
    for _ in range(6):
        candidate = one.ask()
        assert candidate is not None
        error = abs(candidate.config["weight"] - 1.4)
        one.tell(candidate.index, -error, psnr=20.0, step=10)
        tried.append((error, candidate.config))
    assert one.best == min(tried, key=lambda line: line[0])[1]
    assert one.table()["mae"].tolist() == [error for error, _ in tried]
    assert set(one.table()["psnr"]) == {20.0}
    resumed = study(tmp_path, objective=one.objective)
    assert resumed.best == one.best


def test_a_method_without_parameters_has_one_trial(tmp_path: Path) -> None:
    one = study(tmp_path, "degraded")
    assert one.ask() is not None
    assert one.ask() is None


def test_what_is_finished_is_not_asked_again(tmp_path: Path) -> None:
    before = run(study(tmp_path), 4)
    resumed = study(tmp_path)
    assert resumed.finished == 4
    after = run(resumed, 2)
    assert [index for index, _ in before + after] == list(range(6))
    assert resumed.done


def test_an_interrupted_search_tries_what_an_undisturbed_one_does(tmp_path: Path) -> None:
    for name in ("undisturbed", "killed"):
        (tmp_path / name).mkdir()
    undisturbed = run(study(tmp_path / "undisturbed"), 6)
    killed = study(tmp_path / "killed")
    run(killed, 2)
    killed.ask()  # under way when the driver dies
    resumed = study(tmp_path / "killed")
    assert resumed.finished == 2
    run(resumed, 4)
    assert json.loads(resumed.table()["config"].to_json()) == {
        str(index): json.dumps(config) for index, config in undisturbed
    }


def test_trials_that_fall_behind_are_pruned_and_never_win(tmp_path: Path) -> None:
    one = study(tmp_path)
    first, second = one.ask(), one.ask()
    assert first is not None
    assert second is not None
    one.report(second.index, 5, 30.0)
    one.tell(second.index, 30.0, pruned=True, step=5)
    one.tell(first.index, 20.0, step=10)
    assert one.best == first.config
    assert list(one.table()["state"]) == ["complete", "pruned"]
    assert one.validations()[second.index] == {5: 30.0}


@pytest.mark.parametrize("psnr", [float("nan"), None])
def test_a_failed_trial_is_kept_with_its_reason(tmp_path: Path, psnr: float | None) -> None:
    one = study(tmp_path)
    candidate = one.ask()
    assert candidate is not None
    one.tell(candidate.index, psnr, error="DivergedError: the loss was nan at step 3")
    table = study(tmp_path).table()
    assert list(table["state"]) == ["failed"]
    assert "step 3" in table["error"][0]


def test_a_cell_without_any_result_is_tried_anew(tmp_path: Path) -> None:
    one = study(tmp_path)
    for _ in range(6):
        candidate = one.ask()
        assert candidate is not None
        one.tell(candidate.index, None, error="out of memory")
    assert one.done
    assert one.best is None
    again = study(tmp_path)
    assert not again.done
    assert len(run(again, 6)) == 6


def test_trials_of_a_changed_search_space_are_refused_with_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(study(tmp_path), 2)
    space = methods.find("tv").space()
    space["weight"]["high"] *= 2
    monkeypatch.setattr(methods.Method, "space", lambda method, fixed=None: space)
    with pytest.raises(UserError, match=r"-tv: has trials .*\(search space\.weight\)"):
        study(tmp_path)


@pytest.mark.parametrize("package", [False, True])
def test_trials_of_changed_code_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: bool
) -> None:
    name = f"plug_{'package' if package else 'file'}"
    file = tmp_path / name / "nets.py" if package else tmp_path / f"{name}.py"
    file.parent.mkdir(exist_ok=True)
    if package:
        (file.parent / "__init__.py").touch()
    file.write_text(
        "from bench.methods import Classical\n"
        "class Half(Classical):\n"
        "    search_space = {'factor': {'low': 0.1, 'high': 1.0, 'default': 0.5}}\n"
        "    def __init__(self, factor: float = 0.5):\n"
        "        super().__init__()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    method = f"{name}{'.nets' if package else ''}:Half"
    study(tmp_path, method).ask()
    with file.open("a") as code:
        code.write("# another version\n")
    plugins.digest_of.cache_clear()
    with pytest.raises(UserError, match=rf"\(code of {method}\)"):
        study(tmp_path, method)


def as_optuna_reads(folder: Path) -> JournalStorage:
    return JournalStorage(JournalFileBackend(str(folder / "journal.log")))


def test_optuna_itself_reads_what_was_tried(tmp_path: Path) -> None:
    one = study(tmp_path)
    run(one, 4)
    under_way = one.ask()
    assert under_way is not None
    found = optuna.load_study(study_name=cell().id, storage=as_optuna_reads(tmp_path))
    assert [trial.state.name for trial in found.trials] == ["COMPLETE"] * 4 + ["RUNNING"]
    assert [trial.user_attrs["config"] for trial in found.trials[:4]] == [
        json.loads(config) for config in one.table()["config"]
    ]
    assert found.trials[4].user_attrs["config"] == under_way.config


def test_a_crash_in_the_middle_of_a_line_costs_that_line(tmp_path: Path) -> None:
    run(study(tmp_path), 2)
    journal = tmp_path / "journal.log"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":6,"wor')
    again = study(tmp_path)
    assert again.finished == 2
    assert journal.read_bytes() == whole
    assert len(run(again, 4)) == 4


def test_a_second_storage_on_the_journal_sees_every_study(tmp_path: Path) -> None:
    kept = Journal(tmp_path / "journal.log")
    first = JournalStorage(kept)
    for name in ("a", "b"):
        study = optuna.create_study(study_name=name, storage=first)
        study.tell(study.ask(), 1.0)
        kept.flush()
    later = optuna.create_study(study_name="c", storage=first)
    later.ask()  # not written yet
    second = JournalStorage(kept)
    names = [one.study_name for one in second.get_all_studies()]
    trials = [optuna.load_study(study_name=name, storage=second).trials for name in names]
    assert (names, list(map(len, trials))) == (["a", "b", "c"], [1, 1, 1])
    later.tell(0, 2.0)
    optuna.load_study(study_name="a", storage=second).ask()
    assert len(optuna.load_study(study_name="a", storage=first).trials) == 2
    assert optuna.load_study(study_name="c", storage=second).best_value == 2.0


@pytest.mark.parametrize("damage", ["lost", "changed", "no JSON", "swapped"])
def test_a_damaged_journal_is_set_aside_and_goes_on_from_before(
    tmp_path: Path, damage: str
) -> None:
    undisturbed = run(study(tmp_path), 6)
    journal = tmp_path / "journal.log"
    whole = journal.read_bytes()
    lines = whole.splitlines(keepends=True)
    half = len(lines) // 2
    lines[half : half + 2] = {
        "lost": [lines[half + 1]],
        "changed": [lines[half].replace(b'"worker_id":"', b'"worker_id":"0'), lines[half + 1]],
        "no JSON": [b"}\n", lines[half + 1]],
        "swapped": [lines[half + 1], lines[half]],
    }[damage]
    journal.write_bytes(b"".join(lines))
    studies = Studies(journal)
    assert studies.damage.startswith(f"{journal}: is damaged (line {half + 1}")
    assert (tmp_path / "journal.log.damaged").read_bytes() == b"".join(lines)
    again = CellStudy(cell(), BUDGET, studies)
    kept = again.finished
    assert 0 < kept < 6
    assert run(again, 6 - kept) == undisturbed[kept:]
    assert not Studies(journal).damage
    assert study(tmp_path).done


def test_nsga2_weighs_psnr_against_ssim_and_size(tmp_path: Path) -> None:
    search = Search.model_validate({"sampler": "nsga2"})
    one = CellStudy(cell(), BUDGET, Studies(tmp_path / "journal.log"), search)
    for number in range(6):
        candidate = one.ask()
        assert candidate is not None
        one.report(candidate.index, 5, 20.0 + number)
        if number == 5:
            one.tell(candidate.index, 40.0, ssim=0.9, parameters=3, pruned=True, step=5)
        else:
            one.tell(candidate.index, 20.0 + number, ssim=0.9, parameters=3, step=10)
    again = CellStudy(cell(), BUDGET, Studies(tmp_path / "journal.log"), search)
    assert list(again.table()["state"]) == ["complete"] * 5 + ["pruned"]
    assert list(again.table()["ssim"]) == [0.9] * 6
    assert again.best == json.loads(again.table()["config"][4])
    assert again.validations()[5] == {5: 25.0}
    study = optuna.load_study(study_name=cell().id, storage=as_optuna_reads(tmp_path))
    assert [direction.name for direction in study.directions] == ["MAXIMIZE"] * 2 + ["MINIMIZE"]
    assert len(study.best_trials) == 1


def finish(one: CellStudy, quality_of: Callable[[dict], float]) -> list[dict]:
    """Run a study to its end, and return the configurations in the order in which it asked."""
    seen = []
    while candidate := one.ask():
        one.tell(candidate.index, quality_of(candidate.config), step=10)
        seen.append(candidate.config)
    assert one.done
    return seen


SAMPLERS = get_args(Search.model_fields["sampler"].annotation)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_space_that_the_budget_covers_is_tried_as_a_whole(tmp_path: Path, sampler: str) -> None:
    search, journal = Search(sampler=sampler), tmp_path / "journal.log"
    sizes = [entry["choices"] for entry in methods.find("median").space().values()]
    first = CellStudy(cell("median"), BUDGET, Studies(journal), search)
    one, other = first.ask(), first.ask()  # two at a time
    assert one is not None
    assert other is not None
    first.tell(one.index, 20.0, step=10)
    rest = finish(CellStudy(cell("median"), BUDGET, Studies(journal), search), lambda _: 21.0)
    assert one.config == {"size": 3}
    assert rest[0] == other.config, "what a crash left unfinished is tried again"
    assert sorted(config["size"] for config in [one.config, *rest]) == sorted(*sizes)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("trials", [5, 11, 12])
def test_no_configuration_is_tried_twice(tmp_path: Path, sampler: str, trials: int) -> None:
    fixed = {"patch_size": 5, "h": 0.8, "patch_distance": 6}
    for key in fixed:
        space = methods.find("nlm").space({k: v for k, v in fixed.items() if k != key})
        task = Task("data", DegradationSpec(name="gaussian_noise", levels=[0.1]), 0.1)
        held = {k: v for k, v in fixed.items() if k != key}
        where = Cell(task, 0, MethodSpec(name="nlm", label=key, fixed=held))
        study = CellStudy(
            where, Budget(trials=trials, steps=10), Studies(tmp_path / key), Search(sampler=sampler)
        )
        seen = finish(study, lambda config, key=key: -abs(config[key] - 5.0))
        assert len(seen) == min(trials, search_spaces.size(space))
        assert len({json.dumps(config, sort_keys=True) for config in seen}) == len(seen)


def test_cmaes_learns_which_choice_is_good(tmp_path: Path) -> None:
    """CMA-ES alone draws choices at random: the good one of three in a third of the trials."""
    budget, search = Budget(trials=24, steps=10), Search(sampler="cmaes")
    study = CellStudy(cell("wavelet_cs"), budget, Studies(tmp_path / "journal.log"), search)
    seen = finish(study, lambda config: 20 + 5 * (config["wavelet"] == "db4") - config["weight"])
    late = [config["wavelet"] for config in seen[8:]]
    assert late.count("db4") > len(late) / 2
