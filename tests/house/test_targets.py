"""What the README tells people to type exists."""

from __future__ import annotations

import re
import subprocess

import pytest

PAGES = ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "docs/index.md")
PROMISED = {"setup", "demo", "test", "lab", "bench", "check", "docs", "clean"}


def targets(root):
    return set(re.findall(r"^([a-z]+):", (root / "Makefile").read_text(), re.MULTILINE))


def test_the_promised_targets_exist(root):
    assert targets(root) >= PROMISED


@pytest.mark.parametrize("page", PAGES)
def test_commands_on_the_page_are_targets(root, page):
    asked = set(re.findall(r"(?:^\$ |`)make ([a-z]+)", (root / page).read_text(), re.MULTILINE))
    assert asked <= targets(root)


def test_make_alone_lists_the_targets(root):
    shown = subprocess.run(["make"], cwd=root, capture_output=True, text=True, timeout=30, check=True).stdout
    assert set(re.findall(r"make ([a-z]+)", shown)) == targets(root)


def test_links_of_the_pages_lead_somewhere(root):
    for page in (*root.glob("*.md"), *(root / "docs").rglob("*.md")):
        for link in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            if "://" not in link and not link.startswith("<"):
                assert (page.parent / link).exists(), f"{page.relative_to(root)}: {link}"
