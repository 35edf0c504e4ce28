"""What comes out of a guest beside its outputs holds no value of a secret that it was given."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest

from kernel_runtime import wire
from kernel_runtime.domain.disclosed import Disclosed
from kernel_runtime.domain.errors import Conflict, ProtocolViolation
from kernel_runtime.domain.file_changes import Deed, FileChange, FileChanges
from kernel_runtime.guest import values
from kernel_runtime.workers.concealing import Concealing, concealed, concealed_value
from tests.workers.holding import Held

SECRET = 'tok-"SeCrEt"-ä'
MARK = "[secret token]"
HOLDING_TEXT = {
    "a string": (SECRET, MARK),
    "within a string": (f"Bearer {SECRET}!", f"Bearer {MARK}!"),
    "in a list in a dict": ({"a": [1, SECRET, None, True, 2.5]}, {"a": [1, MARK, None, True, 2.5]}),
    "as a key": ({SECRET: 1}, {MARK: 1}),
    "beside what JSON does not have": ([float("inf"), SECRET], [float("inf"), MARK]),
    "bytes": (b"\xff" + SECRET.encode() + b"\x00", b"\xff" + MARK.encode() + b"\x00"),
    "bytes of UTF-16": (SECRET.encode("utf-16-le"), MARK.encode()),
}
HOLDING_MORE = {
    "an array of text": np.array(["a", SECRET]),
    "an array of text, big-endian": np.array(["a", SECRET]).astype(">U20"),
    "a record": np.array([(1, SECRET)], dtype=[("n", "i4"), ("t", "U20")]),
    "an array of bytes": np.frombuffer(SECRET.encode(), "u1"),
    "a scalar": np.str_(SECRET),
    "a table": pd.DataFrame({"a": ["x", SECRET]}),
    "the name of a column": pd.DataFrame({SECRET: [1, 2]}),
    "the name of a series": pd.Series([1, 2], name=SECRET),
}


@pytest.fixture
def disclosed() -> Disclosed:
    made = Disclosed()
    made.add("token", SECRET.encode())
    return made


@pytest.mark.parametrize("how", HOLDING_TEXT)
def test_text_and_bytes_come_out_with_a_mark(disclosed: Disclosed, how: str) -> None:
    value, clean = HOLDING_TEXT[how]
    encoded = values.encode(value)
    assert values.decode(concealed_value(encoded, Disclosed())) == value, "the control"
    assert values.decode(concealed_value(encoded, disclosed)) == clean


def test_a_number_that_is_a_secret_becomes_its_mark() -> None:
    disclosed = Disclosed()
    disclosed.add("pin", b"12345678")
    assert values.decode(concealed_value(values.encode({"pin": 12345678, "n": 1}), disclosed)) == {
        "pin": "[secret pin]",
        "n": 1,
    }


@pytest.mark.parametrize("how", HOLDING_MORE)
def test_an_array_or_table_that_holds_one_does_not_come_out(disclosed: Disclosed, how: str) -> None:
    encoded = values.encode(HOLDING_MORE[how])
    values.decode(concealed_value(encoded, Disclosed()))
    with pytest.raises(Conflict, match="cannot be taken out"):
        concealed_value(encoded, disclosed)


@pytest.mark.parametrize("value", [np.arange(5.0), np.array(["tok-", "SeCrEt"]), pd.DataFrame({"a": [1, 2]})])
def test_others_come_out_as_they_are(disclosed: Disclosed, value: Any) -> None:
    encoded = values.encode(value)
    assert concealed_value(encoded, disclosed) is encoded


def test_what_only_the_text_of_a_list_would_tell_is_refused() -> None:
    """The value is no string of it, but whoever writes the list down has it."""
    disclosed = Disclosed()
    disclosed.add("odd", b'first","second')
    with pytest.raises(Conflict):
        concealed_value(values.encode(["first", "second"]), disclosed)


def test_structs_are_cleaned_at_every_depth_and_keep_their_kinds(disclosed: Disclosed) -> None:
    change = FileChange(path=f"d/{SECRET}", deed=Deed.ADDED, kind="file", size=3)
    changes = FileChanges(changes=[change], unread={SECRET: f"no {SECRET}"})
    clean = concealed(changes, disclosed)
    assert clean.changes == [msgspec.structs.replace(change, path=f"d/{MARK}")]
    assert clean.changes[0].deed is Deed.ADDED
    assert clean.unread == {MARK: f"no {MARK}"}
    assert concealed(("", [SECRET]), disclosed) == ("", [MARK])
    assert concealed(changes, Disclosed()) is changes


def test_nothing_is_decoded_before_it_is_bounded(disclosed: Disclosed) -> None:
    deep = wire.Value(format="json", data=b"[" * 200 + b'"tok-\\"SeCrEt\\"-\xc3\xa4"' + b"]" * 200)
    with pytest.raises(Exception, match="deep"):
        concealed_value(deep, disclosed)


class Live(Held):
    """A branch."""

    def __init__(self) -> None:
        super().__init__()
        self.link = self


class Gate(Disclosed):
    """Whoever looks through something long waits in its thread until ``go``; ``threads``: where that was."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.threads: set[int] = set()

    def _wait(self, size: int) -> None:
        if self.slow(size):
            self.threads.add(threading.get_ident())
            assert self.go.wait(60)

    def cut(self, text: str) -> tuple[str, str]:
        self._wait(len(text))
        return super().cut(text)

    def bytes(self, data: bytes) -> bytes:
        self._wait(len(data))
        return super().bytes(data)


