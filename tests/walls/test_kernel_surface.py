"""The kernel's own surface: calls that give power, reach around walls, or have been holes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.walls.rows import (
    KERNEL,
    PLAIN,
    REFUSED,
    SECCOMP,
    Outcomes,
    Row,
    check_refused,
    prelude,
    program,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.walls.conftest import House

X86 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="needs an x86_64 host")
KINDS = ("NS", "CGROUP", "UTS", "IPC", "USER", "PID", "NET")
_ATTR = "struct.pack('II', 1, 112) + bytes(104)"

NAMESPACES = [
    *(
        Row(f"unshare {kind}", f"call('unshare', NEW['USER'] | NEW['{kind}'])")
        for kind in (*KINDS, "TIME")
        if kind != "USER"
    ),
    Row("unshare USER", "call('unshare', NEW['USER'])"),
    Row("unshare files", "call('unshare', 0x400)"),
    *(Row(f"clone {kind}", f"new_process('clone', NEW['USER'] | NEW['{kind}'] | 17)") for kind in KINDS),
    *(
        Row(f"clone3 {kind}", f"new_process('clone3', clone_arguments(NEW['USER'] | NEW['{kind}']), 64)")
        for kind in (*KINDS, "TIME")
    ),
    Row("clone3 into a cgroup", "new_process('clone3', clone_arguments(0x200000000), 64)"),
    *(
        Row(f"setns {kind}", f"entered('{kind}')", KERNEL)
        for kind in ("mnt", "uts", "ipc", "net", "cgroup", "pid")
    ),
    Row("setns time", "entered('time')", PLAIN),
    Row("setns user", "entered('user')"),
    Row("setns by a pidfd", "call('setns', os.pidfd_open(os.getppid()), NEW['NET'])", KERNEL),
]
MOUNTS = [
    Row("mount over /etc", "call('mount', b'x', b'/etc', b'tmpfs', 0, 0)", KERNEL),
    Row("bind the root", "call('mount', b'/', b'/tmp', 0, 0x5000, 0)", KERNEL),
    Row("remount the root writable", "call('mount', 0, b'/', 0, 0x1020, 0)", KERNEL),
    Row("a second /proc", "call('mount', b'p', b'/tmp', b'proc', 0, 0)", KERNEL),
    Row("a cgroup hierarchy", "call('mount', b'c', b'/tmp', b'cgroup2', 0, 0)", KERNEL),
    Row("fsopen", "call('fsopen', b'tmpfs', 0)", KERNEL),
    Row("fsconfig", "call('fsconfig', -1, 0, 0, 0, 0)"),
    Row("fsmount", "call('fsmount', -1, 0, 0)", KERNEL),
    Row("fspick", "call('fspick', -100, b'/', 0)", KERNEL),
    Row("open_tree", "call('open_tree', -100, b'/', 0)"),
    Row("open_tree, a copy", "call('open_tree', -100, b'/', 1)", KERNEL),
    Row("move_mount", "call('move_mount', -1, b'', -100, b'/tmp', 4)", KERNEL),
    Row("mount_setattr", "call('mount_setattr', -100, b'/', 0, bytes(32), 32)", KERNEL),
    Row("umount of the root", "call('umount2', b'/', 2)", KERNEL),
    Row("pivot back", "os.chdir('/') or call('pivot_root', b'.', b'.')", KERNEL),
    Row("chroot", "os.chroot('/tmp')", KERNEL),
    Row(
        "name_to_handle_at", "call('name_to_handle_at', -100, b'/tmp', struct.pack('II', 0, 0), bytes(4), 0)"
    ),
    Row("open_by_handle_at", "call('open_by_handle_at', -1, struct.pack('II', 8, 1) + bytes(8), 0)", PLAIN),
    Row("quotactl", "call('quotactl', 0x800001 << 8, 0, 0, 0)"),
    Row("quotactl_fd", "call('quotactl_fd', -1, 0, 0, 0)"),
    Row("swapon", "call('swapon', b'/no/such', 0)", PLAIN),
    Row("fanotify", "call('fanotify_init', 0, 0)", PLAIN),
    Row("fanotify, unprivileged", "call('fanotify_init', 0x200, 0)"),
]
HOLES = [
    Row("io_uring_setup", "call('io_uring_setup', 1, bytes(120))"),
    Row("io_uring_enter", "call('io_uring_enter', -1, 0, 0, 0, 0, 0)"),
    Row("io_uring_register", "call('io_uring_register', -1, 0, 0, 0)"),
    Row("bpf, a map", "call('bpf', 0, struct.pack('5I', 2, 4, 4, 1, 0) + bytes(100), 120)", PLAIN),
    Row("bpf, a look-up", "call('bpf', 1, bytes(120), 120)"),
    Row(
        "perf_event_open",
        f"call('perf_event_open', {_ATTR} if 0 else struct.pack('IIQ', 1, 112, 9) + bytes(24) + struct.pack('Q', 0x61) + bytes(64), 0, -1, -1, 0)",
    ),
    Row("userfaultfd", "call('userfaultfd', 1)"),
    Row("keyctl", "call('keyctl', 0, -2, 1)"),
    Row("add_key", "call('add_key', b'user', b'x', b'y', 1, -2)"),
    Row("request_key", "call('request_key', b'user', b'x', 0, -2)"),
    Row("personality without randomisation", "call('personality', 0x40000)"),
    Row("personality with executable data", "call('personality', 0x400000)"),
    Row("kexec_load", "call('kexec_load', 0, 0, 0, 0xffff)", PLAIN),
    Row("kexec_file_load", "call('kexec_file_load', -1, -1, 0, 0, 0xffff)", PLAIN),
    Row("init_module", "call('init_module', 0, 0, b'')", PLAIN),
    Row("finit_module", "call('finit_module', -1, b'', 0)", PLAIN),
    Row("delete_module", "call('delete_module', b'no_such_module', 0x800)", PLAIN),
    Row("seccomp, a listener of its own", "call('seccomp', 1, 8, 0)"),
    Row("seccomp by prctl", "call('prctl', 22, 2, 0)"),
    Row("prctl, another memory map", "call('prctl', 35, 15, bytes(8), 0, 0)"),
    Row("prctl, tracing by anybody", "call('prctl', 0x59616d61, -1, 0, 0, 0)", refused={"EPERM"}),
    Row("memfd_secret", "call('memfd_secret', 0)", refused={"ENOSYS"}),
    Row("the kernel's log", "call('syslog', 10, 0, 0)", PLAIN),
]
MACHINE = [
    Row("reboot", "call('reboot', 0, 0, 0, 0)", KERNEL),
    Row("acct", "call('acct', b'/no/such')", PLAIN),
    Row("vhangup", "call('vhangup')", PLAIN),
    Row("sethostname", "call('sethostname', b'x', 1)", KERNEL),
    Row("setdomainname", "call('setdomainname', b'x', 1)", KERNEL),
    Row("settimeofday", "call('settimeofday', struct.pack('qq', -1, -1), 0)", PLAIN),
    Row("clock_settime", "call('clock_settime', 0, struct.pack('qq', -1, -1))"),
    Row("clock_adjtime", "call('clock_adjtime', 0, bytes(208))"),
    Row("adjtimex", "call('adjtimex', bytes(208))"),
]
SOCKETS = [
    Row("vsock", "socket.socket(40, 1)"),
    Row("vsock datagrams", "socket.socket(40, 2)"),
    Row("netlink, routes", "socket.socket(16, 3, 0)"),
    Row("netlink, audit", "socket.socket(16, 3, 9)"),
    Row("packet", "socket.socket(17, 3, 0)", KERNEL),
    Row("AF_ALG", "socket.socket(38, 5, 0)"),
    Row("AF_XDP", "socket.socket(44, 3, 0)", KERNEL),
    Row("bluetooth", "socket.socket(31, 3, 1)"),
    Row("raw IPv4", "socket.socket(2, 3, 1)", KERNEL),
    Row("raw IPv6", "socket.socket(10, 3, 58)", KERNEL),
    Row("ping", "socket.socket(2, 2, 1)", refused={"EPERM"}),
    Row("SCTP", "socket.socket(2, 1, 132)"),
    Row("MPTCP", "socket.socket(2, 1, 262)"),
    Row("a pair of TIPC", "socket.socketpair(30, 1)"),
    Row("typed into a terminal", "on_terminal(0x5412, b'x') and None"),
    Row("TIOCLINUX", "on_terminal(0x541c, b'\\x06') and None"),
    Row("a line discipline", "on_terminal(0x5423, struct.pack('i', 0)) and None"),
]
ROWS = [*NAMESPACES, *MOUNTS, *HOLES, *MACHINE, *SOCKETS]
#: Directly in machine code: getpid by int 0x80, as an x32 call, and unshare(CLONE_NEWUSER).
ENTRIES = [
    Row("int 0x80", "machine(0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xc3)", refused={"SIGSYS"}),
    Row(
        "int 0x80, unshare",
        "machine(0x53, 0xbb, 0, 0, 0, 0x10, 0xb8, 54, 1, 0, 0, 0xcd, 0x80, 0x5b, 0xc3)",
        refused={"SIGSYS"},
    ),
    Row("x32", "call(0x40000000 + 39)", refused={"ENOSYS"}),
    Row("syscall, unshare", "machine(0xbf, 0, 0, 0, 0x10, 0xb8, 16, 1, 0, 0, 0x0f, 5, 0xc3)"),
    Row("iopl", "call(172, 3)", PLAIN),
    Row("ioperm", "call(173, 0x80, 1, 1)", PLAIN),
    Row("modify_ldt", "call('modify_ldt', 0, bytes(64), 64)", refused={"ENOSYS"}),
]


@pytest.fixture(scope="module")
def outcomes(house: House, plain: Callable[..., Any]) -> Outcomes:
    return Outcomes(house, plain, [*ROWS, *(ENTRIES if os.uname().machine == "x86_64" else [])])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_call(outcomes: Outcomes, row: Row) -> None:
    check_refused(outcomes, row)


@X86
@pytest.mark.parametrize("row", ENTRIES, ids=lambda row: row.name)
def test_entry(outcomes: Outcomes, row: Row) -> None:
    check_refused(outcomes, row)


def test_no_family_of_sockets_but_three(house: House) -> None:
    code = program(
        [
            Row(str(family), f"socket.socket({family}, {kind}) and None")
            for family in range(46)
            for kind in (3,)
        ]
    )
    code += "{name for name, outcome in outcomes.items() if outcome != 'EPERM'}"
    assert house.run(code).result == "set()"
    assert "'16'" in str(house.run(code, without=SECCOMP).result)


def test_calls_that_are_not_listed_do_not_exist(house: House) -> None:
    """With a number beyond the kernel's table or a gap in ours; with arguments that harm nobody.

    335 and 336 belong to the kernel's probes: newer ones answer them before any filter, and
    end with SIGILL whoever calls them from elsewhere than a probe.
    """
    code = (
        prelude()
        + """
