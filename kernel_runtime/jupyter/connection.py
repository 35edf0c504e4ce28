"""The connection file and the addresses it names, read and written as ipykernel does."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

import msgspec

from kernel_runtime.domain.errors import Invalid
from kernel_runtime.jupyter.paths import runtime_dir

PORTS = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")


class Connection(msgspec.Struct, kw_only=True):
    """Where clients find the kernel; a port 0 is chosen at binding. ``path`` is the file."""

    ip: str = "127.0.0.1"
    transport: str = "tcp"
    key: str = ""
    signature_scheme: str = "hmac-sha256"
    shell_port: int = 0
    iopub_port: int = 0
    stdin_port: int = 0
    control_port: int = 0
    hb_port: int = 0
    curve_publickey: str | None = None


class Door:
    """The connection file, read, and its ports, listened on; ``close`` removes what is ours."""

    def __init__(self, name: str) -> None:
        self._file = find_file(name or f"kernel-{os.getpid()}.json")
        self.connection = load(self._file)
        try:
            self.listening = listen_all(self.connection)
        except OSError as error:
            raise Invalid(f"connection file {self._file}: cannot listen: {error}") from None
        self._own = save(self._file, self.connection)

    def close(self) -> None:
        """Remove socket files, and the connection file if it is ours."""
        remove_sockets(self.connection)
        if self._own:
            self._file.unlink(missing_ok=True)


def find_file(name: str) -> Path:
    """The connection file as given, in the working directory or the Jupyter runtime directory."""
    given = Path(name).expanduser()
    if given.is_absolute() or given.exists():
        return given
    return runtime_dir() / given.name if given.parent == Path() else given


def load(path: Path) -> Connection:
    """Read the file; a missing one means: choose everything (with a fresh key)."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Connection(key=os.urandom(24).hex())
    try:
        found = msgspec.json.decode(data, type=Connection)
    except msgspec.DecodeError as error:
        raise Invalid(f"connection file {path}: {error}") from None
    if found.transport not in ("tcp", "ipc"):
        raise Invalid(f"connection file {path}: transport {found.transport!r}; tcp and ipc are known")
    if found.curve_publickey:
        raise Invalid(f"connection file {path}: CurveZMQ is not offered by this kernel; leave it out")
    return found


def save(path: Path, connection: Connection) -> bool:
    """Write what was bound into the file, keeping fields of others; whether the file is ours."""
    present: dict[str, object] = {}
    with contextlib.suppress(OSError, msgspec.DecodeError):
        present = msgspec.json.decode(path.read_bytes(), type=dict[str, object])
    ours = not present
    values = msgspec.to_builtins(connection)
    values.pop("curve_publickey")
    if ours:
        values["kernel_name"] = ""
    merged = present | values
    if merged != present:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _replace(path, msgspec.json.format(msgspec.json.encode(merged), indent=2))
    return ours


def free_ipc_port(connection: Connection) -> int:
    """The first number whose socket file does not exist."""
    return next(n for n in range(1, 65_536) if not Path(f"{connection.ip}-{n}").exists())


def listen_all(connection: Connection) -> dict[str, socket.socket]:
    """Listen on every port, before zmq and asyncio are imported: a client's first attempt then
    succeeds, and libzmq does not wait 100 ms to try again. Ports 0 are filled in.
    """
    listening = {}
    for name in PORTS:
        listening[name], port = listen(connection, getattr(connection, name))
        setattr(connection, name, port)
    return listening


def listen(connection: Connection, port: int) -> tuple[socket.socket, int]:
    """A listening socket, and the port it got."""
    if connection.transport == "ipc":
        port = port or free_ipc_port(connection)
        path = Path(f"{connection.ip}-{port}")
        path.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(path))
        listening.listen(64)
        return listening, port
    host = "" if connection.ip in ("*", "0.0.0.0") else connection.ip  # noqa: S104 - as the file says
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Connections inherit it: a small last message would otherwise wait 40 ms for the reader's ACK.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.bind((host, port))
    listening.listen(64)
    return listening, listening.getsockname()[1]


def remove_sockets(connection: Connection) -> None:
    """Remove the socket files of an ipc connection."""
    if connection.transport == "ipc":
        for name in PORTS:
            Path(f"{connection.ip}-{getattr(connection, name)}").unlink(missing_ok=True)


def _replace(path: Path, data: bytes) -> None:
    import tempfile  # 5 ms of start, and mostly not needed

    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # mode 0600
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    Path(name).replace(path)
