"""What all MRI degradations share: coils, complex noise, and the combination of the coils."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any

from jaxtyping import Complex64, Float, Shaped
from pydantic import Field
from torch import Tensor

from bench.data.measurement import Kind
from bench.errors import UserError
from bench.physics._coils import birdcage
from bench.physics._constants import on_device
from bench.physics._draws import BatchNoise
from bench.physics._phase import drawn_phases, smooth_phases
from bench.physics.base import Physics, Size

Coils = Annotated[int, Field(ge=1, le=64)]


class MRI(Physics):
    """k-space of each coil: y_c = E(S_c x) + n, n complex, white and Gaussian.

    E samples the Fourier transform, scaled to preserve energy on a full Cartesian grid. The images
    x are magnitudes, hence real, and `A_adjoint` returns the real part, which is the adjoint on
    real images. With measured k-space (see `Physics.of`), or with a phase, images are complex.

    Args:
        level: see the subclass.
        image_size: pixels along each side, or (height, width).
        coils: number of simulated coils around the image, see `_coils.birdcage`.
        noise_variance: of the real and of the imaginary part of each sample.
        complex: whether simulated images get a smooth random phase, drawn from their ids (see
            `_phase`), so that they are complex, as real ones are.
    """

    def __init__(
        self,
        level: float,
        image_size: Size,
        coils: int,
        noise_variance: float,
        complex: bool | None = None,
    ):
        super().__init__(level, image_size, noise_variance)
        if coils < 1:
            raise UserError(f"{self.name}: coils {coils} is below 1")
        self.coils = coils
        self.phased = self.complex_image = bool(complex)
        self.maps: Tensor | None = None

    @classmethod
    def has_complex_images(cls, brought: Kind | None, **options: Any) -> bool:
        """Return whether images get a phase."""
        return bool(options.get("complex"))

    @property
    def white(self) -> bool:
        """Whether the noise is white and Gaussian, of `noise_variance`; a phase is not noise."""
        return type(self).add_noise is Physics.add_noise and type(self).measure is MRI.measure

    @abstractmethod
    def encode(self, images: Complex64[Tensor, "b coils h w"]) -> Complex64[Tensor, "b coils ..."]:
        """Sample the Fourier transform of each coil's image."""

    @abstractmethod
    def decode(
        self, y: Complex64[Tensor, "b coils ..."], weighted: bool = False
    ) -> Complex64[Tensor, "b coils h w"]:
        """Apply the adjoint of `encode`, to samples weighted by the area of k-space they cover."""

    def sensitivities(self, like: Shaped[Tensor, "b c h w"]) -> Complex64[Tensor, "*b coils h w"]:
        """Return the coils' sensitivities on the grid and device of an image.

        Those of each image, if the physics is bound to measured k-space.
        """
        if self.maps is None and self.measured is not None:
            self.maps = self.measured.read_maps()
        if self.maps is None:
            maps = birdcage(self.coils, (like.shape[-2], like.shape[-1]))
            return on_device(maps, like.device)
        if self.maps.device != like.device:
            self.maps = self.maps.to(like.device)
        return self.maps

    def set_maps(self, maps: Complex64[Tensor, "*b coils h w"]) -> None:
        """Use these sensitivities from now on, the same for all images or those of each."""
        self.maps = maps
        self.forget()

    def measure(
        self, x: Float[Tensor, "b 1 h w"], ids: Sequence[str]
    ) -> Complex64[Tensor, "b coils ..."]:
        """Measure images, with a phase if they are to have one; see `Physics.measure`."""
        if self.phased and self.measured is None:
            x = x * smooth_phases(ids, (x.shape[-2], x.shape[-1])).to(x.device)
        return super().measure(x, ids)

    def _measure_batch(
        self, x: Float[Tensor, "b 1 h w"], ids: Sequence[str], noise: BatchNoise
    ) -> Complex64[Tensor, "b coils ..."]:
        """Measure a training batch, its phases drawn on its device too."""
        if self.phased and self.measured is None:
            x = x * drawn_phases(x, noise)
        return super()._measure_batch(x, ids, noise)

    def A(self, x: Shaped[Tensor, "b 1 h w"]) -> Complex64[Tensor, "b coils ..."]:
        """Measure each coil's k-space."""
        return self.encode(self.sensitivities(x) * x)

    def A_adjoint(self, y: Complex64[Tensor, "b coils ..."]) -> Shaped[Tensor, "b 1 h w"]:
        """Combine the back-transformed samples of all coils."""
        combined = self.combine(self.decode(y))
        return combined if self.complex_image else combined.real

    def A_dagger(self, y: Complex64[Tensor, "b coils ..."]) -> Float[Tensor, "b 1 h w"]:
        """Fill missing samples with zeros and return the magnitude of the combined image."""
        return self.combine(self.decode(y, weighted=True)).abs()

    def consistent(
        self, x: Shaped[Tensor, "b 1 h w"], y: Complex64[Tensor, "b coils ..."]
    ) -> Shaped[Tensor, "b 1 h w"]:
        """Replace the images' own values at the measured k-space positions by the measurement.

        This equals transforming x to full k-space, inserting y and transforming back; by linearity
        only the difference has to be transformed.
        """
        combined = self.combine(self.fill(y - self.A(x)))
        return x + (combined if self.complex_image else combined.real)

    def fill(self, y: Complex64[Tensor, "b coils ..."]) -> Complex64[Tensor, "b coils h w"]:
        """Transform full k-space that is 0 except at the measured samples."""
        return self.decode(y)

    def combine(self, images: Complex64[Tensor, "b coils h w"]) -> Complex64[Tensor, "b 1 h w"]:
        """Add up the coils' images, weighted by their sensitivities."""
        return (self.sensitivities(images).conj() * images).sum(1, keepdim=True)
