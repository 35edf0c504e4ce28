"""Usage, measured outside the guest: for ``usage_request`` and the front's usage comm."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from kernel_runtime.jupyter.guest import Guest


class UsageReport:
    """What the guest uses, in the forms clients know; a percentage needs two looks."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._seen: tuple[float, float] | None = None

    async def to_client(self) -> dict[str, Any]:
        """Content of ``usage_reply``, as ipykernel's; memory and CPU are the guest's."""
        content: dict[str, Any] = {
            "hostname": socket.gethostname(),
            "pid": os.getpid(),
            "cpu_count": os.cpu_count(),
            "host_virtual_memory": host_memory(),
        }
        if self._guest.session is not None:
            used = await self._guest.session.usage()
            content |= {"kernel_cpu": self._percent(used.cpu), "kernel_memory": used.memory}
        return content

    async def to_comm(self, _: dict[str, Any]) -> dict[str, Any]:
        """Data of the ``kernel_runtime.usage`` comm."""
        if self._guest.session is None:
            return {"alive": False}
        used = await self._guest.session.usage()
        return {
            "alive": True,
            "memory": used.memory,
            "peak": used.peak,
            "cpu": used.cpu,
            "pids": used.pids,
            "disk": used.disk,
            "wall": used.wall,
            "amounts": msgspec.to_builtins(used.amounts),
        }

    def _percent(self, cpu: float) -> float:
        now = time.monotonic()
        before, self._seen = self._seen, (now, cpu)
        if before is None or now <= before[0]:
            return 0.0
        return round(max(0.0, 100 * (cpu - before[1]) / (now - before[0])), 1)


def host_memory() -> dict[str, float]:
    """Bytes of this machine's memory, named as psutil does; empty where /proc is missing."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return {}
    amounts = {line.partition(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    total, available = amounts.get("MemTotal", 0), amounts.get("MemAvailable", 0)
    percent = round(100 * (total - available) / total, 1) if total else 0.0
    return {
        "total": total,
        "available": available,
        "used": total - available,
        "free": amounts.get("MemFree", 0),
        "percent": percent,
    }
