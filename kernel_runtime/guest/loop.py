"""The live branch: one thread, one loop, frames in, frames out, until the host hangs up."""

from __future__ import annotations

import asyncio
import os
import selectors
import socket
import sys
import tempfile
from collections import deque
from typing import TYPE_CHECKING, Any, NoReturn

from kernel_runtime import wire
from kernel_runtime.domain.errors import KernelRuntimeError
from kernel_runtime.guest import branching, threads, values
from kernel_runtime.guest.asking import Asking
from kernel_runtime.guest.channel import Channel
from kernel_runtime.guest.connection import Connection
from kernel_runtime.guest.forking import Forking
from kernel_runtime.guest.frozen import FrozenCopy
from kernel_runtime.guest.garbage import Garbage
from kernel_runtime.guest.gates import Gates
from kernel_runtime.guest.hugepages import HugePages
from kernel_runtime.guest.interrupts import Interrupts
from kernel_runtime.guest.mending import Mending
from kernel_runtime.guest.packages import import_installed
from kernel_runtime.guest.reading import Reader
from kernel_runtime.guest.stdio import Console
from kernel_runtime.sdk import branches as hooks
from kernel_runtime.sdk import door

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from kernel_runtime.guest.frozen import Restored
    from kernel_runtime.guest.shell import Shell

    Exchange = wire.Get | wire.Put | wire.Revive | wire.Hide
    Work = wire.Request | Exchange | wire.Freeze

_COMMS = frozenset({"comm_open", "comm_msg", "comm_close"})


def live(
    shell: Shell,
    sock: socket.socket,
    begin: wire.Begin,
    hide: Callable[[bool], None] = lambda _: None,
    *,
    hidden: bool = False,
) -> NoReturn:
    """Be the live branch; ends with the process. ``hide``: see ``frozen.FrozenCopy``. ``hidden``: it hides until ``Go``."""
    interrupts = Interrupts()
    interrupts.install()
    connection = Connection(sock, interrupts)
    console = Console(connection, interrupts)
    _enter(begin)
    mending = Mending(console)
    shell.begin(begin, connection, console, interrupts, mending)
    loop = Loop(selectors.PollSelector())
    connection.loop = loop
    door.open_to(Asking(connection, console, interrupts))
    reader = Reader(shell.namespace, shell.hidden, begin.cwd, lambda: shell.kernel.gates.lift())
    forking = Forking()
    garbage = Garbage()
    frozen = FrozenCopy(loop, connection, mending, hide, reader, forking, garbage)
    if hidden:
        connection.on_go = frozen.show
    _import_from_directory()
    Branch(shell, connection, console, interrupts, begin, loop, frozen, forking, garbage).run()
    os._exit(0)


def _enter(begin: wire.Begin) -> None:
    """Environment, directory and arguments of this branch."""
    os.environ.clear()
    os.environ.update(begin.env, **{door.INSIDE: "1"})
    # Looking for one would write to it, and fail where the disk layer is full.
    tempfile.tempdir = begin.env.get("TMPDIR", "/tmp")  # noqa: S108 — the guest's own
    try:
        os.chdir(begin.cwd)
    except OSError as error:
        os.write(2, f"kernel_runtime: {begin.cwd}: {error.strerror}; working in / instead\n".encode())
        os.chdir("/")
    sys.argv = ["ipykernel_launcher.py", *begin.arguments]


def _import_from_directory() -> None:
    """As Jupyter does; last of all, for what earlier cells have written there has no say in how a branch begins."""
    if "" not in sys.path:
        sys.path.insert(_before_site_packages(), "")
    import_installed()


def _before_site_packages() -> int:
    for index, path in enumerate(sys.path):
        if os.path.basename(path) in ("site-packages", "dist-packages"):
            return index
    return 0


class Loop(asyncio.SelectorEventLoop):
    """A loop whose clock stands still while its process is frozen: ``behind`` is for how long it was."""

    behind = 0.0

    def time(self) -> float:
        return super().time() - self.behind


