"""What kind of host this is, as far as it matters for mending a wall: read, never tried.

Whether a wall stands is found out by doing; these facts only choose the words that say what to change.
"""

from __future__ import annotations

import os
import platform
import shlex
import sys
from pathlib import Path

import msgspec

_CONTAINER_FILES = {".dockerenv": "docker", "run/.containerenv": "podman"}
_FILTERED = "\nSeccomp:\t2"
_TOKENS = "var/run/secrets/kubernetes.io/serviceaccount"
_NAMESPACES = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """``distribution``, ``version``: of os-release (``ubuntu``, ``24.04``). ``container``: docker,
    podman, kubernetes, lxc, other or nothing. ``wsl``: 0, 1 or 2. ``interpreter``: the real path of
    this Python. ``apparmor_userns``: AppArmor takes the power out of user namespaces.
    ``userns_clone``: Debian's switch (None: no such). ``none_allowed``: kinds of namespaces of which
    the sysctl ``user.max_*_namespaces`` allows none. ``lsms``: active security modules, if known.
    ``filtered``: a system-call filter was put on us. ``systemd``: it runs here.
    """

    system: str = "Linux"
    release: str = ""
    distribution: str = ""
    version: str = ""
    title: str = ""
    container: str = ""
    wsl: int = 0
    uid: int = 1000
    interpreter: str = ""
    virtual: bool = False
    apparmor_userns: bool = False
    userns_clone: bool | None = None
    none_allowed: tuple[str, ...] = ()
    lsms: tuple[str, ...] = ()
    landlock: int = 0
    filtered: bool = False
    systemd: bool = False
    cgroups: str = "none"

    @property
    def kernel(self) -> tuple[int, int]:
        """(6, 1) of ``6.1.0-18-amd64``; (0, 0) if it cannot be read."""
        numbers = self.release.replace("-", ".").split(".")
        try:
            return int(numbers[0]), int(numbers[1])
        except (ValueError, IndexError):
            return 0, 0


def read_facts(root: Path = Path("/"), *, landlock: int = 0, cgroups: str = "none") -> Facts:
    """The facts of this host; what cannot be read is left at its default."""
    proc = root / "proc"
    release = _text(proc / "sys/kernel/osrelease") or platform.release()
    names = _os_release(root)
    return Facts(
        system=platform.system(),
        release=release,
        distribution=names.get("ID", ""),
        version=names.get("VERSION_ID", ""),
        title=names.get("PRETTY_NAME", ""),
        container=_container(root),
        wsl=_wsl(release),
        uid=os.getuid(),
        interpreter=os.path.realpath(sys.executable),
        virtual=sys.prefix != sys.base_prefix,
        apparmor_userns=_text(proc / "sys/kernel/apparmor_restrict_unprivileged_userns") == "1",
        userns_clone={"0": False, "1": True}.get(_text(proc / "sys/kernel/unprivileged_userns_clone")),
        none_allowed=tuple(
            kind for kind in _NAMESPACES if _text(proc / f"sys/user/max_{kind}_namespaces") == "0"
        ),
        lsms=tuple(name for name in _text(root / "sys/kernel/security/lsm").split(",") if name),
        landlock=landlock,
        filtered=_FILTERED in _text(proc / "self/status"),
        systemd=(root / "run/systemd/system").is_dir(),
        cgroups=cgroups,
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _os_release(root: Path) -> dict[str, str]:
    lines = (_text(root / "etc/os-release") or _text(root / "usr/lib/os-release")).splitlines()
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return {name: "".join(shlex.split(value)[:1]) for name, value in pairs if value.count('"') != 1}


def _container(root: Path) -> str:
    """Which container this is; nothing for one that leaves us free (a machine made of an image)."""
    status, mounts = _text(root / "proc/self/status"), _text(root / "proc/self/mountinfo")
    confined = _FILTERED in status or any(
        line.split()[4].startswith("/proc/") for line in mounts.splitlines()
    )
    return _marked(root) if confined else ""


def _marked(root: Path) -> str:
    if os.environ.get("KUBERNETES_SERVICE_HOST") or (root / _TOKENS).exists():
        return "kubernetes"
    for name, kind in _CONTAINER_FILES.items():
        if (root / name).exists():
            return kind
    told = _text(root / "run/systemd/container") or os.environ.get("container", "")  # noqa: SIM112 — its name
    if told:
        return told if told in ("docker", "podman", "lxc") else "other"
    return ""


def _wsl(release: str) -> int:
    if "microsoft" not in release.lower():
        return 0
    return 2 if "wsl2" in release.lower() or "microsoft-standard" in release else 1
