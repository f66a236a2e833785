import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench import cluster, display, methods, private, rules


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is refused here is refused before anything runs."""
    monkeypatch.setattr(cluster, "connect", lambda: None)
    monkeypatch.setattr(private, "cluster_address", lambda: None)  # of another test's cluster


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of prepared images, so that each is prepared once for all of these tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def reconbench(
    reconbench: Callable, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable:
    """Run the command line in an empty folder; return exit status, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECONBENCH_CACHE", str(cache))
    return reconbench


def corrupt_folder(folder: Path) -> Path:
    folder.mkdir()
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 20), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg")
    (folder / "2.jpg").write_bytes((folder / "2.jpg").read_bytes()[:150])
    return folder


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["none.yaml"], "none.yaml: no such benchmark file"),
        (["--set", "methods=[tv, unte]"], "unknown method 'unte'; did you mean 'unet'"),
        (["--set", "methds=[tv]"], "unknown key 'methds'; did you mean 'methods'"),
        (["--set", "budgt.steps=3"], "with budgt.steps=...: unknown key 'budgt'"),
        (["--set", "budget=tiny"], "budget: unknown budget (known: smoke, small, paper)"),
        (["--set", "seeds"], "write it as key=value"),
        (["--set", "dataset.imagesize=32"], "did you mean 'image_size'"),
        (["--set", "dataset.source=images"], "dataset.path"),
        (["--set", "dataset.source=images", "--set", "dataset.path=nowhere"], "nowhere: no such"),
        (["--set", "degradations=[{name: gaussian_noise, levels: [-1]}]"], "level -1 is out of"),
        (["--set", "degradations=[{name: gaussian_nois, levels: [1]}]"], "'gaussian_noise'"),
        (["--set", "methods=[{name: tv, fixed: {wieght: 1}}]"], "did you mean 'weight'"),
        (["--set", "methods=['my_models:Net']"], "my_models:Net: cannot be imported"),
        (["--set", "n_train=[9999]", "--set", "dataset.subjects=18"], "n_train=9999"),
        (
            ["--set", "degradations=[{name: mri_cartesian, levels: [4]}]"],
            "nlm supports Denoising only",
        ),
        (["--set", "degradations=[{name: mri_radial, levels: [4.5]}]"], "a whole number"),
        (["--set", "degradations=[{name: mri_cartesian, levels: [4], mask: x}]"], "mask: Input"),
        (["--set", "methods=[{name: unet, fixed: {loss: mse + l3}}]"], "unknown loss 'l3'"),
        (["--set", "methods=[{name: unet, fixed: {preset: x}}]"], "unknown preset of unet: 'x'"),
        (["--set", "methods=[{name: unet, workers: 3}]"], "cannot be shared by the 3 workers"),
        (["--set", "methods=[kspace_gan]"], "kspace_gan supports MRICartesian only"),
        (["--out", "ftp://server/run"], "is s3://BUCKET/FOLDER or gs://BUCKET/FOLDER"),
    ],
)
def test_a_mistake_ends_in_one_line_and_status_2(reconbench, words, says) -> None:
    status, _, errors = reconbench("run", *words)
    assert status == 2
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert says in errors
    assert not (Path.cwd() / "results").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nosuch"], "nosuch"),
        (["run", "--noeds", "3"], "--nodes"),
        (["run", "--nodes", "abc"], "--nodes"),
        (["degrade", "scans"], "--degradation"),
        (["report"], "folder"),
    ],
)
def test_wrong_arguments_end_in_one_line_and_status_2(reconbench, words, says) -> None:
    status, _, errors = reconbench(*words)
    assert status == 2
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert says in errors


def test_without_arguments_the_help_is_shown(reconbench) -> None:
    status, out, errors = reconbench()
    assert status == 2
    assert "degradations" in out + errors
    assert "error" not in out + errors


def test_a_corrupt_file_among_few_is_named(reconbench, tmp_path: Path) -> None:
    folder = corrupt_folder(tmp_path / "scans")
    words = ["--set", "dataset.source=images", "--set", f"dataset.path={folder}"]
    status, _, errors = reconbench("run", *words)
    assert status == 2
    assert errors.count("\n") == 1
    assert f"{folder}/2.jpg: cannot be read" in errors


def test_plan_counts_cells_trials_and_steps(reconbench) -> None:
    status, out, _ = reconbench("plan", "--no-measure")
    assert status == 0
    assert "20 cells" in out
    assert "core-hours;" not in out
    cells, trials, refits, steps = (int(word.replace(",", "")) for word in _line(out, "unet")[2:6])
    assert (cells, trials, refits) == (4, 4 * 6, 4 * 3)
    assert steps == (trials + refits) * 120
    _, priced, _ = reconbench("plan", "--price", "2", "--only", "method=tv,unet")
    assert float(_line(priced, "unet")[6]) > 0
    assert "core-hours" in priced.splitlines()[-1]
    assert "at 2 an hour" in priced
    assert "20 cells" not in priced
    assert "6 cells" in priced


