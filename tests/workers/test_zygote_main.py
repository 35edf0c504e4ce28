"""The zygote's program and pid 1, spoken to frame by frame as the host does.

These guests stand behind fewer walls than any real one (their files are the host's), so that
what they run can be seen by the coverage measure as well.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import psutil
import pytest

from kernel_runtime import wire
from kernel_runtime.domain.level import Level
from kernel_runtime.domain.limits import Limits
from kernel_runtime.guest.channel import Channel
from kernel_runtime.sandbox import image as images
from kernel_runtime.sandbox.plan import plan_guest
from tests.journeys.processes import eventually, living

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WITHOUT = frozenset({"mount", "landlock", "user", "seccomp"})


class Zygote:
    """A zygote's process and the channel to it."""

    def __init__(self, directory: Path, preload: list[str]) -> None:
        self.image = images.describe(preload, str(directory))
        ours, theirs = socket.socketpair()
        ours.settimeout(60)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kernel_runtime.workers.zygote_main", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self.channel = Channel(ours, wire.decode_from_zygote)
        self.channel.send(wire.Boot(image=msgspec.msgpack.encode(self.image)))

    def spawn(self, number: int = 1, without: frozenset[str] = WITHOUT) -> Channel:
        """A guest's first process; the channel to it."""
        plan = plan_guest(self.image, Level.MODERATE, Limits(), arch=os.uname().machine, without=without)
        ours, theirs = socket.socketpair()
        ours.settimeout(60)
        self.channel.send(wire.Spawn(id=number, plan=msgspec.msgpack.encode(plan)), [theirs.fileno()])
        theirs.close()
        assert self.channel.receive() == wire.Spawned(id=number)
        os.close(self.channel.take_fds(1)[0])
        return Channel(ours, wire.decode_from_init)


@pytest.fixture
def zygote(directory: Path) -> Iterator[Zygote]:
    made = Zygote(directory, ["kernel_runtime.guest.shell", "no_such_library"])
    booted = made.channel.receive()
    assert booted == wire.Booted(preloaded=["kernel_runtime.guest.shell"]), "what is missing is left out"
    yield made
    made.channel.close()
    made.process.kill()
    made.process.wait(timeout=60)


class Branch:
    """The host's ends of a live branch forked by a first process."""

    def __init__(self, init: Channel, number: int, limits: Limits) -> None:
        begin = wire.Begin(branch=number, cwd="/", env=dict(os.environ), limits=limits, level="moderate")
        ours, theirs = socket.socketpair()
        ours.settimeout(60)
        self.out, out = os.pipe()
        self.err, err = os.pipe()
        init.send(wire.Fork(branch=number, begin=wire.pack(begin)[4:]), [theirs.fileno(), out, err])
        theirs.close()
        os.close(out)
        os.close(err)
        forked = init.receive()
        assert isinstance(forked, wire.Forked)
        assert forked.branch == number
        self.channel = Channel(ours, wire.decode_from_branch)
        assert isinstance(self.channel.receive(), wire.Ready)

    def execute(self, code: str) -> None:
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": False,
        }
        body = msgspec.json.encode(content)
        self.channel.send(wire.Request(id="1", kind="execute_request", content=body, count=1))

    def until(self, kind: type) -> list[Any]:
        frames = []
        while frame := self.channel.receive():
            frames.append(frame)
            if isinstance(frame, kind):
                break
        return frames

    def close(self) -> None:
        self.channel.close()
        os.close(self.out)
        os.close(self.err)


def test_a_first_process_forks_runs_signals_ends_and_reports(zygote: Zygote) -> None:
    init = zygote.spawn()
    born = init.receive()
    assert isinstance(born, wire.Born)
    assert set(born.walls) == {"pid", "net", "ipc", "uts", "rlimits", "capabilities"}
    assert set(born.missing) == {"cgroup"}, "a namespace alone is no control group"
    first = Branch(init, 1, Limits(memory=512 * 2**20))
    first.execute("print(6 * 7)")
    assert any(isinstance(f, wire.Stream) and f.text == "42\n" for f in first.until(wire.Done))
    first.execute("print('on', flush=True)\nwhile True: pass")  # one signal alone may come just before a wait
    first.until(wire.Stream)
    init.send(wire.Signal(branch=1, number=signal.SIGINT))
    frames = first.until(wire.Done)
    assert any(isinstance(f, wire.Publish) and b"KeyboardInterrupt" in f.content for f in frames), frames
    init.send(wire.End())
    assert init.receive() == wire.Exited(branch=1, status=-signal.SIGKILL)
    assert init.receive() == wire.Ended(number=0)
    second = Branch(init, 2, Limits(memory=None))
    second.execute("import os; os._exit(4)")
    assert init.receive() == wire.Exited(branch=2, status=4)
    init.send(wire.Signal(branch=2, number=signal.SIGINT))  # nobody there any more: nothing happens
    init.close()
    first.close()
    second.close()


