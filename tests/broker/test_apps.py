"""Which apps may be called: the operator's list, and what is wrong with an app."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kernel_runtime.broker.apps import Apps, parse_apps
from kernel_runtime.domain.errors import CallFailed, Invalid, NotFound
from tests.broker.calling import install, write

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = "def latest(metal):\n    return metal\nasync def later():\n    return 1\n"


@pytest.fixture
def apps(tmp_path: Path) -> Apps:
    install(tmp_path / "config", tmp_path / "apps", prices=SOURCE)
    return listed(tmp_path)


def listed(tmp_path: Path) -> Apps:
    return Apps({"XDG_CONFIG_HOME": str(tmp_path / "config")}, system=tmp_path / "etc" / "policy.toml")


def test_a_handler_is_found_with_its_source(apps: Apps, tmp_path: Path) -> None:
    entry = apps.find("prices", "latest")
    assert (entry.name, entry.module, entry.function) == ("prices.latest", "prices_app", "latest")
    assert (entry.directory, entry.source) == (str(tmp_path / "apps" / "prices"), SOURCE)
    assert entry.manifest.place == str(tmp_path / "apps" / "prices" / "app.toml")


def test_a_module_may_lie_in_a_package(apps: Apps, tmp_path: Path) -> None:
    place = tmp_path / "apps" / "prices"
    write(place / "app.toml", 'id = "prices"\n[entry_points]\na = "pack.inner:f"\nb = "pack:f"\n')
    write(place / "pack" / "__init__.py", "b")
    write(place / "pack" / "inner.py", "a")
    assert (apps.find("prices", "a").source, apps.find("prices", "b").source) == ("a", "b")


@pytest.mark.parametrize(
    ("app", "handler", "said"),
    [
        ("prces", "latest", "no app is called 'prces'; did you mean 'prices'"),
        ("prices", "ltest", "has no handler 'ltest'; did you mean 'latest'"),
        ("zzz", "latest", "there are prices"),
    ],
)
def test_what_is_not_there_is_told_with_what_is_near(apps: Apps, app: str, handler: str, said: str) -> None:
    with pytest.raises(NotFound, match=said):
        apps.find(app, handler)


def test_where_nothing_is_listed_nothing_is_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there are none"):
        listed(tmp_path).find("prices", "latest")


def test_an_app_that_was_changed_is_found_as_it_is_now(apps: Apps, tmp_path: Path) -> None:
    assert apps.find("prices", "latest").source == SOURCE
    write(tmp_path / "apps" / "prices" / "prices_app.py", "other")
    assert apps.find("prices", "latest").source == "other"


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ('id = "gold"\n[entry_points]\nlatest = "prices_app:latest"', "its app.toml calls it 'gold'"),
        ('id = "prices"\n[entry_points]\nlatest = "os:system"', "there is no os.py beside prices/app.toml"),
        ('id = "prices"\nentry_points = { latest = "x" }', r"prices/app.toml:2.*entry_points"),
        ('id = "prices"\nidd = 5', "no key is called 'idd'"),
    ],
)
def test_what_is_wrong_with_an_app_is_told_without_its_place(
    apps: Apps, tmp_path: Path, manifest: str, said: str
) -> None:
    write(tmp_path / "apps" / "prices" / "app.toml", manifest)
    with pytest.raises(CallFailed, match=said) as caught:
        apps.find("prices", "latest")
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("name", ["app.toml", "prices_app.py"])
def test_what_somebody_else_could_have_written_is_not_called(apps: Apps, tmp_path: Path, name: str) -> None:
    apps.find("prices", "latest")  # the control
    (tmp_path / "apps" / "prices" / name).chmod(0o666)
    with pytest.raises(CallFailed, match="other users may write"):
        apps.find("prices", "latest")


def test_a_list_that_somebody_else_could_have_written_is_refused(apps: Apps, tmp_path: Path) -> None:
    (tmp_path / "config" / "kernel-runtime" / "apps.toml").chmod(0o666)
    with pytest.raises(Invalid, match="other users may write"):
        apps.find("prices", "latest")


def test_the_machines_list_goes_before_the_persons(apps: Apps, tmp_path: Path) -> None:
    write(tmp_path / "etc" / "apps.toml", f'[apps]\nprices = "{tmp_path}/machine"\nother = "/x"\n')
    assert apps.directories() == {"prices": f"{tmp_path}/machine", "other": "/x"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[apps]\nprices = 5", "a.toml:2: apps.prices: is to be text, not a whole number"),
        ("[app]\nprices = '/x'", "no key is called 'app'|'apps' is missing"),
        ("[apps]\n'../x' = '/x'", "an app is called as its id"),
        ("[apps]\nprices = 'x/y'", "is no directory that begins with"),
        ("[apps", "not valid TOML"),
    ],
)
def test_what_is_wrong_with_a_list_is_told_with_its_place(text: str, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        parse_apps(text, "a.toml")
