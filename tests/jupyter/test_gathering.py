"""Lines printed quickly are one output, as in ipykernel; a slow one is not kept waiting."""

from __future__ import annotations

import time

from tests.jupyter.kernels import REAL, kinds, running, text_of


def test_a_burst_of_lines_is_one_message_and_order_is_kept() -> None:
    with running(REAL) as kernel:
        kernel.run("1")
        _, outputs = kernel.run("for i in range(8): print(i)")
        assert kinds(outputs) == ["stream"]
        assert text_of(outputs) == "".join(f"{i}\n" for i in range(8))
        _, outputs = kernel.run("print('a'); display(1); print('b')")
        assert kinds(outputs) == ["stream", "display_data", "stream"]


def test_a_line_before_a_long_wait_is_seen_at_once() -> None:
    with running(REAL) as kernel:
        kernel.run("1")
        msg_id = kernel.kc.execute("import time; print('now'); time.sleep(6)")
        begun = time.monotonic()
        while kernel.kc.get_iopub_msg(timeout=10)["msg_type"] != "stream":
            pass
        assert time.monotonic() - begun < 5
        kernel.finish(msg_id)
