"""The system-call filter: a policy that is data, compiled to classic BPF.

``seccomp_<arch>.toml`` says what a guest may ask of the kernel. The host compiles it once and
ships the bytes in the plan; inside the guest only ``load`` runs. A program is a list of
instructions that jumps only forward within itself, so parts are put together like bricks:
a binary search over the call's number whose leaves are verdicts or argument checks. For calls
that are always allowed the kernel caches the verdict and runs no filter at all.

A refused call is put before a listener, which answers EPERM and can say what was refused. Who
loads the program must serve the listener and make no such call itself; where the kernel gives
none, the same program is loaded with the plain errno in those places.
"""

from __future__ import annotations

import errno
import functools
import struct
from typing import Any, Literal

import msgspec

from kernel_runtime.sandbox import syscalls

LD_WORD, AND = 0x20, 0x54
JUMP, JUMP_EQUAL, JUMP_AT_LEAST, JUMP_BITS = 0x05, 0x15, 0x35, 0x45
RETURN = 0x06

RET_ALLOW = 0x7FFF0000
RET_USER_NOTIF = 0x7FC00000
RET_ERRNO = 0x00050000
RET_KILL_PROCESS = 0x80000000
EPERM, ENOSYS = errno.EPERM, errno.ENOSYS

#: Offsets in ``struct seccomp_data``; arguments are 64 bits wide, little endian on both machines.
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16
ARCHITECTURES = ("x86_64", "aarch64")
PROGRAM_STARTERS = ("execve", "execveat")

Instruction = tuple[int, int, int, int]
Code = list[Instruction]
Listed = dict[str, dict[str, tuple[int, str]]]


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one argument must satisfy: its low 32 bits (after ``mask``) are among ``only``, are
    none of ``never``, have none of ``no_bits``; or the whole argument is 0 (``null``).
    """

    argument: int
    mask: int | None = None
    only: tuple[int, ...] = ()
    never: tuple[int, ...] = ()
    no_bits: int = 0
    null: bool = False


class Check(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A call allowed when ``all`` conditions hold, or ``any`` of them; else denied."""

    number: int
    why: str
    all: tuple[Condition, ...] = ()
    any: tuple[Condition, ...] = ()


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One architecture's file: groups of name → (number, reason), and argument checks."""

    architecture: Literal["x86_64", "aarch64"]
    audit: int
    allow: Listed
    eperm: Listed
    enosys: dict[str, tuple[int, str]]
    check: dict[str, Check]

    def numbers(self, groups: Listed) -> dict[str, int]:
        """Name → number over all groups."""
        return {name: entry[0] for group in groups.values() for name, entry in group.items()}


@functools.cache
def read_policy(arch: str) -> Policy:
    """The shipped policy of ``x86_64`` or ``aarch64``."""
    import tomllib
    from importlib import resources

    text = resources.files(__package__).joinpath(f"seccomp_{arch}.toml").read_text("utf-8")
    parsed: dict[str, Any] = tomllib.loads(text)
    return msgspec.convert(parsed, Policy)


