"""Read every file below a path with one reader; each becomes images or is accounted for."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import repeat
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float32
from pydantic import BeforeValidator, Field

from bench.data import files, kinds, pairs, sources, subjects
from bench.data.assembly import assemble
from bench.data.base import Dataset
from bench.data.ledger import Ledger
from bench.data.parts import part_called
from bench.data.pieces import Facts, Piece, pieces_of
from bench.data.prepare import Normalisation, Preparation
from bench.data.square import Fit
from bench.data.survey import survey, workers_for
from bench.data.volume import Gathered, Item, NoImage, Unusable, Volume, Window
from bench.ranges import Count, Finite, Share

Patterns = Annotated[
    Sequence[str],
    BeforeValidator(lambda given: [given] if isinstance(given, str) else given),
]
COMPANION = "headers of files that are read"


def read(
    source: str,
    path: str | None,
    image_size: int,
    own: Mapping[str, Any],
    *,
    include: Patterns = (),
    exclude: Patterns = (),
    subject_regex: str | None = None,
    subject_csv: str | None = None,
    split_csv: str | None = None,
    measured: str | None = None,
    measured_regex: str | None = None,
    measured_csv: str | None = None,
    normalisation: Normalisation = "auto",
    window: Window | Literal["file"] | None = None,
    scale: tuple[Finite, Finite] | None = None,
    percentile: Annotated[float, Field(gt=0, le=100)] = 99.5,
    nan: Finite | None = None,
    fit: Fit = "pad",
    min_foreground: Share | None = None,
    step: Count = 1,
) -> Dataset:
    """Read the files at a path.

    Args:
        source: the reader.
        path: a file, or a folder with files at any depth; links are followed.
        image_size: side of the prepared images, in pixels.
        own: the reader's own options.
        include: glob patterns; only files that match one are read. `*.png` is matched with the
            file's name, `p1/*` with its path, `p1` with a folder too.
        exclude: glob patterns of files to leave out.
        subject_regex: finds the subject in a file's path below the folder: its first group, or
            the whole match; `^([^/]+)/` takes the first folder.
        subject_csv: a table, inside the folder or elsewhere, with columns `file` (path below the
            folder) and `subject`.
        split_csv: such a table with columns `file` and `part` (train, val or test).
        measured: a file or folder with what was measured of each image, such as the low dose of a
            full one.
        measured_regex: finds the pairs: paths with the same groups.
        measured_csv: such a table with columns `file` and `measured` (path below that folder).
        normalisation: what becomes 1: `per_volume_max`, `per_image_max`, `percentile` of the
            volume, `window`, or `auto`; see `bench.data.prepare.Preparation`.
        window: centre and width of the values that become 0 to 1, or `file`: the first window
            that each file states.
        scale: the two values that become 0 and 1.
        percentile: of a volume; becomes 1 with `normalisation: percentile`.
        nan: replaces NaN and infinite values.
        fit: `pad` the shorter side to a square, or `crop` the longer one; both centred.
        min_foreground: slices with a smaller fraction of foreground are empty and dropped;
            default: 0.1 for slices of volumes, 0 for pictures.
        step: every `step`-th slice of a volume is taken.

    Raises:
        UserError: nothing to read, too many files unusable, or an option that does not fit.
    """
    prepare = Preparation(
        image_size, normalisation, window, scale, percentile, nan, fit, min_foreground, step
    )
    reader = sources.find(source)
    root, found = files.look(path)
    ledger = Ledger(root)
    rule = subjects.rule_of(root, subject_regex, subject_csv)
    part_of = subjects.by_table(root, split_csv, "part") if split_csv else None
    tables = {Path(table).name for table in (subject_csv, split_csv, measured_csv) if table}
    with workers_for(len(found), partial(sources.find, source)):
        if found == [Path(path or "")]:
            candidates = found
        else:
            candidates = candidates_of(reader, source, found, ledger, include, exclude)
        if not candidates:
            ledger.refuse_none(Path(path or ""))
        gathered = gathered_of(reader, candidates, ledger)
        partners = None
        if measured is not None:
            gathered, partners = _paired(
                reader, source, gathered, ledger, measured, exclude, measured_regex, measured_csv
            )
        got = _read_all(source, gathered, ledger, prepare, own, partners)
    ledger.refuse_many(len(candidates))
    if not got.pieces:
        ledger.refuse_none(Path(path or ""))
    parts = [part_called(part_of(piece.file)) for piece in got.pieces] if part_of else None
    for file in found:
        if file.name in tables and ledger.kinds.get(file, "").startswith("not recognised"):
            ledger.kinds[file] = "tables that the benchmark file names"
    return assemble(
        got.pieces, got.facts, ledger.counts(found), ledger.skipped(), sorted(got.remarks), rule,
        parts, hashed=hasattr(reader, "anonymous"),
    )  # fmt: skip


def candidates_of(
    reader: ModuleType,
    source: str,
    found: Sequence[Path],
    ledger: Ledger,
    include: Sequence[str],
    exclude: Sequence[str],
) -> list[Path]:
    """Choose the files to read; record what the others are."""
    wanted, ledger.kinds = files.passing(ledger.root, found, include, exclude)
    mine = [file for file in wanted if sources.takes(reader, file)]
    headers = files.companions(wanted, getattr(reader, "COMPANIONS", {}))
    named = kinds.by_name([files.name_of(file, ledger.root) for file in mine], include)
    chosen = []
    known = set(mine)
    for file in wanted:
        kind = named.get(files.name_of(file, ledger.root)) if file in known else None
        if file in headers:
            ledger.kinds[file] = COMPANION
        elif file not in known:
            other = sources.source_of(file)
            end = files.ending(file)
            ledger.kinds[file] = (
                f"not recognised ({end})" if other is None or other == source
                else f"for dataset.source: {other} ({end})"
            )  # fmt: skip
        elif kind is not None:
            ledger.kinds[file] = kind
        else:
            chosen.append(file)
    return chosen


def gathered_of(reader: ModuleType, candidates: list[Path], ledger: Ledger) -> Gathered:
    """Let a reader examine all of its files first, if it needs to."""
    if not hasattr(reader, "gather"):
        return Gathered([_File(files.name_of(file, ledger.root), [file]) for file in candidates])
    gathered: Gathered = reader.gather(candidates, ledger.root)
    if hasattr(reader, "anonymous"):
        ledger.spell = lambda text: reader.anonymous(text, gathered.hidden)
    ledger.unusable |= gathered.unusable
    for file, kind in gathered.left_out.items():
        ledger.leave_out([file], NoImage(kind))
    return gathered


def _paired(
    reader: ModuleType,
    source: str,
    gathered: Gathered,
    ledger: Ledger,
    measured: str,
    exclude: Sequence[str],
    regex: str | None,
    table: str | None,
) -> tuple[Gathered, dict[str, Item]]:
    """Find what was measured of each item, and leave out the items of which nothing was."""
    root, found = files.look(measured)
    theirs = Ledger(root)
    candidates = found if found == [Path(measured)] else []
    candidates = candidates or candidates_of(reader, source, found, theirs, (), exclude)
    if not candidates:
        theirs.refuse_none(Path(measured))
    others = gathered_of(reader, candidates, theirs)
    partners = pairs.matched(gathered.items, ledger.root, others.items, root, regex, table)
    for item in gathered.items:
        if item.name not in partners:
            ledger.leave_out(item.files, NoImage("images without a measurement"))
    kept = [item for item in gathered.items if item.name in partners]
    return replace(gathered, items=kept), partners


@dataclass(frozen=True)
class _File:
    """A file that is read by itself."""

    name: str
    files: Sequence[Path]


@dataclass
class _Result:
    """The result of reading an item.

    Attributes:
        pieces: its images.
        facts: one for each of its volumes, for the audit's table.
        remarks: how it was read.
        left_out: files of it without an image.
        unusable: files of it that are damaged.
        label_map: whether its values look like those of a segmentation.
    """

    pieces: list[Piece] = field(default_factory=list)
    facts: list[Facts] = field(default_factory=list)
    remarks: set[str] = field(default_factory=set)
    left_out: dict[Path, NoImage] = field(default_factory=dict)
    unusable: dict[Path, str] = field(default_factory=dict)
    label_map: bool = False


def _read_all(
    source: str,
    gathered: Gathered,
    ledger: Ledger,
    prepare: Preparation,
    own: Mapping[str, Any],
    partners: Mapping[str, Item] | None = None,
) -> _Result:
    """Read and prepare every item; record what became of its files."""
    work = partial(
        _read_item, source=source, prepare=prepare, root=ledger.root, own=own, partners=partners
    )
    got: list[tuple[Item, _Result]] = []
    for item, result in survey(gathered.items, work, "reading"):
        if isinstance(result, NoImage):
            ledger.leave_out(item.files, result)
        elif isinstance(result, str):
            ledger.unusable |= dict.fromkeys(item.files, result)
        else:
            got.append((item, result))
    # If all volumes have few values, they are images after all.
    sort_out = any(result.pieces and not result.label_map for _, result in got)
    made = _Result(remarks=set(gathered.remarks))
    for item, result in got:
        if sort_out and result.label_map:
            why = NoImage(kinds.LABELS, "has few values, which neighbouring pixels share")
            ledger.leave_out(item.files, why)
            continue
        ledger.unusable |= result.unusable
        for file, reason in result.left_out.items():
            ledger.leave_out([file], reason)
        made.pieces += result.pieces
        made.facts += result.facts
        made.remarks |= result.remarks
    return made


def _read_item(
    item: Item,
    source: str,
    prepare: Preparation,
    root: Path,
    own: Mapping[str, Any],
    partners: Mapping[str, Item] | None = None,
) -> _Result:
    reader = sources.find(source)

    found = volumes_of(reader, item, own)
    others = None if partners is None else volumes_of(reader, partners[item.name], own)
    if others is not None and len(others) != len(found):
        raise Unusable(f"holds {len(found)} volumes, and its measurement {len(others)}")
    return _prepared(item, found, prepare, root, others)


def volumes_of(reader: ModuleType, item: Item, own: Mapping[str, Any]) -> list[Volume]:
    """Read the volumes of an item, in the units of its files.

    Raises:
        NoImage: it holds something other than images.
        Unusable: it is damaged or ambiguous.
    """
    given = item if hasattr(reader, "gather") else item.files[0]
    volumes: list[Volume] = reader.read(given, item.name, **own)
    return volumes


def _prepared(
    item: Item,
    volumes: Sequence[Volume],
    prepare: Preparation,
    root: Path,
    others: Sequence[Volume] | None = None,
) -> _Result:
    """Make images of an item's volumes; a volume without images does not affect the others."""
    got = _Result(label_map=bool(volumes))
    paths = {files.name_of(file, root): file for file in item.files}
    failed: dict[Path, NoImage | Unusable] = {}
    for volume, other in zip(volumes, others or repeat(None), strict=False):
        got.left_out |= {file: NoImage(kind) for file, kind in volume.left_out.items()}
        got.unusable |= volume.unusable
        got.remarks |= set(volume.remarks)
        try:
            made = prepare(volume)
            made = made if other is None else prepare.pair(volume, made, other)
        except (NoImage, Unusable) as reason:
            mine = {paths[plane.file or volume.file] for plane in volume.planes}
            failed |= {file: reason for file in mine if file not in failed}
            got.facts.append(Facts.of(volume, None, str(reason)))
            continue
        got.pieces += pieces_of(volume, made)
        for number, fault in made.faulty.items():
            failed[paths[volume.planes[number].file or volume.file]] = Unusable(fault)
        got.facts.append(Facts.of(volume, made))
        got.label_map = got.label_map and kinds.is_label_map(*_values(volume))
        failed |= {
            paths[plane.file]: NoImage(made.dropped[number])
            for number, plane in enumerate(volume.planes)
            if number in made.dropped and plane.file is not None
        }
    read = {paths[piece.file] for piece in got.pieces}
    for file, why in failed.items():
        if file in read:
            continue
        if isinstance(why, NoImage):
            got.left_out[file] = why
        else:
            got.unusable[file] = str(why)
    got.label_map = got.label_map and bool(got.pieces)
    return got


def _values(volume: Volume) -> Iterator[Float32[np.ndarray, "h w"]]:
    return (plane.values for plane in volume.planes)
