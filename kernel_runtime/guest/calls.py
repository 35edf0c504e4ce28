"""Name a denied system call from its name and register arguments. Pure; pointers are never followed.

Names of flags are the kernel's and the same on every machine; the numbers of the calls come
with the filter. What has no name here is shown as a number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Arguments = Sequence[int]

#: Libraries ask for these by themselves and do without: not the reason why a cell failed, unless
#: its error is a refusal. getaddrinfo and getifaddrs open a netlink socket, libuv tries io_uring.
PROBES = frozenset({"socket(AF_NETLINK)", "io_uring_setup"})

_IN_ORDER = (
    "UNSPEC UNIX INET AX25 IPX APPLETALK NETROM BRIDGE ATMPVC X25 INET6 ROSE DECnet NETBEUI SECURITY KEY "
    "NETLINK PACKET ASH ECONET ATMSVC RDS SNA IRDA PPPOX WANPIPE LLC IB MPLS CAN TIPC BLUETOOTH IUCV RXRPC "
    "ISDN PHONET IEEE802154 CAIF ALG NFC VSOCK KCM QIPCRTR SMC XDP MCTP"
)
_FAMILIES = dict(enumerate(_IN_ORDER.split()))
_KINDS = {1: "STREAM", 2: "DGRAM", 3: "RAW", 4: "RDM", 5: "SEQPACKET", 6: "DCCP", 10: "PACKET"}
_PROTOCOLS = {1: "ICMP", 58: "ICMPV6", 132: "SCTP", 136: "UDPLITE", 255: "RAW", 262: "MPTCP"}
_PLAIN_PROTOCOLS = (0, 6, 17)
_NAMESPACES = {
    0x80: "CLONE_NEWTIME",
    0x20000: "CLONE_NEWNS",
    0x2000000: "CLONE_NEWCGROUP",
    0x4000000: "CLONE_NEWUTS",
    0x8000000: "CLONE_NEWIPC",
    0x10000000: "CLONE_NEWUSER",
    0x20000000: "CLONE_NEWPID",
    0x40000000: "CLONE_NEWNET",
}
_TERMINAL = {0x5412: "TIOCSTI", 0x541C: "TIOCLINUX", 0x541D: "TIOCCONS", 0x5423: "TIOCSETD"}
_PRCTL = {
    8: "PR_SET_KEEPCAPS",
    13: "PR_SET_TIMING",
    22: "PR_SET_SECCOMP",
    24: "PR_CAPBSET_DROP",
    26: "PR_SET_TSC",
    28: "PR_SET_SECUREBITS",
    33: "PR_MCE_KILL",
    35: "PR_SET_MM",
    36: "PR_SET_CHILD_SUBREAPER",
    47: "PR_CAP_AMBIENT",
    53: "PR_SET_SPECULATION_CTRL",
    57: "PR_SET_IO_FLUSHER",
    59: "PR_SET_SYSCALL_USER_DISPATCH",
    62: "PR_SCHED_CORE",
    65: "PR_SET_MDWE",
    0x59616D61: "PR_SET_PTRACER",
}
_PERSONALITIES = {
    0x0020000: "UNAME26",
    0x0040000: "ADDR_NO_RANDOMIZE",
    0x0080000: "FDPIC_FUNCPTRS",
    0x0100000: "MMAP_PAGE_ZERO",
    0x0200000: "ADDR_COMPAT_LAYOUT",
    0x0400000: "READ_IMPLIES_EXEC",
    0x0800000: "ADDR_LIMIT_32BIT",
    0x1000000: "SHORT_INODE",
    0x2000000: "WHOLE_SECONDS",
    0x4000000: "STICKY_TIMEOUTS",
    0x8000000: "ADDR_LIMIT_3GB",
}
_FILES = {1024: "F_SETLEASE", 1026: "F_NOTIFY", 1040: "F_SETDELEG"}
_TRACES = {0: "PTRACE_TRACEME", 16: "PTRACE_ATTACH", 0x4206: "PTRACE_SEIZE"}
_WHOSE = {1: "process group", 2: "user"}


def name_of(call: str, arguments: Arguments) -> str:
    """``socket`` and its six registers → ``socket(AF_VSOCK)``; without telling arguments the bare name."""
    details = _DETAILS.get(call)
    shown = details([argument & 0xFFFF_FFFF for argument in arguments]) if details else ""
    return f"{call}({shown})" if shown else call


def _one_of(names: Mapping[int, str], argument: int) -> Callable[[Arguments], str]:
    return lambda arguments: names.get(arguments[argument], hex(arguments[argument]))


def _flags(names: Mapping[int, str], argument: int, *, rest: bool = False) -> Callable[[Arguments], str]:
    """The flags that are set, joined; with ``rest`` those without a name, too, as one number."""

    def show(arguments: Arguments) -> str:
        left = arguments[argument]
        shown = [name for bit, name in names.items() if left & bit]
        for bit in names:
            left &= ~bit
        return "|".join([*shown, hex(left)] if rest and left else shown)

    return show


def _socket(arguments: Arguments) -> str:
    """The family; the kind and the protocol only where they are what is refused."""
    family, kind, protocol = arguments[0], arguments[1] & 0xF, arguments[2]
    shown = [f"AF_{_FAMILIES.get(family, family)}"]
    if family in (1, 2, 10) and kind not in (1, 2):
        shown.append(f"SOCK_{_KINDS.get(kind, kind)}")
    elif family in (1, 2, 10) and protocol not in _PLAIN_PROTOCOLS:
        shown.append(f"IPPROTO_{_PROTOCOLS.get(protocol, protocol)}")
    return ", ".join(shown)


def _process(argument: int) -> Callable[[Arguments], str]:
    return lambda arguments: f"process {arguments[argument]}"


def _priority(plain: int) -> Callable[[Arguments], str]:
    """Whose priority, where it is not that of one process (which is 0 or 1 by the call)."""

    def show(arguments: Arguments) -> str:
        if arguments[0] == plain:
            return f"process {arguments[1]}"
        return _WHOSE.get(arguments[0] - plain, hex(arguments[0]))

    return show


_DETAILS: dict[str, Callable[[Arguments], str]] = {
    "socket": _socket,
    "socketpair": lambda arguments: f"AF_{_FAMILIES.get(arguments[0], arguments[0])}",
    "clone": _flags({bit: name for bit, name in _NAMESPACES.items() if bit > 0xFF}, 0),
    "unshare": _flags(_NAMESPACES, 0, rest=True),
    "setns": _flags(_NAMESPACES, 1, rest=True),
    "ioctl": _one_of(_TERMINAL, 1),
    "prctl": _one_of(_PRCTL, 0),
    "personality": _flags(_PERSONALITIES, 0, rest=True),
    "fcntl": _one_of(_FILES, 1),
    "ptrace": _one_of(_TRACES, 0),
    "prlimit64": _process(0),
    "sched_setaffinity": _process(0),
    "sched_setparam": _process(0),
    "sched_setscheduler": _process(0),
    "sched_setattr": _process(0),
    "setpriority": _priority(0),
    "ioprio_set": _priority(1),
}
