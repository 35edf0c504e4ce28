"""The panel of permissions over a real gate and a real log: what it shows, what it grants and takes back."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from kernel_runtime.broker.broker import Use
from kernel_runtime.domain.decide import Request
from kernel_runtime.domain.errors import Conflict, NotFound
from kernel_runtime.domain.manifest import undeclared
from kernel_runtime.domain.rules import Effect, Span
from kernel_runtime.domain.scopes import parse_scope
from kernel_runtime.jupyter.panels import permission_html as pictures
from kernel_runtime.jupyter.panels.permission_html import MOST_ROWS, brief
from kernel_runtime.jupyter.panels.rights import matching
from kernel_runtime.state import State
from tests.jupyter.panels.boards import stage
from tests.jupyter.panels.guests import press, request, rights_in, run, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kernel_runtime.jupyter.panels.rights import Rights

NET = "net:api.example.org/GET"


@pytest.fixture
def rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rights]:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    with State(tmp_path / "state") as state:
        yield rights_in(state)


async def opened(rights: Rights, seconds: float = 3600.0) -> tuple[Any, Any, dict[str, Any]]:
    from kernel_runtime.jupyter.panels.permission_view import PermissionView

    place, ear, _ = stage()
    bundle = await place.show("p", lambda: PermissionView(lambda: {"": rights}, seconds), b"{}")
    return place.panel("p"), ear, bundle


def standing(rights: Rights) -> dict[str, tuple[Effect, bool, bool]]:
    return {right.scope: (right.effect, right.granted, right.grantable) for right in rights.read().rights}


def test_how_each_right_stands_and_by_which_rule(rights):
    assert standing(rights) == {
        NET: (Effect.ASK, False, True),
        "cache": (Effect.ALLOW, False, False),
        "secret:API_KEY": (Effect.DENY, False, False),
    }
    found = {right.scope: right for right in rights.read().rights}
    assert found["cache"].rule == "allow cache, policy.toml:1"
    assert found[NET].why.startswith("to fetch forecasts")


def test_what_was_requested_beside_the_manifest_is_listed_too(rights):
    for _ in range(2):
        rights.gate.ask(request("db:sales:read"))
    found = next(right for right in rights.read().rights if right.scope == "db:sales:read")
    assert (found.effect, found.times, found.declared, found.grantable) == (Effect.DENY, 2, False, False)
    with pytest.raises(Conflict, match="the manifest decides"):
        rights.grant("db:sales:read", Span.SESSION)


def test_what_its_requests_came_to_stands_beside_each_right(rights):
    for error in ("", "the disk is full"):
        rights.gate.performed(rights.gate.ask(request("cache")), size=1024, duration=0.25, error=error)
    (right,) = [right for right in rights.read().rights if right.scope == "cache"]
    assert (right.times, right.bytes, right.seconds, right.failed) == (2, 2048, 0.5, 1)
    assert "2 KB, 500 ms, 1 failed</span>" in pictures.rights([right])
    assert "Its requests came to 2 KB, 500 ms, 1 failed." in pictures.detail(right)


def test_the_calls_of_the_session_are_counted_while_they_run(rights):
    usage = {}
    rights._usage = lambda: usage

    async def story():
        view, _, _ = await opened(rights)
        await view.look()
        assert view._used.value == ""
        usage["log"] = Use(calls=2, seconds=0.5, bytes=2048, running=1)  # what is not decided, too
        await view.look()
        said = "called in this session: log 2 times (0.5 s, 2 KB, 1 under way)"
        assert said in view._used.value
        assert all(said in text for text in view.still())

    run(story)


def test_no_wildcard_is_offered_because_a_guest_has_asked_for_it(rights):
    rights.gate.manifest = undeclared(rights.gate.manifest.id)
    for scope in ("env:*", "secret:*", "files:read:/home/**", "env:TOKEN"):
        ticket = rights.gate.ask(Request(scope=parse_scope(scope)))
        assert not ticket.decision.allowed
    assert [right.scope for right in rights.read().rights] == ["env:TOKEN"]
    assert standing(rights)["env:TOKEN"] == (Effect.ASK, False, True)


def test_a_copy_of_the_manifest_elsewhere_is_another_app(rights, tmp_path):
    rights.gate.ask(request("db:sales:read"))
    before = rights.read()
    assert [wish.scope for wish in before.suggestion.undeclared] == ["db:sales:read"]
    with State(tmp_path / "state") as other:
        copied = rights_in(other, place="elsewhere")
        assert copied.read().records == []
        copied.gate.ask(request("env:COPIED"))
        copied.gate.ask(request(NET))
        asyncio.run(copied.revoke(NET))
        assert [record.event for record in copied.read().records] == ["revoked", "decision", "decision"]
    after = rights.read()
    assert after.records == before.records
    assert after.suggestion == before.suggestion
    assert after.rights == before.rights


@pytest.mark.parametrize("span", [Span.SESSION, Span.ALWAYS])
def test_what_is_granted_is_decided_so_and_revoked_no_more(rights, span):
    rights.grant(NET, span)
    assert standing(rights)[NET] == (Effect.ALLOW, True, False)
    assert rights.gate.ask(request()).decision.allowed
    assert "evoked: net" in asyncio.run(rights.revoke(NET))
    assert not rights.gate.ask(request()).decision.allowed
    events = [(record.event, record.decision) for record in rights.read().records]
    assert events == [("decision", "ask"), ("revoked", "deny"), ("decision", "allow"), ("granted", "allow")]


def test_a_grant_that_is_used_up_or_another_sessions_is_none(rights):
    assert rights.gate.answer(rights.gate.ask(request()), Span.ONCE).decision.allowed
    assert standing(rights)[NET] == (Effect.ASK, False, True)
    rights.gate.grant(Request(scope=parse_scope(NET), principal="ann", session="another"), Span.SESSION)
    assert standing(rights)[NET] == (Effect.ASK, False, True)
    assert not rights.gate.ask(request()).decision.allowed
    rights.grant(NET, Span.SESSION)
    assert standing(rights)[NET] == (Effect.ALLOW, True, False)


def test_what_the_person_denied_this_session_is_denied_and_can_be_granted(rights):
    rights._denied = lambda: ["net:api.example.org:443/GET"]
    (right,) = [right for right in rights.read().rights if right.scope == NET]
    assert (right.effect, right.rule, right.grantable) == (Effect.DENY, "the person, for this session", True)
    rights.grant(NET, Span.SESSION)
    assert standing(rights)[NET] == (Effect.ALLOW, True, False)


def test_what_is_revoked_in_another_session_is_seen_here(rights, tmp_path):
    async def story():
        rights.grant(NET, Span.SESSION)
        view, _, _ = await opened(rights)
        view._choice.value = NET
        assert not view._revoke.disabled
        with State(tmp_path / "state") as other:
            await rights_in(other).revoke(NET)
        await view.look()
        assert view._revoke.disabled
        assert "kr-ask" in view._picture.value.split(NET)[0]

    run(story)


def test_of_several_guests_one_is_looked_at_and_granted(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    from kernel_runtime.jupyter.panels.permission_view import PermissionView

    async def story():
        with State(tmp_path / "one") as one, State(tmp_path / "two") as two:
            guests = {"a": rights_in(one), "b": rights_in(two)}
            place, _, _ = stage()
            await place.show("p", lambda: PermissionView(lambda: guests, 3600.0), b"{}")
            view = place.panel("p")
            assert view._which.value == "a"
            view.turn_to("b")
            await view.look()
            view._choice.value = NET
            await press(view._acting, view._session)
            assert [len(rights.gate.grants) for rights in guests.values()] == [0, 1]
            del guests["b"]
            await view.look()
            await until(lambda: view._which.value == "a" and view._choice.value is None)
            await view.look()
            assert view._reading.rights
            assert not any(right.granted for right in view._reading.rights)
            guests.clear()
            await view.look()
            assert "no guest" in view.still()[0]
            with pytest.raises(NotFound):
                view.turn_to("b")

    run(story)


def test_what_another_thread_hears_is_drawn_in_the_panels_own(rights):
    """In an ordinary kernel its thread hears what the page says; the panel lives in another."""

    async def story():
        view, _, _ = await opened(rights)
        drawn: list[int] = []
        view._draw = lambda: drawn.append(threading.get_ident())
        await asyncio.to_thread(setattr, view._search, "value", "word")
        await until(lambda: drawn)
        assert set(drawn) == {threading.get_ident()}

    run(story)


def test_a_rule_that_denies_is_not_lifted(rights):
    with pytest.raises(Conflict, match="deny secret"):
        rights.grant("secret:API_KEY", Span.ALWAYS)
    assert len(rights.gate.grants) == 0


def test_a_click_grants_and_another_takes_it_back(rights):
    async def story():
        view, _, _ = await opened(rights)
        assert view._session.disabled, "nothing is chosen"
        view._choice.value = "secret:API_KEY"
        assert view._session.disabled, "a rule denies it"
        view._choice.value = NET
        assert "Granted for this session" in await press(view._acting, view._session)
        assert view._choice.value == NET
        assert view._session.disabled
        assert "kr-allow" in view._picture.value.split(NET)[0]
        assert "evoked: net" in await press(view._acting, view._revoke)
        assert "Granted always, for this version" in await press(view._acting, view._always)

    run(story)


def test_the_trail_is_searched_newest_first(rights):
    async def story():
        for text in ("cache", NET, "secret:API_KEY", "cache"):
            rights.gate.ask(request(text))
        view, _, _ = await opened(rights)
        view.tabs.value = "Audit trail"
        assert view._records.value.index('kr-number">4<') < view._records.value.index('kr-number">1<')
        view._search.value = "SECRET deny"
        assert "1 record, newest first" in view._records.value
        view._search.value, view._event.value = "", "granted"
        assert "0 records" in view._records.value

    run(story)


def test_the_table_is_bounded(rights):
    async def story():
        for _ in range(MOST_ROWS + 5):
            rights.gate.ask(request("cache"))
        view, _, _ = await opened(rights)
        view.tabs.value = "Audit trail"
        assert view._records.value.count("<tr>") == MOST_ROWS + 1
        assert f"{MOST_ROWS + 5} records, the newest {MOST_ROWS} are shown" in view._records.value

    run(story)


@pytest.mark.parametrize(
    ("rule", "short"),
    [
        ("allow cache, /home/ann/.config/kernel-runtime/policy.toml:3", "allow cache, policy.toml:3"),
        ("deny files:read:/etc/**, user", "deny files:read:/etc/**, user"),
        ("the manifest", "the manifest"),
    ],
)
def test_a_rule_is_shown_without_directories(rule, short):
    assert brief(rule) == short


def test_words_are_searched_in_every_field(rights):
    rights.gate.ask(request("cache"))
    records = rights.read().records
    for text in ("cache", "CACHE ann", "weather", "allow", "policy.toml", ""):
        assert matching(records, text) == records, text
    assert matching(records, "cache bob") == []


def test_it_follows_what_others_decide(rights):
    async def story():
        view, _, _ = await opened(rights, seconds=0.001)
        assert "db:sales:read" not in view._picture.value
        rights.gate.ask(request("db:sales:read"))
        await until(lambda: "db:sales:read" in view._picture.value)
        view.close()

    run(story)


def test_a_suggestion_is_ticked_and_written(rights, tmp_path):
    async def story():
        rights.gate.ask(request())
        rights.gate.ask(request("secret:API_KEY"))
        view, _, _ = await opened(rights)
        view.turn_to_suggestion()
        await view.look()
        assert [box.scope for box in view._wishes.children] == [NET]
        assert "secret:API_KEY" in view._rest.value, "what a rule denies is named, not suggested"
        assert "Tick what is to be allowed first." in await press(view._acting, view._write)
        view._wishes.children[0].value = True
        assert "1 line written to" in await press(view._acting, view._write)
        written = rights.records()[0]
        assert (written.event, written.capability, written.resource) == ("changed", "policy", NET)
        assert "policy.toml" in written.rule
        assert NET in (tmp_path / "config" / "kernel-runtime" / "policy.toml").read_text()
        assert rights.gate.ask(request()).decision.allowed, "the gate that runs decides by it"

    run(story)


def test_only_what_was_suggested_is_written_whatever_a_client_says(rights, tmp_path):
    async def story():
        rights.gate.ask(request())
        view, _, _ = await opened(rights)
        view.turn_to_suggestion()
        await view.look()
        view._wishes.children[0].set_state({"description": "net:*", "value": True})
        await press(view._acting, view._write)
        written = (tmp_path / "config" / "kernel-runtime" / "policy.toml").read_text()
        assert "net:*" not in written
        assert NET in written, "the control"

    run(story)


def test_saved_without_a_browser(rights):
    async def story():
        rights.gate.ask(request())
        _, _, bundle = await opened(rights)
        assert f"asks    {NET}" in bundle["text/plain"]
        assert "1 granted, 1 to be asked, 1 denied" in bundle["text/plain"]
        assert "Permissions" in bundle["text/html"]

    run(story)


def test_words_of_a_manifest_and_a_policy_are_only_text(rights):
    async def story():
        rights.gate.ask(request("secret:API_KEY"))
        view, ear, bundle = await opened(rights)
        for tab in ("Audit trail", "Suggested policy", "Rights"):
            view.tabs.value = tab
        told = [m["data"]["state"].get("value") for m in ear.contents("comm_open") + ear.contents("comm_msg")]
        said = "".join([bundle["text/html"], *(value for value in told if isinstance(value, str))])
        assert "&lt;script&gt;" in said, "the words are there"
        assert "<script" not in said
        assert "<img" not in said

    run(story)