unknown = [n for n in (*range(480), 512, 547, 600, 2**20, 2**31 - 1, -1) if n not in (335, 336, *NR.values())]
outcomes = {n: apart(lambda: call(n, -1, -1, -1, -1, -1, -1)) for n in unknown}
sorted(n for n, outcome in outcomes.items() if outcome != "ENOSYS")
"""
    )
    assert house.run(code).result == "[]"
    assert len(eval(str(house.run(code, without=SECCOMP).result))) > 10


PROC = [
    "/proc/sysrq-trigger",
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/kernel/poweroff_cmd",
    "/proc/sys/kernel/randomize_va_space",
    "/proc/sys/vm/drop_caches",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/fs/suid_dumpable",
    "/proc/sys/fs/binfmt_misc/register",
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/irq/default_smp_affinity",
    "/proc/mtrr",
]
READ = ["/proc/kmsg", "/proc/kcore", "/proc/slabinfo", "/proc/vmallocinfo", "/proc/kpagecount"]
RELEASE = "(__import__('glob').glob('/sys/fs/cgroup/**/release_agent') + ['/sys/fs/cgroup/release_agent'])[0]"


@pytest.fixture(scope="module")
def files(house: House, plain: Callable[..., Any]) -> Outcomes:
    return Outcomes(house, plain, FILES)


FILES = [
    *(Row(path, f"opened({path!r})", PLAIN, REFUSED) for path in PROC),
    *(Row(path, f"opened({path!r}, os.O_RDONLY)", PLAIN, REFUSED) for path in READ),
    Row("release_agent", f"opened({RELEASE})", PLAIN, REFUSED),
    Row("cgroup.procs", "opened('/sys/fs/cgroup/memory/cgroup.procs')", PLAIN, REFUSED),
]


@pytest.mark.parametrize("row", FILES, ids=lambda row: row.name)
def test_no_file_of_the_kernel(files: Outcomes, row: Row) -> None:
    """Opening is enough: nothing is written."""
    check_refused(files, row)


def test_nothing_under_proc_sys_can_be_written(attack: Callable[..., str]) -> None:
    """Neither for the host nor for the guest's own network, whose owner it is not. Opening is enough."""
    code = """
import os
def writable(path):
    try:
        os.close(os.open(path, os.O_WRONLY))
    except OSError:
        return False
    return True
places = [os.path.join(at, name) for at, _, names in os.walk("/proc/sys") for name in names]
len(places) > 100, [path for path in places if writable(path)][:5]
"""
    assert attack(code) == "(True, [])"
    assert "/proc/sys" in attack(code, without=("mount", "user", "capabilities", "landlock"))


