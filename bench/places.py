"""Places of files: paths in a file system, or addresses in an object store (`s3://`, `gs://`).

The run folder, the journal and checkpoints are read and written alike in both. A file is either
missing or complete: in a file system it is written under a temporary name and renamed, in an object
store it is one upload, which is not visible until it is complete.
"""

import contextlib
import functools
import hashlib
import itertools
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import uuid4

from bench.errors import DamagedError, UnwritableError, UserError

# No user name, no query: credentials in an address would be stored with it.
ADDRESS = re.compile(r"(?P<scheme>s3|gs)://(?P<key>[a-z0-9][a-z0-9._-]*(/[^?#]*)?)")
OPTIONS = {
    "s3": "allow_delayed_open=true",  # one request for a small file, not three
    "gs": "retry_limit_seconds=60",  # rather than a quarter of an hour
}


@dataclass(frozen=True)
class Remote:
    """An address in an object store, with the methods of `pathlib.Path` that a run folder needs.

    A folder exists as long as there are objects in it. Credentials, region and endpoint are those
    that the libraries of the store find in the environment or in their usual files.

    Every method raises UnwritableError if the store cannot be reached or refuses the request.

    Attributes:
        scheme: "s3" or "gs".
        key: the bucket, then the object's name in it.
    """

    scheme: str
    key: PurePosixPath

    def __str__(self) -> str:
        return f"{self.scheme}://{self.key}"

    def __truediv__(self, name: str) -> "Remote":
        return Remote(self.scheme, self.key / name)

    @property
    def name(self) -> str:
        """The last component."""
        return self.key.name

    @property
    def parts(self) -> tuple[str, ...]:
        """All components, the bucket first."""
        return self.key.parts

    @property
    def parent(self) -> "Remote":
        """The folder around it."""
        return Remote(self.scheme, self.key.parent)

    def resolve(self) -> "Remote":
        """Return itself: an address is the same everywhere."""
        return self

    def mkdir(self, parents: bool = True, exist_ok: bool = True) -> None:
        """Do nothing: a folder exists once there is an object in it."""

    def exists(self) -> bool:
        """Return whether there is an object of this name."""
        with self._reaching() as store:
            return store.get_file_info(str(self.key)).is_file

    def modified(self) -> float:
        """Return the time of the last upload, in seconds, by the clock of the store.

        Raises:
            FileNotFoundError: there is no such object.
        """
        with self._reaching() as store:
            info = store.get_file_info(str(self.key))
            if not info.is_file:
                raise FileNotFoundError(str(self))
            return info.mtime.timestamp()

    def read_bytes(self) -> bytes:
        """Read an object.

        Raises:
            FileNotFoundError: there is none of this name.
        """
        with self._reaching() as store, store.open_input_stream(str(self.key)) as stream:
            return stream.read()

    def read_text(self, encoding: str = "utf-8") -> str:
        """Read an object as text; see `read_bytes`."""
        return self.read_bytes().decode(encoding)

    def write_bytes(self, content: bytes) -> None:
        """Upload an object in one piece; if that fails, the earlier object remains."""
        with self._reaching() as store, store.open_output_stream(str(self.key)) as stream:
            stream.write(content)

    def touch(self) -> None:
        """Upload an object again, which renews its time; create an empty one if there is none."""
        self.write_bytes(self.read_bytes() if self.exists() else b"")

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete an object.

        Raises:
            FileNotFoundError: there is none of this name, and `missing_ok` is not set.
        """
        with (
            contextlib.suppress(*[FileNotFoundError] * missing_ok),
            self._reaching() as store,
        ):
            store.delete_file(str(self.key))

    def iterdir(self) -> Iterator["Remote"]:
        """List the content of a folder; nothing if it does not exist."""
        return iter(self._list(recursive=False))

    def rglob(self, pattern: str) -> Iterator["Remote"]:
        """List the objects below a folder, at any depth, whose names match a pattern."""
        return (found for found in self._list(recursive=True) if found.key.match(pattern))

    def _list(self, recursive: bool) -> list["Remote"]:
        found = [info for info in self._infos(recursive) if info.is_file or not recursive]
        return [Remote(self.scheme, PurePosixPath(info.path)) for info in found]

    def _infos(self, recursive: bool) -> list[Any]:
        from pyarrow.fs import FileSelector

        selector = FileSelector(str(self.key), recursive=recursive, allow_not_found=True)
        with self._reaching() as store:
            return store.get_file_info(selector)

    def listing(self) -> dict[str, tuple[int, int]]:
        """List the objects below a folder; see `bench.listing.files`."""
        return {
            str(PurePosixPath(info.path).relative_to(self.key)): (info.size, info.mtime_ns)
            for info in self._infos(recursive=True)
            if info.is_file
        }

    def rmtree(self) -> None:
        """Delete a folder with its content, if it exists."""
        with contextlib.suppress(FileNotFoundError), self._reaching() as store:
            store.delete_dir(str(self.key))

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[Any]:
        try:
            yield _filesystem(self.scheme, self.key.parts[0])
        except FileNotFoundError:
            raise
        except OSError as error:
            reason = " ".join(str(error).split())
            raise UnwritableError(f"{self}: cannot be reached ({reason})") from error


Place = Path | Remote


@functools.cache
def _filesystem(scheme: str, bucket: str) -> Any:
    from pyarrow.fs import FileSystem  # late: it starts the libraries of the object stores

    return FileSystem.from_uri(f"{scheme}://{bucket}?{OPTIONS[scheme]}")[0]


def place(name: str | Place) -> Place:
    """Parse a path, or an address in an object store.

    Raises:
        UserError: an invalid address, or one of an unknown kind of store.
    """
    if isinstance(name, Remote) or "://" not in str(name):
        return name if isinstance(name, Remote) else Path(name)
    if not (found := ADDRESS.fullmatch(str(name))):
        # The message does not repeat the address, which may contain a password.
        raise UserError(
            "run folder: an address in an object store is s3://BUCKET/FOLDER or gs://BUCKET/FOLDER "
            "and nothing more; credentials, region and endpoint come from the environment"
        )
    return Remote(found["scheme"], PurePosixPath(found["key"]))


def cache_folder() -> Path | None:
    """Return the folder for cached files, or None if nothing is to be cached.

    `RECONBENCH_CACHE` names it; if that is empty, nothing is cached. The default is
    `~/.cache/reconbench`.
    """
    given = os.environ.get("RECONBENCH_CACHE")
    if given is not None:
        return Path(given) if given else None
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "reconbench"


@contextlib.contextmanager
def atomic_write(target: Place) -> Iterator[Path]:
    """Yield a temporary path, whose content replaces the target once the block has succeeded.

    Raises:
        UnwritableError: the target cannot be written; an earlier file remains as it was.
    """
    temporary = None
    try:
        make_folder(target.parent)
        folder = target.parent if isinstance(target, Path) else None
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=folder)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        if isinstance(target, Path):
            with temporary.open("r+b") as file:
                os.fsync(file.fileno())  # or a power failure could leave an empty file
            share_like_folder(temporary)
            temporary.replace(target)
        else:
            target.write_bytes(temporary.read_bytes())
    except OSError as error:
        reason = error.strerror or error
        raise UnwritableError(f"{target}: cannot be written ({reason})") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def make_folder(folder: Place) -> None:
    """Make a folder and its missing parents, each with the permissions of its parent."""
    if not isinstance(folder, Path):
        return folder.mkdir()
    missing = list(itertools.takewhile(lambda one: not one.exists(), (folder, *folder.parents)))
    for one in reversed(missing):
        one.mkdir(exist_ok=True, mode=stat.S_IMODE(one.parent.stat().st_mode) & 0o777)
    return None


def share_like_folder(file: Path) -> None:
    """Make a file readable to those who may read its folder."""
    file.chmod(file.parent.stat().st_mode & 0o044 | 0o600)


@contextlib.contextmanager
def local_copy(file: Place) -> Iterator[Path]:
    """Yield a local path of a file: its own, or that of a temporary copy of an object.

    Raises:
        FileNotFoundError: there is no such object; a path is yielded unchecked.
        UnwritableError: the object store cannot be reached.
    """
    if isinstance(file, Path):
        yield file
        return
    with tempfile.TemporaryDirectory(prefix="reconbench-") as folder:
        copy = Path(folder) / file.name
        copy.write_bytes(file.read_bytes())
        yield copy


def create(file: Place, content: bytes) -> bool:
    """Create a file unless it exists; return whether it was created.

    In S3 this is exclusive only if boto3 is installed, since pyarrow has no conditional upload.
    Without it, and in other stores, two processes that create a file at the same moment may both
    succeed.

    Raises:
        UnwritableError: it cannot be written.
    """
    if isinstance(file, Path):
        return _create_file(file, content)
    if file.scheme == "s3" and find_spec("boto3"):
        return _create_object(file, content)
    if file.exists():
        return False
    file.write_bytes(content)
    return file.read_bytes() == content


def _create_file(file: Path, content: bytes) -> bool:
    temporary = file.with_name(f".{file.name}.{uuid4().hex}")
    try:
        temporary.write_bytes(content)
        try:
            file.hardlink_to(temporary)  # never seen half-written
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            with file.open("xb") as fresh:
                fresh.write(content)
        return True
    except FileExistsError:
        return False
    except OSError as error:
        raise UnwritableError(f"{file}: cannot be written ({error.strerror})") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _create_object(file: Remote, content: bytes) -> bool:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, *names = file.key.parts
    try:
        boto3.client("s3").put_object(
            Bucket=bucket, Key="/".join(names), Body=content, IfNoneMatch="*"
        )
    except ClientError as error:
        if error.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalRequestConflict"):
            return False
        raise UnwritableError(f"{file}: cannot be written ({error})") from error
    except BotoCoreError as error:
        raise UnwritableError(f"{file}: cannot be written ({error})") from error
    return True


def write_sealed(target: Place, content: bytes) -> None:
    """Write content behind its SHA-256 digest; see `atomic_write`."""
    with atomic_write(target) as path:
        path.write_bytes(hashlib.sha256(content).digest() + content)


def read_sealed(file: Place) -> bytes:
    """Read what `write_sealed` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedError: its content has changed.
    """
    whole = file.read_bytes()
    size = hashlib.sha256().digest_size
    digest, content = whole[:size], whole[size:]
    if hashlib.sha256(content).digest() != digest:
        raise DamagedError(file, "its checksum does not match")
    return content


def set_aside(file: Place) -> None:
    """Rename a damaged file to `<name>.damaged`, so that its content is computed again.

    Raises:
        UnwritableError: it cannot be renamed.
    """
    name = f"{file.name}.damaged"
    try:
        if isinstance(file, Path):
            file.replace(file.with_name(name))
        else:
            (file.parent / name).write_bytes(file.read_bytes())
            file.unlink()
    except FileNotFoundError:  # another worker was faster
        pass
    except OSError as error:
        raise UnwritableError(f"{file}: cannot be set aside ({error.strerror})") from None


def age(file: Place) -> float:
    """Return the seconds since a file was written.

    Raises:
        FileNotFoundError: there is no such file.
        UnwritableError: the object store cannot be reached.
    """
    if isinstance(file, Path):
        return time.time() - file.stat().st_mtime
    written_at = file.modified()
    probe = file.parent / f".{file.name}.{uuid4().hex}"
    probe.write_bytes(b"")  # so that both times are by the store's clock
    try:
        return probe.modified() - written_at
    finally:
        probe.unlink(missing_ok=True)


def remove_tree(folder: Place) -> None:
    """Delete a folder with its content, as far as possible."""
    if isinstance(folder, Path):
        shutil.rmtree(folder, ignore_errors=True)
        return
    with contextlib.suppress(UnwritableError):
        folder.rmtree()
