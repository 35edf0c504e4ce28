"""What a run leaves behind, from the frames of a guest."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kernel_runtime import wire
from kernel_runtime.domain.errors import GuestCodeError
from kernel_runtime.result import Collector

ERROR = {"ename": "ValueError", "evalue": "no", "traceback": ["ValueError: no"]}


def collected(*frames: tuple[str, dict[str, Any]]) -> Collector:
    collector = Collector(lambda _: None, 10_000, None, None)
    for kind, content in frames:
        data = json.dumps(content).encode()
        reply = kind == "execute_reply"
        collector.take((wire.Reply if reply else wire.Publish)(parent="", kind=kind, content=data))
    collector.settle()
    return collector


def test_an_error_that_was_shown_is_not_told_twice() -> None:
    result = collected(("error", ERROR), ("execute_reply", {"status": "error", **ERROR})).result
    assert [output["output_type"] for output in result.outputs] == ["error"]
    assert str(result.error) == "ValueError: no"


def test_an_error_that_an_interrupt_kept_from_being_shown_is_one_all_the_same() -> None:
    result = collected(("execute_reply", {"status": "error", **ERROR})).result
    assert not result.ok
    assert result.outputs == [{"output_type": "error", **ERROR}]
    with pytest.raises(GuestCodeError, match="ValueError: no"):
        result.check()


@pytest.mark.parametrize("status", ["ok", "aborted", None, 7])
def test_any_other_reply_is_no_error(status: object) -> None:
    assert collected(("execute_reply", {"status": status})).result.ok
