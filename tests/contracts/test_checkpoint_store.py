"""What every store of checkpoints does: on disk, encrypted on disk, in memory."""

from __future__ import annotations

import pytest

from kernel_runtime.domain.checkpoint import Part, Quota, Retention
from kernel_runtime.domain.errors import Conflict, Invalid, NotFound, ProtocolViolation, StorageFailed
from kernel_runtime.store import transfer
from kernel_runtime.store.checkpoints import DiskStore
from kernel_runtime.store.keys import Key, NoKey
from kernel_runtime.store.memory import MemoryStore
from tests.store.parcels import ABOUT, add, content, group, keep, part


@pytest.fixture(params=["disk", "sealed", "memory"])
def store(request, tmp_path):
    made = {
        "disk": lambda: DiskStore(tmp_path / "store", NoKey()),
        "sealed": lambda: DiskStore(tmp_path / "store", Key(b"k" * 32)),
        "memory": MemoryStore,
    }[request.param]()
    yield made
    made.close()


VALUES = {"a": b"a" * 70_00, "b": b"b" * 100, "c": bytes(range(256)) * 256}


def test_what_was_kept_comes_back(store):
    one = keep(store, VALUES, label="first")
    assert content(store, one.id) == VALUES
    assert one.names == ["a", "b", "c"] and one.size == sum(map(len, VALUES.values()))
    assert one.about == ABOUT and one.label == "first" and one.parent is None
    assert store.checkpoints() == [one] == store.checkpoints("book")
    assert store.checkpoints("other") == []


def test_only_what_is_new_need_be_sent(store):
    first = keep(store, VALUES)
    writer = store.begin("book")
    assert len(writer.known()) == 3 * 16
    writer.abort()
    second = keep(store, {**VALUES, "b": b"B" * 100})
    assert second.parent == first.id and second.added < first.added
    assert content(store, second.id) == {**VALUES, "b": b"B" * 100}
    assert content(store, first.id) == VALUES


def test_a_branch_starts_from_the_parent_that_is_named(store):
    first = keep(store, {"a": b"1"})
    keep(store, {"a": b"2"})
    third = keep(store, {"a": b"1"}, parent=first.id)
    assert third.parent == first.id
    assert content(store, third.id) == {"a": b"1"}


def test_another_key_knows_nothing_of_it(store):
    keep(store, VALUES)
    assert store.begin("other").known() == b""
    assert store.begin("book", parent="").known() == b""


def test_nothing_is_visible_before_commit_or_after_abort(store):
    writer = store.begin("book")
    add(writer, b"x")
    writer.group(group(1, ["x"], part(b"x")))
    assert store.checkpoints() == []
    writer.abort()
    assert store.checkpoints() == []


def test_found_by_id_beginning_and_label(store):
    first, second = keep(store, {"a": b"1"}, label="x"), keep(store, {"a": b"2"}, label="x")
    assert store.checkpoint(first.id) == first == store.checkpoint(first.id[:12])
    assert store.checkpoint("x") == second
    for name in ("nothing", ""):
        with pytest.raises(NotFound):
            store.checkpoint(name)
    with pytest.raises(NotFound):
        store.groups("nothing")
    with pytest.raises(NotFound):
        list(store.read(first.id, 9, 0))
    with pytest.raises(NotFound):
        store.begin("book", parent="nothing")


def test_an_ambiguous_beginning_is_refused(store):
    kept = [keep(store, {"a": b"%d" % number}) for number in range(40)]
    beginnings = [one.id[0] for one in kept]
    with pytest.raises(Conflict, match="give more of it"):
        store.checkpoint(max(beginnings, key=beginnings.count))


def test_removed_and_pruned_ones_are_gone_and_the_others_whole(store):
    kept = [keep(store, {"common": b"c" * 5000, "own": b"%d" % n * 3000}) for n in range(5)]
    store.remove(kept[2].id)
    with pytest.raises(NotFound):
        store.remove(kept[2].id)
    freed = store.prune(Retention(count=2))
    assert set(freed.checkpoints) == {kept[0].id, kept[1].id}
    assert store.checkpoints() == [kept[4], kept[3]]
    assert content(store, kept[4].id) == {"common": b"c" * 5000, "own": b"4" * 3000}
    assert content(store, kept[3].id)["own"] == b"3" * 3000


def test_retention_by_age_and_bytes_keeps_the_newest(store):
    kept = [keep(store, {"a": b"%d" % n * 1000}) for n in range(4)]
    later = kept[-1].made + 1000
    assert store.prune(Retention(count=None, age=5000), lambda: later).checkpoints == []
    assert set(store.prune(Retention(count=None, bytes=1)).checkpoints) == {one.id for one in kept[:3]}
    assert store.prune(Retention(count=0, age=1), lambda: later).checkpoints == []
    assert content(store, kept[3].id) == {"a": b"3" * 1000}


