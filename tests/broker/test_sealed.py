"""What apps that ask for encryption keep: sealed on disk, bound to its place, opened after a change of keys."""

from __future__ import annotations

import asyncio
import base64
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from kernel_runtime.broker.handler import Call
from kernel_runtime.broker.log import LogHandler, Logs
from kernel_runtime.broker.sealed import MARK, SealedStorage
from kernel_runtime.broker.storage import StorageHandler
from kernel_runtime.domain import packed
from kernel_runtime.domain.errors import Conflict, Damaged
from kernel_runtime.domain.log import LogRecord, Severity

if TYPE_CHECKING:
    from kernel_runtime.state import State

VALUE, OTHER = "a value that nobody else may read", "another one that nobody may read"


class App:
    """What one session of an app does with its storage; ``sealed``: its manifest asks for encryption."""

    def __init__(self, state: State, *, sealed: bool, space: str = "app 1") -> None:
        self.handler = StorageHandler(lambda: state.drawer(space, sealed=sealed), space)

    def __call__(self, action: str, **arguments: Any) -> Any:
        call = Call(capability="storage", action=action, arguments=arguments)
        return asyncio.run(self.handler.perform(call, None)).value  # asks for nothing

    def end(self) -> None:
        asyncio.run(self.handler.close())


def once(state: State, action: str, *, sealed: bool = True, space: str = "app 1", **arguments: Any) -> Any:
    """In a session of its own."""
    app = App(state, sealed=sealed, space=space)
    try:
        return app(action, **arguments)
    finally:
        app.end()


@pytest.fixture
def keyed(state: State) -> State:
    """A state with a master key, as the operator makes one."""
    state.vault().rotate_master()
    return state


def sql(state: State, file: str, statement: str, *values: Any) -> list[Any]:
    connection = sqlite3.connect(state.directory / file)
    rows = connection.execute(statement, values).fetchall()
    connection.commit()
    connection.close()
    return rows


def on_disk(state: State) -> bytes:
    return b"".join(path.read_bytes() for path in state.directory.rglob("*") if path.is_file())


def test_what_is_kept_comes_back_and_is_nowhere_to_be_read(keyed: State) -> None:
    app = App(keyed, sealed=True)
    app("set", key="text", value=VALUE)
    app("set", key="blob", value=OTHER.encode())
    assert app("get", key="text") == {"found": True, "value": VALUE}
    for _ in ("while it runs", "afterwards"):
        written = on_disk(keyed)
        assert b"blob" in written  # names are no secret, and the control: they would be found
        assert VALUE.encode() not in written
        assert OTHER.encode() not in written
        app.end()
    assert once(keyed, "get", key="blob") == {"found": True, "value": OTHER.encode()}
    assert once(keyed, "get", key="none") == {"found": False, "value": None}
    once(keyed, "set", sealed=False, space="app 2", key="x", value=VALUE)
    assert VALUE.encode() in on_disk(keyed)  # the control: who does not ask is not sealed


def test_what_a_log_record_says_is_sealed_on_disk(keyed: State) -> None:
    record = LogRecord(
        number=1, at=1.0, level=Severity.INFO, message=VALUE, fields={"why": OTHER}, app="a", session="s"
    )
    keyed.log_store("app 1", sealed=True).add([record])
    assert VALUE.encode() not in on_disk(keyed)
    assert OTHER.encode() not in on_disk(keyed)
    assert keyed.log_store("app 1", sealed=False).records("a") == [record], "once sealed, always opened"
    keyed.log_store("app 2", sealed=False).add([record])
    assert VALUE.encode() in on_disk(keyed)  # the control: who does not ask is not sealed
    assert [one.message for one in keyed.log_store("app 1", sealed=True).records("a")] == [VALUE, VALUE]


@pytest.mark.parametrize("change", ["message = 'no base64'", "message = 'AAAA'", "session = 'other'"])
def test_a_log_record_that_was_changed_is_noticed(keyed: State, change: str) -> None:
    record = LogRecord(number=1, at=1.0, level=Severity.INFO, message=VALUE, app="a", session="s")
    keyed.log_store("app 1", sealed=True).add([record])
    sql(keyed, "state.db", f"UPDATE logs SET {change}")
    with pytest.raises(Damaged, match="log"):
        keyed.log_store("app 1", sealed=True).records("a")


