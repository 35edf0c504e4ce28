"""Which apps may be called: ``apps.toml``, written by the operator, beside the policies.

    [apps]
    prices = "~/apps/prices"       # the directory of its app.toml

A guest knows the names alone. What is called is read anew for each call: an app that was changed is called as it is now.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.broker.places import SYSTEM, user_file
from kernel_runtime.broker.policies import read_own
from kernel_runtime.domain.errors import CallFailed, Invalid, NotFound
from kernel_runtime.domain.manifest import Anchors, Manifest, parse_manifest
from kernel_runtime.domain.places import Place, advice
from kernel_runtime.domain.reading import parse_toml, read_table
from kernel_runtime.domain.scopes import anchored

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE, MANIFEST = "apps.toml", "app.toml"
_ID = re.compile(r"[a-z][a-z0-9_.-]{0,63}")


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    apps: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One handler of an app, as it lies there now: ``function`` of ``module``, whose ``source`` is in ``path``."""

    app: str
    handler: str
    directory: str
    manifest: Manifest
    module: str
    function: str
    path: str
    source: str

    @property
    def name(self) -> str:
        return f"{self.app}.{self.handler}"


class Apps:
    """The machine's and the person's; where both name one, the machine's holds."""

    def __init__(self, environment: Mapping[str, str], *, system: Path = SYSTEM) -> None:
        self._environment = environment
        self._system = system

    def find(self, app: str, handler: str) -> Entry:
        """The handler; ``NotFound`` says what there is, ``CallFailed`` what is wrong with the app."""
        directories = self.directories()
        if app not in directories:
            raise NotFound(f"no app is called {app!r}; {advice(app, directories)} (the operator's {FILE})")
        directory = os.path.realpath(directories[app])
        try:
            return _entry(app, handler, Path(directory))
        except Invalid as error:
            raise CallFailed(f"the app {app!r} cannot be called: {error}") from None

    def directories(self) -> dict[str, str]:
        """Where each app lies. A file that somebody else could have written is refused."""
        found: dict[str, str] = {}
        for policy in (user_file(self._environment), self._system):
            path = policy.parent / FILE
            text = read_own(path, "list of apps")
            if text is not None:
                found |= parse_apps(text, str(path))
        return found


def parse_apps(text: str, name: str) -> dict[str, str]:
    """The text of an ``apps.toml``; ``Invalid`` names file, line and key."""
    place = Place(name, text)
    found = read_table(parse_toml(text, name), _File, place).apps
    base, home = os.path.dirname(os.path.abspath(name)), str(Path.home())
    directories = {app: anchored(directory, base, home) for app, directory in found.items()}
    for app, directory in directories.items():
        if not _ID.fullmatch(app):
            raise place.wrong(("apps", app), "an app is called as its id: small letters, digits, . _ and -")
        if not os.path.isabs(directory):
            raise place.wrong(("apps", app), f"{directory!r} is no directory that begins with /, ~/ or ./")
    return directories


def _entry(app: str, handler: str, directory: Path) -> Entry:
    manifest = _manifest(app, directory)
    known = manifest.table.entry_points
    if handler not in known:
        raise NotFound(f"the app {app!r} has no handler {handler!r}; {advice(handler, known)}")
    module, _, function = known[handler].partition(":")
    path, source = _source(module, directory, app)
    return Entry(
        app=app,
        handler=handler,
        directory=str(directory),
        manifest=manifest,
        module=module,
        function=function,
        path=str(path),
        source=source,
    )


def _manifest(app: str, directory: Path) -> Manifest:
    """Told with the app's name: a guest does not learn where it lies."""
    text = read_own(directory / MANIFEST, "manifest")
    if text is None:
        raise Invalid(f"it has no {MANIFEST}")
    manifest = parse_manifest(text, f"{app}/{MANIFEST}", Anchors(str(directory), str(Path.home())))
    if manifest.id != app:
        raise Invalid(f"its {MANIFEST} calls it {manifest.id!r}")
    return replace(manifest, place=os.path.realpath(directory / MANIFEST))


def _source(module: str, directory: Path, app: str) -> tuple[Path, str]:
    """The file of a module beside the manifest; one of Python's own, or a package's, is none."""
    below = directory.joinpath(*module.split("."))
    for path in (below.with_name(f"{below.name}.py"), below / "__init__.py"):
        text = read_own(path, "module")
        if text is not None:
            return path, text
    raise Invalid(f"there is no {module.replace('.', '/')}.py beside {app}/{MANIFEST}")
