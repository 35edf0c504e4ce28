"""Attacks on what lies outside: processes, networks, files and objects of the host."""

from __future__ import annotations

from kernel_runtime.workers.attack import (
    ABSTRACT_SOCKET,
    MANY_PROCESSES,
    SHARED_MEMORY,
    Attack,
    same_namespace,
)

#: Without the mount wall root's guests could not reach their own interpreter as another user.
_FILES = ("landlock", "user")

_ZYGOTE = (
    same_namespace("zygote", "user", "the user namespace is", outside=True),
    Attack(
        wall="zygote",
        name="read secrets from the front's environment",
        proves="no variable of the host's environment comes along",
        code="""\
import glob
everything = [*map(str, os.environ.values())]
for path in glob.glob('/proc/[0-9]*/environ'):
    try:
        everything.append(open(path, errors='replace').read())
    except OSError:
        pass
if any(planted['mark'] in text for text in everything): answer = planted['mark']""",
        outside=True,
    ),
    Attack(
        wall="zygote",
        name="use a descriptor that the front holds open",
        proves="no open file of the host is inherited",
        code="""\
for fd in os.listdir('/proc/self/fd'):
    try:
        if planted['mark'].encode() in os.pread(int(fd), 4096, 0): answer = planted['mark']
    except OSError:
        pass""",
        outside=True,
    ),
)

_PID = (
    Attack(
        wall="pid",
        name="find a process of the host in /proc",
        proves="processes outside are not listed",
        code="""\
if planted['mark'] in open(f"/proc/{planted['process']}/environ").read(): answer = planted['mark']""",
        outside=True,
    ),
    Attack(
        wall="pid",
        name="reach a process of the host by its number",
        proves="processes outside cannot be addressed, for signals or anything else",
        code="""\
os.kill(planted['process'], 0)
if os.getpriority(os.PRIO_PROCESS, planted['process']) == planted['nice']: answer = planted['mark']""",
        outside=True,
    ),
    Attack(
        wall="pid",
        name="read the memory of a process of the host",
        proves="memory outside is out of reach",
        code="""\
with open(f"/proc/{planted['process']}/mem", 'rb', buffering=0) as memory:
    memory.seek(planted['address'])
    answer = memory.read(len(planted['mark'])).decode()""",
        outside=True,
    ),
    same_namespace("pid", "pid", "the numbering of processes is", outside=True),
)

_CGROUP = (
    same_namespace("cgroup", "cgroup", "the view of control groups is"),
    Attack(
        wall="cgroup",
        name="use the host's control group files",
        proves="the files by which the guest was limited are closed",
        code="""\
for fd in os.listdir('/proc/self/fd'):
    try:
        link = os.readlink(f'/proc/self/fd/{fd}')
    except OSError:
        continue
    if link.endswith(('cgroup.procs', '/tasks')): answer = planted['mark']""",
        needs=("control groups",),
    ),
    Attack(
        wall="cgroup",
        name="hold more shared memory than the limit",
        proves="memory that resource limits do not see is counted",
        code=SHARED_MEMORY,
        needs=("memory group",),
    ),
    Attack(
        wall="cgroup",
        name="have more processes than the limit",
        proves="the kernel counts the processes of the guest",
        code=MANY_PROCESSES,
        covers=("rlimits",),
        needs=("pids group",),
    ),
)

_NET = (
    Attack(
        wall="net",
        name="connect to a service on the host's loopback",
        proves="no TCP service of this machine can be reached",
        code="answer = socket.create_connection(('127.0.0.1', planted['tcp']), 2).recv(99).decode()",
    ),
    Attack(
        wall="net",
        name="ask a service on the host's loopback by UDP",
        proves="no datagram leaves",
        code="""\
asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asking.settimeout(1)
asking.connect(('127.0.0.1', planted['udp']))
asking.send(b'?')
answer = asking.recv(99).decode()""",
    ),
    Attack(
        wall="net",
        name="connect to an abstract socket of the host",
        proves="abstract sockets outside are out of reach",
        code=ABSTRACT_SOCKET,
        covers=("landlock",),
    ),
    Attack(
        wall="net",
        name="list the host's open ports",
        proves="nothing of the host's network can be seen",
        code="""\
if f":{planted['tcp']:04X} " in open('/proc/self/net/tcp').read(): answer = planted['mark']""",
    ),
)

_IPC = (
    Attack(
        wall="ipc",
        name="attach a System V segment of the host",
        proves="shared memory outside cannot be attached",
        code="""\
libc.shmat.restype = ctypes.c_void_p
place = libc.shmat(planted['segment'], None, 0o10000)
if place != ctypes.c_void_p(-1).value: answer = ctypes.string_at(place).decode()""",
    ),
    Attack(
        wall="ipc",
        name="list the host's System V segments",
        proves="shared memory outside is not listed",
        code="""\
for line in open('/proc/sysvipc/shm').read().splitlines()[1:]:
    if int(line.split()[1]) == planted['segment']: answer = planted['mark']""",
    ),
    Attack(
        wall="ipc",
        name="read a semaphore of the host",
        proves="semaphores outside are out of reach",
        code="if call('semctl', planted['semaphore'], 0, 12) == planted['value']: answer = planted['mark']",
    ),
)

_UTS = (
    Attack(
        wall="uts",
        name="ask for the host's name",
        proves="the host's name is not told",
        code="if os.uname().nodename == planted['host']: answer = planted['mark']",
    ),
    Attack(
        wall="uts",
        name="read the host's name in /proc",
        proves="it cannot be read from its file either",
        code="if open('/proc/sys/kernel/hostname').read().strip() == planted['host']: answer = planted['mark']",
    ),
    same_namespace("uts", "uts", "the naming of the machine is"),
)

_MOUNT = (
    Attack(
        wall="mount",
        name="read a file of the host",
        proves="files outside of the environment and the directory are not there",
        code="answer = open(planted['file']).read()",
        covers=_FILES,
    ),
    Attack(
        wall="mount",
        name="read it by a detour through /proc",
        proves="there is no other way to the host's root",
        code="""\
for root in ('/proc/1/root', '/proc/self/root', '/proc/self/cwd/../../../../..'):
    try:
        answer = open(root + planted['file']).read()
    except OSError:
        pass""",
        covers=_FILES,
    ),
    Attack(
        wall="mount",
        name="leave a file on the host",
        proves="nothing outside can be written",
        code="""\
os.close(os.open(f"{planted['directory']}/left-by-{os.getpid()}", os.O_CREAT | os.O_WRONLY))
answer = planted['mark']""",
        covers=_FILES,
    ),
    Attack(
        wall="mount",
        name="connect to a socket file of the host",
        proves="daemons that listen on a path are out of reach",
        code="""\
asking = socket.socket(socket.AF_UNIX)
asking.settimeout(2)
asking.connect(planted['socket'])
answer = asking.recv(99).decode()""",
        covers=_FILES,
    ),
    Attack(
        wall="mount",
        name="read shared memory of the host in /dev/shm",
        proves="memory that programs share by name is its own",
        code="answer = open(planted['shared']).read()",
        covers=_FILES,
        needs=("shared memory",),
    ),
)

OUTSIDE = (*_ZYGOTE, *_PID, *_CGROUP, *_NET, *_IPC, *_UTS, *_MOUNT)
