"""Queues and budgets, without sockets."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from kernel_runtime.jupyter.budget import OutputBudget
from kernel_runtime.jupyter.messages import Scribe
from kernel_runtime.jupyter.outbox import Outbox
from kernel_runtime.jupyter.outgoing import Outgoing, stream


def drain(box: Outbox) -> list[Outgoing]:
    return list(iter(box.pop, None))


def display(size: int = 1000) -> Outgoing:
    return Outgoing("display_data", b"x" * size)


def test_order_and_merging() -> None:
    box = Outbox(1 << 20)
    for text in "abc":
        box.push(stream("stdout", [text], b"p"))
    box.push(stream("stderr", ["d"], b"p"))
    box.push(stream("stderr", ["e"], b"q"))
    assert ["".join(out.texts) for out in drain(box)] == ["abc", "d", "e"]
    assert box.size == 0


def test_a_shared_stream_is_not_grown_in_anothers_queue() -> None:
    shared = stream("stdout", ["a"], b"p")
    one, two = Outbox(1 << 20), Outbox(1 << 20)
    one.push(shared)
    two.push(shared)
    one.push(stream("stdout", ["b"], b"p"))
    assert ["".join(out.texts) for out in drain(one)] == ["ab"]
    assert ["".join(out.texts) for out in drain(two)] == ["a"]


def test_beyond_the_budget_the_middle_is_a_notice_and_status_stays() -> None:
    box = Outbox(50_000)
    for number in range(100):
        box.push(display())
        if number % 10 == 0:
            box.push(Outgoing("status", str(number).encode()))
    assert box.size < 60_000
    kinds = [out.kind for out in drain(box)]
    assert kinds.count("status") == 10
    assert kinds[0] == kinds[-1] == "display_data"
    assert "stream" in kinds


@given(
    st.lists(
        st.tuples(st.sampled_from(["status", "display_data", "stream"]), st.integers(0, 5000)), max_size=300
    )
)
def test_essentials_survive_in_order_and_memory_is_bounded(pushed: list[tuple[str, int]]) -> None:
    box = Outbox(40_000)
    for number, (kind, size) in enumerate(pushed):
        if kind == "stream":
            box.push(stream("stdout", ["x" * size], b"p"))
        else:
            box.push(Outgoing(kind, str(number).encode() if kind == "status" else b"x" * size))
        essential = sum(700 for kind, _ in pushed if kind == "status")
        assert box.size <= 40_000 + essential + 6000
    expected = [str(number).encode() for number, (kind, _) in enumerate(pushed) if kind == "status"]
    assert [out.content for out in drain(box) if out.kind == "status"] == expected
    assert box.size == 0
    assert len(box) == 0


def test_a_reader_that_is_hopelessly_behind_is_seen() -> None:
    box = Outbox(10_000)
    for _ in range(40):
        box.push(Outgoing("comm_msg", b"x" * 1000))
    assert box.overfull


def test_budget_keeps_head_and_tail() -> None:
    budget = OutputBudget(100_000)
    published = [out for _ in range(500) for out in budget.admit(display())]
    shown = [out for out in published if out.kind == "display_data"]
    assert published[-1].kind == "stream"
    assert sum(out.size for out in shown) <= 100_000
    last = budget.finish()
    assert "see %limits" in "".join(last[0].texts)
    assert {out.kind for out in last[1:]} == {"display_data"}
    assert not budget.spent


def test_budget_never_holds_back_errors() -> None:
    budget = OutputBudget(2000)
    budget.admit(display(5000))
    error = Outgoing("error", b"{}")
    assert budget.admit(error) == [error]


def test_encoded_once() -> None:
    out = stream("stdout", ["a", "b"], b"{}")
    scribe = Scribe(b"key")
    first = out.encoded(scribe, b"topic")
    assert out.encoded(scribe, b"topic") is first
    assert msgspec.json.encode({"name": "stdout", "text": "ab"}) in first


def test_a_budget_keeps_nothing_larger_than_its_tail() -> None:
    budget = OutputBudget(64 << 10)
    for _ in range(3):
        budget.admit(display(50_000_000))
    (notice,) = budget.finish()
    assert "omitted" in "".join(notice.texts)
    assert notice.parent == b"{}"
