"""Apps that may be called, in directories of a test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, text: str) -> None:
    """A file that nobody else can have written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o644)
    path.parent.chmod(0o755)


def install(config: Path, apps: Path, **sources: str) -> None:
    """Each app by its module's source: every function in it is an entry point. What stands before a line ``---`` is its
    manifest, without the id. They are listed in ``config``."""
    for app, source in sources.items():
        manifest, _, code = source.rpartition("---\n")
        entries = [
            line.split("(")[0].split()[-1]
            for line in code.splitlines()
            if line.startswith(("def ", "async "))
        ]
        points = "".join(f'{name} = "{app}_app:{name}"\n' for name in entries)
        write(apps / app / "app.toml", f'id = "{app}"\n{manifest}\n[entry_points]\n{points}')
        write(apps / app / f"{app}_app.py", code)
    listed = "".join(f'{app} = "{apps / app}"\n' for app in sources)
    write(config / "kernel-runtime" / "apps.toml", f"[apps]\n{listed}")
