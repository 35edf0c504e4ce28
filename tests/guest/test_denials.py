"""What pid 1 remembers of denied calls, and how much of it goes to the host."""

from __future__ import annotations

import os

import pytest

from kernel_runtime import wire
from kernel_runtime.domain.errors import ProtocolViolation
from kernel_runtime.guest import denials
from kernel_runtime.guest.denials import Denials, Slate


def test_the_slate_tells_what_came_after_a_mark() -> None:
    slate = Slate()
    assert slate.since(slate.mark()) == []
    slate.write("bpf")
    mark = slate.mark()
    assert slate.since(0) == ["bpf"]
    assert slate.since(mark) == []
    for call in ("unshare", "keyctl", "unshare"):
        slate.write(call)
    assert slate.since(mark) == ["keyctl", "unshare"]
    slate.write("bpf")
    assert slate.since(mark) == ["keyctl", "unshare", "bpf"], "the same call again, after the mark"


def test_the_slate_crosses_a_fork_and_keeps_the_last() -> None:
    slate = Slate()
    pid = os.fork()
    if pid == 0:
        for number in range(100):
            slate.write(f"{'x' * 110}({number})")
        os._exit(0)
    os.waitpid(pid, 0)
    assert [call[110:] for call in slate.since(0)] == [f"({number})" for number in range(84, 100)]


def test_what_user_code_writes_on_the_slate_breaks_nothing() -> None:
    slate = Slate()
    slate.write("bpf")
    for rubbish in (b"\xff" * 64, b"9" * 64, b"\n1 \n 2\n", b"7 a\xff\n\0"):
        slate._page[: len(rubbish)] = rubbish
        assert all(isinstance(call, str) for call in slate.since(slate.mark() - 1))
    slate.write("unshare")
    assert slate.since(0) == ["bpf", "unshare"]
    slate._page.close()
    assert slate.since(slate.mark()) == []


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(denials.time, "monotonic", lambda: now[0])
    return now


def test_a_flood_is_told_at_a_bounded_rate(clock: list[float]) -> None:
    teller = Denials(-1, {})
    frames = [teller._report("unshare") for _ in range(10_000)]
    told = [frame for frame in frames if frame is not None]
    assert len(told) == denials.BURST
    assert teller._report("bpf") == wire.Denied(call="bpf"), "the first of a name"
    clock[0] += 1.0
    assert len([1 for _ in range(1000) if teller._report("unshare")]) == pytest.approx(denials.RATE, abs=1)


def test_invented_names_are_bounded_too(clock: list[float]) -> None:
    teller = Denials(-1, {})
    told = [teller._report(f"socket(AF_{number})") for number in range(10_000)]
    assert len([frame for frame in told if frame]) <= denials.BURST + denials.MAX_NAMES
    teller.forget()
    assert teller._report("socket(AF_9999)") is not None, "a new branch's first of a name is told"


@pytest.mark.parametrize("call", ["", "x" * 121, "a\nb", "<b>", "a\x1b[31m", "é"])
def test_the_host_takes_names_only(call: str) -> None:
    body = wire.pack(wire.Denied(call="bpf"))[4:].replace(b"\xa3bpf", _text(call))
    with pytest.raises(ProtocolViolation):
        wire.decode(wire.decode_from_init, body)


def _text(text: str) -> bytes:
    import msgspec

    return msgspec.msgpack.encode(text)
