"""A benchmark file, validated."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, ValidationInfo, field_validator, model_validator

from bench import markup
from bench.errors import spelling
from bench.spec.parts import (
    LONGEST_NAME,
    Budget,
    DatasetSpec,
    DegradationSpec,
    MethodSpec,
    Search,
    Strict,
    column_of,
    slug,
)

SMOKE_IMAGE_SIZE = 32
STANDARD_METRICS = ("psnr", "ssim", "nmse")


class Benchmark(Strict):
    """A benchmark file: methods x degradation levels x training-set sizes under one budget."""

    name: str = Field("benchmark", description="names the run folder, `results/<name>`")
    description: str = Field("", description="the question, shown in the report")
    dataset: DatasetSpec = Field(default_factory=DatasetSpec)
    degradations: list[DegradationSpec] = Field(min_length=1)
    n_train: list[int] = Field(
        min_length=1, description="training-set sizes; each smaller set is part of the larger ones"
    )
    methods: list[MethodSpec] = Field(min_length=1)
    budget: Budget = Budget()
    search: Search = Search()
    metrics: list[str] = Field(
        default_factory=list, description="computed beside psnr, ssim and nmse"
    )
    objective: str = Field(
        "psnr", description="the metric that search, choice of weights and ranks use"
    )
    seeds: int = Field(
        3, ge=1, description="refits of every cell whose method is not deterministic"
    )
    precision: str = Field(
        "auto",
        pattern="^(auto|fp32|bf16)$",
        description="of training: fp32, bf16, or auto: bf16 if the processor multiplies in it",
    )
    compile: bool = Field(False, description="train networks through torch.compile")
    deterministic: bool = Field(
        False,
        description="the same numbers on the same kind of processor, whatever the timing: the "
        "trials of a cell run one after another, by deterministic algorithms",
    )
    time_limit: float | None = Field(
        None, gt=0, description="seconds after which a trial or refit is stopped as hanging"
    )
    checkpoint_seconds: float = Field(
        30,
        ge=0,
        description="minimum interval between checkpoints, from which a killed trial resumes",
    )
    pictures: int = Field(4, ge=0, description="test images of which every cell stores pictures")

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

    @field_validator("objective")
    @classmethod
    def _is_computed(cls, objective: str, info: ValidationInfo) -> str:
        if "metrics" not in info.data:  # metrics has an error itself
            return objective
        known = [*STANDARD_METRICS, *map(column_of, info.data["metrics"])]
        if objective not in known:
            raise ValueError(
                f"unknown metric{spelling(objective, known)} (known: {', '.join(known)}); a "
                "further one is listed in metrics"
            )
        return objective

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
        """Shrink the benchmark to a check of the whole pipeline that takes seconds."""
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
        """Write out the default options of the reader and of each degradation.

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
