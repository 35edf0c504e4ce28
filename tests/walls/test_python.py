"""Python's own ways out: every object can be reached, and none of them leads outside.

Language is no wall. Each way is tried in a guest and, as the control, in a plain process, where
the same code does reach the marker.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kernel_runtime.domain.errors import KernelRuntimeError
from tests.jupyter.kernels import REAL, running, text_of
from tests.walls.rows import Outcomes, Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.walls.conftest import Guest, House

BEFORE = """
import builtins, gc, importlib.machinery, importlib.util, io, pickle, string, types
def classes(of=object):
    for kind in of.__subclasses__() if of is not type else ():
        yield kind
        yield from classes(kind)
def by_subclass():
    kind = next(k for k in classes() if k.__name__ == "_wrap_close")
    return kind.__init__.__globals__["popen"]("cat " + M).read() or "nothing"
def by_frames():
    frame, seen = sys._getframe(), []
    while frame:
        seen.append(frame)
        frame = frame.f_back
    return seen[-1].f_builtins["open"](M).read()
def by_generator():
    def walk():
        yield generator.gi_frame.f_back.f_builtins["open"](M).read()
    generator = walk()
    return next(generator)
def by_traceback():
    try:
        1 / 0
    except ZeroDivisionError as error:
        return error.__traceback__.tb_frame.f_globals["__builtins__"] and open(M).read()
def by_attribute_error():
    try:
        io.missing
    except AttributeError as error:
        return error.obj.open(M).read()
def by_format():
    class Reads(string.Formatter):
        def get_field(self, name, args, kwargs):
            return open(name).read(), name
    return Reads().format("{" + M + "}")
class Reduced:
    def __reduce__(self):
        return eval, (f"open({M!r}).read()",)
def by_libc():
    file = libc.open(M.encode(), 0)
    block = ctypes.create_string_buffer(99)
    if file < 0:
        raise OSError(ctypes.get_errno(), "")
    size = libc.read(file, block, 99)
    return block.raw[:size].decode()
def by_memory():
    "The name in another string, changed in place."
    name = "x" * len(M)
    ctypes.memmove(id(name) + str.__basicsize__ - 8 * (sys.version_info < (3, 12)) , M.encode(), len(M))
    return open(M if name != M else name).read()
class Hook:
    def find_spec(self, name, path, target=None):
        if name == "shadowed":
            return importlib.util.spec_from_loader(name, self)
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        module.text = open(M).read()
def by_import_hook():
    sys.meta_path.insert(0, Hook())
    return importlib.import_module("shadowed").text
def by_audit():
    sys.addaudithook(lambda *_: None)
    return open(M).read()
def by_deleting():
    class Last:
        def __del__(self):
            kept.append(open(M).read())
    kept = []
    Last()
    if not kept:  # an error in a finaliser is only printed
        raise FileNotFoundError(errno.ENOENT, "")
    return kept[0]
def by_exit():
    import atexit
    kept = []
    atexit._clear()
    atexit.register(lambda: kept.append(open(M).read()))
    atexit._run_exitfuncs()
    return kept[0] if kept else "nothing"
"""
WAYS = {
    "subclasses": "by_subclass()",
    "frames": "by_frames()",
    "generators": "by_generator()",
    "tracebacks": "by_traceback()",
    "AttributeError.obj": "by_attribute_error()",
    "built-ins rebuilt": "types.FunctionType(compile(f'open({M!r}).read()', '', 'eval'), {})()",
    "the open of io": "io.open_code(M).read().decode()",
    "format": "by_format()",
    "pickle": "pickle.loads(pickle.dumps(Reduced()))",
    "ctypes": "by_libc()",
    "ctypes, Python's own": "ctypes.py_object(open).value(M).read()",
    "memory": "by_memory()",
    "garbage collector": "(gc.unfreeze(), next(o for o in gc.get_objects() if isinstance(o, dict) "
    "and o.get('open') is io.open))[1]['open'](M).read()",
    "import hooks": "by_import_hook()",
    "a module of any file": "importlib.machinery.SourceFileLoader('x', M).get_data(M).decode()",
    "audit hooks": "by_audit()",
    "__del__": "by_deleting()",
    "atexit": "by_exit()",
}
ROWS = [Row(name, attack) for name, attack in WAYS.items()]
NOWHERE = {"ENOENT", "nothing", "FileNotFoundError"}


@pytest.fixture(scope="module")
def outcomes(house: House, plain: Callable[..., Any], marker: Path) -> Outcomes:
    return Outcomes(house, plain, ROWS, f"M = {str(marker)!r}\n{BEFORE}")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_no_way_by_language(outcomes: Outcomes, row: Row) -> None:
    assert outcomes.of(row) in NOWHERE
    assert outcomes.of(row, None) == "planted"


def test_machine_code_is_behind_the_walls(attack: Callable[..., str]) -> None:
    """Pages to write and run are allowed, as compilers need them; what they call is filtered."""
    code = """