LONG = f"{'x' * 100_000} {SECRET} {'y' * 100_000}\n"


def _content(text: str) -> bytes:
    return msgspec.json.encode({"data": {"text/plain": text}})


@pytest.fixture
def gated() -> Gate:
    made = Gate()
    made.add("token", SECRET.encode())
    return made


@pytest.mark.parametrize(
    "long",
    [
        wire.Stream(parent="1", name="stdout", text=LONG),
        wire.Publish(parent="1", kind="display_data", content=_content(LONG)),
        wire.Publish(parent="1", kind="comm_msg", content=b"{}", buffers=[LONG.encode()]),
        wire.Reply(parent="1", kind="execute_reply", content=_content(LONG)),
    ],
    ids=["text", "a display", "a buffer", "a reply"],
)
def test_long_output_is_looked_through_beside_the_loop_and_keeps_its_place(gated: Gate, long: Any) -> None:
    async def story() -> None:
        seen: list[Any] = []
        live = Live()
        sink = Concealing(gated, seen.append, lambda: live)
        before = wire.Stream(parent="1", name="stderr", text=f"{SECRET[:5]}")
        after = [
            wire.Publish(parent="1", kind="display_data", content=_content(f"after {SECRET}")),
            wire.Stream(parent="1", name="stderr", text=SECRET[5:]),
        ]
        for frame in (before, long, *after):
            sink(frame)
        while not gated.threads:
            await asyncio.sleep(0)  # the loop goes on meanwhile
        assert (seen, live.holds) == ([], 1)
        gated.go.set()
        await sink.settled()
        assert threading.get_ident() not in gated.threads
        assert (live.holds, live.troubles) == (0, [])
        shown = [frame for frame in seen if not (isinstance(frame, wire.Stream) and frame.name == "stderr")]
        if isinstance(long, wire.Stream):
            text = "".join(frame.text for frame in shown if isinstance(frame, wire.Stream))
            assert text == LONG.replace(SECRET, MARK)
            assert [type(frame) for frame in shown[-1:]] == [wire.Publish]
        else:
            assert [frame.kind for frame in shown] == [long.kind, "display_data"]
            assert SECRET not in str(shown) and "SeCrEt" not in str(shown)
            assert MARK in str(shown[0])
        sink(wire.Done(parent="1"))
        assert isinstance(seen[-1], wire.Done), "at once again, when nothing waits"

    asyncio.run(story())


def test_short_output_is_passed_on_at_once(gated: Gate) -> None:
    async def story() -> None:
        seen: list[Any] = []
        live = Live()
        sink = Concealing(gated, seen.append, lambda: live)
        sink(wire.Publish(parent="1", kind="display_data", content=_content(f"short {SECRET}")))
        assert MARK in str(seen) and live.holds == 0
        free = Concealing(Disclosed(), seen.append, lambda: live)
        free(wire.Stream(parent="1", name="stdout", text=LONG))
        assert seen[-1].text == LONG, "the control: nobody looks where there is no secret"

    asyncio.run(story())


def test_a_long_frame_that_is_none_ends_its_branch_and_holds_nobody_up(gated: Gate) -> None:
    """Its secret is a number there, so that it is decoded: and nested too deep for that."""

    async def story() -> None:
        seen: list[Any] = []
        live = Live()
        gated.add("pin", b"12345678")
        gated.go.set()
        sink = Concealing(gated, seen.append, lambda: live)
        deep = b"[" * 200 + b"12345678" + b"]" * 200 + b" " * 100_000
        sink(wire.Publish(parent="1", kind="display_data", content=deep))
        sink(wire.Stream(parent="1", name="stdout", text="after"))
        await sink.settled()
        assert [type(error) for error in live.troubles] == [ProtocolViolation]
        assert (live.holds, seen) == (0, [])

    asyncio.run(story())
