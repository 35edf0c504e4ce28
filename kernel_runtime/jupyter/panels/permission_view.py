"""The panel of permissions: what is asked, granted and denied, the audit trail, and a policy to approve."""

from __future__ import annotations

import asyncio
from html import escape as html_escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets

from kernel_runtime.domain.errors import NotFound
from kernel_runtime.domain.rules import Span
from kernel_runtime.jupyter.page_text import clean_tex, one_line
from kernel_runtime.jupyter.panels import permission_html as pictures
from kernel_runtime.jupyter.panels.acting import Acting, Ticker, counted, offer, row, show
from kernel_runtime.jupyter.panels.differences import escape
from kernel_runtime.jupyter.panels.rights import MOST_RECORDS, Reading, matching
from kernel_runtime.jupyter.panels.style import SHEET

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from kernel_runtime.jupyter.panels.rights import Right, Rights

LOOK_SECONDS = 1.0
RIGHTS, TRAIL, SUGGESTED = "Rights", "Audit trail", "Suggested policy"
EVENTS = ("decision", "answered", "granted", "revoked", "performed", "changed")
#: Suggested lines that can be ticked at once.
MOST_WISHES = 40


class PermissionView:
    """One panel for all guests; ``guests()`` says what each may do, by name. One without a name is the only one.
    It looks again by itself, also while a cell runs."""

    def __init__(self, guests: Callable[[], Mapping[str, Rights]], seconds: float = LOOK_SECONDS) -> None:
        self._guests = guests
        self._reading = Reading()
        self._seen: tuple[object, ...] = ()
        self._acting = Acting(self._draw)
        self._make_parts()
        self.root = self._assemble()
        for widget in (self.tabs, self._choice, self._search, self._event):
            widget.observe(lambda _: self._acting.soon(self._draw), "value")
        self.tabs.observe(lambda _: self._acting.hush(), "value")
        self._offer()
        self._which.observe(lambda _: self._acting.soon(self._turned), "value")
        self._turning: asyncio.Task[None] | None = None
        self._ticker = Ticker(seconds, self.look)
        self._draw()

    # -- parts -----------------------------------------------------------------------------------

    def _make_parts(self) -> None:
        self._head, self._picture, self._records, self._rest = (ipywidgets.HTML() for _ in range(4))
        self._detail, self._used = ipywidgets.HTML(), ipywidgets.HTML()
        self._picture.add_class("kr-picture")
        self._which = ipywidgets.ToggleButtons(options=[]).add_class("kr-tabs").add_class("kr-guests")
        self.tabs = ipywidgets.ToggleButtons(options=[RIGHTS, TRAIL, SUGGESTED]).add_class("kr-tabs")
        self._choice = ipywidgets.ToggleButtons(options=[]).add_class("kr-rows").add_class("kr-rights")
        self._search = ipywidgets.Text(placeholder="search", tooltip="words that a record is to have")
        self._event = ipywidgets.Dropdown(options=[("every event", ""), *((e, e) for e in EVENTS)])
        self._wishes = ipywidgets.VBox([]).add_class("kr-wishes")
        self._file = ipywidgets.Dropdown(options=[]).add_class("kr-wide")
        button = self._acting.button
        self._session = button(
            "Allow this session", "check", "until the kernel ends", self._grant(Span.SESSION)
        )
        self._session.button_style = "primary"
        self._always = button(
            "Always for this version", "check", "until it changes", self._grant(Span.ALWAYS)
        )
        self._revoke = button("Revoke", "ban", "take back what was granted", self._revoked)
        self._write = button(
            "Write to the policy", "pencil", "allow what is ticked, for ever", self._approved
        )

    def _assemble(self) -> Any:
        self._search.add_class("kr-wide")
        stack = ipywidgets.Box([self._choice, self._picture]).add_class("kr-stack")
        one = ipywidgets.VBox(
            [stack, self._detail, row(self._session, self._always, self._revoke), self._used]
        )
        two = ipywidgets.VBox([row(self._search, self._event), self._records])
        three = ipywidgets.VBox([self._wishes, row(self._file, self._write), self._rest])
        self._pages = {RIGHTS: one, TRAIL: two, SUGGESTED: three}
        parts = [
            ipywidgets.HTML(SHEET),
            self._head,
            self._which,
            self.tabs,
            one,
            two,
            three,
            self._acting.said,
        ]
        return ipywidgets.VBox(parts).add_class("kr-panel")

    # -- what is shown ---------------------------------------------------------------------------

    def turn_to_suggestion(self) -> None:
        """Show the page with the proposed policy."""
        self.tabs.value = SUGGESTED

    def turn_to(self, guest: str) -> None:
        """Show what this guest may do."""
        self._offer()
        if guest not in self._guests():
            raise NotFound(f"no guest is called {guest!r}")
        self._which.value = guest

    def _turned(self) -> None:
        self._reading, self._seen = Reading(), ()
        self._draw()
        self._turning = asyncio.get_running_loop().create_task(self.look())

    def _offer(self) -> None:
        names = list(self._guests())
        offer(self._which, [(name, name) for name in names], first=True)
        show(self._which, len(names) > 1)

    @property
    def _rights(self) -> Rights | None:
        """Of the guest that is looked at, while there is one."""
        return self._guests().get(self._which.value)

    async def look(self) -> None:
        """Read anew what has changed."""
        self._offer()
        rights = self._rights
        self._tell_use(rights)
        if rights is None:
            seen: tuple[object, ...] = (None,)
        else:
            newest = await asyncio.to_thread(rights.newest)
            if self._seen[1:2] != (newest,):
                rights.renew()
            seen = (rights, newest, rights.gate.grants, rights.gate.policy)
        if seen != self._seen:
            reading = Reading() if rights is None else await asyncio.to_thread(rights.read)
            if rights is self._rights:  # nobody has turned to another meanwhile
                self._reading, self._seen = reading, seen
                self._draw()

    def _tell_use(self, rights: Rights | None) -> None:
        """What the calls came to, with those that go on: no record says that. The page is told when it changes."""
        used = "" if rights is None else rights.used()
        self._used.value = f'<p class="kr-faint">{escape(used)}</p>' if used else ""

    def still(self) -> tuple[str, str]:
        """Rights and the newest records, as text and as HTML."""
        reading = self._reading
        plain = [
            f"permissions of {one_line(self._app, 120)}",
            *(
                f"{pictures.WORDS[right.effect]:<8}{one_line(right.scope, 200)}  ({one_line(right.rule, 200)})"
                for right in reading.rights
            ),
            self._summary(),
            *filter(None, [one_line("" if self._rights is None else self._rights.used(), 400)]),
        ]
        html = f"{self._head.value}{pictures.rights(reading.rights)}{pictures.records(reading.records[:20])}{self._used.value}"
        if self.tabs.value == SUGGESTED:
            plain.append(reading.suggestion.toml())
            html += f"<pre>{html_escape(reading.suggestion.toml())}</pre>"
        return "\n".join(plain), f'{SHEET}<div class="kr-panel">{html}</div>'

    def close(self) -> None:
        """No more looks."""
        self._ticker.close()
        self._acting.close()

    @property
    def _app(self) -> str:
        rights = self._rights
        return "no guest" if rights is None else rights.app

    def _draw(self) -> None:
        reading = self._reading
        self._head.value = (
            f'<div class="kr-head"><b>Permissions</b><bdi>{escape(self._app)}</bdi>'
            f"<span>{escape(self._summary())}</span></div>"
        )
        for name, page in self._pages.items():
            show(page, name == self.tabs.value)
        self._picture.value = pictures.rights(reading.rights)
        offer(self._choice, [(f"{right.scope}, {right.effect}", right.scope) for right in reading.rights])
        if self.tabs.value == TRAIL:
            self._records.value = self._found()
        elif self.tabs.value == SUGGESTED:
            self._suggest()
        self._enable()

    def _summary(self) -> str:
        count = [sum(r.effect is effect for r in self._reading.rights) for effect in pictures.COUNTED]
        words = (
            f"{number} {word}"
            for number, word in zip(count, pictures.COUNTED.values(), strict=True)
            if number
        )
        nothing = "run a cell" if self._rights is None else "nothing was asked for yet"
        return ", ".join(words) or nothing

    def _found(self) -> str:
        records = self._reading.records
        found = matching(records, self._search.value, self._event.value)
        bound = f" of its newest {MOST_RECORDS}" if len(records) >= MOST_RECORDS else ""
        more = f", the newest {pictures.MOST_ROWS} are shown" if len(found) > pictures.MOST_ROWS else ""
        note = f"{counted(len(found), 'record')}{bound}{more}, newest first"
        return f'<p class="kr-faint">{note}</p>{pictures.records(found)}'

    def _suggest(self) -> None:
        suggestion = self._reading.suggestion
        ticked = {box.scope: box.value for box in self._wishes.children}
        wishes = suggestion.allow[:MOST_WISHES]
        if [wish.scope for wish in wishes] != list(ticked):
            self._wishes.children = [_box(wish.scope, wish.times) for wish in wishes]
        rights = self._rights
        files = {} if rights is None else rights.files
        offer(self._file, [(f"{name}: {_short(path)}", name) for name, path in files.items()], first=True)
        nothing = '<p class="kr-faint">Nothing was asked in vain: there is nothing to suggest.</p>'
        self._rest.value = (
            ("" if wishes else nothing)
            + pictures.wishes("Not in the manifest, which has to ask first:", suggestion.undeclared)
            + pictures.wishes(
                "Denied by a rule, a condition or you, which no suggestion changes:", suggestion.refused
            )
        )
        for each in (self._file, self._write):
            each.disabled = not wishes or not files

    def _enable(self) -> None:
        """Only what can be done is offered."""
        chosen = self._right()
        self._detail.value = pictures.detail(chosen)
        idle = self._acting.idle
        grantable = chosen is not None and chosen.grantable and idle
        self._session.disabled = self._always.disabled = not grantable
        self._revoke.disabled = not (chosen is not None and chosen.granted and idle)

    def _right(self) -> Right | None:
        return next((right for right in self._reading.rights if right.scope == self._choice.value), None)

    # -- what is done ----------------------------------------------------------------------------

    def _grant(self, span: Span) -> Callable[[], Awaitable[str]]:
        async def grant() -> str:
            said = self._present().grant(self._chosen(), span)
            await self.look()
            return said

        return grant

    async def _revoked(self) -> str:
        said = await self._present().revoke(self._chosen())
        await self.look()
        return said

    async def _approved(self) -> str:
        ticked = [box.scope for box in self._wishes.children if box.value]
        said = await asyncio.to_thread(self._present().approve, self._file.value, ticked)
        await self.look()
        return said

    def _present(self) -> Rights:
        rights = self._rights
        if rights is None:
            raise NotFound("this guest is gone")
        return rights

    def _chosen(self) -> str:
        right = self._right()
        if right is None:
            raise NotFound("choose a capability first")
        return right.scope


class _Box(ipywidgets.Checkbox):
    """A suggested line, to be ticked. ``scope`` is what is written, whatever the page shows."""

    scope = ""


def _short(path: Path) -> str:
    """As a person writes it."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def _box(scope: str, times: int) -> Any:
    label = f"{scope}   ({times} ×)"
    box = _Box(value=False, indent=False, description=clean_tex(one_line(label, 300)))
    box.scope = scope
    return box
