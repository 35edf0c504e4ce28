"""Files: no path, descriptor, link or name leads out of the guest's own tree."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.walls.conftest import FILE_WALLS
from tests.walls.rows import PLAIN, Outcomes, Row, check_refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.walls.conftest import Guest, House

#: In the guest: ``read(path)``, and ``M``, the path of the marker.
READ = """
def read(path, **options):
    with open(os.open(path, os.O_RDONLY, **options)) as file:
        return file.read()
def by_link(make):
    name = f"/tmp/link-{os.getpid()}"
    make(name)
    try:
        return read(name)
    finally:
        os.unlink(name)
def below(directory, path):
    return read(path.lstrip("/"), dir_fd=os.open(directory, os.O_PATH | os.O_DIRECTORY))
def openat2(path, resolve):
    fd = call("openat2", -100, path.encode(), struct.pack("QQQ", 0, 0, resolve), 24)
    return os.read(fd, 99).decode()
def by_program(*command):
    import subprocess
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout or errno.errorcode[errno.ENOENT]
def by_memory_file():
    file = os.memfd_create("cat", 0)
    os.write(file, open("/bin/cat", "rb").read())
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.dup2(writing, 1)
        arguments = (ctypes.c_char_p * 3)(b"cat", M.encode(), None)
        call("execveat", file, b"", arguments, 0, 0x1000)
    os.close(writing)
    return os.read(reading, 99).decode() or errno.errorcode[errno.ENOENT]
def any_process(part):
    for pid in os.listdir("/proc"):
        try:
            return read(f"/proc/{pid}/{part}{M}")
        except OSError:
            pass
    raise FileNotFoundError(errno.ENOENT, "")
def by_climbing():
    for _ in range(50):
        os.chdir("..")
    return read("." + M)
