"""Describe the image of this interpreter: which host files its guests see, read-only.

Only the environment itself: the system's programs and libraries, the interpreter, its
packages, a few public files of /etc. Never a home, never a project: those are granted.
"""

from __future__ import annotations

import os
import pwd
import site
import sys
from pathlib import Path

from kernel_runtime.domain.level import Rung
from kernel_runtime.sandbox.plan import Bind, Ids, ImagePlan

_SYSTEM_DIRECTORIES = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
#: Of ssl and pki the public parts: private keys lie beside them, and a guest may be the host's root.
_ETC_DIRECTORIES = (
    "ssl/certs",
    "ca-certificates",
    "pki/ca-trust",
    "pki/tls/certs",
    "fonts",
    "alternatives",
    "ld.so.conf.d",
)
_ETC_FILES = (
    "ld.so.cache",
    "ld.so.conf",
    "localtime",
    "timezone",
    "mime.types",
    "protocols",
    "services",
    "ssl/openssl.cnf",
    "ssl/cert.pem",
    "pki/tls/openssl.cnf",
    "pki/tls/cert.pem",
)
#: Directories that hold more than one project: never shown, even when a kernel is started there.
_FORBIDDEN_WORKDIRS = {
    "/",
    *(
        "/" + name
        for name in [
            "bin",
            "boot",
            "dev",
            "etc",
            "home",
            "lib",
            "opt",
            "proc",
            "root",
            "run",
            "srv",
            "sys",
            "tmp",
            "usr",
            "var",
        ]
    ),
}
_HIGH_UID = 1_879_000_000
_NOBODY = 65534


def describe(
    preload: list[str], workdir: str | None, rung: Rung = Rung.NAMESPACES, cache: str = ""
) -> ImagePlan:
    """The image of the running interpreter, for guests that see ``workdir`` (None: no directory)."""
    ids = choose_ids()
    links, system = _system()
    paths = _covering([*system, *_environment(), *_etc_directories()])
    return ImagePlan(
        ids=ids,
        binds=[Bind(path=p, directory=os.path.isdir(p)) for p in paths],
        links=links,
        files=_files(ids, _home(paths)),
        home=_home(paths),
        workdir=workdir,
        preload=preload,
        parent=os.getpid(),
        cache=cache,
        rung=rung,
    )


def choose_ids() -> Ids:
    """An ordinary user stays who they are; root's guests become a host uid that owns nothing.

    Where root's own user namespace has no other id, that root is an ordinary user to the host, or
    the host's root itself (``is_roots_own``).
    """
    uid, gid = os.getuid(), os.getgid()
    if uid != 0:
        return Ids(uid=uid, gid=gid, host_uid=uid, host_gid=gid, remapped=False)
    host_uid, host_gid = _unowned("/proc/self/uid_map"), _unowned("/proc/self/gid_map")
    if host_uid is None or host_gid is None:
        return Ids(uid=1000, gid=1000, host_uid=uid, host_gid=gid, remapped=False)
    return Ids(uid=1000, gid=1000, host_uid=host_uid, host_gid=host_gid, remapped=True)


def is_roots_own(ids: Ids) -> bool:
    """Whether guests are the host's own root, under whatever name: a root without another id to give them."""
    return not ids.remapped and os.stat("/proc").st_uid == os.getuid()


def _unowned(id_map: str) -> int | None:
    """A host id that this user namespace maps and nobody uses; ``nobody`` if there is no better."""
    ranges = [tuple(map(int, line.split())) for line in Path(id_map).read_text().splitlines()]
    for wanted in (_HIGH_UID, _NOBODY):
        if any(first <= wanted < first + count for first, _, count in ranges):
            return wanted
    return None


