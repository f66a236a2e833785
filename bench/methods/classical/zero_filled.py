"""Zero-filled MRI: the inverse transform of k-space, 0 where nothing was measured."""

from bench.methods.classical.pseudo_inverse import PseudoInverse
from bench.physics import MRI


class ZeroFilled(PseudoInverse):
    """The magnitude of the combined coils, density-compensated where sampling is not Cartesian."""

    supported_physics = MRI
