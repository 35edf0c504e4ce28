"""A world with less: run a command where some system calls are refused, or with no user namespaces.

`python crippled.py refuse landlock_create_ruleset,unshare -- COMMAND…` puts a filter around the
command that answers these calls with EPERM. `python crippled.py no-namespaces -- COMMAND…` allows
no user namespace below the present one (run it in a namespace of its own).
"""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

from kernel_runtime.sandbox import seccomp, syscalls


def refuse(names: list[str]) -> None:
    policy = seccomp.read_policy(os.uname().machine)
    numbers = syscalls.NUMBERS | policy.numbers(policy.eperm) | policy.numbers(policy.allow)
    numbers |= {name: check.number for name, check in policy.check.items()}
    code = [(seccomp.LD_WORD, 0, 0, seccomp.NUMBER)]
    for name in names:
        code += [(seccomp.JUMP_EQUAL, 0, 1, numbers[name]), *seccomp.refuse(seccomp.EPERM)]
    code += seccomp.ALLOW
    seccomp.load(b"".join(struct.pack("=HBBI", *instruction) for instruction in code))


def main() -> None:
    what, *rest = sys.argv[1:]
    command = rest[rest.index("--") + 1 :]
    if what == "refuse":
        refuse(rest[0].split(","))
    else:
        Path("/proc/sys/user/max_user_namespaces").write_text("0")
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
