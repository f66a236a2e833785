import json
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from bench import spec
from bench.cells import cells_of
from bench.errors import UserError
from bench.replay import replay
from bench.spec import Benchmark
from bench.store import ROW_KEYS, Store
from bench.sweep.scheduler import FinishedTrialCleanup, PendingTrialScheduler
from bench.sweep.searcher import SweepSearcher
from bench.sweep.studies import Studies

STEPS = 9
SPEC = spec.parse(
    {
        "degradations": [{"name": "gaussian_noise", "levels": [0.1, 0.5]}],
        "n_train": [4],
        "methods": ["degraded", "tv", "unet"],
        "budget": {"trials": 3, "steps": STEPS, "reports": 3},
        "seeds": 2,
        "pictures": 0,
    }
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "run")
    store.begin(SPEC, {"val": "data"})
    return store


def searcher_of(store: Store, benchmark: Benchmark = SPEC) -> SweepSearcher:
    return SweepSearcher(benchmark, cells_of(benchmark), store, Studies(store.journal))


class FakeTune:
    """Acts as Tune in one process: asks, runs, tells; refits write their rows."""

    def __init__(self, searcher: SweepSearcher, store: Store):
        self.searcher, self.store = searcher, store
        self.running: dict[str, dict] = {}
        self.done: list[dict] = []
        self.count = 0

    def start(self) -> dict | str | None:
        self.count += 1
        name = f"{id(self)}-{self.count}"
        job = self.searcher.suggest(name)
        if isinstance(job, dict):
            self.running[name] = job
        return job

    def finish(self, name: str, **result: object) -> None:
        job = self.running.pop(name)
        self.done.append(job)
        if job["seed"] is not None and "failed" not in result:
            rows = pd.DataFrame([dict.fromkeys(ROW_KEYS, 0)])
            self.store.write_model(job["cell"], job["seed"], {"config": job["config"]}, {})
            self.store.write_rows(job["cell"], job["seed"], rows)
        psnr = float(result.pop("best", 20.0))
        last = job["until"] or STEPS
        for step in range(3, last + 1, 3) if job["seed"] is None else ():
            self.searcher.on_trial_result(name, {"step": step, "psnr": psnr, "score": psnr})
        self.searcher.on_trial_complete(name, {"best": psnr, "step": last, **result})

    def run(self, at_once: int = 2) -> None:
        while True:
            while len(self.running) < at_once and isinstance(self.start(), dict):
                pass
            if not self.running:
                assert self.start() == Searcher.FINISHED
                return
            self.finish(next(iter(self.running)))


def test_every_cell_is_searched_once_and_refitted_by_its_seeds(store: Store) -> None:
    tune = FakeTune(searcher_of(store), store)
    tune.run()
    jobs = pd.DataFrame(tune.done).drop(columns="config")
    trials = jobs[jobs["trial"].notna()].groupby("cell")["trial"].nunique()
    refits = jobs[jobs["seed"].notna()].groupby("cell").size()
    for cell in cells_of(SPEC):
        assert trials[cell.id] == (1 if cell.method.name == "degraded" else 3)
        assert refits[cell.id] == (2 if cell.method.name == "unet" else 1)
    assert not jobs.duplicated().any()
    assert tune.searcher.finished
    assert len(store.trials()) == trials.sum()


def test_a_resumed_sweep_repeats_nothing(store: Store) -> None:
    first = FakeTune(searcher_of(store), store)
    for _ in range(5):
        first.start()
    for name in list(first.running)[:4]:
        first.finish(name)
    second = FakeTune(searcher_of(store), store)
    second.run()
    together = pd.DataFrame(first.done + second.done).drop(columns="config")
    assert not together.duplicated().any()
    distinct = together.drop_duplicates(["cell", "trial", "seed"])
    assert len(distinct) == 2 * (1 + 3 + 3) + 2 * (1 + 1 + 2)
    third = searcher_of(store)
    assert third.finished
    assert third.suggest("x") == Searcher.FINISHED


def test_there_is_no_barrier_between_cells(store: Store) -> None:
    tune = FakeTune(searcher_of(store), store)
    cells = set()
    while isinstance(job := tune.start(), dict):
        cells.add(job["cell"])
    assert job is None
    assert cells == {cell.id for cell in cells_of(SPEC)}


def test_refits_come_before_further_trials(store: Store) -> None:
    tune = FakeTune(searcher_of(store), store)
    tune.start()
    tune.finish(next(iter(tune.running)))
    job = tune.start()
    assert isinstance(job, dict)
    assert job["seed"] == 0
    assert job["cell"] == tune.done[0]["cell"]


def test_a_failed_refit_is_named_and_tried_again_by_the_next_run(store: Store) -> None:
    tune = FakeTune(searcher_of(store), store)
    tune.start()
    tune.finish(next(iter(tune.running)))
    tune.start()
    tune.finish(next(iter(tune.running)), failed="OSError: disk on fire")
    cell = tune.done[0]["cell"]
    assert "disk on fire" in tune.searcher.failed[cell]
    again = FakeTune(searcher_of(store), store)
    job = again.start()
    assert isinstance(job, dict)
    assert (job["cell"], job["seed"]) == (cell, 0)