def test_retention_takes_none_that_a_person_has_labelled(store):
    named = keep(store, {"a": b"0"}, label="monday")
    made = [
        keep(store, {"a": b"%d" % n}, label=label) for n, label in enumerate(("automatic", "", "", ""), 1)
    ]
    everything = Retention(count=1, age=1, bytes=1)
    later = made[-1].made + 1000
    assert set(store.prune(everything, lambda: later).checkpoints) == {one.id for one in made[:3]}
    assert store.checkpoints() == [made[3], named]
    assert content(store, named.id) == {"a": b"0"}
    assert store.prune(Retention(count=1, labelled=True)).checkpoints == [named.id]  # the control


def test_labelled_ones_take_nothing_from_the_count_of_the_others(store):
    loose = [keep(store, {"a": b"%d" % n}) for n in range(2)]
    for n in range(3):
        keep(store, {"a": b"%d" % n}, label=f"name{n}")
    assert store.prune(Retention(count=2)).checkpoints == []
    assert store.prune(Retention(count=1)).checkpoints == [loose[0].id]


def test_the_newest_of_a_key_goes_only_when_that_is_asked_for(store):
    one = keep(store, VALUES)
    assert store.prune(Retention(age=1), lambda: one.made + 9).checkpoints == []
    assert store.prune(Retention(age=1, newest=True), lambda: one.made + 9).checkpoints == [one.id]


def test_retention_of_one_key_leaves_the_others_alone(store):
    own = [keep(store, {"a": b"%d" % n}, key="book") for n in range(2)]
    others = [keep(store, {"a": b"%d" % n}, key="other") for n in range(2)]
    assert store.prune(Retention(count=1), key="book").checkpoints == [own[0].id]
    assert store.prune(Retention(count=1)).checkpoints == [others[0].id]


def test_a_label_means_ones_own_first(store):
    own = [keep(store, {"a": b"%d" % n}, key="mine", label="monday") for n in range(2)]
    other = keep(store, {"a": b"3"}, key="theirs", label="monday")
    assert store.checkpoint("monday", "mine") == own[1]
    assert store.checkpoint("monday", "theirs") == other
    assert store.checkpoint(own[0].id, "theirs") == own[0]  # an id is what it is


def test_a_label_of_only_one_other_is_its_newest(store):
    other = [keep(store, {"a": b"%d" % n}, key="theirs", label="monday") for n in range(2)]
    assert store.checkpoint("monday", "mine") == store.checkpoint("monday") == other[1]


def test_a_label_of_several_others_is_a_conflict_that_lists_their_newest(store):
    older = keep(store, {"a": b"0"}, key="one", label="monday")
    several = [keep(store, {"a": b"1"}, key=key, label="monday") for key in ("one", "x\x1b[2J", "three")]
    with pytest.raises(Conflict, match="3 sessions or notebooks have a checkpoint 'monday'") as refused:
        store.checkpoint("monday", "mine")
    said = str(refused.value)
    assert [one.id in said for one in (older, *several)] == [False, True, True, True]
    assert "of 'one'" in said and "\x1b" not in said
    assert store.checkpoint(several[1].id, "mine") == several[1]


def test_a_label_goes_before_the_beginning_of_an_id(store):
    first = keep(store, {"a": b"1"}, key="theirs")
    named = keep(store, {"a": b"2"}, key="mine", label=first.id[:3])
    assert store.checkpoint(first.id[:3], "mine") == named == store.checkpoint(first.id[:3], "theirs")
    assert store.checkpoint(first.id[:4], "mine") == first


def test_what_is_not_there_is_told_with_what_is(store):
    with pytest.raises(NotFound, match="no checkpoint 'monday'; there are none"):
        store.checkpoint("monday")
    keep(store, VALUES, key="theirs", label="friday")
    loose = keep(store, VALUES, key="mine", label="automatic")
    with pytest.raises(NotFound, match="did you mean 'friday'"):
        store.checkpoint("fridy", "mine")
    with pytest.raises(NotFound, match=f"there are '{loose.id}', 'friday'"):
        store.checkpoint("zz", "mine")


def test_skipped_variables_are_told(store):
    writer = store.begin("book")
    writer.skip("gen", "a generator")
    assert writer.commit(ABOUT).skipped == {"gen": "a generator"}


