"""What a writer takes over from the parent: as long as it is there."""

from __future__ import annotations

import contextlib

import pytest

from kernel_runtime.domain.checkpoint import Retention
from kernel_runtime.domain.errors import Conflict
from kernel_runtime.store.checkpoints import DiskStore
from kernel_runtime.store.keys import NoKey
from tests.store.parcels import ABOUT, content, group, keep, part

VALUES = {"a": b"a" * 100, "b": b"b" * 200, "c": b"c" * 300}


@pytest.fixture
def store(tmp_path):
    with contextlib.closing(DiskStore(tmp_path / "store", NoKey())) as opened:
        yield opened


def _begin(store):
    writer = store.begin("book")
    assert len(writer.known()) == 3 * 16
    for number, (name, value) in enumerate(VALUES.items()):
        writer.group(group(number, [name], part(value)))
    return writer


@pytest.mark.parametrize("whose", ["own", "another"])
def test_chunks_that_were_pruned_meanwhile_are_missed(store, whose):
    kept = keep(store, VALUES)
    writer = _begin(store)
    with contextlib.closing(DiskStore(store.directory, NoKey())) as other:
        pruning = store if whose == "own" else other
        pruning.remove(kept.id)
        pruning.prune(Retention())
    with pytest.raises(Conflict, match="pruned"):
        writer.commit(ABOUT)
    assert store.checkpoints() == []


@pytest.mark.parametrize("whose", ["own", "another"])
def test_what_else_was_written_meanwhile_is_no_harm(store, whose):
    keep(store, VALUES)
    writer = _begin(store)
    with contextlib.closing(DiskStore(store.directory, NoKey())) as other:
        keep(store if whose == "own" else other, {"x": b"x"}, key="other")
    assert content(store, writer.commit(ABOUT).id) == VALUES


@pytest.mark.parametrize(("wanted", "apart"), [({3, 4, 7}, False), ({1, 59}, True), ({2, 10_000}, True)])
def test_sizes_are_found_whether_numbers_lie_together_or_apart(store, wanted, apart):
    keep(store, {str(number): b"%d" % number for number in range(1, 60)})
    there = dict(store.manifest.rows("SELECT id, size FROM chunks"))
    found = store.manifest.sizes_of(wanted)
    assert {number: found[number] for number in wanted & there.keys()} == {
        number: there[number] for number in wanted & there.keys()
    }
    assert set(found) <= set(there)
    assert (set(found) <= wanted) == apart


def test_no_sizes_are_asked_for(store):
    assert store.manifest.sizes_of(set()) == {}
