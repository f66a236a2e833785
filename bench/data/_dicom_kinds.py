"""Which DICOM objects, and which frames of them, are images of a scan.

The names of classes, modalities and image types are those of PS3.4 B.5, PS3.3 C.7.3.1.1.1 and
PS3.3 C.7.6.1.1.2, with the image types that Siemens, Philips and GE write.
"""

import re

from bench.data._dicom_views import View

PIXELLESS = "DICOM files without pixels"
COLOUR = "colour pictures"
LOCALIZERS = "localizers"
PHASES = "phase images"
COMPONENTS = "real or imaginary parts"
MAPS = "parameter maps"
SCREENS = "secondary captures"
MOSAICS = "mosaics of slices (dcm2niix unfolds them)"
GREY = "MONOCHROME"
SEGMENTATIONS, DOSES = "segmentations", "dose maps"
UNLIKE = "images unlike the rest of their series"
COPIES = "copies of the same DICOM object"

STORAGE = "1.2.840.10008.5.1.4.1.1."
SCREEN_CLASS = re.compile(re.escape(STORAGE) + r"7(\.\d+)*")
# Suffixes after the common stem of storage classes; one that ends in a dot covers all below it.
CLASSES = {
    "66.4": SEGMENTATIONS,
    "66.7": SEGMENTATIONS,
    "66.8": SEGMENTATIONS,
    "66.5": "surfaces",
    "68.": "surfaces",
    "66.1": "registrations",
    "66.2": "registrations",
    "66.3": "registrations",
    "66": "raw data",
    "66.6": "tractographies",
    "67": "real-world value maps",
    "481.2": DOSES,
    "481.3": "radiotherapy structures or plans",
    "30": MAPS,
    "4.2": "spectra",
    "9.": "waveforms",
    "11.": "presentation states",
    "88.59": "key object notes",
    "88.": "reports",
    "104.": "encapsulated documents",
}
PLANS = re.compile(r"481\.(?!1$)")  # 481.1 is an image taken by the beam
MEDIA = "1.2.840.10008.1.3.10"
MODALITIES = {
    "SEG": SEGMENTATIONS,
    "RTDOSE": DOSES,
    "RTSTRUCT": "radiotherapy structures or plans",
    "RTPLAN": "radiotherapy structures or plans",
    "RTRECORD": "radiotherapy structures or plans",
    "SR": "reports",
    "PR": "presentation states",
    "KO": "key object notes",
    "DOC": "encapsulated documents",
    "REG": "registrations",
    "RWV": "real-world value maps",
    "FID": "registrations",
    "ECG": "waveforms",
    "M3D": "surfaces",
}
PHASE_TYPES = {"PHASE", "PHASE MAP", "PHASE_MAP", "VELOCITY", "VELOCITY MAP", "VELOCITY_MAP"}
PART_TYPES = {"REAL", "IMAGINARY"}
MAP_TYPES = {
    "ADC", "EADC", "ADC_MAP", "FA", "FA_MAP", "CBF", "CBV", "MTT", "TTP", "TMAX", "RCBF", "RCBV",
    "RELCBF", "RELCBV", "RELMTT", "RELCMTT", "CCBV", "PBP", "KTRANS", "IAUC", "T1 MAP",
    "T2 MAP", "T2* MAP", "T2STAR MAP", "T2_STAR MAP", "T1_MAP", "T2_MAP", "T2_STAR_MAP", "R1 MAP",
    "R2 MAP", "R2* MAP", "R2_STAR MAP", "R2_STAR", "R2STAR_MAP", "B0 MAP", "B1 MAP", "B0_MAP",
    "B1_MAP", "FIELD MAP", "STIFFNESS",
}  # fmt: skip
# Siemens writes P, R and I; Philips P_FFE, R_SE, I_IR.
LETTER = re.compile(r"([PRI])(_(FFE|SE|TSE|IR|EPI|B0|B1|PCA))?")
GE_PART = (0x0043, 0x102F)  # 0 magnitude, 1 phase, 2 real, 3 imaginary
# AAHScout, 3-pl Loc, Topogramm
SCOUT = re.compile(
    r"scout|(?<![a-z])(locali[sz]er|loc(?![a-z])|topogram|scanogram|survey|surview)", re.IGNORECASE
)


def kind_of(view: View) -> str | None:
    """Describe what a frame is if it is not an image of a scan; None for an image.

    `SCREENS` (grey secondary captures) are used as images where there is nothing else.
    """
    return (
        _object_kind(view)
        or _type_kind(set(view.words("FrameType") or view.words("ImageType")), view)
        or (LOCALIZERS if SCOUT.search(view.text("SeriesDescription")) else None)
        or (SCREENS if _is_screen(view) else None)
    )


def _object_kind(view: View) -> str | None:
    """Judge by the class of the object, its modality and its colours."""
    storage = view.text("SOPClassUID")
    if storage == MEDIA or "DirectoryRecordSequence" in view:
        return "directories of a medium (DICOMDIR)"
    tail = storage.removeprefix(STORAGE) if storage.startswith(STORAGE) else ""
    for stem, kind in CLASSES.items():
        if tail == stem or (stem.endswith(".") and tail.startswith(stem)):
            return kind
    if PLANS.match(tail):
        return "radiotherapy structures or plans"
    if view.modality in MODALITIES:
        return MODALITIES[view.modality]
    if not (view.numbers("Rows") and view.numbers("Columns")):
        return PIXELLESS
    if not (view.text("PhotometricInterpretation").upper() or GREY).startswith(GREY):
        return COLOUR
    if (view.numbers("SamplesPerPixel") or (1.0,))[0] != 1:
        return COLOUR
    bits = view.numbers("BitsStored") or view.numbers("BitsAllocated")
    return "masks of one bit" if bits == (1.0,) else None


def _type_kind(types: set[str], view: View) -> str | None:
    """Judge by the image type, or by the component of the complex signal that MR objects state."""
    part = view.text("ComplexImageComponent").upper()
    letters = {match[1] for word in types if (match := LETTER.fullmatch(word))}
    if view.modality not in ("MR", ""):
        letters = set()
    raw = view.data.get(GE_PART)
    number = raw.value if raw is not None and view.text("Manufacturer").startswith("GE") else 0
    if "LOCALIZER" in types:
        return LOCALIZERS
    if "MOSAIC" in types:
        return MOSAICS
    if types & PHASE_TYPES or part == "PHASE" or "P" in letters or number == 1:
        return PHASES
    if types & PART_TYPES or part in PART_TYPES or letters or number in (2, 3):
        return COMPONENTS
    return MAPS if types & MAP_TYPES else None


def _is_screen(view: View) -> bool:
    """Return whether an image was captured from a screen or a film, or made by a workstation."""
    return (
        SCREEN_CLASS.fullmatch(view.text("SOPClassUID")) is not None
        or view.get("ConversionType") is not None
        or "SCREEN SAVE" in view.words("ImageType")
    )
