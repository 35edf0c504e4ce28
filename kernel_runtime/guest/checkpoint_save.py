"""Saving: a forked writer takes the namespace apart into groups and sends what is new.

The writer is a process of its own that ends afterwards, so that user code which runs while its
objects are pickled cannot hurt the live branch.
"""

from __future__ import annotations

import contextlib
import gc
import io
import pickle
import platform
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from kernel_runtime import wire
from kernel_runtime.domain.checkpoint import Group, Part
from kernel_runtime.guest import checkpoint_definitions as definitions
from kernel_runtime.guest import checkpoint_verify
from kernel_runtime.guest.checkpoint_ahead import Ahead, Outcome, is_large
from kernel_runtime.guest.checkpoint_groups import DEFINED, Groups
from kernel_runtime.guest.checkpoint_memory import beside
from kernel_runtime.guest.checkpoint_pickler import Pickler, version_of
from kernel_runtime.guest.checkpoint_plain import texts_of, without_memo
from kernel_runtime.guest.checkpoint_sender import Sender
from kernel_runtime.guest.checkpoint_stream import Nothing, Stream
from kernel_runtime.sdk.checkpoint import recipes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kernel_runtime.guest.channel import Channel
    from kernel_runtime.guest.checkpoint_plain import Texts

_MAX_NAME, _MAX_REASON = 256, 1900


def save(channel: Channel, namespace: dict[str, Any], names: Iterable[str] | None = None) -> None:
    """Serve one ``Save`` order of the host over ``channel``.

    ``namespace`` is what the notebook's functions have as their globals; ``names`` are the
    variables to be saved (None: all of them).
    """
    order = channel.receive()
    if not isinstance(order, wire.Save):
        raise EOFError("the host went away")
    gc.disable()  # this process ends soon; a collection would only copy the pages that it shares
    sender = Sender(channel, order.seed)
    wanted = namespace if names is None else names
    work = _Save(namespace, {name: namespace[name] for name in wanted}, sender)
    for name in order.leave_out:
        work.leave_out(name, "it was left out on request")
    work.run()
    for group in work.groups:
        sender.group(group)
    for name, reason in work.skipped.items():
        channel.send(wire.Skipped(name=name[:_MAX_NAME], reason=reason[:_MAX_REASON]))
    packages = {package: version for group in work.groups for package, version in group.packages.items()}
    channel.send(wire.Saved(python=platform.python_version(), packages=packages))


