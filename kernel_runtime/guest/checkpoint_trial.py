"""The trial: what is to be kept is loaded here, into a namespace where nothing of it is.

So a variable that would not come back is named when it is saved, and not found out when it is needed. The
order in which all could be loaded is that of the checkpoint. Only what has hooks is tried out: definitions,
and groups with doubtful types. What refers to no definition, and has none, stands for its copy.
"""

from __future__ import annotations

import io
import pickle
from typing import TYPE_CHECKING, Any, Protocol

from kernel_runtime.guest import checkpoint_definitions as definitions
from kernel_runtime.guest import checkpoint_verify

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from kernel_runtime.guest.checkpoint_draft import Draft
    from kernel_runtime.guest.checkpoint_pickler import Pickler


class Writer(Protocol):
    """What the trial asks of whoever made the drafts."""

    known: definitions.Definitions

    def values(self, names: Iterable[str]) -> dict[str, Any]:
        """The variables, as they are pickled for a trial."""
        ...

    def defined(self, values: dict[str, Any], first: Collection[str], pickler: Pickler) -> Any:
        """What group 0 is a pickle of."""
        ...

    def trial_pickler(self, file: Any, buffers: list[pickle.PickleBuffer], *, defining: bool) -> Pickler: ...

    def group(self, names: list[str]) -> Draft | None: ...

    def definition_group(self, names: list[str], first: list[str]) -> Draft: ...

    def leave_out(self, name: str, reason: str) -> None: ...

    def refuse(self, token: str, reason: str) -> None: ...


class Trial:
    """``empty`` is what a fresh namespace has."""

    def __init__(self, writer: Writer, empty: dict[str, Any]) -> None:
        self._writer = writer
        self._namespace = empty
        self._left: list[Draft] = []
        self._tried: list[Draft] = []

    def run(self, definition: Draft, drafts: list[Draft]) -> tuple[Draft, list[Draft]]:
        """Group 0, and all groups (it is one of them) in the order in which they can be loaded."""
        free = [whole for draft in drafts if not draft.refers and (whole := self._free(draft))]
        self._left = [draft for draft in drafts if draft.refers]
        definition = self._define(definition)
        for draft in list(self._left):
            if draft.doubtful and draft in self._left:
                self._load(draft)
        plain = [draft for draft in self._left if not draft.rebuilds]
        rebuilt = [draft for draft in self._left if draft.rebuilds]
        return definition, [*free, definition, *plain, *self._tried, *rebuilt]

    def _free(self, draft: Draft) -> Draft | None:
        """One that refers to no definition. Its values stand for their copies."""
        whole = self._without_trouble(draft) if draft.doubtful else draft
        if whole is not None:
            self._namespace.update(self._writer.values(whole.names))
        return whole

    # -- definitions ---------------------------------------------------------------------------

    def _define(self, definition: Draft) -> Draft:
        """Load group 0, in another order or with more variables if its values need that, or without what fails."""
        names, first = definition.names, list[str]()
        while True:
            error = self._definition_error(names, first)
            if error is None:
                return definition
            place, needed = definitions.Restoring.place, _missing(error)
            owner = self._owner(needed)
            if isinstance(error, Different):
                for name, reason in error.reasons.items():
                    self._writer.leave_out(name, reason)
            elif owner is not None:
                self._left.remove(owner)
                names, first = [*names, *owner.names], [*owner.names, *first]
            elif needed in names and needed not in first and needed != place:
                first = [needed, *first]
            elif isinstance(error, AttributeError) and place not in {*first, *names}:
                first = [*first, place]
            elif place in names:
                self._writer.leave_out(place, _said(error))
            else:
                self._writer.refuse(place, _said(error))
                self._left = [new for draft in self._left if (new := self._writer.group(draft.names))]
            definition = self._writer.definition_group(names, first)
            names = definition.names

    def _definition_error(self, names: list[str], first: list[str]) -> BaseException | None:
        namespace = dict(self._namespace)
        definitions.restore_into(namespace)
        file, buffers = io.BytesIO(), list[pickle.PickleBuffer]()
        originals = self._writer.values(names)
        try:
            pickler = self._writer.trial_pickler(file, buffers, defining=True)
            pickler.dump(self._writer.defined(originals, first, pickler))
            values = pickle.loads(file.getvalue(), buffers=buffers)  # noqa: S301 — in the guest, its own
            self._compare(originals, values["variables"], pickler.doubtful)
        except BaseException as error:  # noqa: BLE001 — user code
            return error
        self._namespace = namespace
        return None

    # -- groups --------------------------------------------------------------------------------

    def _load(self, draft: Draft) -> None:
        """Load one that refers to definitions, after those whose variables it turns out to need."""
        self._left.remove(draft)
        whole = self._without_trouble(draft)
        if whole is not None:
            self._tried.append(whole)

    def _without_trouble(self, draft: Draft) -> Draft | None:
        whole: Draft | None = draft
        while whole is not None and (trouble := self._trouble(whole.names)):
            for name, reason in trouble.items():
                self._writer.leave_out(name, reason)
            whole = self._writer.group([name for name in whole.names if name not in trouble])
        return whole

    def _trouble(self, names: list[str]) -> dict[str, str]:
        """Why some of them would not come back."""
        while True:
            error = self._error(names)
            if error is None:
                return {}
            if isinstance(error, Different):
                return error.reasons
            owner = self._owner(_missing(error))
            if owner is None:
                alone = {name: self._error([name]) for name in names} if len(names) > 1 else {}
                bad = {name: _said(one) for name, one in alone.items() if one is not None}
                return bad or dict.fromkeys(names, _said(error))
            self._load(owner)

    def _error(self, names: list[str]) -> BaseException | None:
        file, buffers = io.BytesIO(), list[pickle.PickleBuffer]()
        values = self._writer.values(names)
        try:
            pickler = self._writer.trial_pickler(file, buffers, defining=False)
            pickler.dump(values)
            definitions.Restoring.namespace = self._namespace
            copies = pickle.loads(file.getvalue(), buffers=buffers)  # noqa: S301 — in the guest, its own
            if pickler.doubtful:
                self._compare(values, copies, pickler.doubtful)
        except BaseException as error:  # noqa: BLE001 — user code
            return error
        self._namespace.update(copies)
        return None

    def _owner(self, name: str | None) -> Draft | None:
        return next((draft for draft in self._left if name in draft.names), None)

    def _compare(self, values: dict[str, Any], copies: dict[str, Any], doubtful: set[type]) -> None:
        tokens, copied = self._writer.known.tokens(), definitions.Restoring.definitions

        def is_same(one: type, other: type) -> bool:
            return one is other or copied.get(tokens.get(id(one), "")) is other

        pairs = (
            (name, checkpoint_verify.compare(value, copies[name], doubtful, is_same))
            for name, value in values.items()
            if not isinstance(value, definitions.Kept)
        )
        reasons = {name: f"its copy differs: {difference}" for name, difference in pairs if difference}
        if reasons:
            raise Different(reasons)


class Different(Exception):
    """Copies differ from what was saved."""

    def __init__(self, reasons: dict[str, str]) -> None:
        super().__init__("; ".join(f"{name}: {reason}" for name, reason in reasons.items()))
        self.reasons = reasons


def _missing(error: BaseException) -> str | None:
    """The name of a global that was not there."""
    met: BaseException | None = error
    while met is not None:
        if isinstance(met, NameError) and not isinstance(met, UnboundLocalError):
            return met.name
        met = met.__cause__ or met.__context__
    return None


def _said(error: BaseException) -> str:
    return f"it would not come back: {type(error).__name__}: {error}"