def test_a_run_goes_on_with_more_of_everything_and_computes_only_what_is_missing(
    store: Store,
) -> None:
    first = play(searcher_of(store), store, at_once=1)
    content = SPEC.model_dump()
    content["degradations"][0]["levels"].append(0.2)
    more = spec.parse(
        {
            **content, "n_train": [4, 8], "seeds": 3, "time_limit": 60, "description": "more",
            "methods": ["tv", "unet", {"name": "degraded", "priority": 1}, "wavelet"],
            "budget": {**content["budget"], "trials": 5},
        }
    )  # fmt: skip
    store.begin(more, {"val": "data"})
    searcher = searcher_of(store, more)
    store.extend(more)
    second = play(searcher, store, at_once=1)
    cells = {cell.id: cell for cell in cells_of(more)}
    table = store.trials()
    assert set(table["cell"]) == set(cells)
    for cell, part in table.groupby("cell"):
        assert len(part) == (1 if cell.endswith("degraded") else 5)
        assert list(part["trial"]) == list(range(len(part)))
        for seed in range(3 if cell.endswith("unet") else 1):
            complete = part[part["state"] == "complete"]
            order = complete.sort_values(["psnr", "trial"], ascending=[False, True])
            best = json.loads(order["config"].iloc[0])
            assert store.read_model(cell, seed)[0]["config"] == best
    trials = pd.concat([jobs[jobs["trial"].notna()] for jobs in (first, second)])
    fresh = trials.drop(columns="config").duplicated(["cell", "trial", "until"])
    assert not fresh.any()
    old = second[second["cell"].isin(set(first["cell"]))]
    assert not any(cell.endswith("degraded") for cell in old["cell"])
    # All of its trials scored the same, so that its best is the first as before.
    assert old[old["cell"].str.endswith("tv")]["seed"].isna().all()
    third = searcher_of(store, more)
    assert third.finished
    assert store.spec() == more
    with pytest.raises(UserError, match=r"differs in .*budget\.trials: not less than 5"):
        store.begin(SPEC, {"val": "data"})


def test_replay_names_damaged_rows(store: Store) -> None:
    tune = FakeTune(searcher_of(store), store)
    tune.run()
    cell = tune.done[0]["cell"]
    path = store.folder / "rows" / cell / "0.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(UserError, match=rf"{path}: is damaged .* compute it again"):
        list(replay(store, [cell]))


@pytest.mark.parametrize("deterministic", [False, True])
def test_what_was_lost_is_tried_again_and_every_cell_gets_its_whole_budget(
    store: Store, deterministic: bool
) -> None:
    benchmark = WARM.model_copy(update={"deterministic": deterministic})
    undisturbed = Store(store.folder.parent / "undisturbed")
    undisturbed.begin(benchmark, {"val": "data"})
    expected = play(searcher_of(undisturbed, benchmark), undisturbed, at_once=1)
    tune = FakeTune(searcher_of(store, benchmark), store)
    ended = 0
    while isinstance(job := tune.start(), dict):
        (name,) = tune.running
        ended += 1
        lost = {"lost": "ObjectLostError: the node died"} if ended == 2 else {}
        tune.finish(name, **({} if lost else {"best": quality(job)}), **lost)
    assert job == Searcher.FINISHED
    assert tune.searcher.finished
    (cell, *waiting) = tune.searcher.failed
    assert "ObjectLostError" in tune.searcher.failed[cell]
    assert (len(waiting) == 3) == deterministic
    assert cell not in set(store.rows()["cell"])
    play(searcher_of(store, benchmark), store, at_once=1)
    table = store.trials()
    assert set(table["state"]) <= {"complete", "pruned"}
    assert (table.groupby("cell").size() == 3).all()
    assert searcher_of(store, benchmark).finished
    if deterministic:
        keep = ["cell", "trial", "state", "psnr", "config"]
        assert table[keep].equals(undisturbed.trials()[keep])
    assert len(expected)


def test_a_worker_that_dies_with_every_try_in_two_runs_is_the_methods_failure(
    store: Store,
) -> None:
    states = []
    for _ in range(2):
        tune = FakeTune(searcher_of(store), store)
        tune.start()
        (name,) = tune.running
        tune.running.pop(name)
        tune.searcher.on_trial_complete(name, error=True)
        states.append(list(store.trials()["state"]))
    assert states == [[], ["failed"]]
    assert "the worker process died" in store.trials()["error"][0]


def test_a_free_actor_goes_to_the_first_trial_whose_own_is_not_starting() -> None:
    """Of four CPUs one is busy and one has come free, so that two have actors starting."""
    share = SimpleNamespace(required_resources={"CPU": 1.0})
    scheduler = PendingTrialScheduler(cpus=4.0)
    trials = [
        SimpleNamespace(status=Trial.PENDING, placement_group_factory=share) for _ in range(5)
    ]
    for trial in trials:
        scheduler.on_trial_add(None, trial)
    trials[0].status = Trial.RUNNING
    controller = SimpleNamespace(get_live_trials=lambda: trials)
    assert scheduler.choose_trial_to_run(controller) is trials[3]
    for trial in trials[1:4]:
        trial.status = Trial.RUNNING
    assert scheduler.choose_trial_to_run(controller) is trials[4]
    trials[4].status = Trial.RUNNING
    assert scheduler.choose_trial_to_run(controller) is None


