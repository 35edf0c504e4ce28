"""Files of the host for guests: what was granted, and nothing beside it."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from kernel_runtime.broker.files import MOST_BYTES, Files
from kernel_runtime.broker.roots import own_places
from kernel_runtime.domain.conditions import Quota
from kernel_runtime.domain.errors import (
    CapabilityDenied,
    Conflict,
    Invalid,
    KernelRuntimeError,
    NotFound,
)
from tests.broker.granting import Desk
from tests.sandbox.swapping import SECRET, prepare, swapped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kernel_runtime.state import State


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """``in`` may be read, ``out`` written, ``no`` neither."""
    for name in ("in", "out", "no"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file.txt").write_text(f"text {name}")
    return tmp_path


@pytest.fixture
def desk(place: Path, state: State) -> Iterator[Desk]:
    yield from desk_for(state, f"files:read:{place}/in/**", f"files:write:{place}/out/**")


def desk_for(
    state: State, *scopes: str, conditions: dict[str, Any] | None = None, **options: Any
) -> Iterator[Desk]:
    handler = Files(**options)
    yield Desk(handler, state, *scopes, **conditions or {})
    asyncio.run(handler.close())


def text_of(desk: Desk, path: object) -> str:
    """What a guest reads from the descriptor that it gets."""
    [fd] = asyncio.run(desk("open", path=str(path))).descriptors
    with open(fd) as file:
        return file.read()


def test_what_was_granted_is_read(desk: Desk, place: Path) -> None:
    assert text_of(desk, place / "in/file.txt") == "text in"
    assert desk.now("read", path=f"{place}/in/file.txt", offset=5, size=100) == b"in"
    [entry] = desk.now("list", path=f"{place}/in")["entries"]
    assert (entry["name"], entry["kind"], entry["size"]) == ("file.txt", "file", 7)
    assert desk.now("stat", path=f"{place}/in")["kind"] == "directory"


def test_what_was_granted_is_written(desk: Desk, place: Path) -> None:
    out = place / "out"
    desk.now("write", path=f"{out}/new", content=b"one")
    desk.now("write", path=f"{out}/new", content=b" two", append=True)
    desk.now("write", path=f"{out}/other", content=b"three", append=True)
    assert (out / "new").read_text() == "one two"
    assert (out / "new").stat().st_mode & 0o7777 == 0o644
    assert (out / "other").read_text() == "three"
    (out / "file.txt").chmod(0o600)
    desk.now("write", path=f"{out}/file.txt", content=b"")
    assert (out / "file.txt").stat().st_mode & 0o7777 == 0o600
    assert (out / "file.txt").read_text() == ""
    desk.now("remove", path=f"{out}/file.txt")
    assert sorted(os.listdir(out)) == ["new", "other"]


@pytest.mark.parametrize(
    ("action", "where"),
    [
        ("open", "out/file.txt"),
        ("read", "out/file.txt"),
        ("list", "out"),
        ("stat", "no/file.txt"),
        ("open", "no/file.txt"),
        ("write", "in/file.txt"),
        ("remove", "in/file.txt"),
        ("write", "no/new"),
        ("stat", "no/nothing"),
    ],
)
def test_nothing_else_is_and_nobody_learns_what_is_there(
    desk: Desk, place: Path, action: str, where: str
) -> None:
    with pytest.raises(CapabilityDenied, match="--allow files:"):
        desk.now(action, path=f"{place}/{where}")
    assert (place / "in/file.txt").read_text() == "text in"
    assert not (place / "no/new").exists()


@pytest.mark.parametrize(
    "path",
    [
        "{}/in/../no/file.txt",
        "{}/in/./file.txt",
        "{}/in//file.txt",
        "{}/in/file.txt\0",
        "{}/in/a\nb",
        "{}/in/\udc80",
        "{}/in/*",
        "in/file.txt",
        "",
        "{}/in/" + "x" * 5000,
        "{}/in/" + "x" * 300,
    ],
)
def test_names_that_are_none_are_refused(desk: Desk, place: Path, path: str) -> None:
    for action in ("open", "list", "stat"):
        with pytest.raises(Invalid):
            desk.now(action, path=path.format(place))


@pytest.mark.parametrize(
    ("action", "arguments"),
    [
        ("burn", {}),
        ("open", {"mode": "w"}),
        ("open", {"path": 5}),
        ("open", {"how": "r"}),
        ("read", {"size": MOST_BYTES + 1}),
        ("read", {"offset": -1}),
        ("write", {"content": "text"}),
        ("write", {"content": bytes(MOST_BYTES + 1)}),
    ],
)
def test_what_is_asked_wrongly_is_told(desk: Desk, place: Path, action: str, arguments: Any) -> None:
    with pytest.raises(Invalid):
        desk.now(action, **{"path": f"{place}/in/file.txt"} | arguments)


def test_links_are_not_followed(desk: Desk, place: Path) -> None:
    for where in ("in", "out"):
        (place / where / "to-file").symlink_to(place / "no/file.txt")
        (place / where / "to-directory").symlink_to(place / "no")
        for path in ("to-file", "to-directory/file.txt"):
            assert (place / where / path).read_text() == "text no"  # the control
    for action in ("open", "read", "stat", "list"):
        for path in ("to-file", "to-directory/file.txt", "to-directory"):
            with pytest.raises(Invalid, match="link"):
                desk.now(action, path=f"{place}/in/{path}")
    for path in ("to-file", "to-directory/file.txt", "to-directory/new"):
        with pytest.raises((Invalid, NotFound)):
            desk.now("write", path=f"{place}/out/{path}", content=b"x")
        with pytest.raises(Invalid):
            desk.now("write", path=f"{place}/out/{path}", content=b"x", append=True)
    assert os.listdir(place / "no") == ["file.txt"]
    assert (place / "no/file.txt").read_text() == "text no"


def test_a_link_swapped_in_at_any_moment_is_not_followed(tmp_path: Path, state: State) -> None:
    """The control, that a careless reader is fooled, is in tests/sandbox/test_beneath.py."""
    top = prepare(tmp_path)

    async def read_often(desk: Desk) -> set[bytes]:
        seen = set()
        for _ in range(300):
            try:
                seen.add((await desk("read", path=f"{top}/inside/data.txt")).value)
                await desk("write", path=f"{top}/inside/new", content=b"x")
            except (Invalid, NotFound, Conflict):
                pass
        return seen

    for desk in desk_for(state, f"files:read:{top}/**", f"files:write:{top}/**"):
        with swapped(top):
            seen = asyncio.run(read_often(desk))
    assert seen == {b"of its own"}
    assert os.listdir(tmp_path / "outside") == ["data.txt"]
    assert SECRET.encode() not in seen


def test_only_regular_files_are_opened(desk: Desk, place: Path) -> None:
    for where in ("in", "out"):
        os.mkfifo(place / where / "pipe")
    (place / "out/directory").mkdir()
    for action in ("open", "read"):
        for path in ("pipe", ""):
            with pytest.raises(Invalid, match="no regular file"):
                desk.now(action, path=f"{place}/in/{path}".rstrip("/"))
    for append in (False, True):
        for path in ("pipe", "directory"):
            with pytest.raises(Invalid, match="no regular file"):
                desk.now("write", path=f"{place}/out/{path}", content=b"x", append=append)
    with pytest.raises(KernelRuntimeError):
        desk.now("remove", path=f"{place}/out/directory")


def test_a_file_with_other_names_is_not_written_through(desk: Desk, place: Path) -> None:
    os.link(place / "no/file.txt", place / "out/same")
    with pytest.raises(Conflict, match="other names"):
        desk.now("write", path=f"{place}/out/same", content=b"more", append=True)
    desk.now("write", path=f"{place}/out/same", content=b"new")
    assert (place / "no/file.txt").read_text() == "text no"
    assert (place / "out/same").read_text() == "new"


def test_a_descriptor_gives_no_right_to_write(desk: Desk, place: Path) -> None:
    file = place / "in/file.txt"
    [fd] = asyncio.run(desk("open", path=str(file))).descriptors
    attempts = (
        lambda fd: os.close(os.open(f"/proc/self/fd/{fd}", os.O_RDWR)),
        lambda fd: os.fchmod(fd, 0o777),
        lambda fd: os.utime(fd, (0, 0)),
    )
    for attempt in attempts:
        with pytest.raises(OSError):
            attempt(fd)
    os.close(fd)
    with open(file) as plain:  # the control
        for attempt in attempts:
            attempt(plain.fileno())


def test_the_hosts_own_is_never_handed_out(place: Path, state: State) -> None:
    """Whatever is granted: who writes a policy grants, who reads the state has its key."""
    (place / "state").mkdir(exist_ok=True)
    (place / "state/master.key").write_text("key")
    (place / "in/.kernel-runtime").mkdir()
    (place / "in/.kernel-runtime/policy.toml").write_text("")
    (place / "config/kernel-runtime").mkdir(parents=True)
    (place / "config/kernel-runtime/databases.toml").write_text("")
    kept = own_places({"XDG_CONFIG_HOME": f"{place}/config"}, place / "state")
    for desk in desk_for(state, "files:read:/**", "files:write:/**", kept=kept):
        assert text_of(desk, place / "no/file.txt") == "text no"  # the control
        for path in (
            f"{place}/state/master.key",
            f"{place}/config/kernel-runtime/databases.toml",
            "/etc/kernel-runtime/policy.toml",
            f"{place}/in/.kernel-runtime/policy.toml",
            "/proc/self/environ",
            "/sys/kernel/notes",
            "/dev/null",
        ):
            for action in ("open", "read", "write", "remove", "stat"):
                with pytest.raises(CapabilityDenied, match="never handed out"):
                    desk.now(action, path=path)


def test_below_its_roots_only_and_links_in_their_own_paths_are_the_operators(
    place: Path, state: State
) -> None:
    (place / "data").symlink_to("in")
    scopes = (f"files:read:{place}/**",)
    for desk in desk_for(state, *scopes, roots=[f"{place}/data"], base=f"{place}/data"):
        assert text_of(desk, place / "data/file.txt") == "text in"
        assert text_of(desk, "./file.txt") == "text in"
        with pytest.raises(CapabilityDenied, match="handed out below"):
            text_of(desk, place / "no/file.txt")


@pytest.mark.parametrize("at_once", [False, True])
def test_a_quota_of_bytes_holds(place: Path, state: State, at_once: bool) -> None:
    async def story(desk: Desk) -> list[object]:
        writes = [
            desk("write", path=f"{place}/out/log", content=b"0123456789", append=True) for _ in range(12)
        ]
        if at_once:
            return list(await asyncio.gather(*writes, return_exceptions=True))
        return [(await asyncio.gather(write, return_exceptions=True))[0] for write in writes]

    conditions = {"quota": Quota(bytes=75)}
    for desk in desk_for(state, f"files:write:{place}/out/**", conditions=conditions):
        desk.now("write", path=f"{place}/out/log", content=b"")
        results = asyncio.run(story(desk))
    denied = [result for result in results if isinstance(result, CapabilityDenied)]
    assert len(denied) == 5
    assert (place / "out/log").stat().st_size == 70


def test_a_listing_is_bounded_and_leaves_out_what_has_no_name(
    desk: Desk, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (b"a\nb", b"\xff"):
        open(os.path.join(os.fsencode(place), b"in", name), "w").close()
    listing = desk.now("list", path=f"{place}/in")
    assert ([entry["name"] for entry in listing["entries"]], listing["left_out"]) == (["file.txt"], 2)
    monkeypatch.setattr("kernel_runtime.broker.files.MOST_ENTRIES", 3)
    for number in range(5):
        (place / f"in/{number}").touch()
    listing = desk.now("list", path=f"{place}/in")
    assert (len(listing["entries"]), listing["left_out"]) == (3, 5)


def test_who_gives_up_leaves_no_descriptor_behind(
    desk: Desk, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, closed = threading.Event(), threading.Event()
    opened: list[int] = []
    descriptor = Files._descriptor

    def slow(self: Files, *arguments: str) -> int:
        go_on.wait()
        opened.append(descriptor(self, *arguments))
        return opened[0]

    async def story() -> None:
        asking = asyncio.ensure_future(desk("open", path=f"{place}/in/file.txt"))
        while not asking.done() and not go_on.is_set():
            await asyncio.sleep(0)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            go_on.set()
        while not closed.is_set():
            await asyncio.sleep(0)

    close = os.close

    def noted(fd: int) -> None:
        close(fd)
        if opened and fd == opened[0]:
            closed.set()

    monkeypatch.setattr(Files, "_descriptor", slow)
    monkeypatch.setattr("kernel_runtime.broker.files.os.close", noted)
    asyncio.run(story())
    with pytest.raises(OSError):
        os.fstat(opened[0])
