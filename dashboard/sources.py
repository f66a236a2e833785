"""Where a page gets the pictures of a cell from: the run folder, or a process that makes them."""

from pathlib import Path

import numpy as np
import streamlit as st

from dashboard import mirror, pictures, theme
from dashboard.pictures import CellPictures
from dashboard.reconstructor import ForeignCodeError, Reconstructor
from dashboard.run import Stamp

RUNS = 2  # whose images and models are kept in memory
PICTURES = 64


@st.cache_resource(show_spinner=False, max_entries=RUNS, on_release=Reconstructor.close)
def reconstructor(folder: str, test: str) -> Reconstructor:
    """Return the process for a run, one for each set of test images."""
    return Reconstructor(mirror.address(Path(folder)))


@st.cache_data(show_spinner=False, max_entries=PICTURES)
def made(
    folder: str, test: str, stamp: Stamp, cell: str, seed: int, image: str, foreign: bool
) -> CellPictures:
    """Reconstruct an image once per change of the run; see `Reconstructor.of_cell`."""
    return reconstructor(folder, test).of_cell(cell, seed, image, foreign)


class Source:
    """The pictures of one test image in a run.

    Args:
        folder: the run folder.
        stamp: its state.
        digest: of its test images.
        image: the id of the image.
        truth: the images whose truth is stored, by id.
    """

    def __init__(
        self, folder: Path, stamp: Stamp, digest: str, image: str, truth: dict[str, np.ndarray]
    ):
        self._folder, self._stamp, self._digest, self._image = folder, stamp, digest, image
        self._x = truth.get(image)

    def of_cell(self, cell: str, label: str, seed: int, kind: str) -> CellPictures | None:
        """Return a cell's pictures, stored or made; None, after saying why, if there are none."""
        stored = None
        try:
            if self._x is not None:
                stored = pictures.of_cell(self._folder, cell, self._image, self._x)
        except ValueError as error:  # a damaged file; the others are shown
            st.warning(theme.markdown(error), icon=":material/healing:")
        if stored is not None:
            return stored
        if kind == "external":
            st.info(f"{theme.markdown(label)} was run elsewhere: only stored pictures are shown.")
            return None
        return self._made(cell, label, seed)

    def _made(self, cell: str, label: str, seed: int) -> CellPictures | None:
        allowed = f"foreign {self._folder}"  # never from a link
        name = theme.markdown(label)
        where = str(self._folder), self._digest, self._stamp
        try:
            with st.spinner(f"Reconstructing this image by {name}"):
                foreign = bool(st.session_state.get(allowed))
                return made(*where, cell, seed, self._image, foreign)
        except ForeignCodeError as error:
            st.warning(
                f"{name}: this picture is not stored. To make it, the run imports code of "
                f"{theme.markdown(error)}.",
                icon=":material/code:",
            )
            if st.button("Import it", key=f"import {cell}", icon=":material/play_arrow:"):
                st.session_state[allowed] = True
                st.rerun()
        except ValueError as error:
            st.warning(
                f"{name}: this picture is not stored, and cannot be made again: "
                f"{theme.markdown(error)}",
                icon=":material/image_not_supported:",
            )
        return None
