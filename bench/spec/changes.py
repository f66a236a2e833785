"""Which keys of a benchmark may change when its run is resumed."""

from collections.abc import Iterable, Iterator
from typing import Any

from bench import markup
from bench.spec.benchmark import Benchmark


def conflicts(before: Benchmark, now: Benchmark) -> list[str]:
    """Name the keys in which a benchmark conflicts with the earlier run that it is to resume.

    More seeds, trials, levels, sizes, degradations and methods are no conflict, nor are keys that
    affect no result. The path of the images may differ, since their content is compared. Another
    objective is a conflict, since the earlier one chose the trials; so are other metrics, which
    the existing rows do not have.
    """
    found = [] if before.dataset.label == now.dataset.label else ["dataset.name"]
    # As stored, where a default that is a tuple has become a list.
    then, here = (markup.read(one.dump(), "spec.yaml") for one in (before, now))
    for content in (then, here):
        content["dataset"] = {**content["dataset"], "path": None, "name": None}
        content["metrics"] = sorted(content["metrics"])
    for key in (
        "dataset", "search", "precision", "compile", "deterministic", "metrics", "objective",
    ):  # fmt: skip
        found += differing(key, then[key], here[key])
    found += differing("budget", {**then["budget"], "trials": 0}, {**here["budget"], "trials": 0})
    for key, least, given in (("seeds", before.seeds, now.seeds), *_trials(before, now)):
        found += [f"{key}: not less than {least}"] if given < least else []
    found += _missing("n_train", then["n_train"], here["n_train"])
    for key, free in (
        ("degradations", {"levels"}), ("methods", {"trials", "priority", "cpus", "gpus"}),
    ):  # fmt: skip
        earlier, later = ({one["label"]: one for one in content[key]} for content in (then, here))
        found += _missing(key, earlier, later)
        for label in earlier.keys() & later.keys():
            parts = (
                {k: v for k, v in one[label].items() if k not in free} for one in (earlier, later)
            )
            found += differing(f"{key}.{label}", *parts)
            if "levels" in free:
                levels = (one[label]["levels"] for one in (earlier, later))
                found += _missing(f"{key}.{label}.levels", *levels)
    return found


def _trials(before: Benchmark, now: Benchmark) -> Iterator[tuple[str, int, int]]:
    """List the keys that set numbers of trials, with their values before and now."""
    yield "budget.trials", before.budget.trials, now.budget.trials
    later = {method.label: method.trials for method in now.methods}
    for method in before.methods:
        own = later.get(method.label, method.trials)
        if own != method.trials:
            here = own or now.budget.trials
            yield f"methods.{method.label}.trials", method.trials or before.budget.trials, here


def differing(key: str, before: Any, now: Any) -> list[str]:
    """List the dotted keys below a key whose two values or mappings differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        names = dict.fromkeys([*before, *now])
        return [f"{key}.{name}" for name in names if before.get(name) != now.get(name)]
    return [] if before == now else [key]


def _missing(key: str, before: Iterable[Any], now: Iterable[Any]) -> list[str]:
    missing = [f"{one}" for one in before if one not in now]
    return [f"{key}: without {', '.join(missing)}"] if missing else []