import ctypes, mmap
page = mmap.mmap(-1, 4096, prot=7)
page.write(bytes([0xB8, 42, 0, 0, 0, 0xC3]))
ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
"""
    if os.uname().machine != "x86_64":
        pytest.skip("needs an x86_64 host")
    assert attack(code) == "42"


PERSISTENT = """
import atexit, signal, sys, threading
M = {marker!r}
def strike(*_):
    with open(M, "w") as file:
        file.write("escaped")
class Finder:
    def find_spec(self, *_):
        try:
            strike()
        except OSError:
            pass
sys.meta_path.insert(0, Finder())
atexit.register(strike)
sys.addaudithook(lambda event, arguments: None)
sys.settrace(lambda *_: None)
get_ipython().events.register("pre_run_cell", lambda *_: strike())
get_ipython().set_hook("complete_command", lambda *_: strike(), str_key="x")
get_ipython().display_formatter.format = lambda *_, **__: 1 / 0
get_ipython().Completer.complete = get_ipython().Completer.completions = lambda *_: 1 / 0
signal.signal(signal.SIGALRM, strike)
signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
class Last:
    def __del__(self):
        strike()
kept = Last()
"""


@pytest.fixture
def target() -> Iterator[Path]:
    """A file that anybody may write to, and nobody shall."""
    path = Path(f"/var/tmp/kernel-runtime-target-{os.getpid()}")
    path.write_text("")
    path.chmod(0o666)
    yield path
    path.unlink()


def test_what_stays_after_the_cell_reaches_nothing(open_guest: Callable[..., Guest], target: Path) -> None:
    """Hooks, handlers, timers and finalisers go on in their guest, and end with it."""
    guest = open_guest(wall="20s")
    guest.run(PERSISTENT.format(marker=str(target)))
    for _ in range(3):
        guest.run("1")
    guest.restart()
    assert guest.answer("len('four')") == "4"
    assert guest.answer("import sys, signal; [f for f in sys.meta_path if 'Finder' == type(f).__name__], "
                        "signal.getsignal(signal.SIGALRM) is signal.SIG_DFL") == "([], True)"  # fmt: skip
    assert target.read_text() == ""


@pytest.mark.parametrize(
    "code",
    [
        "import builtins; builtins.len = lambda _: 666",
        "import builtins; del builtins.__import__, builtins.print, builtins.isinstance",
        "import sys; sys.modules.clear()",
        "import sys; sys.stdout = sys.stderr = sys.displayhook = sys.excepthook = None",
        "import msgspec, os; msgspec.msgpack.Encoder.encode = os.write = os.read = None",
        "import gc; [o.clear() for o in gc.get_objects() if isinstance(o, (dict, list))]",
        "import ctypes; ctypes.memset(id(dict), 0, 400)",
        "import sys; sys.setrecursionlimit(60)",
        "import asyncio; asyncio.get_event_loop().stop(); asyncio.get_event_loop()._ready = None",
        "import os; os.closerange(0, 4096)",
    ],
)
def test_a_damaged_python_is_replaced(open_guest: Callable[..., Guest], code: str) -> None:
    """Whatever is left of it: this cell and the next have an answer, a restart a whole Python."""
    guest = open_guest(wall="5s")
    guest.run(code)
    guest.run("1")
    guest.restart()
    assert guest.answer("len('four')") == "4"


def test_the_same_hooks_strike_in_a_plain_process(target: Path) -> None:
    """The control of the test above."""
    code = PERSISTENT.format(marker=str(target))
    code = "\n".join(line for line in code.splitlines() if "get_ipython" not in line)
    subprocess.run([sys.executable, "-c", code], timeout=30, check=False, capture_output=True)
    assert target.read_text() == "escaped"


def test_a_poisoned_shell_does_not_hold_the_front(target: Path) -> None:
    """Completion, inspection and display through the real kernel, all of them broken by the guest."""
    with running(REAL) as kernel:
        kernel.run("%snapshot clean --pin")
        code = PERSISTENT.format(marker=str(target))
        kernel.run(code.replace("0.05, 0.05", "0"))  # a timer of its own may end any request
        for kind, content in (
            ("complete_request", {"code": "pri", "cursor_pos": 3}),
            ("inspect_request", {"code": "print", "cursor_pos": 3, "detail_level": 0}),
            ("is_complete_request", {"code": "1 +"}),
            ("kernel_info_request", {}),
        ):
            assert "status" in kernel.ask("shell", kind, content, timeout=30)
        kernel.run("1")
        kernel.run("%snapshot poisoned")
        kernel.run("import os; os._exit(1)")
        _, outputs = kernel.run("print('alive')")
        assert text_of(outputs).endswith("alive\n")
        assert "Error in callback" in text_of(outputs), "the moment before the kill is back, its hooks, too"
        kernel.run("%restore clean")
        _, outputs = kernel.run("print('alive')")
        assert text_of(outputs) == "alive\n"
    assert target.read_text() == ""


SHADOWS = ("json", "msgspec", "zmq", "runpy", "IPython", "kernel_runtime", "sitecustomize", "usercustomize")
PAYLOAD = "open({target!r}, 'a').write({name!r})\nraise ImportError('shadowed')\n"


@pytest.fixture
def shadowed(tmp_path: Path, target: Path) -> Path:
    """Somebody's project: a notebook's directory with modules named like the host's own."""
    for name in SHADOWS:
        (tmp_path / f"{name}.py").write_text(PAYLOAD.format(target=str(target), name=name))
    return tmp_path