class NarrowedCheck(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An argument check that takes the place of the policy's own."""

    why: str
    all: tuple[Condition, ...]


class Narrowing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a guest without namespaces may not ask besides: name → reason. ``owner``: only where
    its processes belong to a user who owns files."""

    deny: dict[str, dict[str, str]]
    owner: dict[str, str]
    allow: dict[str, tuple[int, str]]
    check: dict[str, NarrowedCheck]

    def denied(self, *, owner: bool) -> set[str]:
        """The names that are refused."""
        names = {name for group in self.deny.values() for name in group}
        return names | self.owner.keys() if owner else names


@functools.cache
def read_narrowing() -> Narrowing:
    """The shipped narrowing; its names are the same on every machine."""
    import tomllib
    from importlib import resources

    text = resources.files(__package__).joinpath("seccomp_shared.toml").read_text("utf-8")
    return msgspec.convert(tomllib.loads(text), Narrowing)


def narrow(codes: dict[int, Code], policy: Policy, *, owner: bool) -> None:
    """Change the verdicts into those of a guest without namespaces."""
    narrowing = read_narrowing()
    checks = {name: check.number for name, check in policy.check.items()}
    numbers = policy.numbers(policy.allow) | checks
    for name in narrowing.denied(owner=owner):
        if name in numbers:  # some old calls exist on one machine only
            codes[numbers[name]] = DENY
    for name, narrowed in narrowing.check.items():
        codes[checks[name]] = check_code(Check(number=checks[name], why=narrowed.why, all=narrowed.all))
    for number, _ in narrowing.allow.values():
        codes[number] = ALLOW


@functools.cache
def compile_program(
    arch: str, *, subprocess: bool = True, shared: bool = False, owner: bool = False
) -> bytes:
    """The filter as bytes; without ``subprocess`` starting programs is denied, too.

    ``shared``: for a guest that has no namespaces of its own; ``owner``: and whose user owns files.
    """
    codes = verdicts(arch, subprocess=subprocess, shared=shared, owner=owner)
    # An x32 call is an x86-64 number with bit 30 set: past the last range, so it gets ENOSYS.
    code = [
        (LD_WORD, 0, 0, ARCHITECTURE),
        (JUMP_EQUAL, 1, 0, read_policy(arch).audit),
        (RETURN, 0, 0, RET_KILL_PROCESS),
        (LD_WORD, 0, 0, NUMBER),
        *search(ranges(codes)),
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


@functools.cache
def denied_names(
    arch: str, *, subprocess: bool = True, shared: bool = False, owner: bool = False
) -> dict[int, str]:
    """Number → name of every call that the program of the same options may deny."""
    policy = read_policy(arch)
    names = policy.numbers(policy.allow) | policy.numbers(policy.eperm)
    names |= {name: check.number for name, check in policy.check.items()}
    by_number = {number: name for name, number in names.items()}
    codes = verdicts(arch, subprocess=subprocess, shared=shared, owner=owner)
    return {number: by_number[number] for number, code in codes.items() if DENY[0] in code}


def verdicts(arch: str, *, subprocess: bool, shared: bool, owner: bool) -> dict[int, Code]:
    """Number → what becomes of the call; what is not in it gets ENOSYS."""
    policy = read_policy(arch)
    codes = dict.fromkeys(policy.numbers(policy.eperm).values(), DENY)
    for name, number in policy.numbers(policy.allow).items():
        forbidden = name in PROGRAM_STARTERS and not subprocess
        codes[number] = DENY if forbidden else ALLOW
    for check in policy.check.values():
        codes[check.number] = check_code(check)
    if shared:
        narrow(codes, policy, owner=owner)
    return codes


def unnamed(program: bytes) -> bytes:
    """The same program without a listener: what it would put before one gets EPERM."""
    return b"".join(
        struct.pack("=HBBI", *(UNNAMED if instruction == DENY[0] else instruction))
        for instruction in struct.iter_unpack("=HBBI", program)
    )


def load(program: bytes) -> int | None:
    """Put this process behind the filter; ``no_new_privs`` is set first. Cannot be undone.

    The listener (closed on exec; closed altogether, denied calls get ENOSYS), or None where the
    kernel gives none: it is too old, or a container around has one already.
    """
    syscalls.set_no_new_privs()
    if _ASKED in program:
        for flags in (_LISTEN | syscalls.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, _LISTEN):
            try:
                return syscalls.seccomp_load(program, flags)
            except OSError as error:
                if error.errno == errno.EBUSY:
                    break
    syscalls.seccomp_load(unnamed(program))
    return None


_LISTEN = syscalls.SECCOMP_FILTER_FLAG_NEW_LISTENER
ALLOW: Code = [(RETURN, 0, 0, RET_ALLOW)]
DENY: Code = [(RETURN, 0, 0, RET_USER_NOTIF)]
UNNAMED: Instruction = (RETURN, 0, 0, RET_ERRNO | EPERM)
_ASKED = struct.pack("=HBBI", *DENY[0])


def refuse(number: int) -> Code:
    """Code that answers the call with this errno."""
    return [(RETURN, 0, 0, RET_ERRNO | number)]


def ranges(codes: dict[int, Code]) -> list[tuple[int, Code]]:
    """(first number, code) of each run of neighbours that share a verdict; gaps are ENOSYS."""
    runs: list[tuple[int, Code]] = []
    for number in range(max(codes) + 2):
        code = codes.get(number, refuse(ENOSYS))
        if not runs or runs[-1][1] != code:
            runs.append((number, code))
    return runs


def search(runs: list[tuple[int, Code]]) -> Code:
    """A binary search that ends in the run which holds the number in the accumulator."""
    if len(runs) == 1:
        return runs[0][1]
    middle = len(runs) // 2
    below, above = search(runs[:middle]), search(runs[middle:])
    first_above = runs[middle][0]
    if len(below) <= 0xFF:
        return [(JUMP_AT_LEAST, len(below), 0, first_above), *below, *above]
    # A conditional jump reaches 255 instructions; the plain one 2**32.
    return [(JUMP_AT_LEAST, 0, 1, first_above), (JUMP, 0, 0, len(below)), *below, *above]


def check_code(check: Check) -> Code:
    """Code that allows or denies after looking at the arguments."""
    if check.any:
        alternatives = (passes(c, ALLOW) for c in check.any)
        return [instruction for code in alternatives for instruction in code] + DENY
    code = ALLOW
    for condition in reversed(check.all):
        code = [*passes(condition, code), *DENY]
    return code


def passes(condition: Condition, then: Code) -> Code:
    """Code that runs ``then`` if the condition holds and otherwise falls out of its end."""
    low = ARGUMENTS + 8 * condition.argument
    loads: Code = [(LD_WORD, 0, 0, low)]
    if condition.mask is not None:
        loads.append((AND, 0, 0, condition.mask))
    over = len(then)
    if condition.null:
        high: Code = [(LD_WORD, 0, 0, low + 4), (JUMP_EQUAL, 0, over, 0)]
        return [*loads, (JUMP_EQUAL, 0, over + 2, 0), *high, *then]
    if condition.no_bits:
        return [*loads, (JUMP_BITS, over, 0, condition.no_bits), *then]
    if condition.never:
        return [*loads, *_jumps(condition.never, over), *then]
    # One jump beyond the last comparison: the landing place when nothing was equal.
    return [*loads, *_jumps(condition.only, 1), (JUMP, 0, 0, over), *then]


def _jumps(values: tuple[int, ...], beyond: int) -> Code:
    """Comparisons, each of which jumps ``beyond`` instructions past the last of them."""
    return [(JUMP_EQUAL, len(values) - place - 1 + beyond, 0, value) for place, value in enumerate(values)]
