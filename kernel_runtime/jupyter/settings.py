"""Limits and level of this kernel, and from where each of them comes.

Weakest first: defaults, Jupyter configuration (``KernelRuntime.*``), the kernelspec's argv
(``--memory 512M`` or ``--KernelRuntime.memory=512M``), the environment (``KERNEL_RUNTIME_MEMORY``,
for CI). Notebook metadata may only tighten. A value that is no amount stops nothing from
starting, but every cell is refused with the place and the trouble: it fails closed.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from kernel_runtime.broker import places
from kernel_runtime.domain import snapshot
from kernel_runtime.domain.amounts import MIB, show_amount
from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.level import Level, Rung, parse_level, parse_rung
from kernel_runtime.domain.limits import (
    FLOODS,
    OF_APPS,
    Limits,
    parse_flood,
    parse_limits,
    parse_seconds,
)
from kernel_runtime.domain.snapshot import Budget, Saving, parse_budget, parse_saving
from kernel_runtime.jupyter import paths
from kernel_runtime.jupyter.asking import FrontPerson
from kernel_runtime.jupyter.page_hosts import parse_hosts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

LIMITS = Limits.__struct_fields__
NAMES = (
    *LIMITS,
    *snapshot.SETTINGS,
    *snapshot.SAVING,
    *snapshot.RETENTION,
    *("flood", "level", "rung", "history", "page_hosts", "check", "policy", "idle"),
    *("allow", "deny", "manifest"),
)
CONFIG = "jupyter_kernel_runtime_config"
#: The place of what stands on the command line of ``kernel-runtime``.
COMMAND_LINE = "command line"
ENVIRONMENT = "environment"
_VARIABLE = re.compile(rf"^{ENVIRONMENT}\.(\w+)")
MAX_NOTEBOOK = 256 * MIB
_HISTORY_TRAIT = "--HistoryManager.hist_file"


class Source(msgspec.Struct, frozen=True):
    """Settings as text, and the place they stand in."""

    place: str
    values: dict[str, str]


class Settings(msgspec.Struct, kw_only=True):
    """What this kernel runs with. ``origins`` names the place of each setting, ``notes`` what was
    asked and not given, ``error`` what keeps cells from running. ``check`` (off, show, refuse; empty:
    as the level has it) and ``policy`` (a file): whether cells are read before they run, and by what.
    ``allow``, ``deny``: scopes that guests are granted or denied, beside the files that hold; ``manifest``: a
    file, instead of the notebook's metadata; ``person``: who is asked for the rest. ``warning``: why
    the notebook's own manifest is none, and nothing is granted; told before the first cell.
    ``rung``: the weakest that was accepted for levels that demand every wall. ``flood``: what
    becomes of a cell whose output is one (cut, end). ``budget``: what snapshots may take;
    ``saving``: when checkpoints are made by themselves, and which are kept; ``idle``: seconds in
    which nothing is asked of the guest, after which it is paused.
    """

    limits: Limits = Limits()
    flood: str = FLOODS[0]
    budget: Budget = Budget()
    saving: Saving = Saving()
    idle: float | None = None
    level: Level = Level.MODERATE
    rung: Rung | None = None
    origins: dict[str, str] = {}
    notes: list[str] = []
    error: Invalid | None = None
    warning: str = ""
    history: str = ""
    page_hosts: frozenset[str] = frozenset()
    connection_file: str = ""
    arguments: list[str] = []
    check: str = ""
    policy: str = ""
    allow: list[str] = []
    deny: list[str] = []
    manifest: str = ""
    person: FrontPerson = msgspec.field(default_factory=FrontPerson)


class Arguments(msgspec.Struct):
    """The command line, taken apart; ``rest`` goes on to the shell inside."""

    connection_file: str
    values: dict[str, str]
    rest: list[str]


def parse_arguments(arguments: Sequence[str]) -> Arguments:
    """``-f FILE``, ``--memory 512M``, ``--memory=512M``, ``--KernelRuntime.memory=512M``; others pass."""
    found = Arguments("", {}, [])
    words = iter(arguments)
    for word in words:
        flag, equals, value = word.partition("=")
        name = flag.removeprefix("--KernelRuntime.") if "." in flag else flag.removeprefix("--")
        if flag in ("-f", "--f", "--connection-file", "--IPKernelApp.connection_file"):
            found.connection_file = value if equals else next(words, "")
        elif flag == _HISTORY_TRAIT:
            found.values["history"] = value
        elif flag.startswith("--") and (name := name.replace("-", "_")) in NAMES:
            found.values[name] = value if equals else next(words, "")
        else:
            found.rest.append(word)
    return found


def resolve(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """All places → one ``Settings``; errors inside, never raised."""
    parsed = parse_arguments(arguments)
    settings = Settings(connection_file=parsed.connection_file, arguments=parsed.rest)
    try:
        sources = [
            *config_sources(paths.config_dirs()),
            Source("kernelspec", parsed.values),
            Source(ENVIRONMENT, environment_values(environment)),
        ]
        apply(settings, sources)
        path, table = declared(environment)
        tighten(settings, notebook_source(path, table))
        check_policy(settings)
        check_manifest(settings, path if table else None)
    except Invalid as error:
        settings.error = error
    return settings


def apply(settings: Settings, sources: Iterable[Source]) -> None:
    """Lay the sources over the settings, each stronger than those before."""
    for source in sources:
        try:
            _lay(settings, source)
        except Invalid as error:
            if source.place != ENVIRONMENT:
                raise
            raise Invalid(_VARIABLE.sub(_as_variable, str(error))) from None


def _as_variable(setting: re.Match[str]) -> str:
    """What a person sets in the environment is called otherwise there."""
    return f"KERNEL_RUNTIME_{setting[1].upper()}"


def _lay(settings: Settings, source: Source) -> None:
    amounts: dict[str, object] = {k: v for k, v in source.values.items() if k in LIMITS}
    settings.limits = parse_limits(amounts, settings.limits, source.place)
    if level := source.values.get("level"):
        settings.level = parse_level(level, f"{source.place}.level")
    if flood := source.values.get("flood"):
        settings.flood = parse_flood(flood, f"{source.place}.flood")
    if rung := source.values.get("rung"):
        settings.rung = parse_rung(rung, f"{source.place}.rung")
    settings.budget = parse_budget(source.values, settings.budget, source.place)
    settings.saving = parse_saving(source.values, settings.saving, source.place)
    if idle := source.values.get("idle"):
        settings.idle = parse_seconds(idle, f"{source.place}.idle")
    if check := source.values.get("check"):
        from kernel_runtime.jupyter.advice import parse_mode

        settings.check = parse_mode(check, f"{source.place}.check")
    if policy := source.values.get("policy"):
        settings.policy = str(Path(policy).absolute())
    for name in ("allow", "deny"):
        setattr(settings, name, [*getattr(settings, name), *parse_scopes(source, name)])
    if manifest := source.values.get("manifest"):
        settings.manifest = str(Path(manifest).absolute())
    if hosts := source.values.get("page_hosts"):
        settings.page_hosts = parse_hosts(hosts, f"{source.place}.page_hosts")
    settings.history = source.values.get("history") or settings.history
    settings.origins |= dict.fromkeys((k for k in source.values if k in NAMES), source.place)


def parse_scopes(source: Source, name: str) -> list[str]:
    """Scopes, one a line or separated by semicolons; each is checked, and names its paths in full."""
    from kernel_runtime.domain.scopes import anchored, parse_scope

    place = f"--{name}" if source.place == COMMAND_LINE else f"{source.place}.{name}"
    texts = [part.strip() for part in re.split(r"[;\n]", source.values.get(name, "")) if part.strip()]
    return [str(parse_scope(anchored(text, str(Path.cwd()), str(Path.home())), place)) for text in texts]


def may_be_read(settings: Settings, directory: Path) -> bool:
    """Whether anything can want code to be read before it runs: a setting, the level, or a policy that holds in ``directory``."""
    if settings.check or settings.policy or settings.level is Level.STRICT:
        return True
    return bool(places.found(directory, os.environ))


def check_policy(settings: Settings) -> None:
    """``Invalid`` when what is to check the cells, or a policy that was named, is malformed: found at the start, not at a cell."""
    if may_be_read(settings, Path.cwd()):
        from kernel_runtime.jupyter.advice import advice_for

        advice_for(settings.check, settings.policy, settings.level)
    if settings.policy:
        from kernel_runtime.broker.policies import read_given

        read_given(Path(settings.policy))


def check_manifest(settings: Settings, notebook: Path | None) -> None:
    """``Invalid`` when the manifest that was named is malformed; the notebook's own is the notebook's fault, and warned of."""
    if not (settings.manifest or notebook):
        return
    from kernel_runtime.apps.manifests import read_manifest

    if settings.manifest:
        read_manifest(Path(settings.manifest))
    elif notebook:
        try:
            read_manifest(notebook)
        except Invalid as error:
            settings.warning = f"this notebook is granted nothing until its metadata are put right: {error}"


def tighten(settings: Settings, source: Source | None) -> None:
    """Apply a source that may only make things stricter; note what it asked beyond that."""
    if source is None:
        return
    for name, text in source.values.items():
        if name == "level":
            _tighten_level(settings, parse_level(text, f"{source.place}.level"), source.place)
        elif name == "flood":
            _tighten_flood(settings, parse_flood(text, f"{source.place}.flood"), source.place)
        elif name in LIMITS:
            wanted = parse_limits({name: text}, settings.limits, source.place)
            _tighten_limit(settings, name, wanted, source.place)


def _tighten_level(settings: Settings, wanted: Level, place: str) -> None:
    if wanted.rank < settings.level.rank:
        settings.level = wanted
        settings.origins["level"] = place
    elif wanted is not settings.level:
        settings.notes.append(f"{place} asks for level {wanted}: it may only tighten, {settings.level} holds")


def _tighten_flood(settings: Settings, wanted: str, place: str) -> None:
    if FLOODS.index(wanted) > FLOODS.index(settings.flood):
        settings.flood = wanted
        settings.origins["flood"] = place
    elif wanted != settings.flood:
        settings.notes.append(f"{place} asks for flood {wanted}: it may only tighten, {settings.flood} holds")


def _tighten_limit(settings: Settings, name: str, wanted: Limits, place: str) -> None:
    tighter = settings.limits.tightened(wanted)
    asked = getattr(wanted, name)
    if tighter != settings.limits:
        settings.limits = tighter
        settings.origins[name] = place
    elif asked != getattr(settings.limits, name):
        asked_text = show_amount(name, asked)
        settings.notes.append(f"{place} asks for {name} {asked_text}: it may only tighten, and does not")


def environment_values(environment: Mapping[str, str]) -> dict[str, str]:
    """``KERNEL_RUNTIME_MEMORY=512M`` → ``{"memory": "512M"}``; empty ones do not count."""
    given = {name: environment.get(f"KERNEL_RUNTIME_{name.upper()}", "") for name in NAMES}
    return {name: value for name, value in given.items() if value}


def config_sources(directories: Iterable[Path]) -> list[Source]:
    """Jupyter's configuration files, the weakest first; most machines have none."""
    found = []
    for directory in directories:
        for suffix in (".json", ".py"):
            path = directory / (CONFIG + suffix)
            if path.is_file():
                found.append(Source(str(path), _named(str(path), _read_config(path))))
    return found[::-1]


