"""Find out what this host offers, by doing: a throw-away zygote and guest for each rung.

The answer is kept for this boot, kernel, interpreter and user, and for the circumstances that can
change it (kernel settings, namespaces, capabilities, security labels, control group). It explains
and chooses; it never stands in for a wall: what is planned from it is still entered, or refused.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import socket
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from kernel_runtime import __version__, wire
from kernel_runtime.domain.errors import KernelRuntimeError, WallUnavailable
from kernel_runtime.domain.level import Level, Rung
from kernel_runtime.domain.limits import Limits
from kernel_runtime.guest.channel import Channel
from kernel_runtime.sandbox import landlock
from kernel_runtime.sandbox.plan import Ground, plan_guest
from kernel_runtime.sandbox.rungs import ABSENT, NO_GROUPS, Host
from kernel_runtime.workers import meter, scratch
from kernel_runtime.workers.launch import Launch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernel_runtime.sandbox.hierarchy import World

Frame = TypeVar("Frame")
_SECONDS = 20.0
_MAX_BYTES = 1 << 16
#: What may change the answer without a reboot: a change of any of these asks again.
_SETTINGS = (
    "/proc/sys/kernel/random/boot_id",
    "/proc/sys/kernel/unprivileged_userns_clone",
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
    "/proc/sys/user/max_user_namespaces",
    "/proc/sys/user/max_net_namespaces",
    "/proc/sys/kernel/seccomp/actions_avail",
    "/proc/self/attr/current",
    "/proc/self/uid_map",
    "/proc/self/cgroup",
)
_STATUS = ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp", "Seccomp_filters")


@functools.cache
def host() -> Host:
    """What this host offers: as found earlier under the same circumstances, or found out now.

    Blocks for a tenth of a second or so when it has to find out.
    """
    key = circumstances()
    found = _remembered(key)
    if found is None:
        found = probe()
        _remember(key, found)
    return found


def refresh() -> Host:
    """Find out again, whatever was found earlier."""
    host.cache_clear()
    with contextlib.suppress(OSError):
        _cache_file().unlink()
    return host()


def probe() -> Host:
    """Build every wall of both rungs in throw-away guests, and say which could not be."""
    world = meter.world()
    return Host(
        missing={rung: _try(rung) for rung in Rung},
        abi=landlock.abi(),
        cgroups=_kind(world),
        held=tuple(sorted(world.limits)),
    )


def _kind(world: World) -> str:
    """``v1``, ``v2 root``, ``v2 delegated``, ``hybrid`` or ``none``."""
    return world.kind if world.kind != "v2" else f"v2 {'root' if os.getuid() == 0 else 'delegated'}"


def _try(rung: Rung) -> dict[str, str]:
    """Wall → why it could not be built. The guest does nothing but enter its walls."""
    with _scratch() as place:
        try:
            launch = Launch([], None, rung, place)
        except OSError as error:
            return {"zygote": str(error)}
        try:
            launch.socket.settimeout(_SECONDS)
            return _failed(_enter(launch, place))
        except WallUnavailable as error:
            return {"zygote" if error.wall in ("user", "mount") else error.wall: error.reason}
        except (OSError, KernelRuntimeError) as error:
            return {"zygote": str(error) or type(error).__name__}
        finally:
            launch.end()


@contextlib.contextmanager
def _scratch() -> Iterator[str]:
    path = scratch.make(os.getuid(), os.getgid())
    try:
        yield path
    finally:
        scratch.remove(path)


def _enter(launch: Launch, place: str) -> wire.Born:
    """What a permissive guest says of its walls: it goes on without those that it cannot enter."""
    channel = Channel(launch.socket, wire.decode_from_zygote)
    _expect(channel.receive(), wire.Booted)
    plan = plan_guest(
        launch.image, Level.PERMISSIVE, Limits(), arch=os.uname().machine, ground=Ground(scratch=place)
    )
    ours, theirs = socket.socketpair()
    with ours:
        ours.settimeout(_SECONDS)
        with theirs:
            channel.send(wire.Spawn(id=0, plan=msgspec.msgpack.encode(plan)), [theirs.fileno()])
            _expect(channel.receive(), wire.Spawned)
        for pidfd in channel.take_fds(1):
            os.close(pidfd)
        return _expect(Channel(ours, wire.decode_from_init).receive(), wire.Born)


def _expect(frame: object, kind: type[Frame]) -> Frame:
    if isinstance(frame, wire.Refused | wire.Failed):
        raise WallUnavailable(frame.wall, frame.error)
    if not isinstance(frame, kind):
        raise WallUnavailable("zygote", "it ended while it was being tried")
    return frame


def _failed(born: wire.Born) -> dict[str, str]:
    """Of what is missing, what was tried: not what no guest of this rung has."""
    return {wall: why for wall, why in born.missing.items() if why not in (ABSENT.get(wall), NO_GROUPS)}


# -- memory -------------------------------------------------------------------------------------


def circumstances() -> str:
    """A digest of everything that the answer may depend on."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    parts = [
        __version__,
        sys.executable,
        sys.version,
        os.uname().release,
        os.uname().version,
        str((os.getuid(), os.getgid())),
        *(status.get(name, "") for name in _STATUS),
        *(_read(name) for name in _SETTINGS),
        *(os.readlink(f"/proc/self/ns/{name}") for name in ("user", "mnt", "pid", "net", "cgroup")),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


class _Remembered(msgspec.Struct, frozen=True):
    key: str
    host: Host


def _cache_file() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "kernel-runtime" / "host.json"


def _remembered(key: str) -> Host | None:
    """Only what this user wrote, and nobody else could have."""
    try:
        fd = os.open(_cache_file(), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
                return None
            remembered = msgspec.json.decode(file.read(_MAX_BYTES), type=_Remembered)
    except (OSError, msgspec.DecodeError):
        return None
    return remembered.host if remembered.key == key else None


def _remember(key: str, found: Host) -> None:
    """A convenience: where it cannot be kept, it is found out again."""
    path = _cache_file()
    temporary = path.with_name(f".host.{os.getpid()}")
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.parent.stat().st_uid != os.getuid() or path.parent.stat().st_mode & 0o022:
            return
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(msgspec.json.encode(_Remembered(key, found)))
        os.replace(temporary, path)
