"""What a guest has changed in its directory: seen from outside, kept and dropped by the owner, never trusted."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

import kernel_runtime
from kernel_runtime.domain.errors import Conflict, Invalid, NotFound
from kernel_runtime.domain.level import Rung
from kernel_runtime.workers import overlay

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The notebook's directory, beside which there is something to be reached."""
    top = tmp_path_factory.mktemp("house")
    (top / "work").mkdir()
    top.chmod(0o755)
    (top / "secret").write_text("nobody's business")
    return top / "work"


@pytest.fixture
def session(house: Path) -> Iterator[kernel_runtime.Session]:
    """With a layer of its own, over a directory that is empty at first."""
    with kernel_runtime.Session(workdir=house, memory="512M", automatic=False) as session:
        if session.standing["rung"] != Rung.NAMESPACES:
            pytest.skip("needs an overlay: namespaces")
        session.run("import os, shutil, socket, pathlib; P = pathlib.Path")
        yield session
    for path in sorted(house.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def listed(session: kernel_runtime.Session) -> list[str]:
    return str(session.files()).splitlines()


def test_what_was_added_changed_and_removed_is_listed(session: kernel_runtime.Session, house: Path) -> None:
    (house / "a.txt").write_text("one")
    (house / "b.txt").write_text("two")
    (house / "same.txt").write_text("same")
    (house / "d").mkdir()
    (house / "d/in.txt").write_text("in d")
    session.run(
        """
P('a.txt').write_text('more')
P('b.txt').unlink()
P('same.txt').write_text('same')
P('d/new.txt').write_text('new')
P('e').mkdir(); P('e/f.txt').write_text('')
P('link').symlink_to('/etc/passwd')
os.mkfifo('pipe')
P('a\\nb\\x1b[31m').touch()
        """
    )
    assert listed(session) == [
        "+ 'a\\nb\\x1b[31m'  0 bytes",
        "~ a.txt  4 bytes (was 3 bytes)",
        "- b.txt  was 3 bytes",
        "+ d/new.txt  3 bytes",
        "+ e  a directory",
        "+ e/f.txt  0 bytes",
        "+ link  a link to /etc/passwd",
        "+ pipe  a pipe, socket or device",
    ]
    assert sorted(os.listdir(house)) == ["a.txt", "b.txt", "d", "same.txt"]


def test_a_directory_made_anew_hides_what_was_in_it(session: kernel_runtime.Session, house: Path) -> None:
    (house / "d").mkdir()
    (house / "d/old.txt").write_text("old")
    session.run("shutil.rmtree('d'); P('d').mkdir(); P('d/new.txt').write_text('n')")
    assert listed(session) == ["+ d/new.txt  1 byte", "- d/old.txt  was 3 bytes"]


def test_contents_are_compared_and_not_times(session: kernel_runtime.Session, house: Path) -> None:
    (house / "a.txt").write_text("one")
    session.run(
        "s = os.stat('a.txt'); P('a.txt').write_text('two'); os.utime('a.txt', ns=(s.st_atime_ns, s.st_mtime_ns))"
    )
    assert listed(session) == ["~ a.txt  3 bytes (was 3 bytes)"]
    session.run("P('a.txt').write_text('one')")
    assert listed(session) == ["no file was added, changed or removed"]


def test_text_is_compared_by_lines_and_the_rest_by_digest(
    session: kernel_runtime.Session, house: Path
) -> None:
    (house / "a.txt").write_text("".join(f"{n}\n" for n in range(5000)))
    (house / "b.bin").write_bytes(b"\0old")
    session.run("t = P('a.txt').read_text().replace('\\n2500\\n', '\\nchanged\\n'); P('a.txt').write_text(t)")
    session.run(
        "P('b.bin').write_bytes(b'\\0new!'); P('new.txt').write_text('x\\ny\\n'); P('link').symlink_to('a.txt')"
    )
    assert session.files_diff("a.txt").splitlines() == [
        "--- a.txt (host)",
        "+++ a.txt (guest)",
        "@@ -2498,7 +2498,7 @@",
        *(f" {n}" for n in (2497, 2498, 2499)),
        "-2500",
        "+changed",
        *(f" {n}" for n in (2501, 2502, 2503)),
    ]
    host, guest = session.files_diff("b.bin").splitlines()
    assert host.startswith("the host's: 4 bytes, sha256 ")
    assert guest.startswith("the guest's: 5 bytes, sha256 ")
    assert session.files_diff("new.txt").splitlines()[-2:] == ["+x", "+y"]
    with pytest.raises(Invalid, match=r"a link to a\.txt: there is nothing to compare"):
        session.files_diff("link")
    with pytest.raises(NotFound):
        session.files_diff("nothing")


def test_what_is_kept_is_on_the_host(session: kernel_runtime.Session, house: Path) -> None:
    (house / "a.txt").write_text("one")
    (house / "a.txt").chmod(0o664)
    (house / "b.txt").write_text("two")
    session.run("P('a.txt').write_text('kept'); P('b.txt').unlink(); P('d/e').mkdir(parents=True)")
    session.run("P('d/e/run').write_text('#!'); os.chmod('d/e/run', 0o4777); P('d/.hidden').write_text('x')")
    assert session.files_keep("a.txt").done == ["a.txt"]
    assert (house / "a.txt").read_text() == "kept"
    assert (house / "a.txt").stat().st_mode & 0o7777 == 0o664
    outcome = session.files_keep("d")
    assert (outcome.done, list(outcome.refused)) == (["d", "d/e", "d/e/run"], ["d/.hidden"])
    assert (house / "d/e/run").stat().st_mode & 0o7777 == 0o755, "ordinary modes only"
    assert (house / "d/e/run").stat().st_uid == os.getuid()
    assert list(session.files_keep(".").refused) == ["b.txt", "d/.hidden"]
    assert session.files_keep("d/.hidden").done == ["d/.hidden"]
    assert session.files_keep("b.txt").done == ["b.txt"]
    assert not (house / "b.txt").exists()
    assert listed(session) == ["no file was added, changed or removed"]


def test_nothing_that_leads_elsewhere_is_taken_out(session: kernel_runtime.Session, house: Path) -> None:
    """The guest's links, pipes and sockets; and what they would lead to, were they followed on the host."""
    secret = house.parent / "secret"
    session.run(
        f"""
P('stolen').symlink_to({str(secret)!r})
P('d').mkdir(); P('d/up').symlink_to('../..')
os.mkfifo('pipe')
s = socket.socket(socket.AF_UNIX); s.bind('sock')
        """
    )
    outcome = session.files_keep(".")
    assert outcome.done == ["d"]
    assert set(outcome.refused) == {"stolen", "d/up", "pipe", "sock"}
    for path in ("stolen", "d/up", "pipe", "sock"):
        assert session.files_keep(path).done == []
    assert sorted(os.listdir(house)) == ["d"]
    assert os.listdir(house / "d") == []
    for path in ("/etc/passwd", "../secret", "d/../../secret", "d/up/secret", "a\0b"):
        with pytest.raises((Invalid, NotFound)):
            session.files_keep(path)


def test_a_link_on_the_host_is_not_followed_either(session: kernel_runtime.Session, house: Path) -> None:
    """The owner's own link: the guest put a directory and a file in the place of it."""
    (house.parent / "elsewhere").mkdir(exist_ok=True)
    (house / "to").symlink_to("../elsewhere")
    (house / "file").symlink_to("../secret")
    session.run("P('to').unlink(); P('to').mkdir(); P('to/x').write_text('x')")
    session.run("P('file').unlink(); P('file').write_text('overwritten')")
    outcome = session.files_keep(".")
    assert outcome.done == []
    assert set(outcome.refused) == {"to", "to/x", "file"}
    assert (house.parent / "secret").read_text() == "nobody's business"
    assert os.listdir(house.parent / "elsewhere") == []


def test_a_race_in_the_layer_takes_nothing_from_elsewhere(
    session: kernel_runtime.Session, house: Path
) -> None:
    """A process of the guest's swaps the directory for a link to the host's secret while the owner keeps."""
    session.run(
        f"""
import subprocess, sys
P('d').mkdir(); P('d/secret').write_text('of the guest'); P('l').symlink_to({str(house.parent)!r})
swap = '''
import os
while True:
    for a, b in (('d', 'c'), ('l', 'd'), ('d', 'l'), ('c', 'd')):
        os.rename(a, b)
'''
swapping = subprocess.Popen([sys.executable, '-c', swap])
        """
    )
    kept = 0
    for _ in range(300):
        try:
            kept += "d/secret" in session.files_keep("d/secret").done
        except NotFound:
            continue
        if (house / "d/secret").exists():
            assert (house / "d/secret").read_text() == "of the guest"
            (house / "d/secret").unlink()
    session.run("swapping.kill(); swapping.wait()")
    assert kept, "it was never even there to be kept"


def test_what_grants_is_never_kept(session: kernel_runtime.Session, house: Path) -> None:
    session.run(
        "P('.kernel-runtime').mkdir(); P('.kernel-runtime/policy.toml').write_text('allow = [\"process\"]')"
    )
    for path in (".", ".kernel-runtime", ".kernel-runtime/policy.toml"):
        assert session.files_keep(path).done == []
    assert os.listdir(house) == []


def test_what_is_dropped_is_as_on_the_host(session: kernel_runtime.Session, house: Path) -> None:
    for name in ("a.txt", "b.txt", "c.txt"):
        (house / name).write_text(f"host's {name}")
    (house / "c.txt").chmod(0o640)
    session.run(
        """
P('a.txt').write_text('changed'); P('b.txt').unlink(); P('c.txt').unlink(); P('c.txt').symlink_to('/etc')
P('d/e').mkdir(parents=True); P('d/e/f').write_text('x'); P('d/l').symlink_to('/'); os.mkfifo('d/p')
        """
    )
    assert session.files_drop("a.txt").done == ["a.txt"]
    outcome = session.files_drop()
    assert outcome.refused == {}
    assert listed(session) == ["no file was added, changed or removed"]
    seen = "{n: P(n).read_text() for n in sorted(os.listdir('.'))}"
    assert session.run(seen).result == str({n: f"host's {n}" for n in ("a.txt", "b.txt", "c.txt")})
    assert session.run("P('a.txt').write_text('mine again')").error is None, "it is the guest's still"
    assert (house / "a.txt").read_text() == "host's a.txt"
    assert session.files_drop().done == ["a.txt"]


def test_a_directory_that_was_removed_stays_so(session: kernel_runtime.Session, house: Path) -> None:
    (house / "d").mkdir()
    session.run("P('d').rmdir()")
    assert listed(session) == ["- d  a directory"]
    for outcome in (session.files_drop("d"), session.files_keep("d")):
        assert list(outcome.refused) == ["d"]
    assert (house / "d").is_dir()


def test_it_is_bounded_however_much_there_is(
    session: kernel_runtime.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlay, "MOST_ENTRIES", 20)
    session.run("[P(str(n)).touch() for n in range(50)]")
    found = session.files()
    assert len(found.changes) == 20
    assert "more than 20 entries" in str(found)


def test_a_tree_of_any_depth_does_no_harm(session: kernel_runtime.Session) -> None:
    session.run("for n in range(3000): os.mkdir('d'); os.chdir('d')")
    found = session.files()
    assert any("File name too long" in why for why in found.unread.values())
    session.run("for n in range(3000): os.chdir('..'); os.rmdir('d')")


def test_a_sparse_file_is_not_read_for_ever(session: kernel_runtime.Session, house: Path) -> None:
    (house / "big").write_bytes(b"")
    os.truncate(house / "big", 1 << 36)
    session.run("P('big2').touch(); os.truncate('big2', 40 << 20); os.remove('big')", check=True)
    assert "+ big2  40" in str(session.files())
    assert "more than" in session.files_diff("big2") or "sha256" in session.files_diff("big2")
    assert "not read" in session.files_diff("big")


def test_a_guest_without_a_directory_of_its_own_has_none() -> None:
    with (
        kernel_runtime.Session(workdir=None, memory="256M", automatic=False) as session,
        pytest.raises(Conflict, match="no layer"),
    ):
        session.files()