def test_one_zygote_has_many_guests_and_buries_them(zygote: Zygote) -> None:
    channels = [zygote.spawn(number) for number in range(1, 4)]
    for channel in channels:
        assert isinstance(channel.receive(), wire.Born)
        channel.close()
    last = zygote.spawn(9)
    assert isinstance(last.receive(), wire.Born)
    last.close()


def test_a_wall_that_fails_says_which(zygote: Zygote) -> None:
    broken = msgspec.structs.replace(
        plan_guest(zygote.image, Level.MODERATE, Limits(), arch=os.uname().machine, without=WITHOUT),
        walls=["uts"],
        hostname="x" * 100,
    )
    ours, theirs = socket.socketpair()
    ours.settimeout(60)
    zygote.channel.send(wire.Spawn(id=1, plan=msgspec.msgpack.encode(broken)), [theirs.fileno()])
    theirs.close()
    init = Channel(ours, wire.decode_from_init)
    failed = init.receive()
    assert isinstance(failed, wire.Failed)
    assert failed.wall == "uts"
    assert init.receive() is None
    init.close()


def test_a_plan_that_is_none_starts_nothing(zygote: Zygote) -> None:
    ours, theirs = socket.socketpair()
    ours.settimeout(60)
    zygote.channel.send(wire.Spawn(id=1, plan=b"\xc1"), [theirs.fileno()])
    theirs.close()
    init = Channel(ours, wire.decode_from_init)
    assert isinstance(init.receive(), wire.Failed)
    assert init.receive() is None
    init.close()


def test_a_stage_that_cannot_be_built_is_refused_with_the_call(directory: Path) -> None:
    zygote = Zygote(directory / "nothing", [])
    refused = zygote.channel.receive()
    assert isinstance(refused, wire.Refused)
    assert (refused.id, refused.wall) == (-1, "mount")
    assert "open_tree" in refused.error or "mount" in refused.error
    zygote.channel.close()
    zygote.process.wait(timeout=60)


def test_the_host_hanging_up_ends_the_zygote(zygote: Zygote) -> None:
    zygote.channel.close()
    inside = psutil.Process(zygote.process.pid).children()
    assert eventually(lambda: not living(inside), 60)


def test_it_does_not_outlive_a_front_that_is_gone_already(directory: Path) -> None:
    """The front may end before the launcher has asked to die with it."""
    image = msgspec.structs.replace(images.describe([], str(directory)), parent=os.getpid() + 1)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "kernel_runtime.workers.zygote_main", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
        )
        ours.sendall(wire.pack(wire.Boot(image=msgspec.msgpack.encode(image))))
        assert process.wait(60) == 0


_KEEPS = """
import os, sys
from kernel_runtime.workers.zygote_main import _keep_only

numbers = [int(word) for word in sys.argv[1].split(",")]
for number in numbers:
    file = os.memfd_create("x")
    os.write(file, str(number).encode())
    os.dup2(file, 400 + number)
    os.close(file)
for number in numbers:
    os.dup2(400 + number, number)
out = os.dup2(1, 900)
kept = _keep_only([*numbers, out])
found = [int(os.pread(fd, 10, 0)) for fd in kept[:-1]]
os.write(kept[-1], repr((found, kept, len(os.listdir("/proc/self/fd")))).encode())
"""


@pytest.mark.parametrize(
    "numbers", [[3, 4, 5], [5, 4, 3], [98, 99, 100, 101], [103, 100, 102, 101], [4, 104]]
)
def test_descriptors_keep_their_order_whatever_their_numbers(numbers: list[int]) -> None:
    """Of a zygote with a hundred guests they come with numbers like these."""
    program = [sys.executable, "-c", _KEEPS, ",".join(map(str, numbers))]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    kept = list(range(3, 4 + len(numbers)))
    assert done.stdout == repr((numbers, kept, len(kept) + 4))
