"""A finished run, made without Ray: three tasks, classical methods, and networks of few steps."""

import sys
from pathlib import Path

import pandas as pd
import pytest

from bench import data, rules, scoring, spec, training
from bench.cells import cells_of
from bench.opened import Run
from bench.scoring import physics_of, training_seed
from bench.store import Store

sys.path.append(str(Path(__file__).parents[1] / "data"))  # its files of DICOM

CONTENT = {
    "name": "tiny",
    "dataset": {"source": "template", "image_size": 32, "subjects": 24, "n_val": 4, "n_test": 9},
    "degradations": [
        {"name": "gaussian_noise", "levels": [0.01]},
        {"name": "super_resolution", "levels": [2]},
        {"name": "mri_cartesian", "levels": [2]},
    ],
    "n_train": [4],
    "methods": [
        "degraded",
        {"name": "gaussian", "fixed": {"sigma": 1.0}},
        {"name": "tv", "fixed": {"weight": 0.7}},
        {"name": "srcnn", "fixed": {"lr": 0.001}},
        {"name": "unet", "fixed": {"width": 4, "depth": 2, "norm": "batch", "draws": 2}},
    ],
    "budget": {"trials": 1, "steps": 6, "batch_size": 4, "reports": 1},
    "seeds": 2,
    "pictures": 2,
}

# The tasks of each method; of the others, noise.
TASKS_OF = {
    "degraded": ("gaussian_noise", "super_resolution", "mri_cartesian"),
    "tv": ("gaussian_noise", "mri_cartesian"),
}


@pytest.fixture(scope="session")
def made_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("made") / "run"
    asked = spec.parse(CONTENT)
    split = data.split(data.load(asked.dataset), 4, 4, 9)
    store = Store(folder)
    store.begin(asked, rules.digests(split, asked.n_train))
    store.write_manifest(audit={"notes": ["Images are template-derived."], "badges": ["template"]})
    for cell in cells_of(asked):
        if cell.task.degradation.name not in TASKS_OF.get(cell.method.name, ("gaussian_noise",)):
            continue  # an unfinished run
        operator = physics_of(cell, asked, split.val)
        config = dict(cell.method.fixed)
        for seed in range(2 if cell.method.name in ("srcnn", "unet") else 1):
            fit = training.fit(
                cell.method.name, config, split.train.first(cell.n_train), split.val, operator,
                asked.budget, training_seed(cell, seed), precision="fp32",
            )  # fmt: skip
            scoring.write_refit(store, cell, seed, asked, fit, config, operator, split.test)
        store.write_trials(
            cell.id,
            pd.DataFrame(
                {"cell": [cell.id], "trial": [0], "state": ["complete"], "psnr": [20.0],
                 "step": [6], "seconds": [1.0], "error": [""], "config": ["{}"]}
            ),
        )  # fmt: skip
    return Run(folder)
