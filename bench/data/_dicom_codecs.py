"""Compressed pixels of DICOM files: imagecodecs as a plug-in for pydicom's decoders.

imagecodecs (BSD) brings libjpeg-turbo (8, 12 and 16 bits, lossless too), CharLS and OpenJPEG (with
High-Throughput JPEG 2000); pydicom handles headers, frames and signs. Importing this file
registers the plug-in. pydicom decodes RLE by itself.
"""

from typing import Any

import imagecodecs
import numpy as np
from pydicom import uid
from pydicom.pixels import get_decoder

LABEL = "imagecodecs"
JPEG = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1)
JPEG_LS = (uid.JPEGLSLossless, uid.JPEGLSNearLossless)
JPEG_2000 = (
    uid.JPEG2000Lossless, uid.JPEG2000, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K,
)  # fmt: skip
SYNTAXES = frozenset([*JPEG, *JPEG_LS, *JPEG_2000])
END_OF_IMAGE = b"\xff\xd9"  # the marker that ends a JPEG
FILL = 16  # bytes that may follow it

# pydicom looks up these two names in a plug-in.
DECODER_DEPENDENCIES = dict.fromkeys(SYNTAXES, ("imagecodecs",))


def is_available(syntax: str) -> bool:
    """Return whether this plug-in decodes a transfer syntax."""
    return syntax in SYNTAXES


def decode_frame(source: bytes, runner: Any) -> bytes:
    """Decode one frame, and set the size of a sample on pydicom's runner.

    Raises:
        ValueError: the frame is truncated.
    """
    pixels = np.asarray(_decode(source, runner.transfer_syntax))
    runner.set_option("bits_allocated", 8 * pixels.dtype.itemsize)
    runner.set_option("planar_configuration", 0)
    return pixels.tobytes()


def _decode(source: bytes, syntax: str) -> Any:
    if syntax in JPEG_2000:
        return imagecodecs.jpeg2k_decode(source)
    # libjpeg would fill the missing part with grey; CharLS would take seconds to notice.
    if END_OF_IMAGE not in source[-FILL:]:
        raise ValueError("they are truncated")
    decode = imagecodecs.jpegls_decode if syntax in JPEG_LS else imagecodecs.jpeg8_decode
    return decode(source)


for _syntax in SYNTAXES:
    get_decoder(_syntax).add_plugin(LABEL, (__name__, decode_frame.__name__))
