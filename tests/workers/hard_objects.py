"""Objects that no pickle, or no fork without care, brings back: how each is made, changed and checked."""

from __future__ import annotations

from typing import NamedTuple


class Kept(NamedTuple):
    """``check`` holds after ``setup`` and not after ``change``; it may use the object up."""

    name: str
    setup: str
    change: str
    check: str


class Refused(NamedTuple):
    """Stands in the way of any copy: the error says ``named``. ``undo``: after it there is one."""

    name: str
    setup: str
    named: str
    undo: str


class Told(NamedTuple):
    """A copy has it not: the snapshot says ``named``, and ``use`` in the copy raises ``error``."""

    name: str
    setup: str
    named: str
    use: str
    error: str


FILE = "open('lines.txt', 'w').write('one\\ntwo\\nthree\\nfour\\n')\n"
KEPT = [
    # -- what runs halfway
    Kept("a started generator", "def f():\n    x = 1\n    while True:\n        x *= 2\n        yield x\ng = f(); next(g)", "next(g); next(g)", "next(g) == 4"),
    Kept("a generator that was sent to", "def f():\n    got = []\n    while True:\n        got.append((yield list(got)))\ng = f(); next(g); g.send(1)", "g.send(2)", "g.send(9) == [1, 9]"),
    Kept("a generator inside a with block", FILE + "def f():\n    with open('lines.txt') as file:\n        yield from file\ng = f(); next(g)", "next(g)", "next(g) == 'two\\n'"),
    Kept("a started coroutine", "import types\n@types.coroutine\ndef stop(x):\n    return (yield x)\nasync def f():\n    return await stop(1) + await stop(2)\nc = f(); c.send(None)", "c.send(5)", "c.send(7) == 2 and c.cr_await is not None"),
    Kept("an async generator", "async def f():\n    for n in range(9):\n        yield n\na = f(); await a.__anext__()", "await a.__anext__()", "await a.__anext__() == 1"),
    Kept("a pending task", "import asyncio\ngate = asyncio.Event()\nasync def f():\n    await gate.wait()\n    return 'done'\nt = asyncio.ensure_future(f()); await asyncio.sleep(0)", "gate.set(); await t", "not t.done() and (gate.set() or await t) == 'done'"),
    Kept("a pending future", "import asyncio\nf = asyncio.get_running_loop().create_future()", "f.set_result(1)", "not f.done()"),
    Kept("a held asyncio lock", "import asyncio\nlock = asyncio.Lock(); await lock.acquire()", "lock.release()", "lock.locked()"),
    Kept("an asyncio queue", "import asyncio\nq = asyncio.Queue(); q.put_nowait(1); q.put_nowait(2)", "q.get_nowait()", "q.get_nowait() == 1 and q.qsize() == 1"),
    Kept("a half-read iterator", "i = iter([1, 2, 3]); next(i)", "next(i)", "list(i) == [2, 3]"),
    Kept("half-read tee, chain and groupby", "import itertools\na, b = itertools.tee(range(5)); next(a)\nc = itertools.chain([0], a); gr = itertools.groupby('aabb'); k, part = next(gr)", "next(c); next(gr); next(b)", "list(c) == [0, 1, 2, 3, 4] and list(part) == ['a', 'a'] and next(b) == 0"),
    Kept("half-read zip, map and enumerate", "z = zip('ab', map(str.upper, 'cd')); next(z); e = enumerate('xyz'); next(e)", "next(z); next(e)", "list(z) == [('b', 'D')] and next(e) == (1, 'y')"),
    Kept("a counter of itertools", "import itertools\nn = itertools.count(); next(n)", "next(n)", "next(n) == 1"),
    # -- locks
    Kept("a held lock", "import threading\nl = threading.Lock(); l.acquire()", "l.release()", "l.locked()"),
    Kept("a free lock", "import threading\nl = threading.Lock()", "l.acquire()", "l.acquire(blocking=False)"),
    Kept("a held reentrant lock", "import threading\nl = threading.RLock(); l.acquire(); l.acquire()", "l.release(); l.release()", "l.release() is None and l._is_owned() and l.release() is None and not l._is_owned()"),
    Kept("a semaphore and an event", "import threading\ns = threading.Semaphore(2); s.acquire(); e = threading.Event()", "s.acquire(); e.set()", "s._value == 1 and not e.is_set()"),
    Kept("a semaphore of multiprocessing", "import multiprocessing as mp\ns = mp.Semaphore(2); s.acquire()", "s.acquire()", "s.acquire(block=False) and not s.acquire(block=False)"),
    Kept("a lock of multiprocessing", "import multiprocessing as mp\nl = mp.Lock()", "l.acquire()", "l.acquire(block=False)"),
    Kept("a value of multiprocessing", "import multiprocessing as mp\nv = mp.Value('i', 4)", "v.value = 5", "v.value == 4"),
    Kept("an array of multiprocessing", "import multiprocessing as mp\na = mp.Array('d', [1, 2, 3])", "a[1] = 9", "list(a) == [1, 2, 3]"),
    # -- functions, classes, singletons
    Kept("a lambda", "d = {'f': lambda x: x + 1}", "d['f'] = None", "d['f'](1) == 2"),
    Kept("a closure", "def make():\n    n = 0\n    def add():\n        nonlocal n\n        n += 1\n        return n\n    return add\nadd = make(); add()", "add()", "add() == 2"),
    Kept("a cache", "import functools\ncalls = []\n@functools.lru_cache\ndef f(x):\n    calls.append(x)\n    return x\nf(1)", "f(2)", "f(1) == 1 and calls == [1]"),
    Kept("a partial and a bound method", "import functools\nkept = [1]\np = functools.partial(kept.append, 2); m = kept.pop", "p()", "kept == [1] and p() is None and m() == 2"),
    Kept("singledispatch", "import functools\n@functools.singledispatch\ndef f(x):\n    return 'any'", "f.register(int, lambda x: 'int')", "f(1) == 'any'"),
    Kept("an instance of a class of the notebook", "class A:\n    def __init__(self):\n        self.x = 1\na = A()", "a.x = 2; A.y = 3", "a.x == 1 and not hasattr(A, 'y') and type(a) is A"),
    Kept("slots and a dataclass", "import dataclasses\n@dataclasses.dataclass(slots=True)\nclass P:\n    x: int = 1\np = P()", "p.x = 2", "p.x == 1 and p == P()"),
    Kept("an enum", "import enum\nclass C(enum.Enum):\n    RED = 1\nr = C.RED; seen = {r}", "seen.clear()", "C(1) is r and r in seen"),
    Kept("a registry by metaclass", "class M(type):\n    known = []\n    def __init__(cls, *a):\n        M.known.append(cls)\nclass A(metaclass=M): pass", "class B(metaclass=M): pass", "M.known == [A]"),
    Kept("interned texts and singletons", "import sys\ns = sys.intern('never seen before'); kept = [s, None, ..., True]", "kept.clear()", "kept[0] is sys.intern('never seen ' + 'before') and kept[1] is None and kept[2] is ... and kept[3] is True"),
    Kept("a cycle", "a = []; a.append(a)", "a.clear()", "a[0] is a"),
    Kept("a module made by hand", "import sys, types\nm = types.ModuleType('made'); sys.modules['made'] = m; m.x = 1", "m.x = 2; del sys.modules['made']", "__import__('made').x == 1"),
    Kept("a patched module", "import math\nmath.tau_ = 1", "math.tau_ = 2", "math.tau_ == 1"),
    # -- references
    Kept("a weak reference", "import weakref\nclass A: pass\na = A(); w = weakref.ref(a)", "del a", "w() is a"),
    Kept("weak dictionaries", "import weakref\nclass A: pass\na = A(); d = weakref.WeakValueDictionary(x=a); k = weakref.WeakKeyDictionary({a: 1})", "del a", "d['x'] is a and k[a] == 1"),
    Kept("a finalizer", "import weakref\nended = []\nclass A: pass\na = A(); f = weakref.finalize(a, ended.append, 1)", "del a", "f.alive and not ended"),
    Kept("a traceback", "import sys\ndef fail(x):\n    return 1 / x\ntry:\n    fail(0)\nexcept ZeroDivisionError as error:\n    kept = error", "kept.__traceback__ = None", "kept.__traceback__.tb_next.tb_frame.f_locals == {'x': 0}"),
    Kept("a frame", "import sys\ndef f():\n    x = [1]\n    return sys._getframe()\nfr = f()", "fr.f_locals['x'].append(2)", "fr.f_locals['x'] == [1]"),
    Kept("an exception group", "kept = [ExceptionGroup('g', [ValueError(1), TypeError(2)])]", "kept.clear()", "[type(e).__name__ for e in kept[0].exceptions] == ['ValueError', 'TypeError']"),
    Kept("an open exit stack", "import contextlib\nlog = []\nstack = contextlib.ExitStack(); stack.callback(log.append, 'closed')", "stack.close()", "log == [] and stack.close() is None and log == ['closed']"),
    # -- texts and contexts
    Kept("a match and half-done finditer", "import re\nm = re.match(r'(a)(b)?', 'ab'); i = re.finditer('.', 'xyz'); next(i)", "next(i); m = None", "m.groups() == ('a', 'b') and next(i)[0] == 'y'"),
    Kept("a context variable", "import contextvars\nv = contextvars.ContextVar('v', default=0)\nc = contextvars.copy_context(); c.run(v.set, 1)", "c.run(v.set, 2)", "c.run(v.get) == 1"),
    Kept("a decimal context", "import decimal\nc = decimal.Context(prec=5)", "c.prec = 9", "c.divide(decimal.Decimal(1), decimal.Decimal(3)) == decimal.Decimal('0.33333')"),
    Kept("environment, directory and mask", "import os\nos.environ['V'] = '1'; os.makedirs('sub', exist_ok=True); there = os.getcwd(); mask = os.umask(0o27)", "os.environ['V'] = '2'; os.chdir('sub'); os.umask(0)", "os.environ['V'] == '1' and os.getcwd() == there and os.umask(0o27) == 0o27"),
    Kept("a signal handler", "import signal, os\ngot = []\n_ = signal.signal(signal.SIGUSR1, lambda *a: got.append(1))", "_ = signal.signal(signal.SIGUSR1, signal.SIG_IGN)", "os.kill(os.getpid(), signal.SIGUSR1) is None and got == [1]"),
    Kept("a timer of the kernel", "import signal\n_ = signal.signal(signal.SIGALRM, signal.SIG_IGN); _ = signal.setitimer(signal.ITIMER_REAL, 500)", "_ = signal.setitimer(signal.ITIMER_REAL, 0)", "0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 500"),
    Kept("logging", "import logging\nlog = logging.getLogger('x'); log.setLevel(5)", "log.setLevel(50)", "log.level == 5"),
    # -- random numbers
    Kept("random", "import random\nrandom.seed(3)", "random.random()", "random.random() == random.Random(3).random()"),
    Kept("a generator of its own", "import random\nr = random.Random(4)", "r.random()", "r.random() == random.Random(4).random()"),
    Kept("numpy's old random state", "import numpy as np\nnp.random.seed(3)", "np.random.rand()", "np.random.rand() == np.random.RandomState(3).rand()"),
    Kept("numpy's new generator", "import numpy as np\nr = np.random.default_rng(3)", "r.random()", "r.random() == np.random.default_rng(3).random()"),
    # -- buffers
    Kept("a memory view", "b = bytearray(b'abc'); v = memoryview(b)[1:]", "v[0] = 120", "b == b'abc' and v.obj is b"),
    Kept("a ctypes pointer", "import ctypes\nx = ctypes.c_int(4); p = ctypes.pointer(x)", "x.value = 5", "p.contents.value == 4 and (setattr(x, 'value', 7) or p[0] == 7)"),
    Kept("a ctypes callback", "import ctypes\nseen = []\nf = ctypes.CFUNCTYPE(None, ctypes.c_int)(seen.append)", "f(1)", "seen == [] and f(3) is None and seen == [3]"),
    Kept("a buffer in memory", "import io\nb = io.BytesIO(b'abcdef'); _ = b.read(2)", "_ = b.read(2)", "b.read() == b'cdef'"),
    Kept("a shared anonymous map", "import mmap\nm = mmap.mmap(-1, 8192); m[:3] = b'abc'", "m[:3] = b'xyz'", "m[:3] == b'abc'"),
    Kept("a private anonymous map", "import mmap\nm = mmap.mmap(-1, 8192, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS); m[:3] = b'abc'", "m[:3] = b'xyz'", "m[:3] == b'abc'"),
    Kept("a file mapped copy-on-write", FILE + "import mmap\nf = open('lines.txt', 'r+b'); m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_COPY); m[0] = 88", "m[0] = 89", "m[:3] == b'Xne'"),
    Kept("a hash half-way", "import hashlib\nh = hashlib.sha256(b'a')", "h.update(b'b')", "h.digest() == hashlib.sha256(b'a').digest()"),
    Kept("a decompressor half-way", "import zlib\nz = zlib.compress(b'x' * 999); d = zlib.decompressobj(); got = d.decompress(z[:9])", "d.decompress(z[9:])", "got + d.decompress(z[9:]) == b'x' * 999"),
    # -- files
    Kept("a half-read file", FILE + "f = open('lines.txt'); next(f)", "next(f); next(f)", "next(f) == 'two\\n'"),
    Kept("a half-read binary file", FILE + "f = open('lines.txt', 'rb'); _ = f.read(4)", "_ = f.read(4)", "f.read(3) == b'two' and f.tell() == 7"),
    Kept("an unbuffered file", FILE + "f = open('lines.txt', 'rb', buffering=0); _ = f.read(4)", "_ = f.read(4)", "f.read(3) == b'two'"),
    Kept("a large file in mid-buffer", "open('big', 'wb').write(bytes(range(256)) * 1000); f = open('big', 'rb'); _ = f.read(10_001)", "_ = f.read(100_000)", "f.tell() == 10_001 and f.read(1)[0] == 10_001 % 256"),
    Kept("a file being written", "f = open('out', 'w'); _ = f.write('a'); f.flush()", "_ = f.write('b'); f.flush()", "f.tell() == 1"),
    Kept("what is not written yet", "f = open('out', 'w'); _ = f.write('held back')", "_ = f.write('!'); f.flush()", "f.tell() == 9 and f.close() is None and open('out').read()[:9] == 'held back'"),
    Kept("a file opened to append", "f = open('log', 'w'); _ = f.write('x'); f.close(); f = open('log', 'a')", "_ = f.write('yy'); f.flush()", "f.tell() == 1 and f.write('z') == 1 and f.flush() is None and open('log').read().endswith('z')"),
    Kept("a file read and written", FILE + "f = open('lines.txt', 'r+'); _ = f.readline()", "_ = f.readline()", "f.readline() == 'two\\n'"),
    Kept("a new file", "import os\nif os.path.exists('n'): os.unlink('n')\nf = open('n', 'x+b'); _ = f.write(b'abc'); _ = f.seek(1)", "_ = f.seek(3)", "f.read() == b'bc'"),
    Kept("a file without a name", "import tempfile\nf = tempfile.TemporaryFile(); _ = f.write(b'abcdef'); _ = f.seek(2)", "_ = f.read(3)", "f.read() == b'cdef'"),
    Kept("a file that was unlinked", FILE + "import os\nf = open('lines.txt'); _ = f.readline(); os.unlink('lines.txt')", "_ = f.readline()", "f.readline() == 'two\\n'"),
    Kept("a descriptor and its copy", FILE + "import os\na = os.open('lines.txt', os.O_RDONLY); b = os.dup(a); _ = os.read(a, 4)", "_ = os.read(b, 4)", "os.read(b, 3) == b'two' and os.read(a, 1) == b'\\n'"),
    Kept("a csv reader", "open('t.csv', 'w').write('a,b\\n1,2\\n3,4\\n')\nimport csv\nf = open('t.csv'); r = csv.reader(f); next(r)", "next(r)", "next(r) == ['1', '2']"),
    Kept("a gzip file", "import gzip\nwith gzip.open('z.gz', 'wt') as f: f.write('one\\ntwo\\n')\nf = gzip.open('z.gz', 'rt'); _ = f.readline()", "_ = f.readline()", "f.readline() == 'two\\n'"),
    Kept("a zip file", "import zipfile\nwith zipfile.ZipFile('z.zip', 'w') as z: z.writestr('m', 'abcdef')\nz = zipfile.ZipFile('z.zip'); m = z.open('m'); _ = m.read(2)", "_ = m.read(2)", "m.read() == b'cdef' and z.namelist() == ['m']"),
    Kept("a directory being listed", "import os\nos.makedirs('d', exist_ok=True)\nfor n in range(5): open(f'd/{n}', 'w').close()\ns = os.scandir('d'); first = next(s).name", "_ = [next(s), next(s)]", "len({first, *(e.name for e in s)}) == 5"),
    Kept("an XML parser half-way", "open('x.xml', 'w').write('<a><b/><c/></a>')\nimport xml.etree.ElementTree as ET\np = ET.iterparse('x.xml', ['start']); _ = next(p)", "_ = next(p)", "next(p)[1].tag == 'b'"),
    # -- numbers and tables
    Kept("an array and its view", "import numpy as np\na = np.arange(10); v = a[::2]", "v[0] = 99", "bool(a[0] == 0 and v.base is a and (v.__setitem__(0, 7) or a[0] == 7))"),
    Kept("a read-only memory map of numpy", "import numpy as np\nnp.save('a.npy', np.arange(5)); m = np.load('a.npy', mmap_mode='c'); m[0] = 7", "m[0] = 8", "list(m) == [7, 1, 2, 3, 4]"),
    Kept("a table that shares an array", "import numpy as np, pandas as pd\na = np.arange(6.0).reshape(3, 2); d = pd.DataFrame(a, copy=False)", "a[0, 0] = 99", "d.iloc[0, 0] == 0 and np.shares_memory(a, d.to_numpy())"),
    Kept("a table being read in pieces", "import pandas as pd\npd.DataFrame({'x': range(9)}).to_csv('t.csv', index=False)\nr = pd.read_csv('t.csv', chunksize=3); _ = next(r)", "_ = next(r)", "list(next(r)['x']) == [3, 4, 5]"),
    Kept("a group-by", "import pandas as pd\nd = pd.DataFrame({'k': [1, 1, 2], 'v': [1, 2, 3]}); g = iter(d.groupby('k')); _ = next(g)", "_ = next(g)", "next(g)[0] == 2"),
    Kept("an Arrow table", "import pyarrow as pa\nt = pa.table({'x': [1, 2, 3]}); r = t.to_reader(1); _ = r.read_next_batch()", "_ = r.read_next_batch()", "r.read_next_batch()['x'].to_pylist() == [2] and t['x'].to_pylist() == [1, 2, 3]"),
    Kept("a sparse matrix", "import scipy.sparse as sp\nm = sp.lil_matrix((3, 3)); m[0, 0] = 1", "m[0, 0] = 2", "m[0, 0] == 1 and m.nnz == 1"),
    Kept("a model", "import numpy as np\nfrom sklearn.linear_model import SGDRegressor\nx = np.arange(6.0).reshape(-1, 1); y = x.ravel()\nm = SGDRegressor(random_state=0).fit(x, y); before = m.coef_.copy()", "_ = m.partial_fit(x, y * 50)", "bool((m.coef_ == before).all())"),
    Kept("forests, a pipeline and a clustering", "import numpy as np\nfrom sklearn.cluster import MiniBatchKMeans\nfrom sklearn.ensemble import RandomForestRegressor\nfrom sklearn.linear_model import LogisticRegression\nfrom sklearn.pipeline import make_pipeline\nfrom sklearn.preprocessing import StandardScaler\nx = np.arange(20.0).reshape(-1, 1); y = (x.ravel() > 9).astype(int)\nforest = RandomForestRegressor(3, random_state=0).fit(x, y); pipe = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y); groups = MiniBatchKMeans(2, n_init=1, random_state=0).fit(x)\nmodels = {'f': forest, 'p': pipe, 'g': groups}; before = [forest.predict(x), pipe.predict_proba(x), groups.cluster_centers_.copy()]", "_ = [forest.fit(x, y * 9), pipe.fit(x, 1 - y), groups.fit(x * 7)]", "models['p'] is pipe and all(np.array_equal(a, b) for a, b in zip(before, [forest.predict(x), pipe.predict_proba(x), groups.cluster_centers_]))"),
    Kept("two tables that share memory", "import numpy as np, pandas as pd\na = np.arange(6.0).reshape(3, 2); one = pd.DataFrame(a, columns=['x', 'y'], copy=False); two = pd.DataFrame(a[1:], columns=['x', 'y'], copy=False); lazy = one[['x']]", "a[1, 0] = 99", "bool(np.shares_memory(one.to_numpy(), two.to_numpy()) and a[1, 0] == 2 and (a.__setitem__((1, 0), 7) or one.loc[1, 'x'] == two.loc[0, 'x'] == lazy.loc[1, 'x'] == 7))"),
    Kept("a figure", "import matplotlib; matplotlib.use('agg')\nfrom matplotlib.figure import Figure\nf = Figure(); ax = f.subplots(); _ = ax.plot([1, 2])", "_ = ax.plot([3])", "len(ax.lines) == 1"),
    Kept("a database in memory", "import sqlite3\nc = sqlite3.connect(':memory:'); _ = c.execute('create table t (x)'); _ = c.execute('insert into t values (1)'); r = c.execute('select x from t')", "_ = c.execute('delete from t')", "c.execute('select count(*) from t').fetchone() == (1,)"),
    Kept("a transaction in memory", "import sqlite3\nc = sqlite3.connect(':memory:'); _ = c.execute('create table t (x)'); c.commit(); _ = c.execute('insert into t values (1)')", "c.commit()", "c.in_transaction and c.rollback() is None and c.execute('select count(*) from t').fetchone() == (0,)"),
    # -- the notebook itself
    Kept("In, Out and _", "40 + 2", "5", "Out[max(Out)] == 42"),
    Kept("an idle executor of the loop", "import asyncio\nx = await asyncio.to_thread(lambda: 1)", "x = 2", "x == 1 and await asyncio.to_thread(lambda: 3) == 3"),
]  # fmt: skip
REFUSED = [
    Refused("a thread", "import threading\ngo = threading.Event()\nt = threading.Thread(target=go.wait, name='worker of mine', daemon=True); t.start()", "worker of mine", "go.set(); t.join()"),
    Refused("a busy executor", "from concurrent.futures import ThreadPoolExecutor\np = ThreadPoolExecutor(1, thread_name_prefix='my pool'); _ = p.submit(int).result()", "my pool_0", "p.shutdown()"),
    Refused("duckdb's readers", "import duckdb\nc = duckdb.connect(); _ = c.execute('select 1')", "SET async_threads=0", "_ = c.execute('set threads=1'); _ = c.execute('set async_threads=0')"),
    Refused("a timer", "import threading\nt = threading.Timer(600, print); t.name = 'a timer'; t.start()", "a timer", "t.cancel(); t.join()"),
    Refused("a thread in the loop's executor", "import asyncio, threading\ngo = threading.Event()\nt = asyncio.ensure_future(asyncio.to_thread(go.wait)); await asyncio.sleep(0.1)", "asyncio_0", "go.set(); await t"),
    Refused("shared memory with a name", "from multiprocessing import shared_memory\ns = shared_memory.SharedMemory('mine', create=True, size=64)", "shared memory (/dev/shm/mine)", "s.close(); s.unlink()"),
    Refused("a file mapped to be written", FILE + "import mmap\nf = open('lines.txt', 'r+b'); m = mmap.mmap(f.fileno(), 0)", "lines.txt", "m.close()"),
    Refused("numpy's memory map", "import numpy as np\nm = np.memmap('mapped.bin', mode='w+', shape=99)", "mapped.bin", "m._mmap.close()"),
    Refused("a large shared map", "import mmap\nm = mmap.mmap(-1, 80 << 20)", "80 MB of shared memory", "m.close()"),
    Refused("a hook that fails", "from kernel_runtime.sdk.branches import before_snapshot, before\n@before_snapshot\ndef hook(): raise RuntimeError('not now')", "RuntimeError: not now", "before.clear()"),
]  # fmt: skip
TOLD = [
    Told("a pair of sockets", "import socket\na, b = socket.socketpair()", "a socket (UNIX STREAM)", "a.send(b'x')", "Bad file descriptor"),
    Told("a server", "import socket\ns = socket.create_server(('127.0.0.1', 0))", "a socket (INET STREAM)", "s.accept()", "Bad file descriptor"),
    Told("a pipe", "import os\nr, w = os.pipe()", "a pipe", "os.write(w, b'x')", "Bad file descriptor"),
    Told("a queue between processes", "import multiprocessing as mp\nq = mp.SimpleQueue()", "a pipe", "q.put(1)", "Bad file descriptor"),
    Told("a child process", "import subprocess\np = subprocess.Popen(['sleep', '600'])", "(sleep)", "assert p.poll() is None", "AssertionError"),
    Told("a child's output", "import subprocess\np = subprocess.Popen(['cat'], stdin=-1, stdout=-1)", "a pipe", "p.stdin.write(b'x'); p.stdin.flush()", "Bad file descriptor"),
    Told("an epoll", "import select\ne = select.epoll()", "eventpoll", "e.poll(0)", "Bad file descriptor"),
    Told("an eventfd", "import os\ne = os.eventfd(1)", "eventfd", "os.eventfd_read(e)", "Bad file descriptor"),
    Told("a locked file", FILE + "import fcntl\nf = open('lines.txt', 'r+'); fcntl.flock(f, fcntl.LOCK_EX)", "lines.txt, locked", "f.write('x'); f.flush()", "Bad file descriptor"),
    Told("a transaction in a file", "import sqlite3\nc = sqlite3.connect('d.sqlite'); _ = c.execute('create table if not exists t (x)'); c.commit(); _ = c.execute('insert into t values (1)')", "d.sqlite, locked", "c.commit()", "OperationalError"),
    Told("an analytical database in a file", "import duckdb\nc = duckdb.connect('d.duck'); _ = c.execute('set threads=1; set async_threads=0'); _ = c.execute('create table if not exists t as select 1 as x'); _ = c.execute('checkpoint')", "d.duck, locked", "c.execute('insert into t values (2)'); c.execute('checkpoint')", "Error"),
]  # fmt: skip
