import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench import data
from bench.data import images as reader
from bench.spec import DatasetSpec


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RECONBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    folder.mkdir()
    for number in range(6):
        save(folder / f"{number}.png", number)
    return folder


def save(path: Path, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 24), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def load(folder: Path, **options: object) -> data.Dataset:
    return data.load(DatasetSpec(path=str(folder), image_size=24, **options))


def unreadable(*_: object, **__: object) -> None:
    raise AssertionError("read again")


def same(a: data.Dataset, b: data.Dataset) -> bool:
    return (
        a.digest() == b.digest()
        and vars(a.audit) == vars(b.audit)
        and a.parts == b.parts
        and a.images.strides == b.images.strides
    )


def test_a_second_load_reads_no_file(kept, folder, monkeypatch) -> None:
    first = load(folder)
    monkeypatch.setattr(reader, "read", unreadable)
    assert same(first, load(folder))
    assert same(first, load(folder, n_test=3, name="other"))
    with pytest.raises(Exception, match="read again"):
        load(folder, fit="crop")


def test_images_lie_in_memory_alike_whether_or_not_they_were_kept(kept) -> None:
    template = DatasetSpec(image_size=16, subjects=2)
    assert same(data.load(template), data.load(template))


def test_changed_files_are_read_again(kept, folder) -> None:
    load(folder)
    save(folder / "6.png", 6)
    assert len(load(folder)) == 7
    (folder / "6.png").unlink()
    assert len(load(folder)) == 6
    before = load(folder)
    save(folder / "0.png", 99)
    os.utime(folder / "0.png", ns=(1, 1))
    assert before.digest() != load(folder).digest()


@pytest.mark.parametrize("harm", ["truncated", "flipped", "empty"])
def test_a_damaged_cache_is_built_anew(kept, folder, harm) -> None:
    first = load(folder)
    (place,) = kept.glob("*.npz")
    content = bytearray(place.read_bytes())
    if harm == "flipped":
        content[2000] ^= 0xFF
    place.write_bytes(bytes(content[: {"truncated": 3000, "empty": 0}.get(harm, len(content))]))
    assert same(first, load(folder))
    assert len(place.read_bytes()) == len(content)


def test_several_at_once_and_nothing_left_behind(kept, folder) -> None:
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: load(folder), range(6)))
    assert all(same(found[0], other) for other in found)
    assert len(list(kept.iterdir())) == 1


def test_no_cache_where_none_can_be(folder, tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("in the way")
    for place in ("", str(tmp_path / "file" / "cache")):
        monkeypatch.setenv("RECONBENCH_CACHE", place)
        assert len(load(folder)) == 6
