"""The host itself under attack: frames that a guest forges, floods and bombs."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from kernel_runtime.client import AsyncSession, Session
from kernel_runtime.domain.limits import Limits
from kernel_runtime.domain.verdict import Reason
from kernel_runtime.runtime import Runtime, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: In the guest: the connection that it shares with its shell, and the request that runs.
FORGE = """
import os, socket
from kernel_runtime import wire
host = socket.socket(fileno=os.dup(200))
host.setblocking(True)
me = get_ipython().kernel.last_parent["header"]["msg_id"]
def forge(frame):
    host.sendall(wire.pack(frame))
"""


@pytest.fixture
def session(directory: Path) -> Iterator[Session]:
    with Session(workdir=directory, memory="512M", output="1M", wall="60s") as session:
        yield session


def resident() -> int:
    return int(psutil.Process().memory_info().rss)


def check_alive(session: Session) -> None:
    assert session.run("6 * 7").result == "42"


@pytest.mark.parametrize(
    ("frame", "shown"),
    [
        (
            'Publish(parent=me, kind=\'execute_result\', content=b\'{"data": {"text/plain": "7"}}\')',
            ("7", ""),
        ),
        ("Stream(parent=me, name='stdout', text='forged')", (None, "forged")),
        ("Ask(id='x', parent=me, prompt='', password=False)", (None, "")),
    ],
    ids=["result", "text", "prompt"],
)
def test_what_is_forged_arrives(session: Session, frame: str, shown: tuple[str | None, str]) -> None:
    """The control: a guest that writes frames of its own is heard, and a proper one is no violation."""
    result = session.run(f"{FORGE}forge(wire.{frame})")
    assert (result.result, result.stdout) == shown


@pytest.mark.parametrize(
    "content", ["{}", '{"data": 3}', '{"data": "x", "output_type": "stream"}', "[]", "{"]
)
def test_outputs_of_another_shape_are_a_violation(session: Session, content: str) -> None:
    code = f"forge(wire.Publish(parent=me, kind='execute_result', content={content.encode()!r}))"
    result = session.run(FORGE + code, check=False)
    assert result.verdict is not None
    assert result.verdict.reason is Reason.PROTOCOL
    check_alive(session)


def test_an_output_cannot_say_that_it_is_text(session: Session) -> None:
    content = b'{"data": {"text/plain": 7}, "output_type": "stream", "name": "stdout"}'
    code = f"forge(wire.Publish(parent=me, kind='execute_result', content={content!r})); print('after')"
    result = session.run(FORGE + code)
    assert (result.result, result.stdout) == (None, "after\n")


def test_answers_that_a_guest_does_not_read_are_bounded(session: Session) -> None:
    """Each prompt is answered with its id: the host would keep what the guest never reads."""
    before = resident()
    code = "forge(wire.Ask(id='x' * 20_000_000, parent=me, prompt='', password=False))"
    result = session.run(FORGE + "while True: " + code, check=False)
    assert result.verdict is not None
    assert result.verdict.reason is Reason.PROTOCOL
    assert resident() - before < 150 * 2**20
    check_alive(session)


def test_a_branch_is_ready_once(session: Session) -> None:
    """Each of them would be read and checked, and charged to nobody."""
    result = session.run(FORGE + "while True: forge(wire.Ready(branch=1, info=b'{}'))", check=False)
    assert result.verdict is not None
    assert "said twice that it is ready" in result.verdict.evidence
    check_alive(session)


def test_output_is_limited_in_the_api(session: Session, directory: Path) -> None:
    code = "for _ in range(100): print('x' * 100_000)"
    result = session.run(code)
    assert len(result.stdout) < 1.2 * 2**20
    assert "output limit of 1 MB" in result.stderr
    check_alive(session)
    with Session(workdir=directory, output="64M") as other:
        assert len(other.run(code).stdout) == 100 * 100_001, "the control: with enough, all of it is kept"


def test_an_error_is_seen_after_any_output(session: Session) -> None:
    result = session.run("print('x' * 3_000_000); 1 / 0", check=False)
    assert result.outputs[-1]["output_type"] == "error"
    other = session.run("print('x' * 3_000_000); display('after')")
    assert "after" not in str(other.outputs), "the control: anything else is not"


def test_two_floods_do_not_hold_the_host(directory: Path) -> None:
    """Frames, and beside them text through the pipe, which is to be shown before each frame."""
    code = """
import time
if os.fork() == 0:
    end = time.time() + 2
    while time.time() < end:
        os.write(1, bytes(100_000))
    os._exit(0)
flood = wire.pack(wire.Publish(parent="none", kind="clear_output", content=b"{}")) * 1000
end = time.time() + 2
while time.time() < end:
    host.sendall(flood)
"""

    async def story() -> tuple[float, int]:
        worst = 0.0
        runtime = Runtime(Settings(workdir=str(directory), warm=()))
        session = AsyncSession(limits=Limits(memory=512 * 2**20, output=2**20))
        session._runtime, session._session = runtime, runtime.open_session(limits=session.limits)
        running = asyncio.ensure_future(session.run(FORGE + code, check=False))
        while not running.done():
            begun = time.monotonic()
            await asyncio.sleep(0.02)
            worst = max(worst, time.monotonic() - begun)
        came = (await session.usage()).output or 0
        await session.close()
        await runtime.close()
        return worst, came

    worst, came = asyncio.run(story())
    assert worst < 6
    assert came > 2**20, "the control: they were floods"
