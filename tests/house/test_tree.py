"""What lies in the repository, and what must not."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tomllib

import pytest

# Put together from parts, or this file would find itself.
FOREIGN = re.compile(
    "|".join(
        "".join(parts)
        for parts in (
            ("/wo", r"rk/(main|shared|\.)"),
            ("/tm", "p/v/"),
            ("/ro", r"ot/\."),
            ("/op", "t/pypi"),
            ("pypi", r"\.org"),
            ("python", "hosted"),
        )
    )
)
ATTICS = {"utils", "util", "helpers", "helper", "common", "core", "base", "manager", "misc"}
TEXT = {".py", ".md", ".toml", ".txt", ".cfg", ".yaml", ".yml", ".ipynb", ".svg", ".json", ".csv", ""}


@pytest.fixture(scope="module")
def files(root):
    """Every file that is, or would be, committed."""
    listing = [
        "git",
        "-c",
        f"safe.directory={root}",
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    done = subprocess.run(listing, cwd=root, capture_output=True, text=True, timeout=30)
    if done.returncode:
        pytest.fail(f"git cannot list the files: {done.stderr}")
    return [root / name for name in done.stdout.split("\0") if name and (root / name).is_file()]


def test_no_machine_paths_and_no_registries(root, files):
    found = []
    for path in files:
        if path.suffix in TEXT:
            for match in FOREIGN.finditer(path.read_text(errors="replace")):
                found.append(f"{path.relative_to(root)}: {match[0]}")
    assert found == []


def test_files_have_plain_names(root, files):
    named = [str(path.relative_to(root)) for path in files if path.suffix == ".py" and path.stem in ATTICS]
    private = [
        str(path.relative_to(root))
        for path in (root / "kernel_runtime").rglob("*.py")
        if path.stem.startswith("_") and not path.stem.startswith("__")
    ]
    assert named + private == []


def test_constraints_pin_every_file_by_hash_and_name_no_address(root):
    text = (root / "constraints/dev.txt").read_text()
    entries = re.split(r"\n(?=\S)", text.strip())
    assert len(entries) > 100
    assert [entry.split()[0] for entry in entries if "==" not in entry or "--hash=sha256:" not in entry] == []
    assert re.findall(r"://|--index|--find-links|--extra-index|--trusted", text) == []


def test_constraints_satisfy_every_stated_dependency(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    stated = [
        *project["dependencies"],
        *(d for extra in project["optional-dependencies"].values() for d in extra),
    ]
    pinned = set(
        re.findall(
            r"^([a-z0-9-]+)(?:\[[a-z0-9,-]+\])?==", (root / "constraints/dev.txt").read_text(), re.MULTILINE
        )
    )
    names = {re.split(r"[\[<>=!~; ]", one)[0].lower().replace("_", "-").replace(".", "-") for one in stated}
    assert names - pinned == set()


def test_changelog_fragments_are_valid(root):
    kinds = {
        kind["directory"]
        for kind in tomllib.loads((root / "pyproject.toml").read_text())["tool"]["towncrier"]["type"]
    }
    for fragment in (root / "changelog.d").iterdir():
        if fragment.name.startswith("."):
            continue
        match = re.fullmatch(r"(\d+|\+[\w-]+)\.(\w+)(\.\d+)?\.md", fragment.name)
        assert match, f"{fragment.name}: name it <issue>.<kind>.md"
        assert match[2] in kinds, f"{fragment.name}: the kinds are {sorted(kinds)}"
        assert fragment.read_text().strip()


def test_the_data_set_is_the_one_its_source_page_describes(root):
    data = (root / "notebooks/data/co2.csv").read_bytes()
    page = (root / "notebooks/data/SOURCE.md").read_text()
    assert hashlib.sha256(data).hexdigest() in page
    rows = len(data.splitlines()) - 1
    assert rows >= 1000
    assert f"{rows:,} rows" in page
    assert "licence" in page


@pytest.mark.parametrize(
    ("name", "kernel"),
    [
        ("00_start", "kernel-runtime"),
        ("01_sandbox_magic", "python3"),
        ("02_time_travel", "kernel-runtime"),
        ("03_permissions", "kernel-runtime"),
    ],
)
def test_notebooks_name_their_kernel_and_were_run(root, name, kernel):
    notebook = json.loads((root / f"notebooks/{name}.ipynb").read_text())
    assert notebook["metadata"]["kernelspec"]["name"] == kernel
    assert any(cell.get("outputs") for cell in notebook["cells"])
