"""The sections of a benchmark file: dataset, degradations, methods, budget and search."""

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from bench.errors import spelling

# So that names fit into tables and folder names.
LONGEST_NAME = 60


class Strict(BaseModel):
    """A section whose keys are all known; nothing is converted silently."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class _WithOptions(BaseModel):
    """A section whose further keys are options of the part that it names, which checks them."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)

    @property
    def options(self) -> dict[str, Any]:
        """The keys that are options of the part."""
        return dict(self.model_extra or {})


def slug(text: str) -> str:
    """Replace what is not safe in a folder name on any file system."""
    return re.sub(r"[^A-Za-z0-9_.+]+", "_", text).strip("_.") or "x"


def _last(path: object) -> str:
    """Return the last component of a dotted path such as `my_pkg.models:MyNet`, or a name."""
    return str(path).rpartition(":")[2]


def column_of(metric: str) -> str:
    """Name the column of a metric: our file's name, or that of a user's class."""
    return slug(_last(metric))


def check_label(label: str) -> str:
    """Refuse a label that is not safe in a path, or too long."""
    if label and slug(label) != label:
        raise ValueError("use letters, digits, '.', '_' and '+' only: it becomes part of a path")
    if len(label) > LONGEST_NAME:
        raise ValueError(f"give it a label of at most {LONGEST_NAME} characters")
    return label


class DatasetSpec(_WithOptions):
    """Where the images come from, their size, and how many are kept for validation and test.

    Further keys are options of the reader.
    """

    source: str = Field(
        "auto", description="a reader, or its dotted path; default: by the files at the path"
    )
    path: str | None = Field(None, description="a file or folder; default: synthetic slices")
    name: str | None = Field(None, description="shown in reports; default: the source or folder")
    image_size: int = Field(64, ge=16, le=1024, description="pixels along each side")
    n_val: int = Field(24, ge=1, description="validation images, by which methods are tuned")
    n_test: int = Field(60, ge=2, description="test images, which only refits see")
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
            raise ValueError("a path cannot contain the null character")
        return path


class DegradationSpec(_WithOptions):
    """A degradation and the levels at which it is run; further keys are its options."""

    name: str = Field(description="one of ours, or a dotted path")
    label: str = Field("", description="shown in reports; default: the name and given options")
    levels: list[float] = Field(min_length=1, description="its strengths; each is a task")

    @model_validator(mode="before")
    @classmethod
    def _fill_label(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("name") == "paired" and "levels" not in value:
            value = {**value, "levels": [1.0]}  # pairs have no levels
        if not isinstance(value, dict) or value.get("label") or not value.get("name"):
            return value
        known = {"name", "label", "levels"}
        options = [f"{key}_{value[key]}" for key in sorted(value) if key not in known]
        return {**value, "label": slug("_".join([_last(value["name"]), *options]))}

    @field_validator("levels")
    @classmethod
    def _distinct(cls, levels: list[float]) -> list[float]:
        if len({f"{level:g}" for level in levels}) < len(levels):
            raise ValueError("duplicate level (levels are told apart by six digits)")
        return levels

    _folder_safe = field_validator("label")(check_label)


class MethodSpec(Strict):
    """A method to run: built in, or a dotted path such as `my_pkg.models:MyNet`."""

    name: str = Field(description="one of ours, or a dotted path")
    label: str = Field("", description="shown in reports; default: the name")
    fixed: dict[str, Any] = Field(
        default_factory=dict, description="configuration held fixed instead of searched"
    )
    trials: int | None = Field(
        None, ge=1, description="configurations tried; default: as many as the budget has"
    )
    workers: int = Field(
        1, ge=1, description="processes that train a network together and share each batch"
    )
    priority: int = Field(0, description="methods of greater priority run first")
    cpus: int = Field(1, ge=1, description="of a trial, or of each of its workers")
    gpus: float = Field(
        1.0,
        ge=0,
        description="of a network's trial or worker, if there are GPUs; a fraction lets "
        "several share one",
    )

    @field_validator("gpus")
    @classmethod
    def _whole_or_less(cls, gpus: float) -> float:
        if gpus > 1 and gpus != int(gpus):
            raise ValueError("a fraction of one GPU, or a whole number")
        return gpus

    _folder_safe = field_validator("label")(check_label)

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


class Budget(Strict):
    """What every cell may spend: a name of `BUDGETS`, or numbers."""

    trials: int = Field(8, ge=1, description="configurations tried")
    steps: int = Field(200, ge=1, description="optimiser steps of a full trial and of a refit")
    batch_size: int = Field(8, ge=1, description="images in each optimiser step")
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


class Search(Strict):
    """How the trials of a cell are chosen and stopped."""

    sampler: Literal["tpe", "random", "cmaes", "nsga2"] = Field(
        "tpe", description="Optuna's; nsga2 weighs the objective, SSIM and the number of parameters"
    )
    pruner: Literal["asha", "hyperband", "none"] = Field(
        "asha",
        description="which trials continue; the others stop at the step where they fell behind",
    )
    warm_start: bool = Field(
        True, description="try the best configurations of the neighbouring level and size early"
    )