class _Save:
    """One checkpoint in the making: ``groups`` and ``skipped`` are its result."""

    def __init__(self, namespace: dict[str, Any], variables: dict[str, Any], sender: Sender) -> None:
        self._namespace = namespace
        self._variables = variables
        self._sender = sender
        self._known = definitions.Definitions()
        self._refused: dict[str, str] = {}  # definitions that cannot be saved, with the reason
        self._kept: Pickler | None = None
        self.groups: list[Group] = []
        self.skipped: dict[str, str] = {}

    def leave_out(self, name: str, reason: str) -> None:
        if self._variables.pop(name, self) is not self:
            self.skipped[name] = reason

    def run(self) -> None:
        for name in list(self._variables):
            if len(name) > _MAX_NAME:
                self.leave_out(name, f"its name is longer than {_MAX_NAME} characters")
            elif name in recipes:
                self._replace(name)
        drafts, drawn_in = self._draft()
        definition = self._definition_group(drawn_in)
        if self._refused:
            drafts = [self._group(draft.names) if draft else None for draft in drafts]
        self._finish([draft for draft in (definition, *drafts) if draft is not None])

    def _draft(self) -> tuple[list[_Draft | None], list[str]]:
        """All groups but that of the definitions, and the names that these draw in."""
        with contextlib.closing(Ahead(self._variables, self._pickle_ahead, self._sender.let_go)) as ahead:
            found = Groups(self._variables, self._known, ahead.closed)
            made = self._draft_beside(found, set(ahead.names))
            for name in set(ahead.closed) - ahead.plain():
                found.open(name)
            grouped = found.lists()
            drawn_in = grouped.pop(DEFINED)
            alone = {names[0] for names in grouped.values() if len(names) == 1}
            made |= {(name,): draft for name, draft in self._take_ahead(ahead, alone).items()}
        groups = map(tuple, grouped.values())
        return [made[names] if names in made else self._group(list(names)) for names in groups], drawn_in

    def _draft_beside(self, found: Groups, ahead: set[str]) -> dict[tuple[str, ...], _Draft | None]:
        """Groups without those that a helper pickles, while it does."""
        grouped = found.lists()
        del grouped[DEFINED]
        made = {tuple(names): self._group(names) for names in grouped.values() if ahead.isdisjoint(names)}
        if ahead:  # it works on the other core
            self._hash([draft for draft in made.values() if draft], helped=False)
        return made

    def _pickle_ahead(self, file: Any, name: str, texts: Texts | None) -> Outcome | None:
        """In a helper. The pickler is kept: the writer need not wait until its memo is taken apart."""
        known, buffers = definitions.Definitions(), list[pickle.PickleBuffer]()
        self._kept = pickler = Pickler(file, self._namespace, known, beside(buffers))
        pickler.dump(without_memo({name: self._variables[name]}, texts, pickler))
        return None if buffers or pickler.doubtful else Outcome(sorted(pickler.packages), known.tokens())

    def _take_ahead(self, ahead: Ahead, alone: set[str]) -> dict[str, _Draft]:
        """What the helper made of variables that are ``alone``, up to the first that is not."""
        made: dict[str, _Draft] = {}
        for name in ahead.names:
            stream = Stream(self._sender)
            try:
                outcome = ahead.copy(stream.cutter) if name in alone else None
            except EOFError:
                outcome = None
            if outcome is None or not outcome.tokens.items() <= self._known.tokens().items():
                break
            made[name] = _Draft([name], stream.part(), [], _versions(outcome.packages))
        return made

    def _replace(self, name: str) -> None:
        """A variable with a recipe of its own: what its ``save`` returns stands for it."""
        try:
            saved = recipes[name].save(self._variables[name])
            self._variables[name] = _Rebuilt(recipes[name].rebuild, saved)
        except Exception as error:  # noqa: BLE001 — user code
            self.leave_out(name, f"its registered save failed: {_said(error)}")

    def _hash(self, drafts: list[_Draft], *, helped: bool) -> None:
        """Their buffers, all at once."""
        waiting = [draft for draft in drafts if not draft.parts]
        buffers = [buffer for draft in waiting for buffer in draft.buffers]
        found = iter(self._sender.buffers(buffers, helped=helped))
        for draft in waiting:
            draft.parts = [draft.stream, *islice(found, len(draft.buffers))]

    def _finish(self, drafts: list[_Draft]) -> None:
        self._hash(drafts, helped=True)
        self.groups = [
            Group(number=number, names=draft.names, parts=draft.parts, packages=draft.packages)
            for number, draft in enumerate(drafts)
        ]

    # -- variables ---------------------------------------------------------------------------

    def _group(self, names: list[str]) -> _Draft | None:
        """Save variables as one unit, without those that cannot be."""
        names = [name for name in names if name in self._variables]
        while names:
            try:
                return self._write({name: self._variables[name] for name in names}, names)
            except _Different as difference:
                bad = difference.reasons
            except Exception as error:  # noqa: BLE001 — user code
                bad = self._culprits(names) or dict.fromkeys(names, _said(error))
            for name, reason in bad.items():
                self.leave_out(name, reason)
            names = [name for name in names if name not in bad]
        return None

    def _culprits(self, names: list[str]) -> dict[str, str]:
        """Which of them fail alone. (With one there is nothing to find.)"""
        bad = {}
        for name in names if len(names) > 1 else ():
            try:
                self._pickler(Nothing(), lambda _: None).dump(self._variables[name])
            except Exception as error:  # noqa: BLE001 — user code
                bad[name] = _said(error)
        return bad

    def _write(self, values: Any, names: list[str], *, defining: bool = False) -> _Draft:
        """Pickle, and send the stream; the record waits until what it needs is known to be there."""
        texts = None if defining else _texts_of(values)
        if texts is not None:
            with contextlib.suppress(pickle.PicklingError):  # just too deep, with what stands around it
                return self._pickled(values, names, texts=texts)
        return self._pickled(values, names, defining=defining)

    def _pickled(
        self, values: Any, names: list[str], *, defining: bool = False, texts: Texts | None = None
    ) -> _Draft:
        buffers: list[pickle.PickleBuffer] = []
        stream = Stream(self._sender)
        pickler = self._pickler(stream.cutter, beside(buffers), defining=defining)
        pickler.dump(without_memo(values, texts, pickler))
        if pickler.doubtful and not defining:
            self._verify(values, pickler.doubtful)
        return _Draft(names, stream.part(), [buffer.raw() for buffer in buffers], _versions(pickler.packages))

    def _verify(self, values: dict[str, Any], doubtful: set[type]) -> None:
        """Unpickle it here, and compare. Buffers are not copied: they are the values' own."""
        file, buffers = io.BytesIO(), list[pickle.PickleBuffer]()
        self._pickler(file, beside(buffers)).dump(values)
        definitions.Restoring.namespace = self._namespace
        definitions.Restoring.definitions = self._known.objects
        copies = pickle.loads(file.getvalue(), buffers=buffers)  # noqa: S301 — in the guest, its own
        compared = [name for name in values if not isinstance(values[name], _Rebuilt)]
        pairs = ((name, checkpoint_verify.compare(values[name], copies[name], doubtful)) for name in compared)
        reasons = {name: f"its copy differs: {difference}" for name, difference in pairs if difference}
        if reasons:
            raise _Different(reasons)

    def _pickler(
        self, file: Any, on_buffer: Callable[[pickle.PickleBuffer], object], *, defining: bool = False
    ) -> Pickler:
        return Pickler(
            file, self._namespace, self._known, on_buffer, defining=defining, refused=self._refused
        )

    # -- definitions ---------------------------------------------------------------------------

    def _definition_group(self, names: list[str]) -> _Draft:
        """Group 0: classes and functions by value, recipes, and the variables they share with."""
        while True:
            names = [name for name in names if name in self._variables]
            try:
                return self._write(self._defined(names), names, defining=True)
            except Exception as error:  # noqa: BLE001 — user code
                said = _said(error)
            bad = self._culprits(names) if names else {}
            for name, reason in bad.items():
                self.leave_out(name, reason)
            if not bad:
                self._refuse_definitions(said)

    def _defined(self, names: list[str]) -> dict[str, Any]:
        kept = {token: value for token, value in self._known.objects.items() if token not in self._refused}
        variables = {name: self._variables[name] for name in names}
        return {"definitions": kept, "recipes": dict(recipes), "variables": variables}

    def _refuse_definitions(self, said: str) -> None:
        """Some definition cannot be saved: find which, alone; all of them if none fails alone."""
        bad: dict[str, str] = {}
        left = [token for token in self._known.objects if token not in self._refused]
        for token in left:
            try:
                self._pickler(Nothing(), lambda _: None, defining=True).dump(self._known.objects[token])
            except Exception as error:  # noqa: BLE001 — user code
                bad[token] = _said(error)
        if not left:
            raise RuntimeError(f"the notebook's definitions cannot be saved: {said}")
        self._refused |= bad or dict.fromkeys(left, said)


@dataclass
class _Draft:
    """A group whose stream has been sent; ``parts`` is complete when its buffers have been, too."""

    names: list[str]
    stream: Part
    buffers: list[memoryview]
    packages: dict[str, str]
    parts: list[Part] = field(default_factory=list)


class _Different(Exception):
    def __init__(self, reasons: dict[str, str]) -> None:
        super().__init__(str(reasons))
        self.reasons = reasons


class _Rebuilt:
    """Stands in a stream for a variable with a recipe: unpickled, it is what ``rebuild`` makes."""

    def __init__(self, rebuild: Callable[[Any], Any], saved: Any) -> None:
        self._made = (rebuild, (saved,))

    def __reduce__(self) -> Any:
        return self._made


def _texts_of(values: dict[str, Any]) -> Texts | None:
    """Of one large variable that is plain, as of those that a helper pickles; otherwise None."""
    (value, *others) = values.values()
    return texts_of(value) if is_large(value) and not others else None


def _versions(packages: Iterable[str]) -> dict[str, str]:
    return {name: version for name in sorted(packages) if (version := version_of(name)) is not None}


def _said(error: Exception) -> str:
    if type(error).__name__ == "Unsaveable":
        return str(error)
    return f"{type(error).__name__}: {error}"
