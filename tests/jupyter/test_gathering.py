"""Lines printed quickly are one output, as in ipykernel; a slow one is not kept waiting."""

from __future__ import annotations

from itertools import groupby

from tests.jupyter.kernels import REAL, kinds, running, text_of


def test_a_burst_of_lines_is_gathered_and_order_is_kept() -> None:
    with running(REAL) as kernel:
        kernel.run("1")
        _, outputs = kernel.run("for i in range(8): print(i)")
        assert text_of(outputs) == "".join(f"{i}\n" for i in range(8))
        assert len(kinds(outputs)) < 8, "one, if nothing holds up the guest between two lines"
        _, outputs = kernel.run("print('a'); display(1); print('b')")
        assert [kind for kind, _ in groupby(kinds(outputs))] == ["stream", "display_data", "stream"]


def test_a_line_before_a_long_wait_is_seen_at_once() -> None:
    with running(REAL) as kernel:
        kernel.run("1")
        msg_id = kernel.begin("import time; print('now'); time.sleep(100_000)")
        kernel.km.interrupt_kernel()
        assert kernel.finish(msg_id)[0]["content"]["ename"] == "KeyboardInterrupt", "it still waited"
