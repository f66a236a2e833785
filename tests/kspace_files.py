"""Raw k-space as a scanner would have measured it, written in the layouts that labs use."""

from pathlib import Path

import h5py
import ismrmrd
import numpy as np
from jaxtyping import Complex64, Float32
from scipy.io import savemat
from scipy.ndimage import gaussian_filter

from bench.data.template import make
from bench.physics._coils import birdcage

HEADER = """<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding>
<encodedSpace><matrixSize><x>{x2}</x><y>{y}</y><z>1</z></matrixSize></encodedSpace>
<reconSpace><matrixSize>
<x>{x}</x>
<y>{y}</y>
<z>1</z></matrixSize></reconSpace></encoding></ismrmrdHeader>"""


def images(subjects: int, slices: int, size: int) -> Float32[np.ndarray, "subjects slices h w"]:
    """Take some slices of each synthetic subject."""
    found = make(None, size, subjects=subjects)
    names = np.array(found.subjects)
    each = [np.flatnonzero(names == name) for name in sorted(set(names))]
    chosen = [some[np.linspace(0, len(some) - 1, slices).astype(int)] for some in each]
    return found.images[np.stack(chosen), 0]


def kspace_of(
    x: Float32[np.ndarray, "slices h w"],
    coils: int,
    noise: float,
    seed: int,
    oversampling: int = 2,
) -> Complex64[np.ndarray, "slices coils h2 w"]:
    """Measure slices with a smooth phase, coils and white noise; rows are oversampled."""
    generator = np.random.default_rng(seed)
    slices, height, width = x.shape
    rough = generator.standard_normal((slices, height, width))
    phase = np.stack([gaussian_filter(one, height / 5) for one in rough])
    phase *= 2.5 / np.abs(phase).max()
    maps = birdcage(coils, (height, width)).numpy()
    parts = maps * (x * np.exp(1j * phase))[:, None]
    more = (oversampling - 1) * height
    parts = np.pad(parts, ((0, 0), (0, 0), (more // 2, more - more // 2), (0, 0)))
    axes = (-2, -1)
    kspace = np.fft.fftn(np.fft.ifftshift(parts, axes), axes=axes, norm="ortho")
    kspace = np.fft.fftshift(kspace, axes)
    draws = generator.standard_normal((2, *kspace.shape))
    return (kspace + noise * (draws[0] + 1j * draws[1])).astype(np.complex64)


def write_fastmri(
    folder: Path, subjects: int = 10, slices: int = 2, size: int = 32, coils: int = 4,
    noise: float = 0.01, scale: float = 3e-5,
) -> Path:  # fmt: skip
    """Write a file for each subject; values are as small as those of fastMRI."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, x in enumerate(images(subjects, slices, size)):
        kspace = scale * kspace_of(x, coils, noise, number)
        with h5py.File(folder / f"file{number:04d}.h5", "w") as file:
            file["kspace"] = kspace.astype(np.complex64)
            file["reconstruction_rss"] = scale * x
            file["ismrmrd_header"] = HEADER.format(x=size, x2=2 * size, y=size).encode()
            file.attrs.update(acquisition="AXT2", patient_id=f"patient {number}", max=scale)
    return folder


def write_bart(
    folder: Path, subjects: int = 10, slices: int = 2, size: int = 32, coils: int = 4,
    noise: float = 0.01,
) -> Path:  # fmt: skip
    """Write a pair of files for each subject: rows, columns, 1, coils, ..., slices."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, x in enumerate(images(subjects, slices, size)):
        kspace = kspace_of(x, coils, noise, number, oversampling=1)
        values = np.moveaxis(kspace, (2, 3, 1, 0), (0, 1, 2, 3))
        (folder / f"p{number}_ksp.hdr").write_text(
            f"# Dimensions\n{size} {size} 1 {coils} 1 1 1 1 1 1 1 1 1 {slices} 1 1\n"
        )
        content = values.astype("<c8").tobytes(order="F")
        (folder / f"p{number}_ksp.cfl").write_bytes(content)
    return folder


def write_numpy(folder: Path, subjects: int = 10, size: int = 32, coils: int = 4) -> Path:
    """Write an array for each subject: slices, coils, rows, columns (`schw`)."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, x in enumerate(images(subjects, 2, size)):
        np.save(folder / f"p{number}.npy", kspace_of(x, coils, 0.01, number, oversampling=1))
    return folder


def write_matlab(folder: Path, subjects: int = 10, size: int = 32, coils: int = 4) -> Path:
    """Write a file of MATLAB 5 for each subject: rows, columns, coils, slices (`hwcs`)."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, x in enumerate(images(subjects, 2, size)):
        kspace = kspace_of(x, coils, 0.01, number, oversampling=1)
        content = {"DATA": np.transpose(kspace, (2, 3, 1, 0)), "echo_time": 0.08}
        savemat(folder / f"p{number}.mat", content)
    return folder


def write_ismrmrd(folder: Path, subjects: int = 10, size: int = 32, coils: int = 4) -> Path:
    """Write acquisitions with ISMRMRD's own library; readouts are rows, and oversampled."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, x in enumerate(images(subjects, 2, size)):
        kspace = kspace_of(x.swapaxes(1, 2), coils, 0.01, number).swapaxes(2, 3)
        with ismrmrd.Dataset(str(folder / f"p{number}.h5"), "dataset") as dataset:
            dataset.write_xml_header(HEADER.format(x=size, x2=2 * size, y=size).encode())
            for index, parts in enumerate(kspace):
                for line in range(size):
                    one = ismrmrd.Acquisition.from_array(np.ascontiguousarray(parts[:, line]))
                    one.center_sample, one.idx.kspace_encode_step_1 = size, line
                    one.idx.slice = index
                    dataset.append_acquisition(one)
    return folder
