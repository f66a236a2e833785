"""The rules of a benchmark, however it is started: what is refused, added, left out and shrunk.

Nothing is printed here: what a user should know is returned as notices, one line each.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from bench import data, methods, metrics, physics, plugins, spec, training
from bench.data import Dataset, Split
from bench.errors import UserError
from bench.options import check_options
from bench.physics import MRICartesian, Paired, Physics
from bench.scoring import operator_of
from bench.spec import Benchmark, DatasetSpec, DegradationSpec, MethodSpec


class Shrinkable(NamedTuple):
    """Which sizes the user has not chosen, so that they may shrink for a small dataset."""

    held_out: bool = False
    training: bool = False


@dataclass
class Prepared:
    """A benchmark with its images.

    Attributes:
        benchmark: with the sizes of its sets.
        split: the sets.
        audit: what was found while the images were read.
        notices: what to tell the user.
    """

    benchmark: Benchmark
    split: Split
    audit: dict[str, Any]
    notices: list[str]

    def release(self) -> Split:
        """Return the sets and drop them here, so that their memory can be freed by the caller."""
        split = self.split
        del self.split
        return split


def shrinkable(benchmark: Benchmark) -> Shrinkable:
    """Return which sizes a benchmark file leaves open: the held-out sets', if it states neither."""
    return Shrinkable(benchmark.dataset.model_fields_set.isdisjoint({"n_val", "n_test"}))


def foreign_code(benchmark: Benchmark) -> list[str]:
    """Name the code of other packages that a benchmark runs, before any of it is imported."""
    content = benchmark.model_dump()
    named = [
        {"source": benchmark.dataset.source}, content["degradations"], content["methods"],
        [{"name": metric} for metric in benchmark.metrics],
    ]  # fmt: skip
    modules = dict.fromkeys(_named_modules(named))
    return [
        f"runs code of {module} ({plugins.origin_of(module) or 'not found'})" for module in modules
    ]


def _named_modules(content: Any) -> Iterator[str]:
    """Yield the modules in the dotted paths of a benchmark: its parts, steps of chains, losses."""
    if isinstance(content, dict):
        for key, value in content.items():
            if isinstance(value, str) and key in ("name", "source", "loss"):
                yield from (path.partition(":")[0] for path in plugins.DOTTED.findall(value))
                if key == "source" and ":" not in value and "." in value:
                    yield value
            else:
                yield from _named_modules(value)
    elif isinstance(content, list):
        for value in content:
            yield from _named_modules(value)


def check(benchmark: Benchmark) -> tuple[Benchmark, list[str]]:
    """Check a benchmark by its readers, degradations and methods; write out their defaults.

    Methods whose optional package is missing are left out, and controls are added.

    Returns:
        the benchmark as it is run, and notices.

    Raises:
        UserError: an unknown part or option, a value out of range, or nothing left to run.
    """
    benchmark = benchmark.model_copy(update={"dataset": data.resolve(benchmark.dataset)})
    data.check(benchmark.dataset)
    metrics.describe(benchmark.metrics)
    for degradation in benchmark.degradations:
        options = physics.DEGRADATIONS.options(degradation.name)
        check_options(
            degradation.label, degradation.options, {*options, *DegradationSpec.model_fields}
        )
    operators: dict[str, Physics] = {}  # of each degradation at its last level
    for task in spec.tasks(benchmark):
        degradation = task.degradation
        operators[degradation.label] = operator_of(degradation, task.level, benchmark.dataset)
        _check_brought(degradation, operators[degradation.label], benchmark.dataset)
    benchmark, notices = _without_uninstalled(benchmark)
    benchmark = _with_controls(benchmark)
    for method in benchmark.methods:
        training.check_space(method.name, method.fixed)
        notices += _unsupported(method, benchmark)
        for degradation in benchmark.degradations:
            if methods.find(method.name).supports(
                degradation.name, degradation.options, data.brings(benchmark.dataset)
            ):
                training.check_build(method.name, method.fixed, operators[degradation.label])
    resolved = benchmark.with_options(
        data.defaults(benchmark.dataset),
        [physics.DEGRADATIONS.defaults(degradation.name) for degradation in benchmark.degradations],
    )
    return resolved, notices


def prepare(benchmark: Benchmark, may_shrink: Shrinkable) -> Prepared:
    """Read the images and split them; sizes that may shrink do where the images are few.

    Raises:
        UserError: no usable images, too few of them, or images of several origins.
    """
    dataset = data.load(benchmark.dataset)
    data.refuse_mixed(dataset)
    notices: list[str] = []
    if may_shrink.held_out:
        benchmark, notices = _shrunk(benchmark, dataset, may_shrink.training)
    sizes = benchmark.dataset
    split = data.split(dataset, max(benchmark.n_train), sizes.n_val, sizes.n_test)
    return Prepared(benchmark, split, vars(dataset.audit), notices)