"""
GONE = {"ENOENT", "EPERM", "EACCES", "ENOTDIR", "ELOOP", "EXDEV"}
WAYS = {
    "absolute": "read(M)",
    "relative": "read('../' * 20 + M)",
    "climbing": "by_climbing()",
    "/proc/self/root": "read('/proc/self/root' + M)",
    "/proc/thread-self/root": "read('/proc/thread-self/root' + M)",
    "/proc/self/cwd": "read('/proc/self/cwd' + '/..' * 20 + M)",
    "/proc/self/task": "read('/proc/self/task/' + os.listdir('/proc/self/task')[0] + '/root' + M)",
    "/proc of any process": "any_process('root')",
    "/proc of any directory": "any_process('cwd/../../../../../../..')",
    "a directory's descriptor": "below('/', M)",
    "a descriptor of dot dot": "below('../../../../../../..', M)",
    "openat2": "openat2(M, 0)",
    "a symbolic link": "by_link(lambda name: os.symlink(M, name))",
    "a link that climbs": "by_link(lambda name: os.symlink('../' * 20 + M, name))",
    "a link through /proc": "by_link(lambda name: os.symlink('/proc/self/root' + M, name))",
    "a hard link": "by_link(lambda name: os.link(M, name))",
    "a rename": "by_link(lambda name: os.rename(M + '.move', name))",
    "a program": "by_program('cat', M)",
    "a shell": "by_program('sh', '-c', 'cat < ' + M)",
    "a program in memory": "by_memory_file()",
    "the memory of a mapping": "read('/proc/self/map_files/../root' + M)",
}
#: Across file systems even an unwalled process cannot link or move: another way to fail, not a wall.
NO_CONTROL = {"a hard link", "a rename"}
ROWS = [Row(name, attack, FILE_WALLS, GONE) for name, attack in WAYS.items()]
DEVICES = [
    Row("make a memory device", "node(0o20666, (1, 1))", PLAIN, {"EPERM", "EACCES"}),
    Row("make a block device", "node(0o60666, (7, 0))", PLAIN, {"EPERM", "EACCES"}),
    *(
        Row(f"/dev/{name}", f"opened('/dev/{name}', os.O_RDWR)", PLAIN, GONE | {"ENXIO"})
        for name in ("kmsg", "mem", "kvm", "fuse", "net/tun", "loop0", "tty0", "vsock", "console")
    ),
]


@pytest.fixture(scope="module")
def reading(house: House, plain: Callable[..., Any], marker: Path) -> Outcomes:
    return Outcomes(house, plain, ROWS, f"M = {str(marker)!r}\n{READ}")


@pytest.fixture(scope="module")
def devices(house: House, plain: Callable[..., Any]) -> Outcomes:
    return Outcomes(house, plain, DEVICES)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_mount_no_way_to_a_file_outside(reading: Outcomes, row: Row) -> None:
    """The mount and Landlock walls both cover this; the control removes both."""
    assert reading.of(row) in GONE
    if row.name not in NO_CONTROL:
        assert reading.of(row, FILE_WALLS) == "planted"


@pytest.mark.parametrize("row", DEVICES, ids=lambda row: row.name)
def test_no_device(devices: Outcomes, row: Row) -> None:
    check_refused(devices, row)


def test_mount_alone_holds(attack: Callable[..., str], marker: Path) -> None:
    code = f"open({str(marker)!r}).read()"
    assert "FileNotFoundError" in attack(code, without=("landlock", "user"))
    assert attack(code, without=FILE_WALLS) == "'planted'"


def test_mount_no_file_outside_is_written(attack: Callable[..., str]) -> None:
    target = Path("/var/tmp") / f"kernel-runtime-open-{os.getpid()}"
    target.write_text("")
    target.chmod(0o666)
    try:
        code = f"open({str(target)!r}, 'w').write('planted')"
        assert "FileNotFoundError" in attack(code)
        assert attack(code, without=FILE_WALLS) == "7"
    finally:
        target.unlink()


@pytest.mark.parametrize("name", [b"new\nline", b"not\xffutf8", "e\u0301".encode(), b"-rf", b" $(id) "])
def test_names_are_only_names(
    open_guest: Callable[..., Guest], attack: Callable[..., str], name: bytes
) -> None:
    """A file outside with a strange name is as far away, and one inside comes to no harm."""
    outside = b"/var/tmp/kernel-runtime-" + name
    Path(os.fsdecode(outside)).write_text("planted")
    try:
        guest = open_guest()
        code = f"path = {outside!r}; open(path).read()"
        assert "FileNotFoundError" in guest.answer(code)
        assert attack(code, without=FILE_WALLS) == "'planted'"
        assert (
            guest.run(f"import os; open({name!r}, 'w').close(); {name!r} in os.listdir(b'.')").result
            == "True"
        )
        assert guest.usage().pids >= 1
        assert guest.answer("6 * 7") == "42"
    finally:
        os.unlink(outside)


def test_a_name_with_nul_does_not_end_early(attack: Callable[..., str], marker: Path) -> None:
    """Python refuses it; for the kernel it ends there, and what it is then called is as far away."""
    name = f"{marker}\0.txt"
    assert "embedded null byte" in attack(f"open({name!r})")
    code = f"import ctypes, os; os.read(ctypes.CDLL(None).open({name.encode()!r}, 0), 99)"
    assert "Bad file descriptor" in attack(code), "no file was opened"
    assert attack(code, without=FILE_WALLS) == "b'planted'"


PID_1 = """
import os
def seen(pid):
    found = []
    for part in ("root", "cwd", "exe"):
        try:
            os.readlink(f"/proc/{pid}/{part}")
        except OSError:
            continue
        found.append(part)
    for part in ("environ", "maps", "mem", "auxv", "syscall", "stack"):
        try:
            open(f"/proc/{pid}/{part}", "rb").read(0)
        except OSError:
            continue
        found.append(part)
    try:
        found.extend(os.listdir(f"/proc/{pid}/fd") and ["fd"])
    except OSError:
        pass
    return found
"""


def test_pid_1_shows_nothing_of_itself(attack: Callable[..., str]) -> None:
    """It is not dumpable; the control is a process of the guest that is."""
    assert attack(PID_1 + "seen(1)") == "[]"
    own = attack(PID_1 + "seen(os.getpid())")
    assert all(part in own for part in ("root", "cwd", "environ", "maps", "mem", "fd"))


@pytest.mark.skipif(os.getuid() != 0, reason="needs root: to look into a process that hides")
def test_pid_1_holds_nothing_worth_seeing(house: House) -> None:
    """What a guest of a root front could see of it from outside: no descriptor of a file or directory."""
    guest = house.open()
    links = [os.readlink(entry.path) for entry in os.scandir(f"/proc/{guest.inner.pid}/fd")]
    assert all(link.startswith(("socket:", "pipe:", "/dev/null", "anon_inode:")) for link in links), links
    assert Path(f"/proc/{guest.inner.pid}/environ").read_bytes().count(b"=") <= 4
    guest.close()


def test_no_descriptor_but_its_own(
    new_house: Callable[[], House], plain: Callable[..., Any], marker: Path
) -> None:
    """Even one that the front holds open and inheritable when the zygote starts."""
    code = """
