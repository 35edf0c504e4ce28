"""Filters that are asked without a kernel: classic BPF, interpreted."""

from __future__ import annotations

import struct

from kernel_runtime.sandbox import seccomp
from kernel_runtime.sandbox.seccomp import ENOSYS

ALLOWED = seccomp.RET_ALLOW
REFUSED = seccomp.RET_USER_NOTIF
MISSING = seccomp.RET_ERRNO | ENOSYS
KILLED = seccomp.RET_KILL_PROCESS


def interpret(program: bytes, data: bytes) -> int:
    """Run classic BPF as the kernel does, over ``struct seccomp_data``."""
    instructions = list(struct.iter_unpack("=HBBI", program))
    accumulator, place = 0, 0
    while True:
        operation, if_true, if_false, value = instructions[place]
        place += 1
        if operation == seccomp.LD_WORD:
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif operation == seccomp.AND:
            accumulator &= value
        elif operation == seccomp.JUMP:
            place += value
        elif operation == seccomp.RETURN:
            return value
        else:
            tests = {
                seccomp.JUMP_EQUAL: accumulator == value,
                seccomp.JUMP_AT_LEAST: accumulator >= value,
                seccomp.JUMP_BITS: bool(accumulator & value),
            }
            place += if_true if tests[operation] else if_false


class Filter:
    """A compiled policy that can be asked by name or number."""

    def __init__(self, arch: str, *, subprocess: bool = True) -> None:
        self.policy = seccomp.read_policy(arch)
        self.program = seccomp.compile_program(arch, subprocess=subprocess)
        self.allow = self.policy.numbers(self.policy.allow)
        self.eperm = self.policy.numbers(self.policy.eperm)

    def call(self, number: int, *arguments: int, audit: int | None = None) -> int:
        padded = [*arguments, 0, 0, 0, 0, 0, 0][:6]
        words = [argument & 0xFFFF_FFFF_FFFF_FFFF for argument in padded]
        audit = self.policy.audit if audit is None else audit
        return interpret(self.program, struct.pack("<IIQ6Q", number, audit, 0, *words))

    def check(self, name: str, *arguments: int) -> int:
        return self.call(self.policy.check[name].number, *arguments)
