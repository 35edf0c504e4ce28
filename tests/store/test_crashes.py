"""Power cuts, full disks, bit rot: what was there stays, or its loss is told by name."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from kernel_runtime.domain.checkpoint import Retention
from kernel_runtime.domain.errors import Conflict, Damaged, StorageFailed
from kernel_runtime.store import packs
from kernel_runtime.store.checkpoints import DiskStore
from kernel_runtime.store.keys import Key, NoKey
from tests.store.parcels import ABOUT, add, content, group, keep, part

VALUES = {"a": b"A" * 5000, "b": os.urandom(50_000)}


@pytest.fixture
def place(tmp_path):
    """A store with two checkpoints, the older of which pruning to one lets go."""
    store = DiskStore(tmp_path / "store", NoKey())
    keep(store, {"a": b"A" * 5000, "old": os.urandom(60_000)})
    keep(store, VALUES)
    store.close()
    return tmp_path / "store"


def _crash(place, what, step):
    command = [sys.executable, str(Path(__file__).with_name("crashing.py")), str(place), what, str(step)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["save", "prune"])
def test_killed_at_any_step_nothing_is_lost_and_no_garbage_stays(place, tmp_path, what):
    whole = tmp_path / "whole"
    place.rename(whole)
    shutil.copytree(whole, place)
    steps = int(_crash(place, what, 0).stdout)
    assert steps > 10
    killed = 0
    for step in range(1, steps + 1):
        shutil.rmtree(place)
        shutil.copytree(whole, place)
        done = _crash(place, what, step)
        killed += done.returncode == -signal.SIGKILL
        _check(place)
    assert killed == steps


def _check(place):
    """The checkpoint from before is whole, files are those of the manifest, and work goes on."""
    store = DiskStore(place, NoKey())
    kept = store.checkpoints()
    assert len(kept) in (1, 2, 3)
    assert VALUES in [content(store, one.id) for one in kept]
    for one in kept:
        content(store, one.id)
    assert {path.stem for path in store.packs.iterdir()} == {
        name for (name,) in store.manifest.rows("SELECT name FROM packs")
    }
    store.prune(Retention(count=1))
    again = keep(store, {**VALUES, "c": b"c"})
    assert content(store, again.id) == {**VALUES, "c": b"c"}
    store.close()


def test_a_pack_that_a_living_writer_holds_is_no_garbage(place):
    store = DiskStore(place, NoKey())
    writer = store.begin("book")
    chunk = os.urandom(60_000)
    add(writer, chunk)
    DiskStore(place, NoKey()).close()  # another process opens it meanwhile
    writer.group(group(1, ["x"], part(chunk)))
    kept = writer.commit(ABOUT)
    assert content(store, kept.id) == {"x": chunk}
    store.close()


def test_an_abandoned_writer_leaves_nothing(place):
    store = DiskStore(place, NoKey())
    before = sorted(store.packs.iterdir())
    writer = store.begin("book")
    add(writer, *[os.urandom(60_000) for _ in range(3)])
    assert sorted(store.packs.iterdir()) != before
    writer.abort()
    assert sorted(store.packs.iterdir()) == before
    store.close()


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_full_disk_is_told_and_leaves_the_earlier_checkpoint(place, monkeypatch, call):
    store = DiskStore(place, NoKey())
    before, kept = sorted(store.packs.iterdir()), store.checkpoints()
    with monkeypatch.context() as patch:
        patch.setattr(os, call, lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        with pytest.raises(StorageFailed, match=r"No space left on device; those .* are whole. Make room"):
            keep(store, {"new": os.urandom(60_000)})
    assert sorted(store.packs.iterdir()) == before
    assert store.checkpoints() == kept
    assert content(store, kept[0].id) == VALUES
    assert content(store, keep(store, {"new": b"n"}).id) == {"new": b"n"}  # room again, and it goes on
    store.close()


def test_a_pack_that_could_not_be_named_is_read_and_named_when_the_store_is_opened_next(place, monkeypatch):
    store = DiskStore(place, NoKey())
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        kept = keep(store, {"new": b"new" * 9000})
    assert [path.name for path in store.packs.iterdir() if path.suffix == ".tmp"] != []
    assert content(store, kept.id) == {"new": b"new" * 9000}
    with closing(DiskStore(place, NoKey())) as opened:
        assert {path.suffix for path in opened.packs.iterdir()} == {".pack"}
        assert content(opened, kept.id) == content(store, kept.id) == {"new": b"new" * 9000}
    store.close()


def test_a_real_limit_of_the_file_system_ends_a_save_the_same_way(place):
    """The kernel refuses the write, after part of it."""
    program = """
import os, resource, signal, sys
from pathlib import Path
from kernel_runtime.store.checkpoints import DiskStore
from kernel_runtime.store.keys import NoKey
from kernel_runtime.domain.errors import StorageFailed
sys.path.insert(0, sys.argv[2])
import parcels
store = DiskStore(Path(sys.argv[1]), NoKey())
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, resource.RLIM_INFINITY))
try:
    parcels.keep(store, {str(n): os.urandom(60_000) for n in range(5)})
