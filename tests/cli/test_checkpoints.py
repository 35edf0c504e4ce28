"""``kernel-runtime checkpoints``: on the host alone, whatever lies in them."""

from __future__ import annotations

import json
import os

import pytest

import kernel_runtime
from kernel_runtime.store.checkpoints import DiskStore
from kernel_runtime.store.keys import NoKey
from kernel_runtime.workers.checkpoints import Restored
from tests.store.parcels import ABOUT, add, content, group, keep, part

HOSTILE_NAME = "x\x1b]0;title\x07"


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Two checkpoints in the default place; the second has skipped a variable."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("KERNEL_RUNTIME_CHECKPOINT_KEY", raising=False)
    store = DiskStore(key=NoKey())
    first = keep(store, {"a": b"a" * 1000}, label="monday")
    writer = store.begin("book", label="tuesday")
    add(writer, b"new")
    writer.group(group(1, [HOSTILE_NAME], part(b"new")))
    writer.skip("gen", "a generator \x1b[31m")
    second = writer.commit(ABOUT)
    store.close()
    return first, second


def test_listed_and_shown(invoke, kept):
    done = invoke("checkpoints", "list")
    assert done.exit_code == 0
    assert done.output.index("tuesday") < done.output.index("monday")
    listed = json.loads(invoke("checkpoints", "list", "--json", "--key", "book").output)
    assert [one["id"] for one in listed] == [one.id for one in reversed(kept)]
    assert json.loads(invoke("checkpoints", "list", "--json", "--key", "other").output) == []
    shown = invoke("checkpoints", "show", "tuesday").output
    assert "not saved: gen: a generator" in shown and "numpy 2.4.6" in shown
    assert json.loads(invoke("checkpoints", "show", "monday", "--json").output)["groups"] == [
        {"names": ["a"], "size": 1000}
    ]


def test_what_a_guest_named_does_not_reach_the_terminal(invoke, kept):
    assert "\x1b" not in invoke("checkpoints", "show", "tuesday").output
    assert "\x1b" not in invoke("checkpoints", "list").output


def test_exported_imported_and_removed(invoke, kept, tmp_path):
    file = tmp_path / "monday.krc"
    assert invoke("checkpoints", "export", "monday", file).exit_code == 0
    assert invoke("checkpoints", "rm", "monday", "tuesday").exit_code == 0
    assert invoke("checkpoints", "list").output == "there are no checkpoints\n"
    assert not list((tmp_path / "state/kernel-runtime/checkpoints/packs").iterdir())
    assert invoke("checkpoints", "import", file).exit_code == 0
    store = DiskStore(key=NoKey())
    assert content(store, store.checkpoint("monday").id) == {"a": b"a" * 1000}
    store.close()


def _left(invoke):
    return [one["label"] for one in json.loads(invoke("checkpoints", "list", "--json").output)]


@pytest.fixture
def mixed(kept):
    """Two with a label, then two without."""
    store = DiskStore(key=NoKey())
    for label in ("", "automatic"):
        keep(store, {"a": os.urandom(500)}, label=label)
    store.close()


def test_pruned(invoke, mixed):
    assert "removed 0" in invoke("checkpoints", "prune").output
    for age in ("7d", "2w", "1.5h"):
        assert "removed 0" in invoke("checkpoints", "prune", "--age", age).output
    assert "removed 0" in invoke("checkpoints", "prune", "--count", "1", "--key", "other").output
    done = invoke("checkpoints", "prune", "--count", "1").output
    assert "removed 1 checkpoints" in done and "2 more that have a label stay; --labelled" in done
    assert _left(invoke) == ["automatic", "tuesday", "monday"]
    done = invoke("checkpoints", "prune", "--count", "1", "--labelled").output
    assert "removed 2 checkpoints" in done and "tuesday" in done and "monday" in done and "stay" not in done
    assert _left(invoke) == ["automatic"]
    assert "removed 0" in invoke("checkpoints", "prune", "--age", "0s").output
    assert "removed 1" in invoke("checkpoints", "prune", "--age", "0s", "--newest").output
    assert _left(invoke) == []


def test_a_dry_run_says_what_would_go_and_removes_nothing(invoke, mixed):
    before = json.loads(invoke("checkpoints", "list", "--json").output)
    done = invoke("checkpoints", "prune", "--count", "1", "--dry-run").output
    assert "would remove 1 checkpoints; nothing was removed" in done and "2 more that have a label" in done
    assert [one["id"] in done for one in before] == [False, True, False, False]
    assert json.loads(invoke("checkpoints", "list", "--json").output) == before


def test_a_label_that_several_have_is_refused_with_their_ids(invoke, kept):
    store = DiskStore(key=NoKey())
    other = keep(store, {"a": b"b"}, key="another", label="monday")
    store.close()
    for words in (("show",), ("rm",), ("export",)):
        done = invoke("checkpoints", *words, "monday", *(["file"] if words == ("export",) else []))
        assert done.exit_code == 2 and other.id in done.output and kept[0].id in done.output
    assert invoke("checkpoints", "rm", other.id).exit_code == 0
    assert invoke("checkpoints", "show", "monday").exit_code == 0


