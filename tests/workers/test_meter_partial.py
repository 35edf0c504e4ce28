"""Which limits a host cannot hold exactly, and for whom it cannot hold them at all."""

from __future__ import annotations

import msgspec
import pytest

from kernel_runtime.domain.level import Rung
from kernel_runtime.domain.limits import Limits
from kernel_runtime.sandbox import hierarchy
from kernel_runtime.sandbox.plan import Ids, ImagePlan
from kernel_runtime.workers import doctor, meter

IMAGE = ImagePlan(
    ids=Ids(uid=1000, gid=1000, host_uid=1000, host_gid=1000, remapped=False),
    binds=[],
    links={},
    files={},
    home="/home/ada",
    workdir=None,
    preload=[],
    parent=1,
)


@pytest.fixture
def no_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter, "world", lambda: hierarchy.World({}))


@pytest.mark.usefixtures("no_groups")
@pytest.mark.parametrize(
    ("rung", "exempt", "why"),
    [
        (Rung.NAMESPACES, False, meter.PARTIAL["pids"]),
        (Rung.LANDLOCK, False, meter.PIDS_BRAKED),
        (Rung.NAMESPACES, True, meter.PIDS_NOT_HELD),
        (Rung.LANDLOCK, True, meter.PIDS_NOT_HELD),
    ],
)
def test_pids_are_held_braked_or_neither(
    rung: Rung, exempt: bool, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meter, "is_roots_own", lambda _: exempt)
    image = msgspec.structs.replace(IMAGE, rung=rung)
    assert meter.partial(Limits(), image)["pids"] == why
    assert "pids" not in meter.partial(Limits(pids=None), image)


@pytest.mark.parametrize("exempt", [False, True])
def test_the_doctor_says_that_pids_are_not_held(exempt: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "is_roots_own", lambda _: exempt)
    host = doctor.Host(missing={})
    said = doctor._limits(host, Rung.NAMESPACES, [], doctor.hosts.read_facts())
    assert said.status == doctor.PARTIAL
    memory, pids = "only watched: memory (cgroup none)", f"pids {meter.PIDS_NOT_HELD}"
    assert said.detail == (f"{memory}; {pids}" if exempt else "only watched: memory, pids (cgroup none)")
