"""The workstations of a lab, on one machine: namespaces with an address, a home and an sshd each.

What is created here has a unique id, and is removed when the `with` block ends.
"""

import contextlib
import getpass
import hashlib
import os
import pwd
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
TOOLS = ("ip", "unshare", "ssh", "ssh-keygen", "rsync", "sshd")
# In separate namespaces; when the first process there ends, so does every other.
ALONE = ("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")
SSHD = """
PermitRootLogin yes
StrictModes no
UsePAM no
PrintMotd no
"""


def missing_tools() -> str:
    """Explain why no lab can be made here; empty if one can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root on Linux, for network namespaces"
    absent = [tool for tool in TOOLS if shutil.which(tool, path=_path()) is None]
    if absent:
        return f"needs {', '.join(absent)}"
    probe = subprocess.run([*ALONE, "unshare", "--net", "true"], capture_output=True, check=False)
    return "" if probe.returncode == 0 else "may not make network namespaces here"


class Lab:
    """Makes workstations, and runs commands at the desk from which they are used.

    The desk is a namespace too, so that this machine's own network is left alone.

    Attributes:
        name: of the desk's namespace; those of workstations begin with it.
        shared: the folder that all workstations see under the same path.
        key: opens every workstation.
    """

    def __init__(self, folder: Path, undo: contextlib.ExitStack):
        self.name = f"lab{secrets.token_hex(3)}"
        self.desk = folder / "desk"
        self.shared = folder / "shared"
        self.key = self.desk / "key"
        self._folder = folder
        self._undo = undo
        self._homes: dict[str, Path] = {}
        self._daemons: dict[str, subprocess.Popen] = {}
        self.shared.mkdir()
        self.desk.mkdir()
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key))
        self._namespace(self.name)
        for words in (
            "link add lan type bridge", "addr add 10.77.0.1/24 dev lan", "link set lan up",
        ):  # fmt: skip
            _run("ip", "-n", self.name, *words.split())

    def add(self, number: int) -> str:
        """Create a workstation and return its address."""
        name, address = f"{self.name}n{number}", f"10.77.0.{10 + number}"
        self._namespace(name)
        for where, words in (
            (self.name, f"link add port{number} type veth peer name eth0 netns {name}"),
            (self.name, f"link set port{number} master lan up"),
            (name, f"addr add {address}/24 dev eth0"),
            (name, "link set eth0 up"),
            # Ray asks which of its addresses leads outside.
            (name, "route add default via 10.77.0.1"),
        ):
            _run("ip", "-n", where, *words.split())
        self._homes[address] = self._folder / name
        self._daemons[address] = self._sshd(name, self._homes[address])
        return address

    def home(self, address: str) -> Path:
        """Return the folder that is the user's home on a workstation."""
        return self._homes[address]

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command at the desk, in the repository; its child processes end with it."""
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.name, *ALONE, *words],
            cwd=ROOT, env=_environment(self.desk) | {"RAY_TMPDIR": str(self.desk)}, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self._undo.callback(_end, process)
        return process

    def run(self, *words: str) -> str:
        """Run a command at the desk, which must succeed, and return its output."""
        return finish(self.start(*words))

    def processes(self, address: str) -> list[psutil.Process]:
        """List what runs on a workstation."""
        return psutil.Process(self._daemons[address].pid).children(recursive=True)

    def _namespace(self, name: str) -> None:
        _run("ip", "netns", "add", name)
        self._undo.callback(subprocess.run, ["ip", "netns", "del", name], check=False)
        _run("ip", "-n", name, "link", "set", "lo", "up")

    def _sshd(self, name: str, home: Path) -> subprocess.Popen:
        """Run the sshd of a workstation whose user has that home."""
        environment = _environment(home)
        home.mkdir()
        (home / ".bash_profile").write_text(". ~/.bashrc\n")
        # a login has another PATH; and before an install of another checkout
        (home / ".bashrc").write_text(
            f"export PATH={environment['PATH']} PYTHONPATH=$HOME/reconbench:{self.shared}\n"
        )
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / "host_key"))
        variables = " ".join(f'"{key}={value}"' for key, value in environment.items())
        (home / "sshd_config").write_text(
            f"{SSHD}HostKey {home}/host_key\nAuthorizedKeysFile {self.key}.pub\n"
            f"SetEnv {variables}\n"
        )
        (home / "passwd").write_text(_accounts(home))
        commands = (
            "mount -t tmpfs tmpfs /run",  # a separate one, for Ray too
            "mkdir /run/sshd",  # required by sshd
            f"mount --bind {home}/passwd /etc/passwd",  # where ssh looks for ~
            f'exec "$(command -v sshd)" -D -e -f {home}/sshd_config',
        )
        with (home / "sshd.log").open("w") as log:
            process = subprocess.Popen(
                ["ip", "netns", "exec", name, *ALONE, "bash", "-c", " && ".join(commands)],
                env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self._undo.callback(_end, process)
        return process


@contextlib.contextmanager
def lab() -> Iterator[Lab]:
    """Open a lab without workstations."""
    with contextlib.ExitStack() as undo:
        # Not pytest's folder: it contains sockets, whose paths may have 107 characters at most.
        folder = Path(tempfile.mkdtemp(prefix="lab", dir="/tmp"))
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        place = Lab(folder, undo)
        undo.callback(_remove_sockets, place.name)
        yield place


def finish(process: subprocess.Popen[str], seconds: float = 300) -> str:
    """Wait until a command has succeeded, and return its output."""
    try:
        printed, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(f"no end after {seconds} s:\n{process.communicate()[0]}") from None
    assert process.returncode == 0, printed
    return printed


def _environment(home: Path) -> dict[str, str]:
    return {
        "HOME": str(home), "TMPDIR": str(home), "PATH": _path(), "LANG": "C.UTF-8", "TERM": "dumb",
        # A worker takes the head's path for its own, so there must be another folder behind it.
        "RAY_TMPDIR": "/run",
        "RAY_raylet_start_wait_time_s": "120",  # all workstations share few cores
        "RAY_gcs_rpc_server_reconnect_timeout_s": "5",  # a worker without its head ends sooner
    }  # fmt: skip


def _path() -> str:
    """Return a PATH with this interpreter first, and with sshd."""
    here = str(Path(sys.executable).parent)
    return os.pathsep.join([here, os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def _accounts(home: Path) -> str:
    """Return this machine's accounts, root's with another home."""
    lines = [
        f"root:x:0:0::{home}:/bin/bash" if account.pw_uid == 0 else
        f"{account.pw_name}:x:{account.pw_uid}:{account.pw_gid}::{account.pw_dir}:/bin/false"
        for account in pwd.getpwall()
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _remove_sockets(cluster: str) -> None:
    """Remove what Ray keeps in /tmp, whatever TMPDIR says, for its SSH connections."""
    user, name = (
        hashlib.sha256(word.encode()).hexdigest() for word in (getpass.getuser(), cluster)
    )
    folder = Path("/tmp") / f"ray_ssh_{user[:10]}"
    shutil.rmtree(folder / name[:10], ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


def _end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()