def test_without_a_master_key_log_records_stay_in_memory(state: State) -> None:
    async def story() -> tuple[int, int]:
        logs = Logs()
        handler = LogHandler(logs, lambda: state.log_store("app 1", sealed=True))
        await handler.perform(Call(capability="log", action="write", arguments={"message": VALUE}), None)
        await handler.close()
        return len(logs.records), logs.lost

    assert asyncio.run(story()) == (1, 1)
    assert VALUE.encode() not in on_disk(state)


def test_keys_quota_and_removal_are_as_in_the_open(keyed: State) -> None:
    app = App(keyed, sealed=True)
    for key in ("a/1", "a/2", "b"):
        app("set", key=key, value=key)
    assert app("keys", prefix="a/") == ["a/1", "a/2"]
    assert app("delete", key="b") is True
    assert app("get", key="b")["found"] is False
    small = StorageHandler(lambda: keyed.drawer("app 1", sealed=True), "app 1", quota=100)
    with pytest.raises(Conflict, match="quota"):
        asyncio.run(small.perform(Call(capability="storage", action="set", arguments={"key": "c"}), None))
    asyncio.run(small.close())
    app.end()


@pytest.mark.parametrize(
    ("space", "key"), [("app 1", "b"), ("app 2", "a")], ids=["of another key", "of another app"]
)
def test_a_row_in_anothers_place_is_noticed(keyed: State, space: str, key: str) -> None:
    for name in ("app 1", "app 2"):
        once(keyed, "set", space=name, key="a", value=VALUE)
        once(keyed, "set", space=name, key="b", value=OTHER)
    (kept,) = sql(keyed, "storage.db", "SELECT value FROM storage WHERE app = 'app 1' AND key = 'a'")
    change = "UPDATE storage SET value = ? WHERE app = ? AND key = ?"
    sql(keyed, "storage.db", change, kept[0], "app 1", "a")
    assert once(keyed, "get", key="a")["value"] == VALUE  # the control: its own place
    sql(keyed, "storage.db", change, kept[0], space, key)
    with pytest.raises(Damaged, match=f"'{key}' is not what this app wrote"):
        once(keyed, "get", space=space, key=key)


def test_a_value_is_bound_to_its_app_whatever_key_seals_it(state: State) -> None:
    store = state.storage()
    sealed = SealedStorage(store, bytes(32))
    sealed.set("app 1", "a", b"1", 10_000)
    kept = store.get("app 1", "a")
    assert kept is not None
    store.set("app 2", "a", kept, 10_000)
    assert sealed.get("app 1", "a") == b"1"  # the control
    with pytest.raises(Damaged):
        sealed.get("app 2", "a")
    store.close()


@pytest.mark.parametrize("value", [packed.pack("planted"), MARK, MARK + bytes(40), b""])
def test_what_the_app_did_not_write_is_refused(keyed: State, value: bytes) -> None:
    once(keyed, "set", key="a", value=VALUE)
    sql(keyed, "storage.db", "UPDATE storage SET value = ?", value)
    with pytest.raises(Damaged):
        once(keyed, "get", key="a")
    once(keyed, "set", key="a", value=OTHER)
    assert once(keyed, "get", key="a")["value"] == OTHER


def test_the_key_of_another_app_or_state_does_not_open(keyed: State) -> None:
    once(keyed, "set", key="a", value=VALUE)
    once(keyed, "set", space="app 2", key="a", value=VALUE)
    sql(
        keyed,
        "state.db",
        "UPDATE data_keys SET wrapped = (SELECT wrapped FROM data_keys WHERE space = 'app 2')",
    )
    assert once(keyed, "get", space="app 2", key="a")["value"] == VALUE  # the control
    with pytest.raises(Damaged, match="key of this app's data"):
        once(keyed, "get", key="a")


def test_a_key_cannot_be_said_to_have_more_to_seal(keyed: State) -> None:
    """Else what somebody planted in the open would be sealed as the app's."""
    once(keyed, "set", key="a", value=VALUE)
    sql(keyed, "state.db", "UPDATE data_keys SET whole = 0")
    with pytest.raises(Damaged):
        once(keyed, "get", key="a")


