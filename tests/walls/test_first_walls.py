"""The first walls, attacked. Each attack is run a second time without its wall and succeeds."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Attack = "Callable[..., str]"


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    """A file outside the guest's directory that anybody on the host may read."""
    path = Path("/var/tmp") / f"kernel-runtime-marker-{os.getpid()}"
    path.write_text("planted")
    path.chmod(0o644)
    yield path
    path.unlink()


@pytest.fixture
def listener() -> Iterator[int]:
    """A server on the host's loopback; its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_greet, args=(server,), daemon=True).start()
        yield server.getsockname()[1]


def _greet(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        connection.sendall(b"planted")
        connection.close()


def test_mount_no_file_outside(attack: Callable[..., str], marker: Path) -> None:
    code = f"open({str(marker)!r}).read()"
    assert "FileNotFoundError" in attack(code)
    # Without "user" as well: the guest of a root front could not reach its own interpreter.
    assert "FileNotFoundError" in attack(code, without=("landlock", "user"))
    assert attack(code, without=("mount", "landlock", "user")) == "'planted'"


@pytest.mark.parametrize("way", ["/proc/self/root", "/proc/1/root", "/proc/self/cwd/../../../.."])
def test_mount_no_way_around(attack: Callable[..., str], marker: Path, way: str) -> None:
    answer = attack(f"open({way!r} + {str(marker)!r}).read()")
    assert "FileNotFoundError" in answer or "PermissionError" in answer


def test_net_no_host_loopback(attack: Callable[..., str], listener: int) -> None:
    code = f"import socket; socket.create_connection(('127.0.0.1', {listener}), 2).recv(9)"
    assert "ConnectionRefused" in attack(code)
    assert attack(code, without=("net",)) == "b'planted'"


def test_net_no_route(attack: Callable[..., str]) -> None:
    """No packet leaves: 192.0.2.1 is a documentation address that nobody has."""
    code = "import socket; socket.create_connection(('192.0.2.1', 80), 2)"
    assert "Network is unreachable" in attack(code)


def test_pid_no_process_but_its_own(attack: Callable[..., str]) -> None:
    assert attack("import os; len([p for p in os.listdir('/proc') if p.isdigit()])") == "2"
    assert "ProcessLookupError" in attack(f"import os; os.kill({os.getpid()}, 0)")


def test_uts_own_host_name(attack: Callable[..., str]) -> None:
    code = "import socket; socket.gethostname()"
    assert attack(code) == "'guest'"
    assert attack(code, without=("uts",)) == repr(socket.gethostname())


def test_ipc_no_queues_or_segments_of_the_host(attack: Callable[..., str]) -> None:
    code = "import os; os.readlink('/proc/self/ns/ipc')"
    assert attack(code) != repr(os.readlink("/proc/self/ns/ipc"))
    assert attack(code, without=("ipc",)) == repr(os.readlink("/proc/self/ns/ipc"))


def test_capabilities_none(attack: Callable[..., str]) -> None:
    code = "[l.split()[1] for l in open('/proc/self/status') if l.startswith('CapEff')][0]"
    assert attack(code) == repr("0" * 16)
    assert attack(code, without=("capabilities",)) != repr("0" * 16)


def test_no_new_privileges_and_a_filter(attack: Callable[..., str]) -> None:
    code = (
        "{l.split(':')[0]: l.split()[1] for l in open('/proc/self/status') if l[:6] in ('NoNewP', 'Seccom')}"
    )
    assert attack(code) == "{'NoNewPrivs': '1', 'Seccomp': '2', 'Seccomp_filters': '1'}"


def test_seccomp_no_vsock(attack: Callable[..., str]) -> None:
    code = "import socket; socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).family.name"
    assert "PermissionError" in attack(code)
    if Path("/dev/vsock").exists() or Path("/proc/net/vsock").exists():
        assert attack(code, without=("seccomp",)) == "'AF_VSOCK'"


def test_seccomp_no_new_namespaces(attack: Callable[..., str]) -> None:
    code = "import ctypes; l = ctypes.CDLL(None, use_errno=True); l.unshare(0x10000000), ctypes.get_errno()"
    assert attack(code) == "(-1, 1)"
    assert attack("import ctypes; ctypes.CDLL(None).unshare(0x10000000)", without=("seccomp",)) == "0"


def test_landlock_no_abstract_socket_of_the_host(attack: Callable[..., str]) -> None:
    name = f"kernel-runtime-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0{name}")
        server.listen()
        code = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect('\\0{name}'); 'connected'"
        assert "Error" in attack(code, without=("net",))  # the network namespace hides it, too
        assert attack(code, without=("net", "landlock")) == "'connected'"


def test_the_image_is_read_only(attack: Callable[..., str]) -> None:
    code = "import sys, os; open(os.path.join(sys.prefix, 'planted'), 'w')"
    answer = attack(code)
    assert "Read-only file system" in answer or "PermissionError" in answer


def test_files_only_root_may_read_stay_closed(attack: Callable[..., str], directory: Path) -> None:
    """As root the guest has another host uid; as a user it is the user, for whom the same holds."""
    code = "open(path).read()"
    secret = directory / "secret.txt"
    secret.write_text("planted")
    secret.chmod(0o600)
    shadow = code.replace("path", "'/etc/shadow'")
    assert "FileNotFoundError" in attack(shadow)
    if os.getuid() == 0:
        assert "root:" in attack(shadow, without=("mount", "landlock", "user"))
    # What lies in its own directory is the guest's to read, whoever the front is.
    assert attack(code.replace("path", repr(str(secret)))) == "'planted'"


def test_no_environment_of_the_host(attack: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "planted")
    assert "planted" not in attack(
        "import os; dict(os.environ), open('/proc/self/environ').read(), open('/proc/1/cmdline').read()"
    )


def test_no_descriptor_but_its_own(attack: Callable[..., str], marker: Path) -> None:
    with marker.open() as held:
        os.set_inheritable(held.fileno(), True)
        code = "import os; sorted(os.readlink(f'/proc/self/fd/{f}')[:5] for f in os.listdir('/proc/self/fd'))"
        assert str(marker)[:5] not in attack(code)


def test_a_wall_that_fails_refuses_to_start(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail closed: a plan that cannot be carried out starts nothing."""
    from kernel_runtime import Session, WallUnavailable
    from kernel_runtime.sandbox import seccomp

    monkeypatch.setattr(seccomp, "compile_program", lambda *_, **__: b"\xff" * 8)
    with pytest.raises(WallUnavailable, match="seccomp"), Session(workdir=directory) as session:
        session.run("1")
