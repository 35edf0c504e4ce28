"""Ordinary libraries behind every wall: small real work with checked results, and nothing denied.

A filter that is too tight shows first here, so this runs on every Python that there is
(``make matrix``). What a library asks for and rightly does not get is listed, with the reason.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from kernel_runtime import Session

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Denied calls that do not matter, by workload: which, and why.
EXPLAINED: dict[str, dict[str, str]] = {
    "names": {"socket(AF_NETLINK)": "getaddrinfo asks which addresses the machine has, and does without"},
    "interfaces": {"socket(AF_NETLINK)": "getifaddrs and if_nameindex know no other way"},
}

#: Code whose last value is what is compared.
WORK = {
    "numpy": (
        """
import numpy as np
matrix = np.arange(40_000, dtype=float).reshape(200, 200) + 1000 * np.eye(200)
solved = np.linalg.solve(matrix, matrix.sum(axis=1))
values = np.linalg.svd(np.ones((300, 300)))[1]
np.save('/tmp/array.npy', matrix); mapped = np.load('/tmp/array.npy', mmap_mode='r+')
mapped[0, 0] = 7; mapped.flush()
[bool(np.allclose(solved, 1)), round(float(values[0])), float(np.load('/tmp/array.npy')[0, 0]),
 float(np.abs(np.fft.ifft(np.fft.fft(matrix[0])) - matrix[0]).max()) < 1e-6]
""",
        "[True, 300, 7.0, True]",
    ),
    "pandas": (
        """
import pandas as pd
frame = pd.DataFrame({'a': range(1000), 'b': list('xy') * 500, 'c': pd.date_range('2026-01-01', periods=1000)})
frame.to_csv('/tmp/frame.csv', index=False); frame.to_parquet('/tmp/frame.parquet')
again = pd.read_csv('/tmp/frame.csv', parse_dates=['c'])
[frame.groupby('b').a.sum().tolist(), bool((again.c == frame.c).all()), len(pd.read_parquet('/tmp/frame.parquet')),
 int(frame.set_index('c').a.resample('MS').sum().iloc[0]), frame.merge(again, on='a').shape]
""",
        "[[249500, 250000], True, 1000, 465, (1000, 5)]",
    ),
    "pyarrow": (
        """
import pyarrow as pa, pyarrow.compute as pc, pyarrow.csv, pyarrow.dataset as ds, pyarrow.parquet as pq
table = pa.table({'a': range(100_000), 'b': ['x', 'y'] * 50_000})
pq.write_to_dataset(table, '/tmp/parts', partition_cols=['b'])
with pa.OSFile('/tmp/table.arrow', 'wb') as sink, pa.ipc.new_file(sink, table.schema) as writer:
    writer.write_table(table)
mapped = pa.ipc.open_file(pa.memory_map('/tmp/table.arrow')).read_all()
pa.csv.write_csv(table, '/tmp/table.csv')
[ds.dataset('/tmp/parts', partitioning='hive').count_rows(filter=ds.field('a') > 49_999),
 pc.sum(mapped['a']).as_py(), pa.csv.read_csv('/tmp/table.csv').num_rows]
""",
        "[50000, 4999950000, 100000]",
    ),
    "scipy": (
        """
import numpy as np
from scipy import integrate, linalg, optimize, sparse, stats
from scipy.sparse.linalg import spsolve
best = optimize.minimize(lambda x: ((x - 3) ** 2).sum(), np.zeros(3))
[round(float(integrate.quad(np.sin, 0, np.pi)[0]), 6), [round(float(v), 3) for v in best.x],
 bool(np.allclose(spsolve(sparse.eye(50, format='csc') * 2, np.ones(50)), 0.5)),
 round(float(linalg.det(np.diag([1.0, 2.0, 3.0]))), 6), round(float(stats.norm.cdf(1.96)), 3)]
""",
        "[2.0, [3.0, 3.0, 3.0], True, 6.0, 0.975]",
    ),
    "sklearn": (
        """
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
features, kinds = load_iris(return_X_y=True)
forest = RandomForestClassifier(20, n_jobs=2, random_state=0).fit(features, kinds)
scores = cross_val_score(LogisticRegression(max_iter=500), features, kinds, cv=3)
[bool(forest.score(features, kinds) > 0.97), bool(scores.mean() > 0.9),
 KMeans(3, n_init=2, random_state=0).fit(features).cluster_centers_.shape]
""",
        "[True, True, (3, 4)]",
    ),
    "matplotlib": (
        """
import io
from matplotlib import pyplot
figure, axes = pyplot.subplots()
axes.plot([1, 3, 2], label='läng $x^2$'); axes.legend(); axes.hist([1, 1, 2])
sizes = []
for kind in ('png', 'svg', 'pdf'):
    out = io.BytesIO(); figure.savefig(out, format=kind); sizes.append(len(out.getvalue()) > 1000)