import os
links = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
sorted({link.rsplit("/", 1)[-1].split(":")[0] for link in links} - set(os.listdir("/proc/self/fd")))
"""
    with marker.open() as held:
        os.set_inheritable(held.fileno(), True)
        links = new_house().run(code).result
        *before, last = code.strip().splitlines()
        inherited = plain("\n".join([*before, f"import json; print(json.dumps({last}))"]), close_fds=False)
    # The one that listed them is "fd" itself, gone by then.
    assert set(eval(str(links))) - {"fd"} <= {"anon_inode", "null", "pipe", "socket"}
    assert marker.name in inherited, "the control: a plain child has it"


def test_no_environment_of_the_host(new_house: Callable[[], House], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "planted")
    code = "import os; dict(os.environ), open('/proc/self/environ').read(), open('/proc/1/cmdline').read()"
    assert "planted" not in str(new_house().run(code).result)
    assert b"planted" in _environment_of_a_child(), "a plain child inherits it"


def _environment_of_a_child() -> bytes:
    import subprocess

    return subprocess.run(["env"], capture_output=True, check=True).stdout


def test_the_image_is_read_only(attack: Callable[..., str], plain: Callable[..., Any]) -> None:
    code = "import sys, os; path = os.path.join(sys.prefix, 'planted'); open(path, 'w')"
    answer = attack(code)
    assert "Read-only file system" in answer or "PermissionError" in answer
    assert plain(f"{code}.close(); os.unlink(path); print(1)") == 1, "whose Python it is may write there"


def test_files_only_root_may_read_stay_closed(attack: Callable[..., str], directory: Path) -> None:
    """As root the guest has another host uid; as a user it is the user, for whom the same holds."""
    code = "open(path).read()"
    secret = directory / "secret.txt"
    secret.write_text("planted")
    secret.chmod(0o600)
    shadow = code.replace("path", "'/etc/shadow'")
    assert "FileNotFoundError" in attack(shadow)
    if os.getuid() == 0:
        assert "root:" in attack(shadow, without=FILE_WALLS)
    # What lies in its own directory is the guest's to read, whoever the front is.
    assert attack(code.replace("path", repr(str(secret)))) == "'planted'"
    secret.unlink()


@pytest.fixture
def shared(directory: Path) -> Iterator[Path]:
    """A place in the notebook's directory that anybody may write to."""
    path = directory / "shared"
    path.mkdir()
    path.chmod(0o777)
    yield path
    import shutil

    shutil.rmtree(path)


TRAPS = """
import os, socket
os.chdir("shared")
os.symlink("/etc/shadow", "link")
os.mkfifo("fifo")
socket.socket(socket.AF_UNIX).bind("socket")
open("new\\nline", "w").close()
with open("sparse", "wb") as file:
    file.truncate(100 << 20)
os.makedirs("wide")
for number in range(300):
    open(f"wide/{number}", "w").close()
for number in range(300):
    os.mkdir("deep")
    os.chdir("deep")
"made"
"""


def test_traps_in_the_directory_never_reach_the_host(house: House, shared: Path) -> None:
    """Links, pipes, holes and deep trees lie in the guest's layer: the host opens none of them,
    measures the layer as a whole, and lets it go with the guest."""
    guest = house.open(disk="128M")
    assert guest.answer(TRAPS) == "'made'"
    assert list(shared.iterdir()) == []
    assert (guest.usage().disk or 0) < 128 * 2**20
    guest.close()
    assert list(shared.iterdir()) == []
    small = TRAPS[: TRAPS.index("with open")] + "'made'"
    assert house.run(small, without=FILE_WALLS).result == "'made'"
    assert {path.name for path in shared.iterdir()} == {"link", "fifo", "socket", "new\nline"}


def test_a_whole_tree_that_is_too_deep_for_paths(house: House) -> None:
    """Paths longer than the kernel reads in one go (Sequoia): only the guest's own trouble."""
    code = """
import os
os.chdir("/tmp")
for number in range(2000):
    os.mkdir("x" * 200)
    os.chdir("x" * 200)
held = open("file", "w")
open("/proc/self/mountinfo").read() and open("/proc/self/maps").read() and "made"
"""
    guest = house.open()
    assert guest.answer(code) == "'made'"
    assert guest.usage().disk is not None
    guest.restart()
    assert guest.answer("6 * 7") == "42"
    guest.close()


def test_sockets_and_pipes_beside_the_notebook_lead_nowhere(
    attack: Callable[..., str], house: House, shared: Path
) -> None:
    """A service's socket in the project directory: the guest sees its name and cannot speak to it."""
    path = shared / "service"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        path.chmod(0o777)
        server.listen()
        code = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({str(path)!r}); 'connected'"
        assert "Error" in attack(code)
        assert attack(code, without=FILE_WALLS) == "'connected'"
    os.mkfifo(shared / "pipe")
    (shared / "pipe").chmod(0o777)
    reader = os.open(shared / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    code = f"import os; os.write(os.open({str(shared / 'pipe')!r}, os.O_WRONLY | os.O_NONBLOCK), b'planted')"
    try:
        attack(code)
        assert os.read(reader, 99) == b""
        attack(code, without=FILE_WALLS)
        assert os.read(reader, 99) == b"planted", "the control"
    finally:
        os.close(reader)