def test_nothing_is_kept_of_a_trial_that_ended() -> None:
    trial = Trial("job", stub=True, _setup_default_resource=False)
    trial.update_last_result({"psnr": 20.0, "training_iteration": 1})
    whole = len("".join(trial.get_json_state()))
    assert trial.metric_analysis
    FinishedTrialCleanup().on_trial_complete(1, [trial], trial)
    assert trial.last_result == {"trial_id": trial.trial_id}
    assert not trial.metric_analysis
    assert len("".join(trial.get_json_state())) < 10 < whole


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), UserError("disk full")])
def test_a_full_disk_ends_the_sweep_and_loses_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    tune = FakeTune(searcher_of(store), store)
    tune.start()
    tune.start()

    def fail(*args: object) -> None:
        raise fault

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write_trials", fail)
        tune.finish(next(iter(tune.running)))
    assert tune.searcher.fatal is not None
    assert tune.start() == Searcher.FINISHED
    again = FakeTune(searcher_of(store), store)
    again.run()
    assert again.searcher.fatal is None
    assert len(store.trials()) == 2 * (1 + 3 + 3)


WARM = SPEC.model_copy(
    update={"n_train": [4, 8], "methods": [spec.MethodSpec.model_validate("unet")]}
)


def quality(job: dict) -> float:
    """A landscape with one best learning rate for all cells."""
    return 30 - abs(job["config"].get("lr", 1e-3) - 2e-3) * 1e3


def play(searcher: SweepSearcher, store: Store, at_once: int, swap: bool = False) -> pd.DataFrame:
    """Run a sweep whose results depend on the configuration alone; `swap` ends trials in turn."""
    tune = FakeTune(searcher, store)
    while True:
        while len(tune.running) < at_once and isinstance(tune.start(), dict):
            pass
        if not tune.running:
            return pd.DataFrame(tune.done)
        names = list(tune.running)
        name = names[-1 if swap else 0]
        tune.finish(name, best=quality(tune.running[name]))


def test_warm_starts_try_what_was_best_next_door(store: Store) -> None:
    jobs = play(searcher_of(store, WARM), store, at_once=1)
    trials = jobs[jobs["trial"].notna()]
    first = [cell.id for cell in cells_of(WARM)]
    best = {}
    for cell, part in trials.groupby("cell", sort=False):
        configs = list(part.drop_duplicates("trial").sort_values("trial")["config"])
        if cell != first[0]:
            near = [other for other in best if other.split("-n")[0] == cell.split("-n")[0]]
            assert configs[1] in ([best[n] for n in near] or list(best.values()))
        best[cell] = max(configs, key=lambda c: quality({"config": c}))
    cold = WARM.model_copy(update={"search": spec.Search(warm_start=False)})
    other = Store(store.folder.parent / "cold")
    other.begin(cold, {"val": "data"})
    jobs = play(searcher_of(other, cold), other, at_once=1)
    jobs = jobs.drop_duplicates(["cell", "trial"])
    defaults = jobs[jobs["trial"] == 0]["config"].tolist()
    seconds = jobs[jobs["trial"] == 1]["config"].tolist()
    assert all(config == defaults[0] for config in defaults)
    assert len({str(config) for config in seconds}) == len(seconds)


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes", "nsga2"])
def test_in_order_the_same_is_tried_whatever_the_timing(store: Store, sampler: str) -> None:
    search = spec.Search.model_validate({"sampler": sampler})
    budget = spec.Budget(trials=7, steps=9)
    benchmark = WARM.model_copy(update={"search": search, "budget": budget, "deterministic": True})
    tried = []
    for number, (at_once, swap) in enumerate([(1, False), (3, False), (3, True)]):
        place = Store(store.folder.parent / str(number))
        place.begin(benchmark, {"val": "data"})
        jobs = play(searcher_of(place, benchmark), place, at_once, swap)
        table = jobs[jobs["trial"].notna()].sort_values(["cell", "trial"])
        tried.append([(row.cell, row.trial, row.config) for row in table.itertuples()])
    assert tried[0] == tried[1] == tried[2]
    assert len(tried[0]) == 4 * 7


@pytest.mark.parametrize("refit", [False, True])
def test_a_job_that_cannot_write_is_not_to_blame(store: Store, refit: bool) -> None:
    tune = FakeTune(searcher_of(store), store)
    tune.start()
    if refit:
        tune.finish(next(iter(tune.running)))
        tune.start()
    tune.finish(next(iter(tune.running)), unwritable="run/x: cannot be written (No space left)")
    assert "No space left" in str(tune.searcher.fatal)
    assert not tune.searcher.failed
    assert tune.start() == Searcher.FINISHED
    again = FakeTune(searcher_of(store), store)
    again.run()
    assert set(store.trials()["state"]) == {"complete", "pruned"}