class Branch:
    """Takes work from the connection, one request at a time; comms also while a cell awaits."""

    def __init__(
        self,
        shell: Shell,
        connection: Connection,
        console: Console,
        interrupts: Interrupts,
        begin: wire.Begin,
        loop: Loop,
        frozen: FrozenCopy,
        forking: Forking,
        garbage: Garbage,
    ) -> None:
        self._shell = shell
        self._connection = connection
        self._console = console
        self._interrupts = interrupts
        self._begin = begin
        self._queue: deque[Work] = deque()
        self._aborted: set[str] = set()
        self._busy = False
        self._over = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._pid = os.getpid()
        self._order: wire.Freeze | None = None
        self._forking = forking
        self._frozen = frozen
        self._garbage = garbage
        self._branches = branching.Branching(loop, connection, frozen, forking, garbage)
        self._huge_pages = HugePages(loop, lambda: not self._busy, allowed=begin.huge_pages)
        frozen.write = self._save
        self.loop = loop

    def run(self) -> None:
        """Serve until the host hangs up."""
        asyncio.set_event_loop(self.loop)
        self.loop.add_reader(self._connection.fileno(), self._on_readable)
        self._connection.on_backlog = self._pump_soon
        self._shell.kernel.on_error = self._abort_waiting
        self._shell.kernel.gates = Gates(self._freeze_at_gate, lambda: self._console.parent)
        os.register_at_fork(before=self._console.settle, after_in_child=self._after_fork)
        self._garbage.begin()
        self._connection.send(wire.Ready(branch=self._begin.branch, info=self._shell.info()))
        while not self._over:
            try:
                self.loop.run_forever()
            except (KeyboardInterrupt, SystemExit):
                pass  # raised by a background task of user code: it ended that task
            order, self._order = self._order, None
            if order is not None:
                self._freeze(order)
        self._console.settle()

    def _freeze(self, order: wire.Freeze) -> None:
        """Between two callbacks; in a copy, this returns when it has been thawed."""
        fds = self._connection.fds
        if fds and order.still and self._stirs():
            os.close(fds.popleft())
            self._branches.refuse(order, "its state changes by itself")
        elif fds:
            restored = self._branches.freeze(order, fds.popleft())
            if restored is not None:
                self._come_back(restored)
        else:  # the kernel passes none where none is free
            self._branches.refuse(order, "no descriptor is free: close some")
        self._busy = False
        self.loop.call_soon(self._pump)

    def _stirs(self) -> bool:
        """Whether something may run here that no frame has asked for."""
        loop: Any = self.loop
        handles = [handle for handle in (*loop._ready, *loop._scheduled) if not handle.cancelled()]
        readers = set(loop._selector.get_map()) - {self._connection.fileno(), loop._ssock.fileno()}
        return bool(
            self._huge_pages.works
            or handles
            or readers
            or hooks.before
            or hooks.after
            or asyncio.all_tasks(loop)
            or threads.may_act(loop)
        )

    def _freeze_at_gate(self, reached: wire.Gated) -> str | wire.Thaw | None:
        """Within the code of a cell: see ``gates.Gates``. The loop runs below it on the stack, in the
        copy as in the original; asyncio only has to be told that it is this process's."""
        if os.getpid() != self._pid:
            return "no copy: this is a child process of the notebook's"
        self._console.flush()
        answer = self._connection.ask_for_copy(reached)
        if isinstance(answer, str):
            return answer
        with self._interrupts:
            restored = self._branches.freeze(*answer)
            if restored is not None:
                asyncio.set_event_loop(self.loop)
                asyncio._set_running_loop(self.loop)
                self._come_back(restored)
        if restored is not None:
            return restored.order
        refusal = self._branches.refusal
        return f"no copy could be made: {refusal}" if refusal else None

    def _come_back(self, restored: Restored) -> None:
        """This is the live branch now: say so, and wait, hidden, until the one before it has ended with all that it began."""
        self._pid = os.getpid()
        self._queue.clear()
        self._aborted.clear()
        order = restored.order
        info = self._shell.info_restored(
            {"frozen": restored.frozen, "external": restored.external, "changed": restored.changed}
        )
        self._connection.send(wire.Ready(branch=order.branch, info=info, pid=self._pid, token=order.token))
        if not self._connection.wait_to_go():
            os._exit(0)
        self._frozen.show()
        branching.run_restored_hooks()

    def _on_readable(self) -> None:
        if self._connection.receive():
            self._pump()
        else:
            self._over = True
            self.loop.stop()

    def _pump_soon(self) -> None:
        self.loop.call_soon_threadsafe(self._pump)

    def _pump(self) -> None:
        inbox = self._connection.inbox
        while inbox:
            work = inbox.popleft()
            if self._busy and isinstance(work, wire.Request) and work.kind in _COMMS:
                self._start(self._serve_beside(work))
            else:
                self._queue.append(work)
                self._next()
        self._next()

    def _next(self) -> None:
        if not self._queue or self._busy:
            return
        self._busy = True
        work = self._queue.popleft()
        if isinstance(work, wire.Freeze):
            self._order = work
            self.loop.stop()
        else:
            self._start(self._work(work))

    def _start(self, coro: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(coro)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, work: wire.Request | Exchange) -> None:
        try:
            if isinstance(work, wire.Request):
                await self._serve(work)
            else:
                self._connection.send(self._exchange(work))
        except MemoryError:
            os._exit(wire.EXHAUSTED_STATUS)  # no memory left to answer: the host must not wait for ever
        except OSError:
            os._exit(wire.LOST_STATUS)  # user code has closed what the answer was to go through
        except Exception:  # noqa: BLE001 - the same, for whatever else user code has broken
            os._exit(wire.DAMAGED_STATUS)
        finally:
            self._busy = False
            self._huge_pages.tend()
            self._pump()  # frames may have been read while it ran: nothing else would wake us for them

    async def _serve(self, request: wire.Request) -> None:
        """One request, whatever its handler does: a reply if one is due, and Done."""
        shell, interrupts = self._shell, self._interrupts
        try:
            try:
                if request.id in self._aborted:
                    self._aborted.discard(request.id)
                    shell.abort(request)
                else:
                    interrupts.arm()
                    if self._connection.is_interrupted(request.id):
                        self._abort_waiting()
                        raise KeyboardInterrupt
                    await shell.kernel.serve(request)
            finally:
                interrupts.disarm()
        except BaseException as error:  # noqa: BLE001 - nothing a request does may end the loop
            interrupts.disarm()
            shell.kernel.mending()
            if not shell.works(request):
                os._exit(wire.DAMAGED_STATUS)
            shell.fail(request, error)
        if os.getpid() != self._pid:
            os._exit(0)  # a child that user code forked and let run to the end of its cell
        shell.tidy()
        self._console.flush()
        self._connection.send(wire.Done(parent=request.id))

    async def _serve_beside(self, request: wire.Request) -> None:
        """A comm message while a cell awaits: the cell's parent holds again afterwards."""
        kernel = self._shell.kernel
        cell = kernel.last_parent
        try:
            await kernel.serve(request)
        except Exception as error:  # noqa: BLE001 - as ipykernel: a failed handler is only logged
            kernel.log.error("Exception in message handler: %r", error)
        finally:
            kernel.set_parent([], cell)
        self._console.flush()
        self._connection.send(wire.Done(parent=request.id))

    def _exchange(self, work: Exchange) -> wire.Got:
        namespace = self._shell.namespace
        try:
            if isinstance(work, wire.Revive):
                self._load()
                return wire.Got(parent=work.id)
            if isinstance(work, wire.Hide):
                (self._frozen.hide if work.hidden else self._frozen.show)()
                return wire.Got(parent=work.id)
            if isinstance(work, wire.Put):
                namespace[work.name] = values.decode(work.value)
                return wire.Got(parent=work.id)
            if work.name not in namespace:
                return wire.Got(parent=work.id, error=f"the guest has no variable {work.name!r}")
            return wire.Got(parent=work.id, value=values.encode(namespace[work.name], work.name))
        except KernelRuntimeError as error:
            return wire.Got(parent=work.id, error=str(error)[: wire.MAX_SAID])
        except Exception as error:  # noqa: BLE001 - user objects run code when they are read
            what = f"{work.name}: " if isinstance(work, wire.Get | wire.Put) else ""
            said = f"{what}{type(error).__name__}: {error}"
            return wire.Got(parent=work.id, error=said[: wire.MAX_SAID])

    def _load(self) -> None:
        """Bring variables back from the socket that came along."""
        from kernel_runtime.guest import checkpoint_load  # pickle: only where a checkpoint is restored

        with socket.socket(fileno=self._connection.fds.popleft()) as sock:
            checkpoint_load.load(Channel(sock, wire.decode_to_loader), self._shell.namespace)

    def _save(self, channel: Channel) -> None:
        """In a writer: the notebook's variables, without the shell's own."""
        from kernel_runtime.guest import checkpoint_save

        self._shell.kernel.gates.lift()
        checkpoint_save.save(channel, self._shell.namespace, self._shell.variables(private=True))

    def _abort_waiting(self) -> None:
        """After an error: execute requests that have already arrived are not run."""
        self._connection.catch_up()
        for work in (*self._queue, *self._connection.inbox):
            if isinstance(work, wire.Request) and work.kind == "execute_request":
                self._aborted.add(work.id)

    def _after_fork(self) -> None:
        if not self._forking.active:
            self._connection.orphan()
            self._console.orphan()