def test_another_master_key_does_not_open(keyed: State) -> None:
    once(keyed, "set", key="a", value=VALUE)
    file = keyed.directory / "master.key"
    right = file.read_text()
    file.write_text(base64.b64encode(bytes(32)).decode())
    for action in ("get", "set"):
        with pytest.raises(Conflict, match=r"the master key \w+ is not here"):
            once(keyed, action, key="a")
    file.write_text(right)
    assert once(keyed, "get", key="a")["value"] == VALUE  # the control


def test_a_new_master_key_opens_what_the_old_one_sealed(keyed: State) -> None:
    running = App(keyed, sealed=True)
    running("set", key="a", value=VALUE)
    before = (keyed.directory / "master.key").read_text()
    keyed.vault().rotate_master()
    assert (keyed.directory / "master.key").read_text() != before
    assert running("get", key="a")["value"] == VALUE
    assert once(keyed, "get", key="a")["value"] == VALUE
    running("set", key="b", value=OTHER)
    running.end()
    assert once(keyed, "get", key="b")["value"] == OTHER


def test_without_a_master_key_nothing_is_kept(state: State) -> None:
    for action, arguments in (("set", {"value": VALUE}), ("get", {})):
        with pytest.raises(Conflict, match="there is no master key here"):
            once(state, action, key="a", **arguments)
    assert not (state.directory / "master.key").exists()
    assert once(state, "keys", sealed=False) == []
    assert VALUE.encode() not in on_disk(state)
    state.vault().rotate_master()  # what the error says
    once(state, "set", key="a", value=VALUE)
    assert once(state, "get", key="a")["value"] == VALUE


def test_what_lay_in_the_open_is_sealed_when_the_app_first_asks(keyed: State) -> None:
    once(keyed, "set", sealed=False, key="a", value=VALUE)
    once(keyed, "set", sealed=False, key="big", value=OTHER * 1000)
    once(keyed, "set", sealed=False, space="app 2", key="a", value="of another")
    assert VALUE.encode() in on_disk(keyed)  # the control
    other = App(keyed, sealed=False, space="app 2")  # open all the while: the file's log stays
    assert other("get", key="a")["value"] == "of another"
    assert once(keyed, "get", key="a")["value"] == VALUE
    assert VALUE.encode() not in on_disk(keyed)
    assert OTHER.encode() not in on_disk(keyed)
    other.end()
    assert once(keyed, "get", key="big")["value"] == OTHER * 1000
    assert once(keyed, "get", sealed=False, space="app 2", key="a")["value"] == "of another"
    counted = sql(keyed, "storage.db", "SELECT sum(size) FROM storage WHERE app = 'app 1'")
    assert once(keyed, "used")["used"] == counted[0][0]


def test_sealing_that_was_broken_off_is_done_to_its_end(
    keyed: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    once(keyed, "set", sealed=False, key="a", value=VALUE)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("kernel_runtime.broker.datakeys.DataKeys._finish", _interrupt)
        once(keyed, "get", key="a")
    assert once(keyed, "get", key="a")["value"] == VALUE
    rules = [record.rule for record in keyed.audit.records() if record.capability == "storage"]
    assert rules == ["key made", "sealed"]


def test_who_stops_asking_stays_sealed(keyed: State) -> None:
    once(keyed, "set", key="a", value=VALUE)
    assert once(keyed, "get", sealed=False, key="a")["value"] == VALUE
    once(keyed, "set", sealed=False, key="b", value=OTHER)
    assert OTHER.encode() not in on_disk(keyed)


def test_a_session_from_before_the_sealing_is_told(keyed: State) -> None:
    old = App(keyed, sealed=False)
    old("set", key="a", value=VALUE)
    assert once(keyed, "get", key="a")["value"] == VALUE
    with pytest.raises(Conflict, match="start this one anew"):
        old("get", key="a")
    old.end()


def test_all_values_are_changed_or_none(keyed: State) -> None:
    store = keyed.drawer("app 1", sealed=True)
    assert isinstance(store, SealedStorage)
    for key in "ab":
        store.set("app 1", key, b"1", 10_000)
    store.rewrite("app 1", lambda key, value: value + key.encode())
    assert [store.get("app 1", key) for key in "ab"] == [b"1a", b"1b"]
    with pytest.raises(ZeroDivisionError):
        store.rewrite("app 1", lambda key, value: value + b"!" if key == "a" else bytes(1 // 0))
    assert [store.get("app 1", key) for key in "ab"] == [b"1a", b"1b"]
    store.close()


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt
