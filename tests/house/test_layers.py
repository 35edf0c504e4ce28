"""The rules of the house are held by import-linter; here: that they are, and cover every room."""

from __future__ import annotations

import configparser
import subprocess
import sys
from pathlib import Path

GUEST_MAY_IMPORT = {"wire", "sdk", "schema", "domain", "guest"}


def rooms(root: Path) -> set[str]:
    """Names of the packages and modules directly under kernel_runtime."""
    package = root / "kernel_runtime"
    modules = {path.stem for path in package.glob("*.py") if not path.stem.startswith("__")}
    return modules | {path.parent.name for path in package.glob("*/__init__.py")}


def test_every_contract_holds(root):
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_guests_contract_names_every_room_of_the_host(root):
    config = configparser.ConfigParser()
    config.read(root / ".importlinter")
    named = config["importlinter:contract:guest"]["forbidden_modules"].split()
    assert {name.removeprefix("kernel_runtime.") for name in named} == rooms(root) - GUEST_MAY_IMPORT


def test_the_map_shows_the_rooms_that_exist(root):
    text = (root / "ARCHITECTURE.md").read_text()
    missing = [room for room in rooms(root) if f"`{room}/`" not in text and f"`{room}.py`" not in text]
    assert missing == []
