"""Lossless to slow clients within a budget; a client that never reads harms nobody."""

from __future__ import annotations

import json
import socket
import time

import psutil
import pytest
import zmq

from kernel_runtime.jupyter import zmtp
from tests.jupyter.kernels import PATIENCE, SCRIPTED, Kernel, manager, running, text_of


def raw_subscriber(port: int) -> socket.socket:
    """A subscriber that shakes hands and then never reads again."""
    sock = socket.create_connection(("127.0.0.1", port))
    ready = b"\x05READY\x0bSocket-Type\x00\x00\x00\x03SUB"
    sock.sendall(zmtp.GREETING + zmtp.frame(ready, zmtp.COMMAND) + zmtp.frame(b"\x01"))
    time.sleep(0.2)
    return sock


def memory(kernel: Kernel) -> int:
    return psutil.Process(kernel.km.provisioner.process.pid).memory_info().rss


class Reader:
    """A client that reads when it is told to, and then quickly: it checks no signatures."""

    def __init__(self, kernel: Kernel, sock: zmq.Socket[bytes]) -> None:
        self._sock = sock
        sock.linger = 0
        sock.subscribe(b"")
        sock.connect(f"tcp://127.0.0.1:{kernel.km.iopub_port}")
        while not sock.poll(100):  # until it is connected
            kernel.ask("shell", "kernel_info_request")

    def shown(self, cell: str) -> list[str]:
        """The texts of what the cell displays, up to its end."""
        found = []
        while self._sock.poll(1000 * PATIENCE):
            frames = self._sock.recv_multipart()
            header, parent, _, content = map(json.loads, frames[frames.index(b"<IDS|MSG>") + 2 :][:4])
            if parent.get("msg_id") == cell and header["msg_type"] == "display_data":
                found.append(content["data"]["text/plain"])
            elif parent.get("msg_id") == cell and content.get("execution_state") == "idle":
                return found
        raise TimeoutError(f"no end of {cell}; {len(found)} displays came")


@pytest.mark.slow
def test_an_idle_client_gets_all_of_50000_displays() -> None:
    with running() as kernel, zmq.Context() as context, context.socket(zmq.SUB) as sock:
        reader = Reader(kernel, sock)
        cell = kernel.kc.execute("displays 50000")
        assert kernel.reply(cell)["content"]["status"] == "ok"  # what it displayed lies unread until here
        assert reader.shown(cell) == [str(n) for n in range(50_000)]


def test_a_client_that_never_reads_neither_grows_the_front_nor_stalls_another() -> None:
    with running(SCRIPTED, "--output", "16M") as kernel, raw_subscriber(kernel.km.iopub_port):
        kernel.run("say warm")
        before = memory(kernel)
        for _ in range(12):  # 120 MB, the reader that reads gets all of it
            _, outputs = kernel.run("flood 100 100000")
            assert len(text_of(outputs)) == 100 * 100_000
        assert memory(kernel) - before < 160 * 1024 * 1024  # its queue holds 64 MB at most


@pytest.mark.slow
def test_both_of_two_clients_get_everything_the_slow_one_later() -> None:
    with (
        running() as kernel,
        zmq.Context() as context,
        context.socket(zmq.SUB) as first,
        context.socket(zmq.SUB) as second,
    ):
        quick, slow = Reader(kernel, first), Reader(kernel, second)
        cell = kernel.kc.execute("displays 20000")
        expected = [str(n) for n in range(20_000)]
        assert quick.shown(cell) == expected
        assert slow.shown(cell) == expected


def test_the_middle_of_an_overlong_output_becomes_a_notice() -> None:
    with running(SCRIPTED, "--output", "1M") as kernel:
        reply, outputs = kernel.run("flood 400 10000\nsay the end")
        assert reply["content"]["status"] == "ok"
        text = text_of(outputs)
        assert text.startswith("00000000")
        assert text.endswith("the end\n")
        assert len(text) < 1.2 * 1024 * 1024
        notices = text_of(outputs, "stderr")
        assert "output limit of 1 MB per cell is reached" in notices
        assert "messages / " in notices
        assert "see %limits" in notices
        assert text_of(kernel.run("say fresh")[1]) == "fresh\n"  # the next cell has a budget of its own


def test_a_stranger_on_the_publishers_port_is_cut_off() -> None:
    with running() as kernel:
        for greeting in (
            b"GET / HTTP/1.0\r\n\r\n" + bytes(100),
            bytes(64),
            zmtp.GREETING + b"\x02" + b"\xff" * 8,
        ):
            with socket.create_connection(("127.0.0.1", kernel.km.iopub_port)) as sock:
                sock.settimeout(PATIENCE)
                sock.sendall(greeting)
                received = b""
                try:
                    while data := sock.recv(4096):
                        received += data
                except ConnectionResetError:
                    pass
                assert len(received) < 200
        assert text_of(kernel.run("say alive")[1]) == "alive\n"


def test_what_comes_before_the_first_subscriber_waits_for_it() -> None:
    km = manager()
    km.start_kernel()
    kc = km.client()
    try:
        kc.start_channels(iopub=False)
        kernel = Kernel(km, kc)
        cell = kc.execute("say early")
        kernel.reply(cell)
        kc.start_channels(shell=False, stdin=False, hb=False, control=False)
        assert text_of(kernel.outputs(cell)) == "early\n"
    finally:
        kc.stop_channels()
        km.shutdown_kernel()