HOSTILE = {
    "a chunk that never came": lambda w: w.group(group(1, ["x"], part(b"never"))),
    "a size that is not its chunks'": lambda w: (
        add(w, b"x"),
        w.group(group(1, ["x"], Part(size=2, digests=part(b"x").digests))),
    ),
    "fewer digests than chunks": lambda w: w.add(b"", [memoryview(b"x")]),
    "a chunk twice": lambda w: (add(w, b"x"), add(w, b"x")),
    "an empty chunk": lambda w: add(w, b""),
    "a chunk too large": lambda w: add(w, b"x" * 65_537),
    "a digest that is cut": lambda w: (
        add(w, b"x"),
        w.group(group(1, ["x"], Part(size=1, digests=b"x" * 15))),
    ),
    "a group twice": lambda w: (add(w, b"x"), [w.group(group(1, ["x"], part(b"x"))) for _ in range(2)]),
    "a group without parts": lambda w: w.group(group(1, ["x"])),
    "a variable in two groups": lambda w: (
        add(w, b"x"),
        [w.group(group(number, ["x"], part(b"x"))) for number in (1, 2)],
        w.commit(ABOUT),
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_writer_is_refused(store, what):
    with pytest.raises(ProtocolViolation):
        HOSTILE[what](store.begin("book"))
    assert store.checkpoints() == []
    assert content(store, keep(store, VALUES).id) == VALUES  # the control: an honest one is not


def test_a_quota_ends_it(store):
    for quota in (Quota(bytes=10), Quota(chunks=3), Quota(names=3)):
        writer = store.begin("book", quota=quota)
        with pytest.raises(StorageFailed, match="quota"):
            for number in range(5):
                chunk = b"%03d" % number
                add(writer, chunk)
                writer.group(group(number, [f"v{number}"], part(chunk)))
        writer.abort()


def test_a_checkpoint_that_restores_more_than_the_quota_is_refused(store):
    """One chunk, named a million times, would be a bomb."""
    writer = store.begin("book", quota=Quota(bytes=1_000_000))
    add(writer, b"x" * 60_000)
    with pytest.raises(StorageFailed, match="quota"):
        writer.group(group(1, ["x"], part(*[b"x" * 60_000] * 20)))
    writer.abort()


def test_carried_over_in_a_file(store, tmp_path):
    one = keep(store, VALUES, label="carried")
    size = transfer.export(store, one.id, tmp_path / "file.krc")
    assert size == (tmp_path / "file.krc").stat().st_size
    other = DiskStore(tmp_path / "other", NoKey())
    taken = transfer.take_in(other, tmp_path / "file.krc")
    assert content(other, taken.id) == VALUES
    assert (taken.label, taken.key, taken.about, taken.skipped) == (
        one.label,
        one.key,
        one.about,
        one.skipped,
    )
    other.close()


_SAID = "checkpoint of today is kept\n%restore theirs brings it back"
HEADS = {
    "a label of two lines": ({"label": _SAID}, "the checkpoint's label: .* is not a name"),
    "a label that a terminal obeys": ({"label": "a\x1b[2J"}, "the checkpoint's label: .* is not a name"),
    "a label without end": ({"label": "a" * 9999}, "the checkpoint's label: .* is not a name"),
    "a key of two lines": ({"key": "book\n" + _SAID}, "the session or notebook .* cannot be shown"),
    "a key without end": ({"key": "a" * 9999}, "the session or notebook .* cannot be shown"),
}


@pytest.mark.parametrize("what", HEADS)
def test_a_file_says_nothing_in_our_lines(store, tmp_path, what):
    head, said = HEADS[what]
    path = tmp_path / "file.krc"
    transfer.export(store, keep(store, VALUES, **{"key": "book", "label": "", **head}).id, path)
    count = len(store.checkpoints())
    with pytest.raises(Invalid, match=rf"file\.krc: {said}"):
        transfer.take_in(store, path)
    assert len(store.checkpoints()) == count
    for label in ("", "automatic", "monday"):  # the control
        transfer.export(store, keep(store, VALUES, key="my notes/büch 1.ipynb", label=label).id, path)
        assert transfer.take_in(store, path).label == label


def test_a_file_that_is_cut_or_altered_is_refused(store, tmp_path):
    path = tmp_path / "file.krc"
    transfer.export(store, keep(store, VALUES).id, path)
    whole = path.read_bytes()
    count = len(store.checkpoints())
    bad = [whole[:size] for size in (0, 4, 8, 20, len(whole) // 2, len(whole) - 1)]
    bad += [
        whole[:place] + bytes([whole[place] ^ 0x40]) + whole[place + 1 :] for place in range(8, len(whole), 7)
    ]
    bad.append(whole + whole[8:])
    refused = 0
    for data in bad:
        path.write_bytes(data)
        try:
            taken = transfer.take_in(store, path)
        except (Invalid, StorageFailed) as error:
            refused += 1
            assert len(data) != len(whole) - 1 or "it is cut; export it again" in str(error)
        else:  # a bit of a value's own bytes, or of the label: another checkpoint, whole in itself
            assert set(content(store, taken.id)) >= {"a", "b"}
            store.remove(taken.id)
    assert refused >= len(bad) // 2
    assert len(store.checkpoints()) == count