def _line(table: str, method: str) -> list[str]:
    return next(line.split() for line in table.splitlines() if line.split()[:1] == [method])


@pytest.mark.parametrize(
    ("only", "says"),
    [
        ("method=unte", "did you mean 'unet'"),
        ("methd=unet", "did you mean 'method'"),
        ("level=0.7", "(known: 0.1, 0.5)"),
        ("level", "write it as level=VALUE"),
    ],
)
def test_a_filter_that_matches_nothing(reconbench, only: str, says: str) -> None:
    status, _, errors = reconbench("plan", "--only", only)
    assert status == 2
    assert errors.count("\n") == 1
    assert says in errors


def own_benchmark(folder: Path, images: int, n_train: int) -> list[str]:
    """Write a folder of images and a benchmark that leaves the held-out sets open."""
    (folder / "scans").mkdir()
    for number in range(images):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 20), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"scans/{number}.png")
    (folder / "mine.yaml").write_text(
        "dataset: {path: scans, image_size: 16}\nmethods: [degraded]\n"
        "degradations: [{name: gaussian_noise, levels: [0.1]}]\n"
        f"n_train: [{n_train}]\n"
    )
    return ["mine.yaml", "--no-measure"]


def test_plan_shrinks_the_held_out_sets_to_a_small_folder(reconbench, tmp_path: Path) -> None:
    status, out, _ = reconbench("plan", *own_benchmark(tmp_path, images=20, n_train=12))
    assert status == 0
    assert "20 images are few: 5 for testing, 2 for validation, 12 for training" in out


def test_plan_refuses_what_the_images_cannot_fill(reconbench, tmp_path: Path) -> None:
    status, _, errors = reconbench("plan", *own_benchmark(tmp_path, images=20, n_train=19))
    assert status == 2
    assert "20 images of 20 subjects cannot fill" in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize("files", [[], ["notes.txt", "old.bak"]])
def test_a_folder_without_images(reconbench, tmp_path: Path, files: list[str]) -> None:
    for name in files:
        (tmp_path / name).touch()
    words = ["audit", str(tmp_path)]
    status, _, errors = reconbench(*words)
    assert status == 2
    assert ("an ending that a reader knows" if files else "the folder is empty") in errors


def test_pictures_of_patients_with_equal_file_names(reconbench, tmp_path: Path) -> None:
    for number in range(4):
        place = tmp_path / "scans" / f"patient{number}" / "T1" / "slice 1.png"
        place.parent.mkdir(parents=True)
        grey = np.random.default_rng(number).integers(0, 255, (24, 24)).astype(np.uint8)
        Image.fromarray(grey).save(place)
    out, sheet = tmp_path / "out", tmp_path / "sheets" / "a.png"
    words = [
        "degrade",
        str(tmp_path / "scans"),
        "--degradation",
        "gaussian_noise",
        "--level",
        "0.1",
    ]
    status, _, _ = reconbench(
        *words, "--out", str(out), "--size", "24", "--set", "dataset.fit=crop"
    )
    assert status == 0
    names = {file.name for file in out.iterdir()}
    assert names == {f"patient{k}_T1_slice_1-gaussian_noise-0.1.png" for k in range(4)}
    status, text, _ = reconbench("audit", str(tmp_path / "scans"), "--pictures", str(sheet))
    assert status == 0
    assert "| **all below the path** | 4 |" in text
    assert Image.open(sheet).width > 4 * 160


@pytest.mark.parametrize("command", ["report", "replay"])
def test_commands_on_a_folder_without_a_run(reconbench, tmp_path: Path, command: str) -> None:
    more = ["cell"] if command == "replay" else []
    status, _, errors = reconbench(command, str(tmp_path), *more)
    assert status == 2
    assert "holds no run" in errors
    (tmp_path / "first").mkdir()
    (tmp_path / "first/spec.yaml").touch()
    _, _, errors = reconbench(command, str(tmp_path), *more)
    assert "; runs in it: first\n" in errors


