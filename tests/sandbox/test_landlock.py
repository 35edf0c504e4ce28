"""Landlock: every rule tried in a child, with and without the wall."""

from __future__ import annotations

import json
import os
import socket
import struct
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.sandbox import landlock, syscalls
from kernel_runtime.sandbox.landlock import Ruleset, features

if TYPE_CHECKING:
    from pathlib import Path

ABI = landlock.abi()

PREAMBLE = """
import errno, fcntl, json, os, socket, subprocess, sys
from kernel_runtime.sandbox import landlock
rules = json.loads(sys.argv[1])
if rules is not None:
    landlock.restrict(landlock.Ruleset(**{k: tuple(v) if isinstance(v, list) else v for k, v in rules.items()}))
def attempt(action, *arguments):
    try: action(*arguments)
    except OSError as error: print(errno.errorcode[error.errno])
    else: print("ok")
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """``open/`` to read, ``work/`` and ``more/`` to write, ``secret/`` to keep away from."""
    for name in ("open", "work", "more", "secret"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    (tmp_path / "secret" / "empty").mkdir()
    os.symlink("../secret/file", tmp_path / "work" / "link")
    return tmp_path


def rules_for(place: Path, **changes: object) -> dict[str, object]:
    system = [path for path in ("/usr", "/lib", "/lib64", "/bin") if os.path.exists(path)]
    writable = [str(place / "work"), str(place / "more"), "/dev/null"]
    return {"read_exec": [*system, str(place / "open")], "read_write": writable} | changes


def needs(version: int) -> pytest.MarkDecorator:
    return pytest.mark.skipif(version > ABI, reason=f"needs Landlock ABI {version}")


def tried(child, code: str, place: Path, *arguments: str, **changes: object) -> tuple[str, str]:
    """What an attempt gives without the wall, and with it."""
    whole = PREAMBLE + code
    walled = json.dumps(rules_for(place, **changes))
    behind = child(whole, walled, *arguments, cwd=str(place))
    return child(whole, "null", *arguments, cwd=str(place)), behind


REFUSED = {
    "read outside": "attempt(open, 'secret/file')",
    "read through ..": "attempt(open, 'work/../secret/file')",
    "read through a link": "attempt(open, 'work/link')",
    "list outside": "attempt(os.listdir, 'secret')",
    "write where reading is allowed": "attempt(open, 'open/file', 'w')",
    "make where reading is allowed": "attempt(open, 'open/new', 'x')",
    "make a directory": "attempt(os.mkdir, 'secret/new')",
    "make a link": "attempt(os.symlink, 'x', 'open/new')",
    "make a pipe": "attempt(os.mkfifo, 'open/new')",
    "make a socket": "attempt(socket.socket(socket.AF_UNIX).bind, 'open/new')",
    "remove": "attempt(os.unlink, 'open/file')",
    "remove a directory": "attempt(os.rmdir, 'secret/empty')",
    "rename away": "attempt(os.rename, 'open/file', 'open/other')",
    "through /proc": "attempt(open, '/proc/self/root' + os.getcwd() + '/secret/file')",
}


@needs(1)
@pytest.mark.parametrize("name", REFUSED)
def test_files_outside_the_rules_are_refused(name: str, child, place: Path) -> None:
    assert tried(child, REFUSED[name], place) == ("ok", "EACCES")


ALLOWED = {
    "read": "attempt(open, 'open/file')",
    "list": "attempt(os.listdir, 'open')",
    "write": "attempt(open, 'work/file', 'w')",
    "make and remove": "attempt(lambda: (os.mkdir('work/d'), os.rmdir('work/d')))",
    "truncate": "attempt(os.truncate, 'work/file', 1)",
    "links and pipes": "attempt(lambda: (os.symlink('x', 'work/s'), os.mkfifo('work/p')))",
    "/dev/null": "attempt(open, '/dev/null', 'w')",
    "own signals": "attempt(os.kill, os.getpid(), 0)",
}


@needs(1)
@pytest.mark.parametrize("name", ALLOWED)
def test_what_the_rules_allow_works(name: str, child, place: Path) -> None:
    assert tried(child, ALLOWED[name], place)[1] == "ok"


@needs(1)
def test_programs_run_from_allowed_places_only(child, place: Path) -> None:
    for name in ("secret", "work"):
        (place / name / "run").write_text("#!/bin/sh\nexit 0\n")
        (place / name / "run").chmod(0o755)
    code = "attempt(subprocess.run, ['secret/run'])\nattempt(subprocess.run, ['work/run'])"
    assert tried(child, code, place) == ("ok\nok", "EACCES\nok")


@needs(2)
def test_files_move_between_writable_directories(child, place: Path) -> None:
    assert tried(child, "attempt(os.rename, 'work/file', 'more/moved')", place) == ("ENOENT", "ok")
    assert tried(child, "attempt(os.rename, 'open/file', 'work/moved')", place)[1] in ("EACCES", "EXDEV")


@needs(2)
def test_a_link_does_not_carry_a_file_into_a_writable_place(child, place: Path) -> None:
    outside, inside = tried(child, "attempt(os.link, 'open/file', 'work/' + ('a' if rules else 'b'))", place)
    assert outside == "ok"
    assert inside in ("EACCES", "EXDEV")


@needs(3)
def test_truncating_by_path(child, place: Path) -> None:
    assert tried(child, "attempt(os.truncate, 'open/file', 1)", place) == ("ok", "EACCES")


def test_device_nodes_are_never_made(child, place: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    code = "attempt(os.mknod, 'work/' + ('a' if rules else 'b'), 0o20600, os.makedev(1, 3))"
    assert tried(child, code, place) == ("ok", "EACCES")


@needs(5)
def test_ioctls_on_devices(child, place: Path) -> None:
    code = """

