"""Readers of each kind of file in a run folder, which detect damage.

They raise DamagedError for a file whose content has changed, FileNotFoundError for a missing one,
and UserError for one that cannot be reached.
"""

import contextlib
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from bench import markup, tables
from bench.errors import DamagedError, UserError
from bench.parsing import one_at_a_time
from bench.places import Place

if TYPE_CHECKING:
    from torch import Tensor

SEAL = "checksum"
Reader = Callable[[Place], object]


@contextlib.contextmanager
def reading(path: Place) -> Iterator[None]:
    """Treat whatever a library raises about a file's content as damage.

    Raises:
        DamagedError: with the message of the library.
        FileNotFoundError: there is no such file.
        UserError: the file may not be read, or an object store cannot be reached.
    """
    try:
        yield
    except (FileNotFoundError, UserError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            # Raised by the system, not by a library: a network failure is no damage.
            raise UserError(f"{path}: cannot be read ({error.strerror})") from None
        raise DamagedError(path, str(error) or type(error).__name__) from error


def damage_of(path: Place, read: Reader) -> DamagedError | None:
    """Return how a file is damaged; None if it is intact or missing."""
    try:
        read(path)
    except DamagedError as error:
        return error
    except FileNotFoundError:
        pass
    return None


def table(path: Place) -> pa.Table:
    """Read a table."""
    with reading(path):
        return tables.from_bytes(path.read_bytes())


def sealed_table(path: Place) -> tuple[str, pa.Table]:
    """Read a table with its seal."""
    with reading(path):
        content = path.read_bytes()
        return tables.seal(content), tables.from_bytes(content)


def yaml_mapping(path: Place) -> dict[str, Any]:
    """Read a YAML mapping."""
    with reading(path):
        try:
            content = markup.read(path.read_text(encoding="utf-8"), "spec.yaml")
        except UserError as error:
            raise ValueError(str(error)) from None
        if not isinstance(content, dict):
            raise ValueError("not a mapping")
        return content


def arrays(path: Place) -> dict[str, np.ndarray]:
    """Read an archive of arrays."""
    with reading(path):
        content = io.BytesIO(path.read_bytes())  # so that np.load raises no error of the system
        with one_at_a_time:
            return dict(np.load(content, allow_pickle=False))


def model(recipe_json: Place) -> tuple[dict[str, Any], dict[str, "Tensor"]]:
    """Read a model; damage of its weights is found by the checksum in its recipe."""
    from safetensors.torch import load  # late: whoever reads results does without PyTorch

    weights = recipe_json.parent / "weights.safetensors"
    content = weights.read_bytes() if weights.exists() else b""
    recipe = unsealed(recipe_json, content)
    with reading(weights):
        return recipe, load(content) if content else {}


def sealed(entries: Mapping[str, Any], beside: bytes = b"") -> bytes:
    """Write entries as JSON, with a checksum of them and of the file beside it."""
    text = json.dumps(entries, default=str)
    content = {**json.loads(text), SEAL: _checksum(text, beside)}
    return json.dumps(content, indent=1).encode()


def unsealed(path: Place, beside: bytes = b"") -> dict[str, Any]:
    """Read what `sealed` wrote."""
    with reading(path):
        entries = json.loads(path.read_text())
        if entries.pop(SEAL) != _checksum(json.dumps(entries), beside):
            covers = " (of it and the weights)" if beside else ""
            raise ValueError(f"its checksum{covers} does not match")
        return entries


def _checksum(text: str, beside: bytes) -> str:
    return hashlib.sha256(hashlib.sha256(text.encode()).digest() + beside).hexdigest()
