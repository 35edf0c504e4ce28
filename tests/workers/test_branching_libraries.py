"""Libraries used before a snapshot work after it, in the branch that goes on and in those that come back."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

import kernel_runtime
from kernel_runtime.domain.errors import UnsafeThreads
from tests.cases import each

if TYPE_CHECKING:
    from pathlib import Path


class Library(NamedTuple):
    """``use`` defines ``result``, and works on what ``before`` has made."""

    name: str
    before: str
    use: str


LIBRARIES = [
    Library("numpy", "import numpy as np\na = np.random.default_rng(0).random((400, 400)); _ = a @ a", "result = float((a @ a).sum() + np.linalg.svd(a[:80, :80])[1].sum())"),
    Library("pandas", "import pandas as pd\nd = pd.DataFrame({'k': [n % 7 for n in range(50_000)], 'v': range(50_000)}); _ = d.groupby('k').sum()", "result = int(d.groupby('k').v.sum().max() + d.merge(d.head(9), on='v').v.sum())"),
    Library("arrow: compute", "import pyarrow as pa, pyarrow.compute as pc\nt = pa.table({'x': pa.array(range(200_000))}); _ = pc.sum(t['x'])", "result = pc.sum(pc.multiply(t['x'], 2)).as_py() + t.filter(pc.greater(t['x'], 5)).num_rows"),
    Library("arrow: parquet", "import pyarrow as pa, pyarrow.parquet as pq\nt = pa.table({c: pa.array(range(100_000)) for c in 'abcd'}); pq.write_table(t, 'x.parquet', row_group_size=10_000); _ = pq.read_table('x.parquet')", "result = pq.read_table('x.parquet')['c'].to_pylist()[-1]; pq.write_table(t, 'y.parquet')"),
    Library("arrow: csv and dataset", "import pyarrow as pa, pyarrow.csv as csv, pyarrow.dataset as ds\nt = pa.table({'a': pa.array(range(100_000))}); csv.write_csv(t, 'x.csv'); _ = csv.read_csv('x.csv')", "result = csv.read_csv('x.csv').num_rows + ds.dataset('x.csv', format='csv').to_table().num_rows"),
    Library("scipy", "import numpy as np, scipy.linalg, scipy.optimize\na = np.random.default_rng(0).random((200, 200)); _ = scipy.linalg.inv(a)", "result = float(abs(scipy.linalg.lu(a)[2]).sum() + scipy.optimize.minimize(lambda x: (x[0] - 3) ** 2, [0.0]).x[0])"),
    Library("scikit-learn: boosting", "import numpy as np\nfrom sklearn.ensemble import HistGradientBoostingRegressor as H\nx = np.random.default_rng(0).random((3000, 5)); y = x.sum(axis=1); m = H(max_iter=10, random_state=0).fit(x, y)", "result = float(m.predict(x).sum() + H(max_iter=5, random_state=0).fit(x, y).predict(x[:9]).sum())"),
    Library("scikit-learn: clusters", "import numpy as np\nfrom sklearn.cluster import KMeans\nx = np.random.default_rng(0).random((3000, 4)); m = KMeans(5, n_init=2, random_state=0).fit(x)", "result = float(KMeans(5, n_init=2, random_state=0).fit(x).inertia_ + m.predict(x).sum())"),
    Library("matplotlib", "import matplotlib.pyplot as plt, io\nf, ax = plt.subplots(); _ = ax.plot(range(9)); plt.close(f)", "b = io.BytesIO(); f.savefig(b, format='png'); result = b.getvalue()[1:4].decode()"),
    Library("sqlite", "import sqlite3\nc = sqlite3.connect('l.sqlite'); _ = c.execute('create table if not exists t (x)'); c.commit()", "_ = c.execute('insert into t values (1)'); c.commit(); result = c.execute('select max(x) from t').fetchone()[0]"),
    Library("duckdb without threads of its own", "import duckdb\nc = duckdb.connect(); _ = c.execute('set threads=1'); _ = c.execute('set async_threads=0'); _ = c.execute('create table t as select range as x, range % 7 as k from range(300000)'); _ = c.execute(\"copy t to 'd.parquet'\")", "result = str(c.execute('select k, sum(x) from t group by k order by k').fetchall()) + str(c.execute(\"select count(*) from 'd.parquet' where k = 3\").fetchall())"),
    Library("an executor of one's own, ended", "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(2) as pool: _ = list(pool.map(abs, [-1, -2]))", "with ThreadPoolExecutor(2) as pool: result = list(pool.map(abs, [-1, -2]))"),
    Library("the loop's idle executor", "import asyncio, time\n_ = await asyncio.gather(*(asyncio.to_thread(time.sleep, 0.01) for _ in range(3)))", "result = await asyncio.to_thread(lambda: 42)"),
    Library("tqdm", "from tqdm import tqdm\nbar = tqdm(total=9, miniters=3); _ = bar.update()", "_ = bar.update(); result = [bar.n, list(tqdm(range(3)))]"),
    Library("child processes, waited for", "import subprocess, multiprocessing as mp\n_ = subprocess.run(['true'])", "import os\np = mp.get_context('fork').Process(target=int); p.start(); p.join()\nif os.fork() == 0: os._exit(3)\nresult = [subprocess.run(['echo', 'x'], capture_output=True, text=True).stdout, p.exitcode, os.waitstatus_to_exitcode(os.wait()[1])]"),
]  # fmt: skip


@pytest.fixture
def session(clean_session: kernel_runtime.Session) -> kernel_runtime.Session:
    return clean_session


#: They take seconds to import, or to work.
SLOW = ("arrow", "scipy", "scikit-learn", "matplotlib", "duckdb")


@pytest.mark.parametrize(
    "library", each({one.name: one for one in LIBRARIES}, lambda name: name.startswith(SLOW))
)
def test_it_works_in_every_branch(session: kernel_runtime.Session, library: Library) -> None:
    session.run(library.before)
    session.snapshot("used")
    session.run(library.use)
    result = session.value("result")
    for _ in range(2):
        session.restore("used")
        session.run(library.use)
        assert session.value("result") == result
        session.snapshot()


def test_polars_is_refused_by_name(session: kernel_runtime.Session) -> None:
    session.run(
        "import polars as pl\n_ = pl.DataFrame({'x': range(99)}).lazy().group_by('x').len().collect()"
    )
    with pytest.raises(UnsafeThreads, match="polars"):
        session.snapshot()


def test_the_workers_of_joblib_are_refused_with_what_ends_them(session: kernel_runtime.Session) -> None:
    session.run(
        "from joblib import Parallel, delayed\n_ = Parallel(n_jobs=2)(delayed(abs)(n) for n in range(4))"
    )
    with pytest.raises(UnsafeThreads, match="ExecutorManagerThread") as refused:
        session.snapshot()
    advice = "from joblib.externals.loky import get_reusable_executor; get_reusable_executor().shutdown()"
    assert advice in str(refused.value)
    session.run(advice)
    session.snapshot()


def test_a_native_thread_is_refused_by_its_name(session: kernel_runtime.Session) -> None:
    """What a library like polars does: threads that Python does not know."""
    code = """
import ctypes
libc = ctypes.CDLL(None)
body = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(lambda _: libc.pause() and None)
slot = ctypes.c_ulong()
before = libc.prctl(15, b'polars-0', 0, 0, 0)
libc.pthread_create(ctypes.byref(slot), None, ctypes.cast(libc.pause, ctypes.c_void_p), None)
libc.prctl(15, b'python', 0, 0, 0)
"""
    session.run(code)
    with pytest.raises(UnsafeThreads, match="native thread 'polars-0'"):
        session.snapshot()


def test_a_thread_that_needs_no_name_is_told_before_a_cell(directory: Path) -> None:
    with kernel_runtime.Session(workdir=directory) as session:
        session.run(
            "import threading\ngo = threading.Event()\nthreading.Thread(target=go.wait, name='mine').start()"
        )
        told = session.run("1").stderr
        assert "'mine'" in told
        assert session.run("2").stderr == "", "each reason is told once"
        session.run("go.set()")
