"""An image's reconstruction is a matter of that image alone, not of those that share its batch."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.data import shepp_logan_phantom
from skimage.transform import resize

from bench import methods, physics

SIZE = 32
PHANTOM = torch.tensor(resize(shepp_logan_phantom(), (SIZE, SIZE)), dtype=torch.float32)
# Smooth: with white noise, hard decisions of denoisers would amplify errors of rounding.
TEXTURE = torch.tensor(gaussian_filter(np.random.default_rng(0).normal(size=(SIZE, SIZE)), 2))
TEXTURE = ((TEXTURE - TEXTURE.min()) / (TEXTURE.max() - TEXTURE.min())).float()
# Images that need few iterations and many.
IMAGES = torch.stack([torch.full_like(PHANTOM, 0.5), PHANTOM, TEXTURE, 0.1 * PHANTOM])[:, None]
TASKS = {
    "gaussian_noise": (0.02, {}),
    "mri_cartesian": (2.5, {"mask": "gaussian2d", "coils": 2}),
    "ct_sparse_view": (24, {}),
}
# Those that stop where it is good enough; `dip_tv` takes a fixed number of steps.
NAMES = {*methods.names("classical"), "wcrr", "cs_unet"} - {"bm3d", "dip_tv"}
CASES = [
    (name, task)
    for name in sorted(NAMES)
    for task, (_, options) in TASKS.items()
    if methods.find(name).supports(task, options)
]


@pytest.mark.parametrize(("name", "task"), CASES)
def test_alone_as_in_a_batch(name: str, task: str) -> None:
    level, options = TASKS[task]
    operator = physics.create(task, level, SIZE, **options)
    torch.manual_seed(0)
    method = methods.create(name, operator).eval()
    ids = [str(number) for number in range(len(IMAGES))]
    y = operator.measure(IMAGES, ids)
    methods.prepare(method, IMAGES, operator, ids)
    together = method(y, operator)
    for number in range(len(IMAGES)):
        alone = method(y[number : number + 1], operator)
        difference = (alone[0] - together[number]).abs().max()
        assert difference < 1e-3, f"image {number}: {difference:.4f}"