pyplot.close(figure)
sizes
""",
        "[True, True, True]",
    ),
    "duckdb": (
        """
import duckdb
base = duckdb.connect('/tmp/duck.db')
base.execute('create table t as select range as a, range % 7 as b from range(200000)')
base.execute("copy t to '/tmp/t.parquet' (format parquet)")
answer = [base.execute('select sum(a) from t where b = 3').fetchone()[0],
 base.execute("select count(*) from '/tmp/t.parquet' where b < 2").fetchone()[0],
 base.execute('select b, count(*) from t group by b order by b').fetchall()[0]]
base.close()
answer
""",
        "[2857042858, 57144, (0, 28572)]",
    ),
    "sqlite3": (
        """
import sqlite3
base = sqlite3.connect('/tmp/lite.db')
mode = base.execute('pragma journal_mode=wal').fetchone()[0]
base.execute('create table t(x integer primary key, y text)')
with base:
    base.executemany('insert into t(y) values (?)', [(str(n),) for n in range(1000)])
base.execute('vacuum')
other = sqlite3.connect('/tmp/lite.db')
answer = [mode, other.execute('select count(*), max(x) from t').fetchone()]
other.close(); base.close()
answer
""",
        "['wal', (1000, 1000)]",
    ),
    "multiprocessing fork": (
        """
import multiprocessing as mp, operator, warnings
from multiprocessing import shared_memory
warnings.simplefilter('ignore')
context = mp.get_context('fork')
memory = shared_memory.SharedMemory(create=True, size=4096)
queue, lock = context.Queue(), context.Lock()
def work(number):
    with lock:
        memory.buf[number] = number
    queue.put(number)
children = [context.Process(target=work, args=(number,)) for number in range(3)]
for child in children: child.start()
got = sorted(queue.get(timeout=30) for _ in children)
for child in children: child.join()
with context.Pool(2) as pool:
    mapped = pool.map(abs, range(-4, 0))
written = bytes(memory.buf[:3]); memory.close(); memory.unlink()
[got, [child.exitcode for child in children], mapped, written]
""",
        r"[[0, 1, 2], [0, 0, 0], [4, 3, 2, 1], b'\x00\x01\x02']",
    ),
    "multiprocessing spawn": (
        """
import multiprocessing as mp
from concurrent.futures import ProcessPoolExecutor
context = mp.get_context('spawn')
with context.Pool(2) as pool:
    mapped = pool.map(abs, range(-4, 0))
with ProcessPoolExecutor(2, mp_context=context) as pool:
    summed = sum(pool.map(abs, range(-10, 0)))
[mapped, summed]
""",
        "[[4, 3, 2, 1], 55]",
    ),
    "threads": (
        """
import queue, threading
from concurrent.futures import ThreadPoolExecutor
barrier, box, local = threading.Barrier(4), queue.Queue(), threading.local()
def meet(number):
    local.number = number
    barrier.wait(30); box.put(local.number)