def _read_config(path: Path) -> dict[str, Any]:
    try:
        if path.suffix == ".json":
            whole = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
            return dict(whole.get("KernelRuntime", {}))
        from kernel_runtime.jupyter.traits import read_python

        return read_python(path)
    except Exception as error:  # noqa: BLE001 - a configuration file is Python: it may raise anything
        raise Invalid(f"{path}: {type(error).__name__}: {error}") from None


def _named(place: str, values: Mapping[str, Any]) -> dict[str, str]:
    for name in values:
        if name not in NAMES:
            raise Invalid(f"{place}: KernelRuntime has no {name!r}; there are {', '.join(NAMES)}")
    return {name: str(value) for name, value in values.items()}


class _Security(msgspec.Struct, frozen=True):
    level: str | None = None


class _Mine(msgspec.Struct, frozen=True):
    """The same table may be the notebook's manifest (``domain/manifest.py``): its other keys are no settings."""

    limits: dict[str, Any] = {}
    security: _Security = _Security()
    level: str | None = None
    flood: str | None = None


class _Metadata(msgspec.Struct, frozen=True):
    kernel_runtime: _Mine = _Mine()


class _Declared(msgspec.Struct):
    kernel_runtime: msgspec.Raw = msgspec.Raw()


class _Notebook(msgspec.Struct):
    metadata: _Declared = msgspec.field(default_factory=_Declared)


