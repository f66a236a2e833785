"""The benchmark file, validated; cells and their ids.

This is the bottom of the house: it imports nothing else of ReconBench but errors and `markup`. What
only a reader, a degradation or a method can judge (its own options) is judged there.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from bench import markup
from bench.errors import UserError, spelling

SMOKE_IMAGE_SIZE = 32


# What tables and folder names have room for.
LONGEST_NAME = 60
FILTERS = ("method", "degradation", "level", "n_train")  # by which cells are chosen


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class _WithOptions(BaseModel):
    """A named part whose further keys are options that the part itself defines and checks."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)

    @property
    def options(self) -> dict[str, Any]:
        """The keys that this file does not know, for the part's own check."""
        return dict(self.model_extra or {})


def slug(text: str) -> str:
    """Reduce `text` to what is safe as a folder name on any file system."""
    return re.sub(r"[^A-Za-z0-9_.+]+", "_", text).strip("_.") or "x"


def _last(path: object) -> str:
    """Return what a dotted path such as `my_pkg.models:MyNet` leads to; of a name, the name."""
    return str(path).rpartition(":")[2]


def column_of(metric: str) -> str:
    """Name the column of a metric: our file's name, or that of a user's class."""
    return slug(_last(metric))


def _check_label(label: str) -> str:
    if label and slug(label) != label:
        raise ValueError("use letters, digits, '.', '_' and '+' only: it becomes part of a path")
    if len(label) > LONGEST_NAME:
        raise ValueError(f"give it a label of at most {LONGEST_NAME} characters")
    return label


class DatasetSpec(_WithOptions):
    """Where the images come from, their size, and how many are kept for validation and test."""

    source: str = Field(
        "auto", description="a reader, or its dotted path; default: by the files at the path"
    )
    path: str | None = None
    name: str | None = Field(None, description="shown in reports; default: the source or folder")
    image_size: int = Field(64, ge=16, le=1024, description="pixels along each side")
    n_val: int = Field(24, ge=1)
    n_test: int = Field(60, ge=2)
    official_split: bool = Field(
        True, description="respect the parts that the folders name (train, val, test)"
    )

    @model_validator(mode="before")
    @classmethod
    def _default_source(cls, value: Any) -> Any:
        if isinstance(value, dict) and not value.get("source") and not value.get("path"):
            return {**value, "source": "template"}
        return value

    @property
    def label(self) -> str:
        """The dataset's name in cell ids and tables."""
        whole = self.name or (Path(self.path).resolve().name if self.path else self.source)
        return slug(whole)[:LONGEST_NAME]

    @field_validator("path")
    @classmethod
    def _is_path(cls, path: str | None) -> str | None:
        if path is not None and "\0" in path:
            raise ValueError("no path holds the character of code 0")
        return path


class DegradationSpec(_WithOptions):
    """A degradation, built in or a dotted path, and the levels at which it is run.

    Each level is one task.
    """

    name: str
    label: str = Field("", description="shown in reports; default: the name and given options")
    levels: list[float] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _fill_label(cls, value: Any) -> Any:
        if not isinstance(value, dict) or value.get("label") or not value.get("name"):
            return value
        known = {"name", "label", "levels"}
        options = [f"{key}_{value[key]}" for key in sorted(value) if key not in known]
        return {**value, "label": slug("_".join([_last(value["name"]), *options]))}

    @field_validator("levels")
    @classmethod
    def _distinct(cls, levels: list[float]) -> list[float]:
        if len({f"{level:g}" for level in levels}) < len(levels):
            raise ValueError("each level may stand only once (six digits tell levels apart)")
        return levels

    _folder_safe = field_validator("label")(_check_label)


class MethodSpec(_Strict):
    """A method to run: built in, or a dotted path such as `my_pkg.models:MyNet`."""

    name: str
    label: str = ""
    fixed: dict[str, Any] = Field(
        default_factory=dict, description="configuration held fixed instead of searched"
    )
    workers: int = Field(
        1, ge=1, description="processes that train a network together, sharing each batch"
    )
    priority: int = Field(0, description="methods of greater priority run first")
    cpus: int = Field(1, ge=1, description="of a trial, or of each of its workers")
    gpus: float = Field(
        1.0,
        ge=0,
        description="of a network's trial or worker where there are any; a fraction "
        "packs several on a GPU",
    )

    @field_validator("gpus")
    @classmethod
    def _whole_or_less(cls, gpus: float) -> float:
        if gpus > 1 and gpus != int(gpus):
            raise ValueError("a fraction of one GPU, or a whole number")
        return gpus

    _folder_safe = field_validator("label")(_check_label)

    @model_validator(mode="before")
    @classmethod
    def _from_string(cls, value: Any) -> Any:
        value = {"name": value} if isinstance(value, str) else value
        if isinstance(value, dict) and value.get("name") and not value.get("label"):
            value = {**value, "label": slug(_last(value["name"]))}
        return value


