"""What doctor plants outside of its guests, for the attacks to reach: nothing of it is anybody's.

One child process holds it all: servers, a secret in its environment and memory, System V objects.
It ends and cleans up when its standard input closes, so nothing outlives a doctor that was killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from kernel_runtime.workers.attack import Planted

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
_NICE = 7
_VALUE = 1234
_START_SECONDS = 20.0
#: What the tight guests of the attacks get.
MEMORY, PIDS, DISK = 128 * 2**20, 24, 8 * 2**20

#: Runs in an interpreter of its own: only a process without Python threads of ours can be shown
#: to attackers, and its calls to the C library are none of this package's.
_PROGRAM = """
import contextlib, ctypes, json, os, selectors, shutil, socket, sys
mark, directory, shared = os.environ['KERNEL_RUNTIME_DOCTOR'], *sys.argv[1:]
libc = ctypes.CDLL(None)
libc.prctl(0x59616d61, -1, 0, 0, 0)  # where Yama restricts tracing: let everybody read our memory
held = ctypes.create_string_buffer(mark.encode())
libc.shmat.restype = ctypes.c_void_p
segment = libc.shmget(0, 4096, 0o1666)
place = libc.shmat(segment, None, 0)
ctypes.memmove(place, held, len(held))
libc.shmctl(segment, 0, None)  # gone with the last that has it attached, whatever happens to us
semaphore = libc.semget(0, 1, 0o1666)
libc.semctl(semaphore, 0, 16, VALUE)
nice = os.nice(NICE)
selector = selectors.DefaultSelector()
def serve(server):
    server.listen()
    selector.register(server, selectors.EVENT_READ)
    return server
tcp = serve(socket.create_server(('127.0.0.1', 0)))
unix, abstract = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
unix.bind(directory + '/socket')
os.chmod(directory + '/socket', 0o666)
abstract.bind('\\0' + mark)
serve(unix), serve(abstract)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(('127.0.0.1', 0))
selector.register(udp, selectors.EVENT_READ)
selector.register(sys.stdin, selectors.EVENT_READ)
print(json.dumps({
    'tcp': tcp.getsockname()[1], 'udp': udp.getsockname()[1], 'abstract': mark,
    'socket': directory + '/socket', 'process': os.getpid(), 'address': ctypes.addressof(held),
    'segment': segment, 'semaphore': semaphore, 'nice': nice,
}), flush=True)
try:
    while True:
        for key, _ in selector.select():
            if key.fileobj is sys.stdin:
                sys.exit()
            elif key.fileobj is udp:
                udp.sendto(mark.encode(), udp.recvfrom(99)[1])
            else:
                with key.fileobj.accept()[0] as caller:
                    caller.sendall(mark.encode())
finally:
    libc.semctl(semaphore, 0, 0)
    shutil.rmtree(os.path.dirname(directory), ignore_errors=True)
    with contextlib.suppress(OSError):
        os.unlink(shared)
"""


@contextlib.contextmanager
def plant() -> Iterator[Planted]:
    """Plant everything; removed at the end. ``OSError`` or ``subprocess.SubprocessError`` if it fails."""
    mark = f"planted-{secrets.token_hex(8)}"
    shared = Path("/dev/shm", mark)  # noqa: S108 — the very place that is attacked
    with contextlib.ExitStack() as stack:
        base = Path(_directory())
        stack.callback(shutil.rmtree, base, ignore_errors=True)  # should the process not have done it
        directory = base / "outside"
        for path in (base / "work", directory):
            path.mkdir()
        directory.chmod(0o777)  # it is to be the walls that keep a guest from writing here
        file = _readable(directory / "file", mark)
        stack.callback(shared.unlink, missing_ok=True)
        with contextlib.suppress(OSError):
            _readable(shared, mark)
        held = stack.enter_context(file.open())
        os.set_inheritable(held.fileno(), True)
        stack.enter_context(_secret(mark))
        told = stack.enter_context(_process(directory, shared))
        yield Planted(
            mark=mark,
            directory=str(directory),
            file=str(file),
            shared=str(shared),
            value=_VALUE,
            namespaces={name: os.readlink(f"/proc/self/ns/{name}") for name in _NAMESPACES},
            host=socket.gethostname(),
            memory=MEMORY,
            pids=PIDS,
            disk=DISK,
            **told,
        )


def work_directory(planted: Planted) -> str:
    """The directory that is shown to the guests, next to what is not."""
    return str(Path(planted.directory).parent / "work")


def _directory() -> str:
    """A directory that everybody may enter, on a file system that outlives a restart, as a project's."""
    places = [place for place in ("/var/tmp",) if os.access(place, os.W_OK)]  # noqa: S108 — made below, with a name of its own
    path = tempfile.mkdtemp(prefix="kernel-runtime-doctor-", dir=places[0] if places else None)
    os.chmod(path, 0o755)  # noqa: S103 — see above
    return path


def _readable(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o644)
    return path


@contextlib.contextmanager
def _secret(mark: str) -> Iterator[None]:
    """A secret in our own environment."""
    os.environ["KERNEL_RUNTIME_DOCTOR"] = mark
    try:
        yield
    finally:
        del os.environ["KERNEL_RUNTIME_DOCTOR"]


@contextlib.contextmanager
def _process(directory: Path, shared: Path) -> Iterator[dict[str, Any]]:
    """The child; what it tells of itself."""
    program = _PROGRAM.replace("VALUE", str(_VALUE)).replace("NICE", str(_NICE))
    with subprocess.Popen(
        [sys.executable, "-I", "-c", program, str(directory), str(shared)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # a terminal's Ctrl-C is for us
    ) as child:
        stdin, stdout = cast("IO[bytes]", child.stdin), cast("IO[bytes]", child.stdout)
        try:
            told: dict[str, Any] = json.loads(stdout.readline())
            yield told
        finally:
            stdin.close()
            child.wait(_START_SECONDS)