def test_plan_names_the_code_that_it_runs_before_it_does(
    reconbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sent.py").write_text("raise ImportError('not today')")
    status, out, errors = reconbench("plan", "--set", "methods=[tv, 'sent:Net']")
    assert status == 2
    assert f"runs code of sent ({tmp_path / 'sent.py'})" in out
    assert "not today" in errors


def test_a_method_has_no_cells_for_what_it_does_not_support(reconbench) -> None:
    levels = "{name: gaussian_noise, levels: [0.1]}, {name: gaussian_blur, levels: [1, 2]}"
    status, out, _ = reconbench("plan", "--no-measure", "--set", f"degradations=[{levels}]")
    assert status == 0
    assert "nlm supports Denoising only: no cells for gaussian_blur" in out
    counts = {line.split()[0]: line.split()[2] for line in out.splitlines() if "ssical" in line}
    assert counts == {"degraded": "3", "constant": "3", "tv": "3", "nlm": "1"}


def test_degrade_writes_a_picture(reconbench, tmp_path: Path) -> None:
    Image.fromarray(np.arange(1600, dtype=np.uint16).reshape(40, 40)).save(tmp_path / "x.png")
    words = ["--degradation", "ct_sparse_view", "--level", "20", "--size", "32"]
    status, out, _ = reconbench("degrade", "x.png", *words, "--set", "filter=hann")
    assert status == 0
    assert "degraded/x-ct_sparse_view-20.png" in out
    assert "A_dagger(y): " in out
    assert Image.open(tmp_path / "degraded" / "x-ct_sparse_view-20.png").height > 256
    status, _, errors = reconbench("degrade", "x.png", *words[:3], "0.5")
    assert (status, errors.count("\n")) == (2, 1)
    assert "level 0.5 is out of range" in errors
    status, _, errors = reconbench("degrade", "x.png", *words, "--out", "x.png")
    assert (status, errors.count("\n")) == (2, 1)


def test_degradations_are_listed_with_their_levels(reconbench) -> None:
    _, out, _ = reconbench("degradations")
    assert "number of spokes" in out
    assert "downsampler=bicubic" in out


def test_help_names_every_command(reconbench) -> None:
    _, out, _ = reconbench("--help")
    for command in ("run", "plan", "report", "replay"):
        assert command in out


SUPER_RESOLUTION = "degradations=[{name: super_resolution, levels: [2]}]"


def test_a_perceptual_loss_without_its_weights_says_so_before_anything_runs(
    reconbench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    where = ["--set", SUPER_RESOLUTION, "--set", "methods=[srgan_cbam]"]
    status, _, errors = reconbench("run", *where)
    assert status == 2
    assert errors.count("\n") == 1
    for part in ("vgg19-dcbb9e9d.pth", "perceptual=none"):
        assert part in errors
    assert not (tmp_path / "results").exists()
    without = "methods=[{name: srgan_cbam, fixed: {perceptual: none}}]"
    plan = ["plan", "--no-measure", "--set", SUPER_RESOLUTION, "--set"]
    assert reconbench(*plan, without)[0] == 0
    assert reconbench(*plan, "methods=[unet]")[0] == 0


def test_a_gan_never_stands_without_its_generator_trained_alone(reconbench) -> None:
    mri = "degradations=[{name: mri_cartesian, levels: [4]}]"
    plan = ["plan", "--no-measure", "--set", mri, "--set"]
    _, out, _ = reconbench(*plan, "methods=[kspace_gan]")
    assert "kspace_gan_no_adversary" in out
    alone = "methods=[{name: kspace_gan, fixed: {loss: mse}}]"
    assert "no_adversary" not in reconbench(*plan, alone)[1]


def test_methods_are_listed_with_their_published_size(reconbench) -> None:
    status, out, _ = reconbench("methods")
    assert status == 0
    assert "17,266,452" in out
    assert all(name in out for name in methods.names())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "--events", "."], ".: events cannot be written there (Is a directory)"),
        (["plan", "x" * 5000], "File name too long"),
        (["report", "x" * 5000], "File name too long"),
        (["run", "--out", "y" * 300], "File name too long"),
        (["audit", "x" * 5000], "dataset.path: cannot be read (File name too long)"),
        (["plan", "\x1b[31mred\nline"], r"\x1b[31mred line: no such benchmark file"),
        (["plan", "--set", "methods=['exits:Net']"], "exits:Net: cannot be imported"),
    ],
)
def test_odd_words_end_in_one_line(reconbench, tmp_path: Path, words: list, says: str) -> None:
    (tmp_path / "exits.py").write_text("import sys\nsys.exit(0)\n")
    status, _, errors = reconbench(*words)
    assert (status, errors.count("\n")) == (2, 1)
    assert says in errors


def test_code_of_others_cannot_end_a_command_well(
    reconbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "check", lambda benchmark: sys.exit(0))
    status, _, errors = reconbench("plan")
    assert status == 2
    assert "has called sys.exit" in errors


def test_what_stands_in_files_cannot_control_the_terminal(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = display.SafeConsole(width=80)
    console.print("a\x1b]0;title\x07b\u202ec\x9bd\ne", markup=False)
    shown = capsys.readouterr().out
    assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(shown)
    assert shown.splitlines()[1] == "e"


@pytest.mark.parametrize("what", ["sys.exit(0)", "raise ValueError('no such image')"])
def test_a_method_of_others_that_fails_ends_a_plan_in_one_line(
    reconbench, tmp_path: Path, what: str
) -> None:
    (tmp_path / f"odd_{len(what)}.py").write_text(
        "import sys\nfrom torch import nn\n"
        f"class Net(nn.Identity):\n    def forward(self, x):\n        {what}\n"
    )
    words = ["--smoke", "--set", f"methods=['odd_{len(what)}:Net']", "--set", "dataset.subjects=18"]
    status, _, errors = reconbench("plan", *words)
    assert (status, errors.count("\n")) == (2, 1)
    assert "methods: Net ends in " in errors