BUDGETS: dict[str, dict[str, int]] = {
    "smoke": {"trials": 3, "steps": 12, "batch_size": 4, "reports": 2},
    "small": {"trials": 6, "steps": 120, "batch_size": 8, "reports": 8},
    "paper": {"trials": 40, "steps": 20_000, "batch_size": 16, "reports": 20},
}


class Budget(_Strict):
    """What every cell may spend: a name of `BUDGETS`, or numbers of one's own."""

    trials: int = Field(8, ge=1, description="configurations tried")
    steps: int = Field(200, ge=1, description="optimiser steps of a full trial and of a refit")
    batch_size: int = Field(8, ge=1)
    reports: int = Field(6, ge=1, description="validations in a full trial; pruning acts on them")

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if value not in BUDGETS:
            raise ValueError(
                f"unknown budget{spelling(value, BUDGETS)} (known: {', '.join(BUDGETS)})"
            )
        return BUDGETS[value]


class Search(_Strict):
    """How the trials of a cell are chosen and stopped."""

    sampler: Literal["tpe", "random", "cmaes", "nsga2"] = Field(
        "tpe", description="Optuna's; nsga2 weighs PSNR, SSIM and the number of parameters"
    )
    pruner: Literal["asha", "hyperband", "none"] = Field(
        "asha", description="which trials go on; the others stay where they fell behind"
    )
    warm_start: bool = Field(
        True, description="try the best configurations of the neighbouring level and size early"
    )


STANDARD_METRICS = ("psnr", "ssim", "nmse")


