"""Attacks from within: for power, for doors of the kernel, and for more than was given."""

from __future__ import annotations

from kernel_runtime.workers.attack import ABSTRACT_SOCKET, MANY_PROCESSES, SHARED_MEMORY, Attack

#: Whoever has power over a namespace; a system call that the filter refuses as well.
_POWER = ("capabilities", "seccomp")
_MOUNT_OVER_TMP = """\
call('mount', b'none', b'/tmp', b'tmpfs', 0, b'size=64k')
answer = planted['mark']"""

_USER = (
    Attack(
        wall="user",
        name="administer the network it lives in",
        proves="a capability regained would have no power over its network",
        code="""\
import fcntl, struct
asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
fcntl.ioctl(asking, 0x8914, struct.pack('16sh14x', b'lo', 0x41))
answer = planted['mark']""",
        covers=("capabilities",),
    ),
    Attack(
        wall="user",
        name="rename its machine",
        proves="it would have none over its other namespaces",
        code="""\
call('sethostname', b'renamed', 7)
answer = planted['mark']""",
        covers=_POWER,
    ),
    Attack(
        wall="user",
        name="mount a file system",
        proves="it would have none over its files",
        code=_MOUNT_OVER_TMP,
        covers=("landlock", *_POWER),
    ),
    Attack(
        wall="user",
        name="take the user's file watchers",
        proves="what the kernel counts for each user is left to others",
        code="""\
if [libc.inotify_init1(0) >= 0 for _ in range(12)].count(True) > 8: answer = planted['mark']""",
    ),
)

_RLIMITS = (
    Attack(
        wall="rlimits",
        name="open more files than the limit",
        proves="descriptors are limited, and the limit cannot be raised",
        code="""\
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
for _ in range(4200):
    os.dup(1)
answer = planted['mark']""",
        needs=("many files",),
    ),
    Attack(
        wall="rlimits",
        name="make a file larger than the limit",
        proves="a file cannot outgrow the disk limit, not even with holes",
        code="""\
with open('large', 'wb') as file:
    os.truncate(file.fileno(), planted['disk'] + 1)
answer = planted['mark']""",
    ),
    Attack(
        wall="rlimits",
        name="have more processes than the limit without a control group",
        proves="processes are limited where no control group counts them",
        code=MANY_PROCESSES,
        covers=("cgroup",),
    ),
)

_LANDLOCK = (
    Attack(
        wall="landlock",
        name="connect to an abstract socket in the host's network",
        proves="abstract sockets are held a second time",
        code=ABSTRACT_SOCKET,
        covers=("net",),
        needs=("landlock 6",),
    ),
    Attack(
        wall="landlock",
        name="mount a file system with every privilege",
        proves="no file system can be put over another",
        code=_MOUNT_OVER_TMP,
        covers=("user", *_POWER),
    ),
    Attack(
        wall="landlock",
        name="make the environment writable with every privilege",
        proves="what is read-only stays so",
        code="""\
call('mount', None, b'/', None, 0x1020, None)
answer = planted['mark']""",
        covers=("user", *_POWER),
    ),
    Attack(
        wall="landlock",
        name="unmount what covers the host with every privilege",
        proves="what covers something stays there",
        code="""\
call('umount2', b'/tmp', 2)
answer = planted['mark']""",
        covers=("user", *_POWER),
    ),
)

_CAPABILITIES = (
    Attack(
        wall="capabilities",
        name="hold any capability",
        proves="no privilege is left, and none can be gained",
        code="""\
status = dict(line.split(':\\t', 1) for line in open('/proc/self/status') if line.startswith('Cap'))
if any(int(status[name], 16) for name in ('CapEff', 'CapPrm', 'CapInh', 'CapBnd')): answer = planted['mark']""",
    ),
    Attack(
        wall="capabilities",
        name="change its root directory",
        proves="chroot, the first step of old escapes, is refused",
        code="""\
call('chroot', b'/tmp')
answer = planted['mark']""",
        covers=("seccomp",),
    ),
    Attack(
        wall="capabilities",
        name="serve on a port of the system",
        proves="ports below 1024 are refused even in a network of its own",
        code="""\
socket.create_server(('127.0.0.1', 80)).close()
answer = planted['mark']""",
        covers=("user",),
    ),
    Attack(
        wall="capabilities",
        name="open a raw socket",
        proves="packets cannot be forged",
        code="""\
socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close()
answer = planted['mark']""",
        covers=("user", "seccomp"),
    ),
)

_SECCOMP = (
    Attack(
        wall="seccomp",
        name="make a namespace with all capabilities inside",
        proves="the part of the kernel that only privileged code reaches stays closed",
        code="""\
child = os.fork()  # a process with threads could not do it anyway
if child == 0:
    os._exit(libc.unshare(0x10000000) and ctypes.get_errno())
number = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
if number:
    raise OSError(number, os.strerror(number))
answer = planted['mark']""",
    ),
    Attack(
        wall="seccomp",
        name="speak netlink to the kernel",
        proves="socket families but UNIX and IP are refused",
        code="""\
socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close()
answer = planted['mark']""",
    ),
    Attack(
        wall="seccomp",
        name="open a vsock to the hypervisor",
        proves="the virtual machine's own network is refused",
        code="""\
socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close()
answer = planted['mark']""",
        needs=("vsock",),
    ),
    Attack(
        wall="seccomp",
        name="switch off address randomisation",
        proves="calls are refused by their arguments as well",
        code="""\
call('personality', 0x0040000)
answer = planted['mark']""",
    ),
    Attack(
        wall="seccomp",
        name="use the kernel's keyrings",
        proves="key rings, which no namespace separates, are refused",
        code="""\
number = {'x86_64': 250, 'aarch64': 219}[os.uname().machine]
call('syscall', number, 0, -3, 1)
answer = planted['mark']""",
        needs=("keyrings",),
    ),
)

_LIMITS = (
    Attack(
        wall="limits",
        name="hold more memory than the limit",
        proves="memory is limited, shared memory too",
        code=SHARED_MEMORY,
    ),
    Attack(
        wall="limits",
        name="have more processes than the limit",
        proves="processes are limited",
        code=MANY_PROCESSES,
    ),
    Attack(
        wall="limits",
        name="write more to disk than the limit",
        proves="what the guest writes is limited as a whole",
        code="""\
for name in 'ab':
    with open(name, 'wb') as file:
        file.write(bytes(planted['disk'] * 2 // 3))
answer = planted['mark']""",
    ),
)

WITHIN = (*_USER, *_RLIMITS, *_LANDLOCK, *_CAPABILITIES, *_SECCOMP, *_LIMITS)
