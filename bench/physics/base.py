"""The interface of a degradation: forward operator, adjoint, pseudo-inverse and noise."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache, wraps
from types import SimpleNamespace
from typing import Any, ClassVar, ParamSpec, TypeVar

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from bench.data.base import ImageSet
from bench.data.measurement import Kind, Measured
from bench.errors import UserError
from bench.physics._constants import on_device
from bench.physics._draws import BatchNoise, Noise, standard_normal
from bench.physics._phantom import phantom
from bench.physics._solvers import filtered, regularised_inverse
from bench.seeds import derive_seed

Size = int | tuple[int, int]
Given = ParamSpec("Given")
Result = TypeVar("Result")

POWER_ITERATIONS = 30
PHANTOMS = 8  # draws of the noise


class Physics(nn.Module, ABC):
    """Forward operator with noise at one level.

    A new degradation is one file in this folder with one subclass. Its constructor takes `level`,
    `image_size` and keyword options. It defines `A`, `A_adjoint`, `A_dagger` if the adjoint is not
    a usable first estimate, and `add_noise` if the noise is not white and Gaussian. A class whose
    A is not linear sets `linear = False` and defines `A` and `A_dagger`. The three
    names and the batch-first layout are DeepInverse's, so that its models run here as
    `model(y, physics)`; `A_vjp`, `prox_l2` and `noise_model` are there for them too.

    Attributes:
        name: its name in messages, and part of the seed of its noise: under another name it draws
            other noise. Default: the name of the class, such as `MyNoise`.
        unit: what `level` counts.
        levels: the least and greatest level accepted.
        presets: three typical levels, easy to hard.
        whole: whether the level is a whole number.
        linear: whether A, without noise, is linear.

    Args:
        level: strength of the degradation, see `unit`.
        image_size: pixels along each side, or (height, width).
        noise_variance: of white Gaussian noise in the measurement; in each of the real and the
            imaginary part of a complex one. Images lie in [0, 1].

    Raises:
        UserError: the level is outside `levels`, the noise variance is negative, or the class
            lacks a required method.
    """

    name: ClassVar[str]
    unit: ClassVar[str]
    levels: ClassVar[tuple[float, float]]
    presets: ClassVar[tuple[float, float, float]]
    whole: ClassVar[bool] = False
    linear: bool = True

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "name" not in vars(cls):
            cls.name = cls.__name__

    def __init__(self, level: float, image_size: Size, noise_variance: float = 0.0):
        super().__init__()
        needed = "A_adjoint" if self.linear else "A_dagger"
        if getattr(type(self), needed) is getattr(Physics, needed):
            raise UserError(f"{self.name}: needs a method {needed}, as linear = {self.linear}")
        low, high = self.levels
        if not low <= level <= high or (self.whole and level != int(level)):
            raise UserError(
                f"{self.name}: level {level:g} is out of range; it is the {self.unit}, "
                f"{'a whole number ' if self.whole else ''}from {low:g} to {high:g}"
            )
        if not 0 <= noise_variance < float("inf"):
            raise UserError(f"{self.name}: noise_variance {noise_variance:g} is not 0 or more")
        self.level = float(level)
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.shape = (height, width)
        self.noise_variance = float(noise_variance)
        # The noise in the y that `A_dagger` receives; a chain adds the noise of later steps.
        self.total_noise_variance = self.noise_variance
        self.measured: Measured | None = None
        self._observed: float | None = None
        self._responses: dict[tuple[Any, ...], Tensor] = {}

    @property
    def white(self) -> bool:
        """Whether the noise is white and Gaussian, of `noise_variance`, whatever the image."""
        return type(self).add_noise is Physics.add_noise and type(self).measure is Physics.measure

    @property
    def noise_std(self) -> float:
        """Root mean square of y - A x, for real and imaginary parts separately.

        If it depends on the image: measured on the images given to `observe`, or on a phantom. If
        the dataset brings the measurements: the median of the estimates for these images.
        """
        if self._observed is not None:
            return self._observed
        if self.measured is not None:
            return self.measured.noise_std
        if self.white:
            return self.noise_variance**0.5
        if self._observed is None:
            names = [f"phantom {k}" for k in range(PHANTOMS)]
            image = phantom(self.shape).to(self._home)
            self.observe(image.expand(PHANTOMS, -1, -1, -1), names)
        assert self._observed is not None
        return self._observed

    @property
    def _home(self) -> torch.device:
        """Where its buffers are, if it has any."""
        return next((one.device for one in self.buffers()), torch.device("cpu"))

    def observe(self, x: Float[Tensor, "b 1 h w"], ids: Sequence[str]) -> None:
        """Measure the power of the noise on representative images, if it depends on the image.

        Args:
            x: images, never test images.
            ids: one per image.
        """
        if self.measured is not None:
            self._observed = self.measured.noise_std
        elif not self.white:
            self._observed = root_mean_square(self.measure(x, ids) - self.A(x))

    def observed_noise(self) -> list[float | None]:
        """Return the result of `observe`, to be saved; None where nothing was observed."""
        return [self._observed]

    def restore_noise(self, observed: Sequence[float | None]) -> None:
        """Set what `observed_noise` returned."""
        (self._observed,) = observed

    @property
    def noise_model(self) -> SimpleNamespace:
        """The noise as DeepInverse's models expect it: with its standard deviation `sigma`."""
        return SimpleNamespace(sigma=self.noise_std)

    @abstractmethod
    def A(self, x: Shaped[Tensor, "b 1 h w"]) -> Shaped[Tensor, "b ..."]:
        """Apply the forward operator, without noise."""

    @classmethod
    def is_linear(cls, **options: Any) -> bool:
        """Return whether A is linear with these options of the constructor."""
        return cls.linear

    @classmethod
    def has_complex_images(cls, brought: Kind | None, **options: Any) -> bool:
        """Return whether images are complex, with these options and what the dataset brings."""
        return False

    def A_adjoint(self, y: Shaped[Tensor, "b ..."]) -> Shaped[Tensor, "b 1 h w"]:
        """Apply the adjoint: Re <A x, y> = <x, A_adjoint y>; only a linear A has one."""
        raise NotImplementedError(f"{self.name} has no adjoint: it is not linear")

    def A_dagger(self, y: Shaped[Tensor, "b ..."]) -> Float[Tensor, "b 1 h w"]:
        """Compute the usual estimate without a prior; the adjoint unless overridden."""
        return self.A_adjoint(y)

    def add_noise(self, y: Shaped[Tensor, "b ..."], noise: Noise) -> Shaped[Tensor, "b ..."]:
        """Add noise to noiseless measurements, drawn from `noise[i]` on the CPU for image i.

        `standard_normal` and the other functions of `bench.physics` that draw make better use of a
        training batch's noise: they draw it at once, on the device.
        """
        if not self.noise_variance:
            return y
        return y + self.noise_std * standard_normal(y, noise)

    def measure(self, x: Shaped[Tensor, "b 1 h w"], ids: Sequence[str]) -> Shaped[Tensor, "b ..."]:
        """Measure images: `A(x)` plus noise.

        The noise of an image is drawn on the CPU, with a seed made only of the degradation, its
        level and the image's id: order, batch size, worker and device do not change it. A bound
        physics (see `of`) returns what was measured of its images instead.

        Args:
            x: images, float32, magnitude in [0, 1].
            ids: one per image.
        """
        if len(ids) != len(x):
            raise ValueError(f"{len(x)} images but {len(ids)} ids")
        if self.measured is not None:
            return self.acquired(self.measured.take(slice(len(x))).read(x.device))
        generators = [
            torch.Generator().manual_seed(derive_seed("noise", self.name, f"{self.level:g}", id_))
            for id_ in ids
        ]
        return self.add_noise(self.A(x), generators)

    def measure_batch(
        self, x: Shaped[Tensor, "b 1 h w"], ids: Sequence[str], noise: BatchNoise
    ) -> Shaped[Tensor, "b ..."]:
        """Measure a training batch as `measure` does, but with noise drawn at once on its device.

        A class that defines `measure`, and not `_measure_batch`, draws by ids in training too.
        """
        classes = type(self).__mro__
        own, batched = (
            next(n for n, one in enumerate(classes) if name in vars(one))
            for name in ("measure", "_measure_batch")
        )
        return self.measure(x, ids) if own < batched else self._measure_batch(x, ids, noise)

    def _measure_batch(
        self, x: Shaped[Tensor, "b 1 h w"], ids: Sequence[str], noise: BatchNoise
    ) -> Shaped[Tensor, "b ..."]:
        """Measure a training batch; see `measure_batch`."""
        if self.measured is not None:
            return self.acquired(self.measured.take(slice(len(x))).read(x.device))
        return self.add_noise(self.A(x), noise)

    def takes(self, kind: Kind) -> bool:
        """Return whether it is applied to measurements of this kind that a dataset brings."""
        return False

    def adopt(self, kind: Kind | None) -> "Physics":
        """Prepare for measurements that a dataset brings, if it takes them; returns itself."""
        return self

    def of(self, images: ImageSet) -> "Physics":
        """Return the operator of these images: itself, or bound to what was measured of them.

        A bound physics knows what differs between its images, such as the coils' sensitivities;
        measurements and images are passed to it in their order, and `part` follows a slice.
        """
        if images.measured is None or not self.takes(images.measured.kind):
            return self
        return self.bind(images.measured)

    def bind(self, measured: Measured) -> "Physics":
        """Return a copy for the images of these measurements."""
        bound = copy.copy(self).adopt(measured.kind)
        bound.measured = measured
        bound.forget()
        return bound

    def forget(self) -> None:
        """Forget what was computed of A^T A, since the operator has changed."""
        self._responses = {}
        vars(self).pop("norm_squared", None)

    def part(self, where: slice) -> "Physics":
        """Return the operator of some of the images that it is bound to."""
        return self if self.measured is None else self.bind(self.measured.take(where))

    def acquired(self, values: Shaped[Tensor, "b ..."]) -> Shaped[Tensor, "b ..."]:
        """Return the measurement y that it takes from what the scanner measured."""
        return values

    def spectrum(self, shape: tuple[int, int]) -> Float[Tensor, "h wr"] | None:
        """Return the eigenvalues of A^T A if the real Fourier transform diagonalises it, or None.

        They are in the frequency order of `torch.fft.rfft2`, for images of the given shape.
        """
        return None

    def A_normal(self, x: Shaped[Tensor, "b 1 h w"]) -> Shaped[Tensor, "b 1 h w"]:
        """Apply A^T A, by the spectrum if there is one."""
        values = None if x.is_complex() else self.spectrum((x.shape[-2], x.shape[-1]))
        if values is None:
            return self.A_adjoint(self.A(x))
        return torch.fft.irfft2(torch.fft.rfft2(x) * on_device(values, x.device), s=x.shape[-2:])

    def response(self, like: Shaped[Tensor, "b 1 h w"]) -> Shaped[Tensor, "h w"]:
        """Return A^T A of a point, moved to the corner: the kernel if A^T A is a convolution.

        It is computed once for each size, type and device of images.
        """
        height, width = like.shape[-2:]
        key = height, width, like.dtype, like.device
        if key not in self._responses:
            point = torch.zeros(1, 1, height, width, dtype=like.dtype, device=like.device)
            point[..., height // 2, width // 2] = 1
            with torch.no_grad():
                kernel = self.A_normal(point)[0, 0]
            self._responses[key] = kernel.roll((-(height // 2), -(width // 2)), (0, 1))
        return self._responses[key]

    def invert_normal(
        self, right: Shaped[Tensor, "b 1 h w"], mu: Float[Tensor, "#b 1 1 1"]
    ) -> Shaped[Tensor, "b 1 h w"] | None:
        """Solve (A^T A + mu) x = right exactly, mu one number or one for each image.

        None, unless the Fourier transform diagonalises A^T A or a subclass knows another way.
        """
        eigenvalues, exact = self.normal_eigenvalues(right)
        return filtered(right, 1 / (eigenvalues + mu)) if exact else None

    def normal_eigenvalues(self, like: Shaped[Tensor, "b 1 h w"]) -> tuple[Tensor, bool]:
        """Return eigenvalues of A^T A for the Fourier transform, and whether they are exact.

        Where they are not, they are those of the convolution with the point response. The order
        is that of `torch.fft.fft2` for complex images, else that of `torch.fft.rfft2`.
        """
        if like.is_complex():
            return torch.fft.fft2(self.response(like)).real.clamp(min=0), False
        exact = self.spectrum((like.shape[-2], like.shape[-1]))
        if exact is not None:
            return on_device(exact, like.device).clamp(min=0), True
        return torch.fft.rfft2(self.response(like)).real.clamp(min=0), False

    @cached_property
    def norm_squared(self) -> float:
        """The greatest eigenvalue of A^T A, by power iteration, a little rounded up."""
        x = torch.randn(1, 1, *self.shape, generator=torch.Generator().manual_seed(0))
        x = x.to(self._home)
        for _ in range(POWER_ITERATIONS):
            x = self.A_normal(x / x.norm())
            x = x.real if x.is_complex() else x
        return 1.01 * x.norm().item()

    @property
    def mask(self) -> Bool[Tensor, "1 1 h w"] | None:
        """True where k-space is measured, DC in the middle; None if y is not k-space."""
        return None

    def A_vjp(
        self, x: Shaped[Tensor, "b 1 h w"], v: Shaped[Tensor, "b ..."]
    ) -> Shaped[Tensor, "b 1 h w"]:
        """Apply the transposed Jacobian at x to v: the adjoint for a linear operator."""
        if self.linear:
            return self.A_adjoint(v)
        product: Tensor = torch.func.vjp(self.A, x)[1](v)[0]
        return product

    def prox_l2(
        self,
        z: Shaped[Tensor, "b 1 h w"],
        y: Shaped[Tensor, "b ..."],
        gamma: float | Float[Tensor, "b 1 1 1"],
    ) -> Shaped[Tensor, "b 1 h w"]:
        """Solve argmin_x gamma/2 |A x - y|^2 + 1/2 |x - z|^2, differentiably.

        Args:
            z: images.
            y: measurements.
            gamma: positive; one number, or one for each image.
        """
        return z + regularised_inverse(self, self.A_adjoint(y) - self.A_normal(z), 1 / gamma)


class Denoising(Physics):
    """Degradation by noise alone: the forward operator is the identity, the level the noise."""

    def __init__(self, level: float, image_size: Size):
        super().__init__(level, image_size)

    def A(self, x: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
        """Return x."""
        return x

    def A_normal(self, x: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
        """Return x."""
        return x

    def spectrum(self, shape: tuple[int, int]) -> Float[Tensor, "h wr"]:
        """Return 1 at every frequency."""
        return _ones(shape)

    def A_adjoint(self, y: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
        """Return y."""
        return y


@lru_cache(maxsize=16)
def _ones(shape: tuple[int, int]) -> Float[Tensor, "h wr"]:
    return torch.ones(shape[0], shape[1] // 2 + 1)


def root_mean_square(values: Shaped[Tensor, "..."]) -> float:
    """Compute the root mean square of all values; complex ones count as two values each."""
    parts = torch.view_as_real(values) if values.is_complex() else values
    return parts.double().square().mean().sqrt().item()


def full_precision(method: Callable[Given, Result]) -> Callable[Given, Result]:
    """Disable autocast in an operator: in bf16 a measurement would have an error of 2^-9."""

    @wraps(method)
    def guarded(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            return method(*args, **kwargs)

    return guarded
