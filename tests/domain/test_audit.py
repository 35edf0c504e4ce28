"""The chain: whatever is altered, deleted, put elsewhere or cut off is told."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_runtime.domain.audit import FIELDS, Entry, Head, Record, check_chain, hash_of, sealed

START = Head()


def chain(count: int) -> list[Record]:
    """Every other record has a holder; those without are as they were before there was one."""
    records: list[Record] = []
    head = START
    for number in range(count):
        entry = Entry(
            event="decision", app=f"app {number}", decision="allow", holder="place" if number % 2 else ""
        )
        records.append(sealed(entry, float(number), head))
        head = Head(records[-1].number, records[-1].hash)
    return records


def end(records: list[Record]) -> Head:
    return Head(records[-1].number, records[-1].hash)


def troubles(records: list[Record], last: Head | None) -> list[str]:
    return [f"{trouble.number}: {trouble.text}" for trouble in check_chain(records, START, last)]


def test_a_whole_chain_is_whole() -> None:
    records = chain(5)
    assert troubles(records, end(records)) == []
    assert troubles([], START) == []


def test_a_record_of_before_there_were_holders_has_the_hash_it_had() -> None:
    """Written by the release that knew no holder."""
    (first, *_) = chain(1)
    assert first.hash == "4d65700953805e3f681fa5605ec492e60082b85fde0d8453bfa183cbf30c1892"


@given(st.integers(0, 5), st.sampled_from(FIELDS), st.data())
def test_any_altered_field_is_told(place: int, field: str, data: st.DataObject) -> None:
    records = chain(6)
    before = getattr(records[place], field)
    values: Any = st.text(max_size=70) if isinstance(before, str) else st.integers(0, 99).map(type(before))
    after = data.draw(values.filter(lambda value: value != before))
    altered = [
        *records[:place],
        msgspec.structs.replace(records[place], **{field: after}),
        *records[place + 1 :],
    ]
    assert troubles(altered, end(records))


@given(st.sets(st.integers(0, 5), min_size=1, max_size=6))
def test_any_deleted_records_are_told(gone: set[int]) -> None:
    records = chain(6)
    left = [record for number, record in enumerate(records) if number not in gone]
    assert troubles(left, end(records))


@given(st.permutations(range(6)).filter(lambda order: order != list(range(6))))
def test_any_other_order_is_told(order: list[int]) -> None:
    records = chain(6)
    assert troubles([records[number] for number in order], end(records))


def test_what_is_missing_is_named() -> None:
    records = chain(6)
    assert troubles([*records[:2], *records[4:]], end(records)) == ["5: records 3 to 4 are missing before it"]
    (cut,) = troubles(records[:4], end(records))
    assert cut.startswith("4: records 5 to 6 are missing")


def test_a_record_that_was_altered_and_hashed_again_does_not_fit() -> None:
    records = chain(4)
    forged = msgspec.structs.replace(records[1], decision="deny")
    forged = msgspec.structs.replace(forged, hash=hash_of(forged))
    assert troubles([records[0], forged, *records[2:]], end(records)) == [
        "3: it does not follow from the record before it"
    ]


def test_who_rewrites_all_of_it_is_told_by_a_head_noted_elsewhere() -> None:
    records = chain(4)
    noted = end(records)
    head, forged = START, []
    for record in records:
        entry = Entry(event="decision", app="forged")
        forged.append(sealed(entry, record.at, head))
        head = Head(forged[-1].number, forged[-1].hash)
    assert troubles(forged, head) == []
    assert troubles(forged, noted)


@pytest.mark.parametrize("twice", range(3))
def test_a_repeated_record_is_told(twice: int) -> None:
    records = chain(3)
    assert troubles([*records[: twice + 1], *records[twice:]], end(records))
