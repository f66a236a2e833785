"""Part 3: classical methods and networks that apply the operator, on the GPU and on the CPU."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from bench import methods, physics, training
from bench.speed.gpu.setting import Setting, noted, psnr
from bench.speed.gpu.training import config_of

SIZE = 256
COILS = {"coils": 8}
# Method, degradation, level, options of the degradation.
CASES: list[tuple[str, str, float, dict[str, Any]]] = [
    ("tv", "mri_cartesian", 4, {}),
    ("tv", "mri_cartesian", 4, COILS),
    ("tv", "gaussian_noise", 0.05, {}),
    ("tgv", "mri_cartesian", 4, {}),
    ("cg_sense", "mri_cartesian", 4, COILS),
    ("modl", "mri_cartesian", 4, COILS),
    ("cs_unet", "mri_cartesian", 4, COILS),
    ("e2e_varnet", "mri_cartesian", 4, COILS),
    ("learned_primal_dual", "mri_cartesian", 4, {}),
    ("wavelet_cs", "mri_cartesian", 4, {}),
    ("tv", "ct_sparse_view", 60, {}),
    ("sirt", "ct_sparse_view", 60, {}),
    ("tv", "super_resolution", 4, {}),
    ("richardson_lucy", "gaussian_blur", 2, {}),
    ("cg_sense", "mri_radial", 64, {}),
]


def lines(setting: Setting) -> Iterator[dict[str, Any]]:
    """Reconstruct test images on both devices."""
    size = 32 if setting.quick else SIZE
    test = setting.image_sets(size)["test"]
    host = Setting("cpu", setting.quick, setting.images)
    for name, degradation, level, options in CASES[: 2 if setting.quick else None]:
        task = " ".join([degradation, *(f"{value} {key}" for key, value in options.items())])
        line: dict[str, Any] = {"method": name, "task": task, "size": size}
        with noted(line):
            operator = physics.create(degradation, level, size, **options)
            config = config_of(name) if methods.find(name).learned else {}
            torch.manual_seed(0)
            model = training.build(name, config, operator).eval()
            x = training.as_tensor(test)
            y = operator.measure(x, test.ids)
            for where, on in (("gpu", setting), ("cpu", host)):
                model, operator = model.to(on.device), operator.to(on.device)
                there = y.to(on.device)
                few = there[: len(there) // (1 if where == "gpu" or setting.quick else 4)]
                took = on.seconds(partial(training.reconstruct, model, few, operator))
                line[f"{where}_slices_per_second"] = len(few) / took
                x_hat = training.magnitude(training.reconstruct(model, few, operator))
                # Of the images that both have reconstructed.
                line[f"{where}_psnr"] = psnr(x_hat.cpu()[: len(y) // 4 or 1], x[: len(y) // 4 or 1])
        yield line
