"""ReconBench: which reconstruction method, at my degradation level, with my number of images?"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("reconbench")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0+unknown"
