"""Saving: a forked writer takes the namespace apart into groups and sends what is new.

The writer is a process of its own that ends afterwards, so that user code which runs while its
objects are pickled cannot hurt the live branch.
"""

from __future__ import annotations

import contextlib
import gc
import pickle
import platform
from functools import partial
from itertools import count, islice
from typing import TYPE_CHECKING, Any

from kernel_runtime import wire
from kernel_runtime.guest import checkpoint_definitions as definitions
from kernel_runtime.guest.checkpoint_ahead import Ahead, Outcome, is_large
from kernel_runtime.guest.checkpoint_draft import Draft
from kernel_runtime.guest.checkpoint_groups import DEFINED, Groups
from kernel_runtime.guest.checkpoint_memory import beside
from kernel_runtime.guest.checkpoint_pickler import Pickler, version_of
from kernel_runtime.guest.checkpoint_plain import texts_of, without_memo
from kernel_runtime.guest.checkpoint_sender import Sender
from kernel_runtime.guest.checkpoint_steps import Shells, defined
from kernel_runtime.guest.checkpoint_stream import Nothing, Stream
from kernel_runtime.guest.checkpoint_trial import Trial
from kernel_runtime.sdk.checkpoint import recipes

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from kernel_runtime.domain.checkpoint import Group
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
        self._wanted = set(variables)
        self._sender = sender
        self.known = definitions.Definitions()
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
        made, drawn_in = self._draft()
        definition = self.definition_group(drawn_in)
        if self._refused:
            made = [self.group(draft.names) if draft else None for draft in made]
        drafts = [draft for draft in made if draft is not None]
        ordered = [definition, *drafts]
        if self.known.objects or any(draft.doubtful for draft in drafts):
            self._hash(ordered, helped=True)  # before code of the user's runs that may change something
            definition, ordered = Trial(self, self._empty()).run(definition, drafts)
        self._hash(ordered, helped=True)
        numbers = count(1)
        self.groups = [draft.group(0 if draft is definition else next(numbers)) for draft in ordered]

    def _empty(self) -> dict[str, Any]:
        """What a namespace has where nothing has been defined yet."""
        return {
            name: value
            for name, value in self._namespace.items()
            if name not in self._wanted and (name.startswith("__") or not name.startswith("_"))
        }

    def _draft(self) -> tuple[list[Draft | None], list[str]]:
        """All groups but that of the definitions, and the names that these draw in."""
        with contextlib.closing(Ahead(self._variables, self._pickle_ahead, self._sender.let_go)) as ahead:
            found = Groups(self._variables, self.known, ahead.closed)
            made = self._draft_beside(found, set(ahead.names))
            for name in set(ahead.closed) - ahead.plain():
                found.open(name)
            grouped = found.lists()
            drawn_in = grouped.pop(DEFINED)
            alone = {names[0] for names in grouped.values() if len(names) == 1}
            made |= {(name,): draft for name, draft in self._take_ahead(ahead, alone).items()}
        groups = map(tuple, grouped.values())
        return [made[names] if names in made else self.group(list(names)) for names in groups], drawn_in

    def _draft_beside(self, found: Groups, ahead: set[str]) -> dict[tuple[str, ...], Draft | None]:
        """Groups without those that a helper pickles, while it does."""
        grouped = found.lists()
        del grouped[DEFINED]
        made = {tuple(names): self.group(names) for names in grouped.values() if ahead.isdisjoint(names)}
        if ahead:  # it works on the other core
            self._hash([draft for draft in made.values() if draft], helped=False)
        return made

    def _pickle_ahead(self, file: Any, name: str, texts: Texts | None) -> Outcome | None:
        """In a helper. The pickler is kept: the writer need not wait until its memo is taken apart."""
        known, buffers = definitions.Definitions(), list[pickle.PickleBuffer]()
        self._kept = pickler = Pickler(file, self._namespace, known, beside(buffers))
        pickler.dump(without_memo({name: self._variables[name]}, texts, pickler))
        alone = not (buffers or pickler.doubtful or pickler.rebuilds)
        return Outcome(sorted(pickler.packages), known.tokens()) if alone else None

    def _take_ahead(self, ahead: Ahead, alone: set[str]) -> dict[str, Draft]:
        """What the helper made of variables that are ``alone``, up to the first that is not."""
        made: dict[str, Draft] = {}
        for name in ahead.names:
            stream = Stream(self._sender)
            try:
                outcome = ahead.copy(stream.cutter) if name in alone else None
            except EOFError:
                outcome = None
            if outcome is None or not outcome.tokens.items() <= self.known.tokens().items():
                break
            refers = bool(outcome.tokens)
            made[name] = Draft([name], stream.part(), [], _versions(outcome.packages), refers=refers)
        return made

    def _replace(self, name: str) -> None:
        """A variable with a recipe of its own: what its ``save`` returns stands for it."""
        try:
            saved = recipes[name].save(self._variables[name])
            self._variables[name] = definitions.Rebuilt(recipes[name].rebuild, saved)
        except Exception as error:  # noqa: BLE001 — user code
            self.leave_out(name, f"its registered save failed: {_said(error)}")

    def _hash(self, drafts: list[Draft], *, helped: bool) -> None:
        """Their buffers, all at once."""
        waiting = [draft for draft in drafts if not draft.parts]
        buffers = [buffer for draft in waiting for buffer in draft.buffers]
        found = iter(self._sender.buffers(buffers, helped=helped))
        for draft in waiting:
            draft.parts = [draft.stream, *islice(found, len(draft.buffers))]

    # -- variables ---------------------------------------------------------------------------

    def group(self, names: list[str]) -> Draft | None:
        """Save variables as one unit, without those that cannot be."""
        names = [name for name in names if name in self._variables]
        while names:
            try:
                return self._write(names)
            except Exception as error:  # noqa: BLE001 — user code
                bad = (len(names) > 1 and self._culprits(names)) or dict.fromkeys(names, _said(error))
            for name, reason in bad.items():
                self.leave_out(name, reason)
            names = [name for name in names if name not in bad]
        return None

    def _culprits(self, names: list[str]) -> dict[str, str]:
        """Which of them fail alone."""
        bad = {}
        for name in names:
            try:
                self._pickler(Nothing(), []).dump(self._variables[name])
            except Exception as error:  # noqa: BLE001 — user code
                bad[name] = _said(error)
        return bad

    def _write(self, names: list[str]) -> Draft:
        """Pickle, and send the stream; the record waits until what it needs is known to be there."""
        values = {name: self._variables[name] for name in names}
        texts = _texts_of(values)
        if texts is not None:
            with contextlib.suppress(pickle.PicklingError):  # just too deep, with what stands around it
                return self._pickled(names, lambda pickler: without_memo(values, texts, pickler))
        return self._pickled(names, lambda _: values)

    def _pickled(
        self, names: list[str], values: Callable[[Pickler], Any], *, defining: bool = False
    ) -> Draft:
        buffers: list[pickle.PickleBuffer] = []
        stream = Stream(self._sender)
        pickler = self._pickler(stream.cutter, buffers, defining=defining)
        pickler.dump(values(pickler))
        return Draft(
            names,
            stream.part(),
            [buffer.raw() for buffer in buffers],
            _versions(pickler.packages),
            refers=pickler.refers,
            doubtful=bool(pickler.doubtful),
            rebuilds=pickler.rebuilds
            or any(isinstance(self._variables[name], definitions.Rebuilt) for name in names),
        )

    def _pickler(
        self, file: Any, buffers: list[pickle.PickleBuffer], *, defining: bool = False, trial: bool = False
    ) -> Pickler:
        return Pickler(
            file,
            self._namespace,
            self.known,
            beside(buffers),
            defining=defining,
            refused=self._refused,
            trial=trial,
        )

    # -- a trial -------------------------------------------------------------------------------

    def values(self, names: Iterable[str]) -> dict[str, Any]:
        """Variables for a trial: what is registered under its name stands for itself."""
        found = {name: self._variables[name] for name in names}
        return {
            name: definitions.Kept(self._namespace[name]) if isinstance(value, definitions.Rebuilt) else value
            for name, value in found.items()
        }

    def trial_pickler(self, file: Any, buffers: list[pickle.PickleBuffer], *, defining: bool) -> Pickler:
        return self._pickler(file, buffers, defining=defining, trial=True)

    def refuse(self, token: str, reason: str) -> None:
        """Leave a definition out; all of them if it is not known which."""
        left = self.known.objects.keys() - self._refused
        if not left:
            raise RuntimeError(f"the notebook's definitions cannot be loaded: {reason}")
        self._refused |= dict.fromkeys([token] if token in left else left, reason)

    # -- definitions ---------------------------------------------------------------------------

    def definition_group(self, names: list[str], first: Collection[str] = ()) -> Draft:
        """Group 0: classes and functions by value, recipes, and the variables they share with."""
        while True:
            names = [name for name in names if name in self._variables]
            values = {name: self._variables[name] for name in names}
            try:
                return self._pickled(names, partial(self.defined, values, first), defining=True)
            except Exception as error:  # noqa: BLE001 — user code
                said = _said(error)
            bad = self._culprits(names)
            for name, reason in bad.items():
                self.leave_out(name, reason)
            if not bad:
                self._refuse_definitions(said)

    def defined(self, values: dict[str, Any], first: Collection[str], pickler: Pickler) -> Any:
        known = {token: value for token, value in self.known.objects.items() if token not in self._refused}
        return defined(pickler.shells or Shells(), known, dict(recipes), values, first)

    def _refuse_definitions(self, said: str) -> None:
        """Some definition cannot be saved: find which, alone; all of them if none fails alone."""
        bad: dict[str, str] = {}
        left = [token for token in self.known.objects if token not in self._refused]
        for token in left:
            try:
                pickler = self._pickler(Nothing(), [], defining=True)
                pickler.dump(defined(pickler.shells or Shells(), {token: self.known.objects[token]}, {}, {}))
            except Exception as error:  # noqa: BLE001 — user code
                bad[token] = _said(error)
        if not left:
            raise RuntimeError(f"the notebook's definitions cannot be saved: {said}")
        self._refused |= bad or dict.fromkeys(left, said)


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
