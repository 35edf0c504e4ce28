"""A program for a world whose only user is the host's root: ``python owner_world.py DIRECTORY PLACES SECRETS``.

Tries in a plain process of that world, in a guest behind all walls, and in one without the wall that covers
/proc, which of the places open for writing, and which of the secrets open for reading.
Nothing is ever written. Prints the answers as JSON.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

from kernel_runtime.workers import meter
from tests.walls.rung_world import House

OPENED = """
import json, os, stat
def opened(path, flags):
    try:
        os.close(os.open(path, flags))
    except OSError:
        return False
    return True
def content(path):
    try:
        with open(path, "rb") as file:
            return len(file.read(1))
    except OSError:
        return 0
def kept_mode(path):
    try:
        os.chmod(path, stat.S_IMODE(os.stat(path).st_mode))
    except OSError:
        return False
    return True
found = {{
    "written": [path for path in {places!r} if opened(path, os.O_WRONLY)],
    "read": [path for path in {secrets!r} if content(path)],
    "mode": kept_mode("/dev/null"),
}}
"""
#: Only in a guest: everything there is but processes, and what a process needs of its own.
WITHIN = """
own = ("/proc/self", "/proc/thread-self")
names = [os.path.join(at, name) for at, _, names in os.walk("/proc") for name in names
         if not at[6:7].isdigit() and not at.startswith(own)]
found["count"] = len(names)
found["any"] = [path for path in names if opened(path, os.O_WRONLY)]
found["own"] = opened("/proc/self/oom_score_adj", os.O_WRONLY)
found["watchers"] = open("/proc/sys/user/max_inotify_instances").read().strip()
found["kept"] = [target for fd in os.listdir("/proc/self/fd") if os.path.islink(f"/proc/self/fd/{fd}")
                 and (target := os.readlink(f"/proc/self/fd/{fd}")).startswith("/proc")
                 and not target.endswith("/fd")]
"""
TELL = "print(json.dumps(found))"


async def guest(directory: str, code: str, without: tuple[str, ...] = ()) -> dict[str, Any]:
    house = await House(directory, rung=None, without=without).open()
    try:
        result = await house.session.run(code + TELL, check=False)
        assert result.ok, result
        assert house.session._session is not None
        found: dict[str, Any] = json.loads(result.stdout)
        return found | {"info": house.session._session.info}
    finally:
        await house.close()


async def main(directory: str, places: list[str], secrets: list[str]) -> dict[str, Any]:
    code = OPENED.format(places=places, secrets=secrets)
    plain = subprocess.run(
        [sys.executable, "-I", "-c", code + TELL], capture_output=True, text=True, check=True
    )
    found = {
        "plain": json.loads(plain.stdout),
        "walled": await guest(directory, code + WITHIN),
        "uncovered": await guest(directory, code, without=("mount",)),
    }
    meter.world = lambda: meter.hierarchy.World({})  # no control groups
    found["uncounted"] = await guest(directory, code)
    return found


if __name__ == "__main__":
    directory, places, secrets = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
    print(json.dumps(asyncio.run(main(directory, places, secrets))))