@pytest.mark.parametrize(
    "words",
    [
        ("show", "nothing"),
        ("rm", "nothing"),
        ("prune", "--age", "soon"),
        ("prune", "--age", "3y"),
        ("prune", "--age", "1hd"),
        ("prune", "--bytes", "much"),
        ("prune", "--count", "0"),
    ],
)
def test_bad_input_is_told_and_changes_nothing(invoke, kept, words):
    done = invoke("checkpoints", *words)
    assert done.exit_code == 2, done.output
    assert ("ms, s, m, h, d or w" in done.output) == ("--age" in words)
    assert len(json.loads(invoke("checkpoints", "list", "--json").output)) == 2


def test_packs_without_their_manifest_are_told(invoke, kept, tmp_path):
    place = tmp_path / "state/kernel-runtime/checkpoints"
    packs = sorted((place / "packs").iterdir())
    (place / "manifest.sqlite").write_bytes(b"")
    for words in (("list",), ("prune",), ("rm", "monday"), ("show", "monday")):
        done = invoke("checkpoints", *words)
        assert done.exit_code != 0 and "Nothing was removed" in done.output
    assert sorted((place / "packs").iterdir()) == packs != []


def test_a_file_that_is_no_checkpoint_is_refused(invoke, kept, tmp_path):
    (tmp_path / "file").write_bytes(os.urandom(100))
    done = invoke("checkpoints", "import", tmp_path / "file")
    assert done.exit_code == 2 and "no checkpoint" in done.output


def test_encrypted_ones_need_their_key(invoke, kept, monkeypatch, tmp_path):
    monkeypatch.setenv("KERNEL_RUNTIME_CHECKPOINT_KEY", "ab" * 32)
    store = DiskStore()
    sealed = keep(store, {"secret": b"the secret value" * 100}, label="hidden")
    store.close()
    everything = b"".join(p.read_bytes() for p in (tmp_path / "state").rglob("*") if p.is_file())
    assert b"the secret value" not in everything and b"hidden" not in everything
    assert "hidden" in invoke("checkpoints", "show", sealed.id).output
    monkeypatch.delenv("KERNEL_RUNTIME_CHECKPOINT_KEY")
    assert sealed.id in invoke("checkpoints", "list").output
    refused = invoke("checkpoints", "show", sealed.id)
    assert refused.exit_code == 2 and f"checkpoint {sealed.id} is encrypted" in refused.output
    assert "KERNEL_RUNTIME_CHECKPOINT_KEY_FILE" in refused.output
    invoke("checkpoints", "prune")
    key = tmp_path / "key"
    key.write_text("ab" * 32)
    monkeypatch.setenv("KERNEL_RUNTIME_CHECKPOINT_KEY_FILE", str(key))
    key.chmod(0o644)
    assert "chmod 600" in invoke("checkpoints", "show", "hidden").output
    key.chmod(0o600)
    assert "secret" in invoke("checkpoints", "show", "hidden").output
    monkeypatch.setenv("KERNEL_RUNTIME_CHECKPOINT_KEY", "short")
    assert invoke("checkpoints", "list").exit_code == 2


def test_restored_in_a_guest_and_used(invoke, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("KERNEL_RUNTIME_CHECKPOINT_KEY", raising=False)
    # The label is this test's alone: the runtime of this process may have opened another test's store.
    with kernel_runtime.Session(workdir=None, automatic=False, name="book") as session:
        session.run("def double(x): return 2 * x\nnumbers = [1, 2, 3]\nstream = iter(numbers)")
        session.checkpoint("sums")
    done = invoke("checkpoints", "restore", "sums", "-c", "print(double(sum(numbers)))")
    assert done.exit_code == 0, done.stderr
    assert "12\n" in done.output
    assert "of book are back: double, numbers" in done.stderr
    assert invoke("checkpoints", "restore", "sums", "--var", "numbers", "-c", "double").exit_code == 1
    assert "no checkpoint 'friday'" in invoke("checkpoints", "restore", "friday").stderr


def test_what_does_not_come_back_is_told_by_the_exit_code(invoke, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("KERNEL_RUNTIME_CHECKPOINT_KEY", raising=False)
    monkeypatch.setattr(kernel_runtime.Session, "load", _load(Restored(names=["a"], failed={"f": "gone"})))
    done = invoke("checkpoints", "restore", "monday")
    assert done.exit_code == 1
    assert "1 variable" in done.stderr and "not back: f: gone" in done.stderr
    assert invoke("checkpoints", "restore", "monday", "-c", "1").exit_code == 1
    assert invoke("checkpoints", "restore", "monday", "-c", "import os; os._exit(3)").exit_code == 5
    monkeypatch.setattr(kernel_runtime.Session, "load", _load(Restored(names=["a"], failed={})))
    assert invoke("checkpoints", "restore", "monday").exit_code == 0  # the control


def _load(restored):
    return lambda *_, **__: restored