class Benchmark(_Strict):
    """A benchmark file: methods x degradation levels x training-set sizes under one budget."""

    name: str = "benchmark"
    description: str = ""
    dataset: DatasetSpec = Field(default_factory=DatasetSpec)
    degradations: list[DegradationSpec] = Field(min_length=1)
    n_train: list[int] = Field(min_length=1)
    methods: list[MethodSpec] = Field(min_length=1)
    budget: Budget = Budget()
    search: Search = Search()
    metrics: list[str] = Field(
        default_factory=list, description="computed beside psnr, ssim and nmse"
    )
    objective: str = Field(
        "psnr", description="the metric that search, the choice of weights and ranks go by"
    )
    seeds: int = Field(
        3, ge=1, description="refits of every cell whose method is not deterministic"
    )
    precision: str = Field("auto", pattern="^(auto|fp32|bf16)$")
    compile: bool = Field(False, description="train networks through torch.compile")
    deterministic: bool = Field(
        False,
        description="the same numbers on the same kind of processor, whatever the timing: the "
        "trials of a cell run one after another, by deterministic algorithms",
    )
    time_limit: float | None = Field(
        None, gt=0, description="seconds after which a trial or refit is given up as hanging"
    )
    checkpoint_seconds: float = Field(
        30, ge=0, description="least time between checkpoints, from which a killed trial goes on"
    )
    pictures: int = Field(4, ge=0, description="test images of which every cell keeps its picture")

    @field_validator("name")
    @classmethod
    def _folder_name(cls, name: str) -> str:
        if slug(name) != name or len(name) > LONGEST_NAME:
            raise ValueError(
                f"use at most {LONGEST_NAME} letters, digits, '.', '_' and '+': it names the run "
                "folder"
            )
        return name

    @field_validator("n_train")
    @classmethod
    def _sizes(cls, sizes: list[int]) -> list[int]:
        if min(sizes) < 1 or len(set(sizes)) < len(sizes):
            raise ValueError("training-set sizes are distinct and at least 1")
        return sorted(sizes)

    @field_validator("metrics")
    @classmethod
    def _further(cls, metrics: list[str]) -> list[str]:
        further = [metric for metric in metrics if metric not in STANDARD_METRICS]
        columns = [column_of(metric).lower() for metric in further]
        for column in columns:
            if columns.count(column) > 1 or column in STANDARD_METRICS:
                raise ValueError(f"duplicate metric {column!r}; give its class another name")
        return further

    @model_validator(mode="after")
    def _has_objective(self) -> "Benchmark":
        known = [*STANDARD_METRICS, *map(column_of, self.metrics)]
        if self.objective not in known:
            hint = spelling(self.objective, known)
            raise ValueError(
                f"objective: no metric {self.objective!r}{hint} (known: {', '.join(known)}; add "
                "others to metrics)"
            )
        return self

    @property
    def objective_metric(self) -> str:
        """The objective as `metrics` names it, such as a dotted path."""
        named = {column_of(metric): metric for metric in self.metrics}
        return named.get(self.objective, self.objective)

    @model_validator(mode="after")
    def _divisible(self) -> "Benchmark":
        for method in self.methods:
            if self.budget.batch_size % method.workers:
                raise ValueError(
                    f"budget.batch_size {self.budget.batch_size} cannot be shared by the "
                    f"{method.workers} workers of {method.label}"
                )
        return self

    @model_validator(mode="after")
    def _labels(self) -> "Benchmark":
        for what, labels in (
            ("methods", [m.label for m in self.methods]),
            ("degradations", [d.label for d in self.degradations]),
        ):
            twice = {label for label in labels if labels.count(label) > 1}
            if twice:
                raise ValueError(
                    f"{what}: {twice.pop()!r} is a duplicate label; change one of them"
                )
        return self

    def smoke(self) -> "Benchmark":
        """Shrink the benchmark to a check of the whole pipe that takes seconds."""
        size = min(self.dataset.image_size, SMOKE_IMAGE_SIZE)
        dataset = {"image_size": size, "n_val": 4, "n_test": 6}
        small = {
            "name": f"{self.name}_smoke",
            "dataset": self.dataset.model_copy(update=dataset),
            "n_train": [min(8, self.n_train[0])],
            "budget": Budget.model_validate("smoke"),
            "seeds": 1,
            "pictures": 2,
        }
        return self.model_copy(update=small)

    def with_sizes(self, n_train: list[int], n_val: int, n_test: int) -> "Benchmark":
        """Replace the sizes of the three sets."""
        dataset = self.dataset.model_copy(update={"n_val": n_val, "n_test": n_test})
        return self.model_copy(update={"n_train": n_train, "dataset": dataset})

    def with_options(
        self, dataset: Mapping[str, Any], degradations: Sequence[Mapping[str, Any]]
    ) -> "Benchmark":
        """Write out the options that a reader and each degradation would take by default.

        Args:
            dataset: the reader's defaults.
            degradations: the defaults of each degradation, in the order of the file.
        """
        content = self.model_dump()
        content["dataset"] = {**dataset, **content["dataset"]}
        pairs = zip(degradations, content["degradations"], strict=True)
        content["degradations"] = [{**defaults, **given} for defaults, given in pairs]
        return Benchmark.model_validate(content)

    def dump(self) -> str:
        """Render the resolved benchmark, every default written out, as YAML."""
        return markup.write(self.model_dump())


@dataclass(frozen=True)
class Task:
    """dataset x degradation x level."""

    dataset: str
    degradation: DegradationSpec
    level: float

    @property
    def id(self) -> str:
        """Folder-safe name, unique in a benchmark."""
        return f"{self.dataset}-{self.degradation.label}-{self.level:g}"


@dataclass(frozen=True)
class Cell:
    """task x n_train x method; `n_train` is 0 where a method uses no training images."""

    task: Task
    n_train: int
    method: MethodSpec

    @property
    def id(self) -> str:
        """Folder-safe name, unique in a benchmark."""
        return f"{self.task.id}-n{self.n_train}-{self.method.label}"


def tasks(spec: Benchmark) -> list[Task]:
    """List the benchmark's tasks in the order of its file."""
    return [
        Task(spec.dataset.label, degradation, level)
        for degradation in spec.degradations
        for level in degradation.levels
    ]


def cells(spec: Benchmark, sizes_of: Callable[[str, list[int]], list[int]]) -> list[Cell]:
    """List the benchmark's cells by priority, then small sizes before large ones.

    Args:
        spec: the benchmark.
        sizes_of: gives, for a method's name and the benchmark's training-set sizes, those at
            which the method is run ([0] for one that uses no training images).
    """
    found = [
        Cell(task, n_train, method)
        for method in spec.methods
        for n_train in sizes_of(method.name, spec.n_train)
        for task in tasks(spec)
    ]
    # stable: the file's order within a size
    return sorted(found, key=lambda cell: (-cell.method.priority, cell.n_train))