tty = os.open("/dev/ptmx", os.O_RDWR)
attempt(fcntl.ioctl, tty, 0x5413, bytes(8))  # TIOCGWINSZ
"""
    readable = rules_for(place)["read_exec"]
    assert tried(child, code, place, read_write=["/dev"]) == ("ok", "ok")
    code = code.replace("os.O_RDWR", "os.O_RDONLY")
    assert tried(child, code, place, read_exec=[*readable, "/dev"]) == ("ok", "EACCES")


@needs(6)
def test_signals_stay_inside(child, place: Path) -> None:
    assert tried(child, "attempt(os.kill, os.getppid(), 0)", place) == ("ok", "EPERM")
    assert tried(child, "attempt(os.kill, os.getppid(), 0)", place, scope_signal=False) == ("ok", "ok")


@needs(6)
def test_abstract_sockets_stay_inside(child, place: Path) -> None:
    name = f"kernel-runtime-test-{os.getpid()}"
    code = "attempt(socket.socket(socket.AF_UNIX).connect, chr(0) + sys.argv[2])"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0" + name)
        listener.listen()
        assert tried(child, code, place, name) == ("ok", "EPERM")
        assert tried(child, code, place, name, scope_abstract_unix=False) == ("ok", "ok")


@needs(4)
def test_tcp_is_refused_when_asked_for(child, place: Path) -> None:
    connect = "attempt(socket.socket().connect, ('127.0.0.1', int(sys.argv[2])))"
    bind = "attempt(socket.socket().bind, ('127.0.0.1', 0))"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        for code in (connect, bind):
            assert tried(child, code, place, port, tcp=False) == ("ok", "EACCES")
            assert tried(child, code, place, port) == ("ok", "ok")


@needs(1)
def test_children_are_bound_and_nothing_lifts_the_wall(child, place: Path) -> None:
    code = """
print(subprocess.run(["cat", "secret/file"], capture_output=True).stdout)
landlock.restrict(landlock.Ruleset(read_exec=("/",), read_write=("/",)))
attempt(open, "secret/file")
"""
    assert tried(child, code, place) == ("b'secret'\nok", "b''\nEACCES")


@needs(1)
def test_restrict_says_what_it_enforces_and_skips_missing_paths(child, place: Path) -> None:
    code = PREAMBLE + "print(landlock.restrict(landlock.Ruleset(read_exec=('/', '/nowhere', '/dev/null/x'))))"
    assert child(code, "null") == str(features(Ruleset(), ABI))


def test_features_grow_with_the_abi() -> None:
    everything = Ruleset(tcp=False)
    assert features(everything, 0) == []
    assert features(everything, 1) == ["files"]
    assert features(everything, 2) == ["files", "refer"]
    assert features(everything, 3)[-1] == "truncate"
    assert features(everything, 4)[-1] == "tcp"
    assert features(everything, 5)[-1] == "ioctl_dev"
    assert features(everything, 6)[-2:] == ["abstract_unix", "signal"]
    assert features(everything, 99) == features(everything, 6)


def test_features_name_only_what_was_asked_for() -> None:
    assert "tcp" not in features(Ruleset(), 7)
    bare = Ruleset(scope_abstract_unix=False, scope_signal=False)
    assert features(bare, 7) == ["files", "refer", "truncate", "ioctl_dev"]


class OldKernel:
    """Records what a kernel of some ABI would be asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, version: int) -> None:
        self.version, self.attributes, self.rights = version, b"", []
        monkeypatch.setattr(syscalls, "landlock_create_ruleset", self.create)
        monkeypatch.setattr(syscalls, "landlock_add_rule", self.add)
        monkeypatch.setattr(syscalls, "landlock_restrict_self", lambda fd: None)
        monkeypatch.setattr(syscalls, "set_no_new_privs", lambda: None)

    def create(self, attributes: bytes | None, flags: int = 0) -> int:
        if attributes is None:
            return self.version
        self.attributes = attributes
        return os.open("/dev/null", os.O_RDONLY)

    def add(self, ruleset: int, kind: int, rule: bytes) -> None:
        self.rights.append(struct.unpack("=Qi", rule)[0])


@pytest.mark.parametrize(
    ("version", "size", "highest"), [(1, 8, 12), (2, 8, 13), (3, 8, 14), (4, 16, 14), (6, 24, 15)]
)
def test_old_kernels_are_asked_only_what_they_know(
    monkeypatch, version: int, size: int, highest: int
) -> None:
    kernel = OldKernel(monkeypatch, version)
    landlock.restrict(Ruleset(read_exec=("/",), read_write=("/", "/dev/null"), tcp=False))
    assert len(kernel.attributes) == size
    handled = struct.unpack_from("=Q", kernel.attributes)[0]
    assert handled == (2 << highest) - 1
    read, write, device = kernel.rights
    assert read == landlock.READ_EXEC
    assert handled & ~write == landlock.MAKE_CHAR | landlock.MAKE_BLOCK
    assert device == handled & landlock.FILE_RIGHTS


def test_no_landlock_means_no_wall_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(attributes: bytes | None, flags: int = 0) -> int:
        raise OSError(38, "landlock_create_ruleset: Function not implemented")

    monkeypatch.setattr(syscalls, "landlock_create_ruleset", absent)
    assert landlock.abi() == 0
    assert landlock.restrict(Ruleset(read_exec=("/",))) == []