threads = [threading.Thread(target=meet, args=(number,)) for number in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
with ThreadPoolExecutor(16) as pool:
    total = sum(pool.map(abs, range(-1000, 0)))
[sorted(box.get() for _ in range(4)), total]
""",
        "[[0, 1, 2, 3], 500500]",
    ),
    "asyncio": (
        """
import asyncio, sys
async def serve(reader, writer):
    writer.write((await reader.readline()).upper()); writer.close()
async def talk():
    server = await asyncio.start_server(serve, '127.0.0.1', 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b'hi\\n'); said = await reader.readline(); writer.close(); server.close()
    local = await asyncio.start_unix_server(serve, '/tmp/asyncio.sock')
    reader, writer = await asyncio.open_unix_connection('/tmp/asyncio.sock')
    writer.write(b'ho\\n'); also = await reader.readline(); writer.close(); local.close()
    process = await asyncio.create_subprocess_exec(
        sys.executable, '-c', 'print(6 * 7)', stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    await asyncio.wait_for(asyncio.to_thread(sum, [1, 2]), 30)
    return [said, also, out, process.returncode]
await talk()
""",
        r"[b'HI\n', b'HO\n', b'42\n', 0]",
    ),
    "asyncio loops": (
        """
import asyncio, selectors, threading
def run(kind):
    loop = asyncio.SelectorEventLoop(kind())
    try:
        return loop.run_until_complete(asyncio.sleep(0.01, 'slept'))
    finally:
        loop.close()
answers = []
def all_kinds():
    kinds = (selectors.EpollSelector, selectors.PollSelector, selectors.SelectSelector)
    answers.extend(run(kind) for kind in kinds)
thread = threading.Thread(target=all_kinds); thread.start(); thread.join()
answers
""",
        "['slept', 'slept', 'slept']",
    ),
    "subprocess": (
        """
import os, signal, subprocess, sys
piped = subprocess.run('echo a | tr a b', shell=True, capture_output=True, text=True, check=True).stdout
sleeper = subprocess.Popen(['sleep', '60'], start_new_session=True)
sleeper.terminate()
try:
    subprocess.run(['sleep', '60'], timeout=0.2)
except subprocess.TimeoutExpired as error:
    late = type(error).__name__
spawned = os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)[1]
fed = subprocess.run(['cat'], input=b'x' * 200_000, capture_output=True, check=True, umask=0o77, process_group=0)
[piped, sleeper.wait(30) == -signal.SIGTERM, late, spawned, len(fed.stdout), os.system('exit 3') >> 8]
""",
        r"['b\n', True, 'TimeoutExpired', 0, 200000, 3]",
    ),
    "files": (
        """
import fcntl, os, pathlib, shutil, tempfile
with tempfile.TemporaryDirectory() as place:
    path = pathlib.Path(place, 'a'); path.write_text('x'); shutil.copy2(path, place + '/b')
    os.link(path, place + '/c'); os.symlink('a', place + '/d'); os.mkfifo(place + '/e'); os.chmod(path, 0o600)
    with path.open('r+') as file:
        fcntl.flock(file, fcntl.LOCK_EX); fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.posix_fallocate(file.fileno(), 0, 8192); os.fsync(file.fileno())
    shutil.copytree(place, place + 'x', symlinks=True, ignore=shutil.ignore_patterns('e'))
    shutil.make_archive(place + 'y', 'gztar', place + 'x')
    answer = [sorted(os.listdir(place)), path.stat().st_size, shutil.disk_usage(place).total > 0]
answer
""",
        "[['a', 'b', 'c', 'd', 'e'], 8192, True]",
    ),
    "system": (
        """
import faulthandler, getpass, locale, mmap, os, platform, resource, secrets, signal, ssl, time, uuid
faulthandler.enable(); signal.setitimer(signal.ITIMER_REAL, 0); os.sched_yield(); os.nice(0)
os.sched_setaffinity(0, os.sched_getaffinity(0)); resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
[platform.system(), os.cpu_count() > 0, len(secrets.token_bytes(8)), uuid.uuid4().version, bool(ssl.OPENSSL_VERSION),
 time.get_clock_info('monotonic').monotonic, getpass.getuser(), len(mmap.mmap(-1, 4096))]
""",
        "['Linux', True, 8, 4, True, True, 'guest', 4096]",
    ),
    "psutil": (
        """
import os, psutil
me = psutil.Process()
me.ionice(); me.cpu_affinity(); me.nice(); me.rlimit(psutil.RLIMIT_NOFILE)
[me.pid == os.getpid(), me.memory_info().rss > 0, psutil.cpu_count() > 0, len(psutil.pids()) > 1,
 me.num_threads() > 0, psutil.virtual_memory().total > 0]
""",
        "[True, True, True, True, True, True]",
    ),
    "names": (
        """
import socket
try:
    socket.getaddrinfo('example.org', 80, flags=socket.AI_ADDRCONFIG)
except socket.gaierror as error:
    name = type(error).__name__
[name, socket.getaddrinfo('127.0.0.1', 80, proto=socket.IPPROTO_TCP)[0][4]]
""",
        "['gaierror', ('127.0.0.1', 80)]",
    ),
    "interfaces": (
        """
import socket
try:
    socket.if_nameindex()
except OSError as error:
    answer = error.strerror
answer
""",
        "'Operation not permitted'",
    ),
}


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """One guest for all: what one library leaves behind is there when the next one comes."""
    directory: Path = tmp_path_factory.mktemp("libraries")
    directory.chmod(0o755)
    with Session(workdir=directory, memory="2G", pids=256) as opened:
        yield opened


@pytest.mark.parametrize("name", WORK)
def test_it_works_and_nothing_that_matters_is_denied(session: Session, name: str) -> None:
    library = name.split()[0]
    if library in (
        "numpy",
        "pandas",
        "pyarrow",
        "scipy",
        "sklearn",
        "matplotlib",
        "duckdb",
    ) and not find_spec(library):
        pytest.skip(f"needs {library}")
    code, expected = WORK[name]
    result = session.run(code, check=False)
    assert result.error is None, f"{result.error}\n" + "\n".join(result.error.traceback)
    assert result.verdict is None
    assert result.result == expected
    assert set(result.denied) <= EXPLAINED.get(name, {}).keys()


def test_the_explained_denials_still_happen(session: Session) -> None:
    """An entry that explains nothing any more is to go."""
    for name, reasons in EXPLAINED.items():
        assert set(session.run(WORK[name][0]).denied) == reasons.keys(), name


def test_a_denied_call_would_show(session: Session) -> None:
    """The positive control of the list above."""
    assert session.run("import ctypes; ctypes.CDLL(None).unshare(0x20000)").denied == ["unshare(CLONE_NEWNS)"]