def conflicts(before: Benchmark, now: Benchmark) -> list[str]:
    """Name the keys in which a benchmark contradicts an earlier run that it is to go on with.

    More seeds, trials, levels, sizes, degradations and methods do not, nor what no number depends
    on. The path of the images may differ: it is for their content to be the same. Another objective
    does, since the trials were chosen by the earlier one; and so do other metrics, which the rows
    that are there would lack.
    """
    found = [] if before.dataset.label == now.dataset.label else ["dataset.name"]
    # As they are written: there a default that is a tuple has become a list.
    then, here = (markup.read(one.dump(), "spec.yaml") for one in (before, now))
    for content in (then, here):
        content["dataset"] = {**content["dataset"], "path": None, "name": None}
        content["metrics"] = sorted(content["metrics"])
    for key in (
        "dataset", "search", "precision", "compile", "deterministic", "metrics", "objective",
    ):  # fmt: skip
        found += differing(key, then[key], here[key])
    found += differing("budget", {**then["budget"], "trials": 0}, {**here["budget"], "trials": 0})
    for key, least, given in (
        ("seeds", before.seeds, now.seeds),
        ("budget.trials", before.budget.trials, now.budget.trials),
    ):
        found += [f"{key}: not less than {least}"] if given < least else []
    found += _missing("n_train", then["n_train"], here["n_train"])
    for key, free in (("degradations", {"levels"}), ("methods", {"priority", "cpus", "gpus"})):
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


def differing(key: str, before: Any, now: Any) -> list[str]:
    """List the dotted keys, of two values or mappings that stand under a key, that differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        names = dict.fromkeys([*before, *now])
        return [f"{key}.{name}" for name in names if before.get(name) != now.get(name)]
    return [] if before == now else [key]


def _missing(key: str, before: Iterable[Any], now: Iterable[Any]) -> list[str]:
    lacking = [f"{one}" for one in before if one not in now]
    return [f"{key}: without {', '.join(lacking)}"] if lacking else []


def load(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Benchmark:
    """Read a benchmark file, with dotted-key overrides such as {"dataset.image_size": 128}.

    Raises:
        UserError: the file is missing or no YAML mapping, or a key or value is wrong.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such benchmark file") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    content = markup.read(text, str(path))
    if not isinstance(content, dict):
        raise UserError(f"{path}: a benchmark file is a YAML mapping with keys such as 'methods'")
    for key, value in (overrides or {}).items():
        _set(content, key, value)
    return parse(content, " ".join([str(path), *(f"with {key}=..." for key in overrides or {})]))


def parse(content: Mapping[str, Any], origin: str = "benchmark") -> Benchmark:
    """Validate a benchmark given as a mapping; `origin` names it in errors.

    Raises:
        UserError: one line with the first wrong key or value.
    """
    try:
        return Benchmark.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{origin}: {_explain(error)}") from None


def _set(content: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    node: Any = content
    for key in parents:
        node = node.setdefault(key, {}) if isinstance(node, dict) else None
    if not isinstance(node, dict):
        raise UserError(f"{dotted}: {'.'.join(parents)!r} is not a mapping")
    node[last] = value


def _one_line(error: object) -> str:
    return " ".join(str(error).split())


def _explain(error: ValidationError) -> str:
    """Turn pydantic's first complaint into one line, with the nearest spelling of a wrong key."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"]) or "benchmark"
    if first["type"] == "extra_forbidden":
        *parents, given = [part for part in first["loc"] if isinstance(part, str)]
        known = sorted(_fields_at(parents))
        return f"unknown key {key!r}{spelling(given, known)} (known: {', '.join(known)})"
    wrong = _one_line(first["msg"].removeprefix("Value error, "))
    return f"{key}: {wrong} (given: {str(first['input'])[:80]!r})"


def _fields_at(parents: list[str]) -> Iterator[str]:
    nested: dict[str, type[BaseModel]] = {"budget": Budget, "search": Search, "methods": MethodSpec}
    model = nested.get(parents[0] if parents else "", Benchmark)
    yield from model.model_fields