def metric_code(benchmark: Benchmark, before: Mapping[str, str]) -> dict[str, str]:
    """Hash the code of the metrics that a benchmark names, which all rows of a run share.

    Args:
        benchmark: the benchmark.
        before: the hashes of the run that it resumes, by column.

    Raises:
        UserError: the code of a metric has changed.
    """
    code = {spec.column_of(one): metrics.METRICS.code(one) for one in benchmark.metrics}
    for name, digest in code.items():
        if before.get(name, digest) != digest:
            raise UserError(
                f"metrics: the code of {name} has changed since the run computed its rows; "
                "undo the change, or choose another run folder"
            )
    return code


def levels(benchmark: Benchmark) -> dict[str, dict[str, str]]:
    """Describe the levels of each degradation, by its label, for the axes of charts.

    Returns:
        `unit`, and `harder`: "greater" or "smaller" levels.
    """
    found = {}
    for one in benchmark.degradations:
        kind = physics.find(one.name)
        harder = "greater" if kind.presets[0] <= kind.presets[-1] else "smaller"
        found[one.label] = {"unit": kind.unit, "harder": harder}
    return found


def digests(split: Split, sizes: list[int]) -> dict[str, str]:
    """Hash each set of images separately: another training-set size changes no other digest."""
    training = {f"train {size}": split.train.first(size).digest() for size in sizes}
    return {"val": split.val.digest(), "test": split.test.digest(), **training}


def _shrunk(benchmark: Benchmark, dataset: Dataset, training: bool) -> tuple[Benchmark, list[str]]:
    """Shrink the held-out sets, and the training sets too, to what a small dataset can fill."""
    given = benchmark.dataset
    sizes = data.fitting(dataset, benchmark.n_train, given.n_val, given.n_test, training)
    if sizes == (benchmark.n_train, given.n_val, given.n_test):
        return benchmark, []
    notice = (
        f"{len(dataset)} images are few: {sizes[2]} for testing, {sizes[1]} for validation, "
        f"{' and '.join(map(str, sizes[0]))} for training"
    )
    return benchmark.with_sizes(*sizes), [notice]


def _check_brought(degradation: DegradationSpec, operator: Physics, dataset: DatasetSpec) -> None:
    """Refuse pairs without a dataset that brings them, and maps from what no mask measures."""
    if isinstance(operator, Paired) and data.brings(dataset) != "image":
        raise UserError(
            f"{degradation.label}: needs pairs: set dataset.measured to the folder with what was "
            "measured of each image, such as the low dose of a full one"
        )
    if isinstance(operator, MRICartesian) and dataset.options.get("maps") == "calibration":
        wanted, there = data.calibration_of(dataset), operator.centre_side()
        if operator.takes("kspace") and there < wanted:
            raise UserError(
                f"dataset.calibration: {wanted} exceeds the side of the fully sampled centre, as "
                f"{degradation.label} measures {there} at level {operator.level:g}"
            )


def simulated(benchmark: Benchmark) -> list[str]:
    """Name the degradations that simulate k-space although the dataset brings its own."""
    if data.brings(benchmark.dataset) != "kspace":
        return []
    return [
        degradation.label
        for degradation in benchmark.degradations
        if issubclass(physics.find(degradation.name), physics.MRI)
        and not operator_of(degradation, degradation.levels[0], benchmark.dataset).takes("kspace")
    ]


def _without_uninstalled(benchmark: Benchmark) -> tuple[Benchmark, list[str]]:
    """Leave out the methods whose optional package is not installed."""
    missing = {
        method.label: methods.find(method.name).missing_extra for method in benchmark.methods
    }
    notices = [
        f"{label} is left out: it needs pip install -e '.[{extra}]'"
        for label, extra in missing.items()
        if extra is not None
    ]
    installed = [method for method in benchmark.methods if missing[method.label] is None]
    if not installed:
        raise UserError(f"methods: none of them is installed ({'; '.join(notices)})")
    return benchmark.model_copy(update={"methods": installed}), notices


def _with_controls(benchmark: Benchmark) -> Benchmark:
    """Add the controls that methods declare, such as the generator of a GAN trained alone."""
    labels = {method.label for method in benchmark.methods}
    chosen: list[MethodSpec] = []
    for method in benchmark.methods:
        chosen.append(method)
        for name, control in methods.find(method.name).controls.items():
            label = f"{method.label}_{name}"
            if label not in labels and not control.keys() <= method.fixed.keys():
                fixed = {**method.fixed, **control}
                chosen.append(method.model_copy(update={"label": label, "fixed": fixed}))
    return benchmark.model_copy(update={"methods": chosen})


def _unsupported(method: MethodSpec, benchmark: Benchmark) -> list[str]:
    """Name the degradations that a method does not support; refuse it if it supports none."""
    found = methods.find(method.name)
    missed = [
        degradation.label
        for degradation in benchmark.degradations
        if not found.supports(degradation.name, degradation.options, data.brings(benchmark.dataset))
    ]
    if len(missed) == len(benchmark.degradations):
        raise UserError(
            f"methods: {method.label} supports {found.supported} only, and no degradation of "
            f"this benchmark ({', '.join(missed)}); leave it out"
        )
    if missed:
        return [f"{method.label} supports {found.supported} only: no cells for {', '.join(missed)}"]
    return []