def why_hidden(workdir: str) -> str | None:
    """Why a directory is not shown to guests by default; None when it may be."""
    path = os.path.realpath(workdir)
    home = os.path.realpath(os.path.expanduser("~"))
    if path in _FORBIDDEN_WORKDIRS:
        return f"{path} is a system directory"
    if _holds(path, home):
        return f"{path} holds your home directory, with keys and settings that no notebook should see"
    if not os.path.isdir(path):
        return f"{path} is not a directory"
    return None


def _system() -> tuple[dict[str, str], list[str]]:
    """Top-level links (merged /usr: /bin → usr/bin) and directories of the system."""
    links = {p: os.readlink(p) for p in _SYSTEM_DIRECTORIES if os.path.islink(p)}
    return links, [p for p in _SYSTEM_DIRECTORIES if os.path.isdir(p) and p not in links]


def _environment() -> list[str]:
    """What the interpreter is made of: its library, packages and programs, and this package."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    home = os.path.realpath(os.path.expanduser("~"))
    paths = [os.path.dirname(os.path.realpath(sys.executable)), package, *site.getsitepackages()]
    if site.ENABLE_USER_SITE:
        paths.append(site.getusersitepackages())
    for prefix in {sys.base_prefix, sys.base_exec_prefix, sys.prefix, sys.exec_prefix}:
        paths += _parts(prefix) if _holds(prefix, home) else [prefix]
    return [path for path in paths if os.path.exists(path) and not _holds(path, home)]


def _holds(path: str, home: str) -> bool:
    """Whether ``path`` is the home directory or one above it (with other homes, perhaps)."""
    real = os.path.realpath(path).rstrip("/")
    return real == home or home.startswith(real + "/")


def _parts(prefix: str) -> list[str]:
    """Where an interpreter whose prefix is somebody's home keeps its own files."""
    import sysconfig  # rare: not on the way to every start

    variables = dict.fromkeys(("base", "platbase", "installed_base", "installed_platbase"), prefix)
    places = [
        sysconfig.get_path(name, vars=variables) for name in ("stdlib", "platstdlib", "purelib", "platlib")
    ]
    library = str(sysconfig.get_config_var("INSTSONAME") or "")
    files = [f"{prefix}/pyvenv.cfg", *([f"{prefix}/lib/{library}"] if library else [])]
    return [*places, os.path.dirname(sys.executable), *files]


def _etc_directories() -> list[str]:
    return [f"/etc/{name}" for name in _ETC_DIRECTORIES if os.path.isdir(f"/etc/{name}")] + [
        f"/etc/{name}" for name in _ETC_FILES if os.path.isfile(f"/etc/{name}")
    ]


def _covering(paths: list[str]) -> list[str]:
    """Without duplicates and without paths that lie below another of the list."""
    found: list[str] = []
    for path in sorted({os.path.normpath(p) for p in paths}, key=len):
        if not any(path == f or path.startswith(f + "/") for f in found):
            found.append(path)
    return found


def _files(ids: Ids, home: str) -> dict[str, str]:
    """Small files made for the guest instead of the host's own."""
    shell = "/bin/sh"
    return {
        "/etc/passwd": f"guest:x:{ids.uid}:{ids.gid}:guest:{home}:{shell}\n"
        f"nobody:x:{_NOBODY}:{_NOBODY}:nobody:/:{shell}\n",
        "/etc/group": f"guest:x:{ids.gid}:\nnogroup:x:{_NOBODY}:\n",
        "/etc/hosts": "127.0.0.1 localhost guest\n::1 localhost\n",
        "/etc/hostname": "guest\n",
        "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
        "/etc/resolv.conf": "",
        "/etc/os-release": _read("/etc/os-release"),
    }


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def _home(image: list[str]) -> str:
    """Where the guest's (empty, in-memory) home appears: at the place of the front's own."""
    try:
        home = os.path.normpath(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:  # a container that runs as a number
        home = "/nonexistent"
    usable = home.startswith("/") and home not in ("/", "/nonexistent")
    covered = any(home == path or home.startswith(path + "/") for path in image)
    return home if usable and not covered else "/home/guest"
