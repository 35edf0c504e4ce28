"""What an attack is: code for a guest, the wall it is made on, and what lies outside for it to reach."""

from __future__ import annotations

from typing import Any

import msgspec

#: What an attack prints first: one that never ran has been refused by nobody.
BEGUN = "the attack has begun"
#: Precedes each attack.
PRELUDE = f"""\
print({BEGUN!r}, flush=True)
import ctypes, os, resource, socket
planted = PLANTED
answer = ''
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    result = getattr(libc, name)(*arguments)
    if result == -1:
        raise OSError(ctypes.get_errno(), name + ': ' + os.strerror(ctypes.get_errno()))
    return result
"""
#: Attacks that more than one wall must stop.
MANY_PROCESSES = """\
read, write = os.pipe()
for _ in range(planted['pids'] + 4):
    if os.fork() == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
answer = planted['mark']"""
#: Anonymous and shared: no resource limit counts it.
SHARED_MEMORY = """\
import mmap
taken = mmap.mmap(-1, planted['memory'] * 5 // 4)
for place in range(0, len(taken), 4096):
    taken[place] = 1
answer = planted['mark']"""
ABSTRACT_SOCKET = """\
asking = socket.socket(socket.AF_UNIX)
asking.settimeout(2)
asking.connect('\\0' + planted['abstract'])
answer = asking.recv(99).decode()"""


class Planted(msgspec.Struct, frozen=True, kw_only=True):
    """What lies outside, to be reached by nobody inside.

    ``mark``: the text that proves success. ``directory`` holds ``file`` (with the mark) and
    ``socket`` (a server that says it); ``tcp`` and ``udp`` are ports on 127.0.0.1, ``abstract`` the name of an
    abstract socket, that do so, too. ``process`` has the mark in its environment and at
    ``address`` in its memory, and the priority ``nice``. ``segment`` is a System V memory
    segment with the mark, ``semaphore`` a set whose first value is ``value``. ``namespaces``: the links of
    /proc/self/ns, ``host``: the host's name.
    """

    mark: str
    directory: str
    file: str
    shared: str
    socket: str
    tcp: int
    udp: int
    abstract: str
    process: int
    address: int
    nice: int
    segment: int
    semaphore: int
    value: int
    namespaces: dict[str, str]
    host: str
    memory: int
    pids: int
    disk: int


class Attack(msgspec.Struct, frozen=True, kw_only=True):
    """One attack on ``wall``; ``proves`` completes "it is proven that …".

    ``covers``: other walls that refuse it, too. ``outside``: its wall cannot be taken away from a
    guest, so the control is a plain process of the host. ``needs``: what the host must have, or there is
    nothing to attack (see ``trials.features``).
    """

    wall: str
    name: str
    proves: str
    code: str
    covers: tuple[str, ...] = ()
    outside: bool = False
    needs: tuple[str, ...] = ()

    def text(self, planted: Planted) -> str:
        """The whole of it, to be run as a cell: its value is the mark if it got through."""
        facts: dict[str, Any] = msgspec.to_builtins(planted)
        return f"{PRELUDE.replace('PLANTED', repr(facts))}{self.code}\nanswer"

    @property
    def control(self) -> frozenset[str]:
        """The walls without which it succeeds."""
        return frozenset((self.wall, *self.covers))


def same_namespace(wall: str, kind: str, what: str, **options: Any) -> Attack:
    code = (
        f"if os.readlink('/proc/self/ns/{kind}') == planted['namespaces']['{kind}']: answer = planted['mark']"
    )
    return Attack(
        wall=wall,
        name=f"share the host's {kind} namespace",
        proves=f"{what} its own",
        code=code,
        needs=("namespaces",),
        **options,
    )