def test_modules_beside_the_notebook_do_not_run_outside(
    shadowed: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The front starts in the notebook's directory; what lies there is the guest's to import only."""
    monkeypatch.chdir(shadowed)
    with running(REAL) as kernel:
        _, outputs = kernel.run("import msgspec, json; print('imported')")
        assert text_of(outputs) == "imported\n"
    assert target.read_text() == ""


def test_modules_beside_a_program_do_run_in_plain_python(shadowed: Path, target: Path) -> None:
    """The control of the test above."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    program = [sys.executable, "-c", "import json"]  # without coverage, which imports the real one first
    subprocess.run(program, cwd=shadowed, env=environment, capture_output=True, check=False)
    assert target.read_text() == "json"


def test_the_command_line_imports_nothing_beside_the_notebook(shadowed: Path, target: Path) -> None:
    (shadowed / "script.py").write_text("print('ran')")
    done = subprocess.run(
        [os.path.join(os.path.dirname(sys.executable), "kernel-runtime"), "run", "script.py"],
        cwd=shadowed, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert "ran" in done.stdout, done.stderr
    assert target.read_text() == ""


BOMB = """
class Bomb:
    def __reduce__(self):
        import os
        return os.system, ({command!r},)
"""


@pytest.mark.parametrize("shape", ["npy", "npy, forged", "json", "arrow"])
def test_values_are_never_unpickled(open_guest: Callable[..., Guest], target: Path, shape: str) -> None:
    """An answer of any format whose bytes are a pickle that would strike on the host."""
    numpy = pytest.importorskip("numpy")
    guest = open_guest()
    command = f"echo escaped > {target}"
    guest.run(
        BOMB.format(command=command) + "import numpy, pickle, io\nx = numpy.array([Bomb()], dtype=object)"
    )
    if shape != "npy":
        kind = shape.split(",")[0]
        guest.run(f"""
import kernel_runtime.guest.values as values
from kernel_runtime import wire
file = io.BytesIO()
numpy.save(file, x, allow_pickle=True)
values.encode = lambda *_: wire.Value(format={kind!r}, data=file.getvalue())
""")
    with pytest.raises((KernelRuntimeError, ValueError)):
        guest.value("x")
    assert guest.answer("6 * 7") == "42"
    assert target.read_text() == ""
    guest.run("open('/tmp/bomb.npy', 'wb').write(b'') and None")
    _strike_plainly(numpy, command)
    assert target.read_text() == "escaped\n"


def _strike_plainly(numpy: Any, command: str) -> None:
    """The control: the same bytes, read as most programs would."""
    import io

    names: dict[str, Any] = {}
    exec(BOMB.format(command=command), names)
    file = io.BytesIO()
    numpy.save(file, numpy.array([names["Bomb"]()], dtype=object), allow_pickle=True)
    file.seek(0)
    numpy.load(file, allow_pickle=True)


def test_descriptors_sent_to_the_host_are_dropped(open_guest: Callable[..., Guest]) -> None:
    """Beside a frame, as pid 1 gets its own: the host takes none from a guest."""
    import psutil

    guest = open_guest(automatic=False)  # each snapshot has a socket of its own
    before = psutil.Process().num_fds()
    code = """
import os, socket
from kernel_runtime import wire
host = socket.socket(fileno=os.dup(200))
host.setblocking(True)
frame = wire.pack(wire.Publish(parent="none", kind="clear_output", content=b"{}"))
for _ in range(20):
    socket.send_fds(host, [frame], [os.open("/dev/null", os.O_RDONLY) for _ in range(50)])
"sent"
"""
    assert guest.answer(code) == "'sent'"
    assert guest.answer("6 * 7") == "42"
    assert psutil.Process().num_fds() == before