except StorageFailed as error:
    print(error)
"""
    command = [sys.executable, "-c", program, str(place), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "File too large" in done.stdout, done.stderr
    _check(place)


def test_a_manifest_that_cannot_grow_ends_a_save_and_leaves_no_pack(place):
    store = DiskStore(place, NoKey())
    before = sorted(store.packs.iterdir())
    pages = store.manifest.rows("PRAGMA page_count")[0][0]
    store.manifest.rows(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageFailed, match="full"):
        keep(store, {f"v{n}": b"%d" % n for n in range(3000)})
    assert sorted(store.packs.iterdir()) == before
    assert content(store, store.checkpoints()[0].id) == VALUES
    store.close()


def _packs_of(store, identity):
    numbers = [number for part in store.record(identity).parts() for number in part.numbers()]
    rows = store.manifest.rows_of(
        "SELECT DISTINCT p.name FROM chunks c JOIN packs p ON p.id = c.pack WHERE c.id IN", numbers
    )
    return [store.packs / f"{name}.pack" for (name,) in rows]


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("how", ["cut", "altered", "missing", "swapped"])
def test_a_damaged_pack_is_told_with_what_is_lost(tmp_path, how, sealed):
    store = DiskStore(tmp_path / "store", Key(b"k" * 32) if sealed else NoKey())
    first = keep(store, {"kept": os.urandom(40_000)})
    second = keep(store, {"kept": b"".join(content(store, first.id).values()), "lost": os.urandom(50_000)})
    (path,) = set(_packs_of(store, second.id)) - set(_packs_of(store, first.id))
    data = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "swapped":
        path.write_bytes(_packs_of(store, first.id)[0].read_bytes())
    else:
        path.write_bytes(data[: len(data) // 2] if how == "cut" else data[:3000] + b"\0" * 50 + data[3050:])
    with pytest.raises(Damaged, match="lost"):
        content(store, second.id)
    assert list(content(store, first.id)) == ["kept"]  # the control
    store.close()


def test_an_altered_record_is_refused_and_listed_without_its_content(place):
    store = DiskStore(place, NoKey())
    newest = store.checkpoints()[0]
    store.manifest.change("UPDATE checkpoints SET record = zeroblob(length(record)) WHERE id = ?", newest.id)
    store.close()
    store = DiskStore(place, NoKey())
    assert next(one.id for one in store.checkpoints()) == newest.id
    with pytest.raises(Damaged, match=newest.id):
        store.groups(newest.id)
    assert content(store, keep(store, VALUES).id) == VALUES  # the next one does not build on it
    store.close()


def test_what_cannot_be_read_is_not_pruned_for_want_of_a_label(tmp_path):
    """Its label is in what is encrypted."""
    with closing(DiskStore(tmp_path / "store", Key(b"k" * 32))) as sealed:
        named, loose = keep(sealed, VALUES, label="monday"), keep(sealed, VALUES)
    with closing(DiskStore(tmp_path / "store", NoKey())) as store:
        keep(store, {"open": b"o"}, parent="")
        assert store.prune(Retention(count=1, age=0)).checkpoints == []
    with closing(DiskStore(tmp_path / "store", Key(b"k" * 32))) as sealed:  # the control
        assert sealed.prune(Retention(count=1)).checkpoints == [loose.id]
        assert content(sealed, named.id) == VALUES


def _emptied(manifest):
    manifest.write_bytes(b"")


def _gone(manifest):
    manifest.unlink()


def _of_another_store(manifest):
    with closing(DiskStore(manifest.parent.with_name("another"), NoKey())) as other:
        keep(other, {"other": b"other"})
    shutil.copy(manifest.parent.with_name("another") / manifest.name, manifest)


def _of_a_new_store(manifest):
    DiskStore(manifest.parent.with_name("another"), NoKey()).close()
    shutil.copy(manifest.parent.with_name("another") / manifest.name, manifest)


@pytest.mark.parametrize("replace", [_emptied, _gone, _of_another_store, _of_a_new_store])
def test_packs_beside_a_manifest_that_is_not_theirs_are_told_and_stay(place, tmp_path, replace):
    manifest, saved = place / "manifest.sqlite", tmp_path / "saved"
    shutil.copy(manifest, saved)
    before = {path: path.read_bytes() for path in (place / "packs").iterdir()}
    assert len(before) == 2
    replace(manifest)
    put = manifest.read_bytes() if manifest.exists() else b""
    for _ in range(2):  # the first try has not made it look right
        with pytest.raises(Damaged, match=r"(empty or gone|does not know).*Nothing was removed"):
            DiskStore(place, NoKey())
        assert (manifest.read_bytes() if manifest.exists() else b"") == put
    assert {path: path.read_bytes() for path in (place / "packs").iterdir()} == before
    shutil.copy(saved, manifest)
    with closing(DiskStore(place, NoKey())) as store:  # the control
        assert content(store, store.checkpoints()[0].id) == VALUES


def test_a_manifest_from_before_the_last_checkpoint_costs_none(place, tmp_path):
    shutil.copy(place / "manifest.sqlite", tmp_path / "old")
    with closing(DiskStore(place, NoKey())) as store:
        later = keep(store, {"later": os.urandom(9000)})
    shutil.copy(place / "manifest.sqlite", tmp_path / "new")
    shutil.copy(tmp_path / "old", place / "manifest.sqlite")
    with pytest.raises(Damaged, match="does not know"):
        DiskStore(place, NoKey())
    shutil.copy(tmp_path / "new", place / "manifest.sqlite")
    with closing(DiskStore(place, NoKey())) as store:
        assert list(content(store, later.id)) == ["later"]


def test_what_a_writer_that_died_has_left_is_removed(place):
    before = sorted((place / "packs").iterdir())
    (place / "packs" / ".left.tmp").write_bytes(b"half a pack")
    with closing(DiskStore(place, NoKey())):
        assert sorted((place / "packs").iterdir()) == before


def test_what_is_no_manifest_is_told(place):
    (place / "manifest.sqlite").write_bytes(b"no database at all" * 1000)
    for path in place.glob("manifest.sqlite-*"):
        path.unlink()
    with pytest.raises(Damaged, match="manifest"):
        DiskStore(place, NoKey())


def test_the_manifest_of_a_newer_version_is_refused(place):
    with sqlite3.connect(place / "manifest.sqlite") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(Conflict, match="newer"):
        DiskStore(place, NoKey())


def test_the_directory_is_private(tmp_path):
    store = DiskStore(tmp_path / "store", NoKey())
    keep(store, VALUES)
    store.close()
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "store").rglob("*")} == {0}
    (tmp_path / "store").chmod(0o755)
    with pytest.raises(Conflict, match="private"):
        DiskStore(tmp_path / "store", NoKey())
    (tmp_path / "link").symlink_to(tmp_path / "store")
    (tmp_path / "store").chmod(0o700)
    with pytest.raises(Conflict, match="private"):
        DiskStore(tmp_path / "link", NoKey())


@pytest.mark.parametrize("what", ["save", "prune"])
def test_an_interrupt_right_after_the_commit_costs_nothing(place, monkeypatch, what):
    store = DiskStore(place, NoKey())
    with monkeypatch.context() as patch:
        patch.setattr(packs.PackWriter, "publish", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            keep(store, {"new": b"new" * 9000}) if what == "save" else store.prune(Retention(count=1))
    assert [len(content(store, one.id)) for one in store.checkpoints()] == (
        [1, 2, 2] if what == "save" else [2]
    )
    names = {f"{name}.pack" for (name,) in store.manifest.rows("SELECT name FROM packs")}
    assert {path.name for path in store.packs.iterdir()} == names
    store.close()


def test_pruning_that_fails_leaves_each_pack_its_name(place, monkeypatch):
    store = DiskStore(place, NoKey())
    before, unsettle = sorted(store.packs.iterdir()), packs.unsettle

    def unsettle_and_fail(*pack):
        unsettle(*pack)
        raise StorageFailed("full")

    with monkeypatch.context() as patch:
        patch.setattr(packs, "unsettle", unsettle_and_fail)
        with pytest.raises(StorageFailed):
            store.prune(Retention(count=1))
    assert sorted(store.packs.iterdir()) == before
    assert len([content(store, one.id) for one in store.checkpoints()]) == 2
    assert len(store.prune(Retention(count=1)).checkpoints) == 1  # the control
    assert sorted(store.packs.iterdir()) != before
    store.close()


def test_what_is_read_while_another_process_prunes_is_whole(tmp_path, monkeypatch):
    """The pack is written anew between the look at the manifest and its opening."""
    store, other = (DiskStore(tmp_path / "store", NoKey()) for _ in range(2))
    shared = os.urandom(30_000)
    first = keep(store, {"shared": shared, **{str(n): os.urandom(60_000) for n in range(5)}})
    last = keep(store, {"shared": shared})
    rows_of, pruned = store.manifest.rows_of, []

    def rows_then_prune(*query):
        found = rows_of(*query)
        if not pruned:
            pruned.extend(other.prune(Retention(count=1)).checkpoints)
        return found

    monkeypatch.setattr(store.manifest, "rows_of", rows_then_prune)
    assert content(store, last.id) == {"shared": shared}
    assert pruned == [first.id]
    store.close()
    other.close()


def test_pruning_gives_back_the_room_of_mostly_dead_packs(tmp_path):
    store = DiskStore(tmp_path / "store", NoKey())
    shared = os.urandom(30_000)
    keep(store, {"shared": shared, **{str(n): os.urandom(60_000) for n in range(5)}})
    last = keep(store, {"shared": shared})
    freed = store.prune(Retention(count=1))
    size = sum(path.stat().st_size for path in store.packs.iterdir())
    assert freed.bytes > 250_000 and size < 40_000
    assert content(store, last.id) == {"shared": shared}
    store.close()
