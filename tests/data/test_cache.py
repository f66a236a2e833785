import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench import data
from bench.data import cache
from bench.spec import DatasetSpec


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DatasetSpec:
    monkeypatch.setenv(cache.FOLDER, str(tmp_path / "cache"))
    folder = tmp_path / "scans"
    folder.mkdir()
    for number in range(6):
        save(folder / f"{number}.png", number)
    return DatasetSpec(source="images", path=str(folder), image_size=16)


def save(path: Path, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 20), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[DatasetSpec]:
    """Record each time that a dataset is really read."""
    seen: list[DatasetSpec] = []
    build = data._build

    def counting(spec: DatasetSpec) -> data.Dataset:
        seen.append(spec)
        return build(spec)

    monkeypatch.setattr(data, "_build", counting)
    return seen


def same(a: data.Dataset, b: data.Dataset) -> bool:
    told = (a.ids, a.subjects, a.audit) == (b.ids, b.subjects, b.audit)
    return told and np.array_equal(a.images, b.images)


def entry(tmp_path: Path) -> Path:
    (found,) = (tmp_path / "cache").iterdir()
    return found


def test_a_dataset_is_read_once(spec: DatasetSpec, builds: list, tmp_path: Path) -> None:
    first, second = data.load(spec), data.load(spec)
    assert len(builds) == 1
    assert same(first, second)
    assert not second.images.flags.writeable
    assert entry(tmp_path).name.startswith("scans-")


def test_other_options_and_changed_files_are_read_anew(
    spec: DatasetSpec, builds: list, tmp_path: Path
) -> None:
    data.load(spec)
    data.load(spec.model_copy(update={"image_size": 24}))
    assert len(builds) == 2
    save(tmp_path / "scans" / "3.png", 99)
    os.utime(tmp_path / "scans" / "3.png", (1, 1))
    changed = data.load(spec)
    assert len(builds) == 3
    save(tmp_path / "scans" / "6.png", 6)
    assert len(data.load(spec)) == len(changed) + 1


@pytest.mark.parametrize("name", ["images.npy", "about.json"])
@pytest.mark.parametrize("harm", ["truncate", "flip", "delete"])
def test_a_damaged_entry_is_made_again(
    spec: DatasetSpec, builds: list, tmp_path: Path, name: str, harm: str
) -> None:
    whole = data.load(spec)
    file = entry(tmp_path) / name
    content = bytearray(file.read_bytes())
    if harm == "delete":
        file.unlink()
    else:
        content[-20] ^= 0xFF
        file.write_bytes(content[:-9] if harm == "truncate" else content)
    assert same(data.load(spec), whole)
    assert len(builds) == 2
    assert same(data.load(spec), whole)
    assert len(builds) == 2


def test_a_cache_that_cannot_be_written_is_no_error(
    spec: DatasetSpec, builds: list, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert same(data.load(spec), data.load(spec))
    assert len(builds) == 2


def test_several_processes_at_once_agree(spec: DatasetSpec, tmp_path: Path) -> None:
    program = (
        "from bench import data; from bench.spec import DatasetSpec; import sys;"
        "print(data.load(DatasetSpec(source='images', path=sys.argv[1], image_size=16)).digest())"
    )
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(spec.path)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    digests = {worker.communicate()[0] for worker in workers}
    assert [worker.returncode for worker in workers] == [0, 0, 0]
    assert digests == {data.load(spec).digest() + "\n"}
    assert list((tmp_path / "cache").iterdir()) == [entry(tmp_path)]