def declared(environment: Mapping[str, str]) -> tuple[Path, msgspec.Raw]:
    """The notebook whose path jupyter_server put into ``JPY_SESSION_NAME``, and the table in its metadata; empty where
    there is none."""
    path = Path(environment.get("JPY_SESSION_NAME", ""))
    try:
        if path.suffix != ".ipynb" or path.stat().st_size > MAX_NOTEBOOK:
            return path, msgspec.Raw()
        return path, msgspec.json.decode(path.read_bytes(), type=_Notebook).metadata.kernel_runtime.copy()
    except (OSError, msgspec.DecodeError):  # no file, no notebook: nothing is asked
        return path, msgspec.Raw()


def notebook_source(path: Path, table: msgspec.Raw) -> Source | None:
    """What a notebook's own table asks, as a source that may only tighten."""
    try:
        return asked(msgspec.json.decode(table, type=_Mine), f"notebook {path.name}") if table else None
    except msgspec.DecodeError:  # what it is instead, ``check_manifest`` says
        return None


def cell_source(metadata: bytes) -> Source | None:
    """What a cell's own metadata (``kernel_runtime``) asks, as a source that may only tighten."""
    if b"kernel_runtime" not in metadata:
        return None
    try:
        found = msgspec.json.decode(metadata, type=_Metadata)
    except msgspec.DecodeError as error:
        raise Invalid(f"cell metadata: {error}") from None
    return asked(found.kernel_runtime, "cell metadata")


def asked(mine: _Mine, place: str) -> Source:
    """``{"limits": {...}, "level": ..., "flood": ...}`` → a source."""
    values = {name: str(value) for name, value in mine.limits.items() if name not in OF_APPS}
    unknown = [name for name in values if name not in LIMITS]
    if unknown:
        raise Invalid(f"{place}: no limit is called {unknown[0]!r}; there are {', '.join(LIMITS)}")
    words = {"level": mine.level or mine.security.level, "flood": mine.flood}
    return Source(place, values | {name: text for name, text in words.items() if text})