def test_no_more_capabilities_by_any_way(attack: Callable[..., str]) -> None:
    """Two walls cover this: the control removes the identity as well."""
    code = """
{line.split(":")[0]: line.split()[1] for line in open("/proc/self/status")
 if line[:3] == "Cap" and line[:6] != "CapBnd"}
"""
    assert set(eval(attack(code)).values()) == {"0" * 16}
    assert set(eval(attack(code, without=("capabilities", "user"))).values()) != {"0" * 16}


def test_no_privilege_by_a_program(attack: Callable[..., str]) -> None:
    """Set-uid programs of the image grant nothing: every mount and the process itself say so."""
    code = """
import os
rows = [line.split() for line in open("/proc/self/mountinfo")]
trees = [row for row in rows if os.path.isdir(row[4])]  # the others are nodes like /dev/null
[row[4] for row in trees if "nosuid" not in row[5]], [
    row[4] for row in trees if "nodev" not in row[5] and not row[4].startswith("/dev")]
"""
    assert attack(code) == "([], [])"
    root = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    assert any("nosuid" not in row[5] for row in root), "the host's own mounts have them"


def test_no_new_privileges_and_a_filter(attack: Callable[..., str]) -> None:
    code = (
        "{l.split(':')[0]: l.split()[1] for l in open('/proc/self/status') if l[:6] in ('NoNewP', 'Seccom')}"
    )
    assert attack(code) == "{'NoNewPrivs': '1', 'Seccomp': '2', 'Seccomp_filters': '1'}"
