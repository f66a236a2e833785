"""The files of a new part, for a newcomer to fill in: they work as they are."""

import keyword
import re
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bench import markup
from bench.errors import UserError, unknown
from bench.places import atomic_write

ROOT = Path(__file__).parents[1]
TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class _Kind:
    """A kind of part as a newcomer names it.

    Attributes:
        word: what `reconbench check` calls it.
        folder: where ours are.
        tests: where the tests of ours are.
        space: what a sweep may vary; None for a part that is not searched.
    """

    word: str
    folder: str
    tests: str
    space: str | None = None


KINDS = {
    "method": _Kind(
        "method", "bench/methods/classical", "tests/methods",
        "strength: {low: 0.0, high: 1.0, default: 0.5}\n",
    ),
    "network": _Kind(
        "method", "bench/methods/learned", "tests/methods",
        "width: {choices: [8, 16, 32], default: 16}\n"
        "depth: {low: 3, high: 8, default: 4}\n"
        "lr: {low: 2.0e-4, high: 1.0e-2, log: true, default: 2.0e-3}\n"
        "loss: {choices: [mse, l1, charbonnier], default: mse}\n",
    ),
    "degradation": _Kind("degradation", "bench/physics", "tests/physics"),
    "reader": _Kind("reader", "bench/data", "tests/data"),
    "loss": _Kind("loss", "bench/methods/losses", "tests/methods"),
    "metric": _Kind("metric", "bench/metrics", "tests"),
}  # fmt: skip


@dataclass(frozen=True)
class New:
    """What was written.

    Attributes:
        files: their paths.
        path: what a benchmark file and `reconbench check` call the part.
        word: its kind, as `reconbench check` calls it.
    """

    files: list[Path]
    path: str
    word: str


def write(kind: str, name: str, package: str | None = None, folder: Path | None = None) -> New:
    """Write the file of a new part, its search space if it has one, and its test.

    Args:
        kind: one of `KINDS`.
        name: of the part and its file, in lower case with underscores.
        package: a package of the user's own, which is created if there is none; a search space
            is then an attribute of the class. Default: a part of ReconBench itself.
        folder: where the package is; default: the current folder. Without a package, the checkout
            of ReconBench.

    Raises:
        UserError: an unknown kind, a name that Python or ReconBench uses already, a file that is
            there already, or no checkout.
    """
    if kind not in KINDS:
        raise unknown("kind of part", kind, KINDS)
    _check_name(name, KINDS[kind].word, package)
    files = (_in_package if package else _in_checkout)(kind, name, package or "", folder)
    present = [str(file) for file in files if file.exists() and file.name != "__init__.py"]
    if present:
        raise UserError(f"{present[0]}: exists already; choose another name, or remove it")
    for file, text in files.items():
        if file.exists():
            continue
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(file) as temporary:
                temporary.write_text(text)
        except OSError as error:
            raise UserError(f"{file}: cannot be written ({error.strerror})") from None
    return New([*files], _path_of(kind, name, package), KINDS[kind].word)


def _check_name(name: str, word: str, package: str | None) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise UserError(f"{name}: is not a name for a file; use lower-case letters, digits and _")
    if package is None:
        from bench import contracts

        if name in contracts.KINDS[word].ours():
            raise UserError(f"{name}: ReconBench has a {word} of this name; choose another")
    elif not all(
        part.isidentifier() and not keyword.iskeyword(part) for part in package.split(".")
    ):
        raise UserError(f"--package {package}: is not the name of a Python package")


def _in_package(kind: str, name: str, package: str, folder: Path | None) -> dict[Path, str]:
    folder = folder or Path.cwd()
    parts = package.split(".")
    inits = {folder.joinpath(*parts[: k + 1], "__init__.py"): "" for k in range(len(parts))}
    space = KINDS[kind].space
    attribute = "" if space is None else _attribute(space)
    return {
        **inits,
        folder.joinpath(*parts, f"{name}.py"): _render(
            f"{kind}.py", kind, name, package, attribute
        ),
        folder / "tests" / f"test_{name}.py": _render(f"tests/{kind}.py", kind, name, package),
    }


def _in_checkout(kind: str, name: str, package: str, folder: Path | None) -> dict[Path, str]:
    root = folder or ROOT
    if not (root / "pyproject.toml").exists():
        raise UserError(
            "ReconBench is installed, not checked out, so that a part of its own has no home; "
            "write it into a package of yours: --package my_pkg"
        )
    found = KINDS[kind]
    files = {root / found.folder / f"{name}.py": _render(f"{kind}.py", kind, name, None)}
    if found.space is not None:
        files[root / "search_spaces" / f"{name}.yaml"] = found.space
    test = _render(f"tests/{kind}.py", kind, name, None)
    return {**files, root / found.tests / f"test_{name}.py": test}


def _path_of(kind: str, name: str, package: str | None) -> str:
    if package is None:
        return name
    if kind == "reader":
        return f"{package}.{name}"
    return f"{package}.{name}:{name if kind == 'loss' else _class_name(name)}"


def _class_name(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _attribute(space: str) -> str:
    """Write a search space as an attribute of a class."""
    lines = [
        f'        "{key}": {_literal(value)},' for key, value in markup.read(space, "").items()
    ]
    return "\n".join(["    search_space = {", *lines, "    }", ""])


def _literal(value: dict[str, object]) -> str:
    inner = ", ".join(f'"{key}": ' + repr(one).replace("'", '"') for key, one in value.items())
    return f"{{{inner}}}"


def _render(template: str, kind: str, name: str, package: str | None, space: str = "") -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, keep_trailing_newline=True
    )
    return environment.get_template(f"{template}.txt").render(
        title=name.replace("_", " ").capitalize(),
        name=name,
        Class=_class_name(name),
        path=_path_of(kind, name, package),
        word=KINDS[kind].word,
        suffix=name.replace("_", ""),
        space=space,
    )
