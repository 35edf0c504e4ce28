"""Frames to the zygote and to a session's pid 1, and back."""

from __future__ import annotations

from typing import Annotated

import msgspec

from kernel_runtime.wire.words import MAX_CALL, Frame, Pid

# -- host → zygote (trusted, but framed alike) ---------------------------------------------


class Boot(Frame, frozen=True, tag="boot"):
    """First frame of a zygote; ``image`` is a packed ``sandbox.plan.ImagePlan``."""

    image: bytes


class Spawn(Frame, frozen=True, tag="spawn"):
    """Fork a session's first process; fds beside: its control socket, where the plan says ``egress`` one that
    the socket listening in its network is passed by, then cgroup files."""

    id: int
    plan: bytes


# -- zygote → host --------------------------------------------------------------------------


class Booted(Frame, frozen=True, tag="booted"):
    """The stage stands; spawns are taken. ``preloaded`` names what is imported by now."""

    preloaded: list[str]


class Spawned(Frame, frozen=True, tag="spawned"):
    """The child exists; a pidfd of it lies beside the frame."""

    id: int


class Refused(Frame, frozen=True, tag="refused"):
    """The zygote could not boot (``id`` -1) or spawn: the wall and the error."""

    id: int
    wall: str
    error: str


# -- host → the session's pid 1 (with descriptors beside the frame) ------------------------


class Fork(Frame, frozen=True, tag="fork"):
    """Fork a live branch; fds beside: its socket, stdout, stderr. ``begin`` opens its life. ``beside``: another one
    goes on where there is no process to be had, and nothing is said but that its descriptors close."""

    branch: int
    begin: bytes
    beside: bool = False


class Signal(Frame, frozen=True, tag="signal"):
    """Send a signal to the live branch's process group."""

    branch: int
    number: int


class End(Frame, frozen=True, tag="end"):
    """Kill every process of the session but pid 1, its frozen branches, and the branches to ``spare``;
    answered by ``Ended``. ``number`` tells one order from another. ``soon``: when none of them runs any
    code, though the kernel still takes their memory apart."""

    number: int = 0
    spare: list[int] = []
    soon: bool = False


class Rest(Frame, frozen=True, tag="rest"):
    """This process is a frozen branch: it is stopped, and spared when others are killed."""

    pid: Pid


class Wake(Frame, frozen=True, tag="wake"):
    """Let a stopped frozen branch run: an order for it is on its way."""

    pid: Pid


class Drop(Frame, frozen=True, tag="drop"):
    """End a frozen branch."""

    pid: Pid


class Adopt(Frame, frozen=True, tag="adopt"):
    """The process, frozen until now, is the live branch of this number."""

    branch: int
    pid: Pid


class Pause(Frame, frozen=True, tag="pause"):
    """Stop every process of the session but pid 1 (answered by ``Ended``), or let all but the frozen
    ones go on."""

    paused: bool
    number: int = 0


class Seclude(Frame, frozen=True, tag="seclude"):
    """Stop every process of the session but pid 1 and remember them; or, ``over``, end what has come since but for
    branches, and let all but the frozen ones go on. Answered by ``Ended``."""

    number: int
    over: bool = False


# -- the session's pid 1 → host ------------------------------------------------------------


class Born(Frame, frozen=True, tag="born"):
    """Pid 1 stands behind its walls; ``walls`` names the ones entered, ``missing`` (level
    permissive only) those that could not be, with the reason. ``names_denied``: denied system
    calls will be named (the kernel gave a listener). ``layer``: two descriptors lie beside, of the layer over the
    directory and of the directory with it; none does later."""

    walls: list[str]
    missing: dict[str, str] = {}
    names_denied: bool = False
    layer: bool = False


class Failed(Frame, frozen=True, tag="failed"):
    """A wall could not be entered: the guest is not started (it fails closed)."""

    wall: str
    error: str
    fix: str = ""


class Forked(Frame, frozen=True, tag="forked"):
    """The live branch exists. No descriptor lies beside: how many are on their way is counted
    over all guests of a user, so that one of them could keep pid 1 of another from speaking.
    """

    branch: int
    pid: int


class Exited(Frame, frozen=True, tag="exited"):
    """A branch ended: ``status`` as ``os.waitstatus_to_exitcode`` gives it."""

    branch: int
    status: int


class Ended(Frame, frozen=True, tag="ended"):
    """The order ``End`` or ``Pause`` of this number is carried out."""

    number: int


class Denied(Frame, frozen=True, tag="denied"):
    """A system call was answered with EPERM: its name. In a flood, repeats go unsaid."""

    call: Annotated[str, msgspec.Meta(max_length=MAX_CALL, pattern=r"^[A-Za-z0-9_|,() ]+$")]
