"""``KernelRuntime.*`` for Jupyter's configuration files; imported only when one of them exists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from traitlets import Unicode
from traitlets.config import Configurable
from traitlets.config.loader import PyFileConfigLoader

if TYPE_CHECKING:
    from pathlib import Path


class KernelRuntime(Configurable):
    """The sandboxed kernel. An empty value leaves a setting to the weaker places."""

    level = Unicode("", help="strict, moderate or permissive: how much a guest is walled in.").tag(
        config=True
    )
    memory = Unicode("", help="Memory of the whole guest, like 512M or 4G.").tag(config=True)
    cpu = Unicode("", help="CPU time per cell, like 30s or 5m; none: not limited.").tag(config=True)
    cpus = Unicode("", help="Cores' worth of CPU time at any moment, like 0.5; none: not limited.").tag(
        config=True
    )
    session = Unicode("", help="Time of the whole session, like 2h; none: not limited.").tag(config=True)
    wall = Unicode("", help="Time per cell, like 30s or 5m; none: not limited.").tag(config=True)
    pids = Unicode("", help="Processes and threads at once, like 128.").tag(config=True)
    disk = Unicode("", help="Bytes a guest may write to its layer in memory, like 512M.").tag(config=True)
    inodes = Unicode("", help="Files and directories in that layer, like 65536.").tag(config=True)
    file_size = Unicode("", help="Bytes of one file, like 64M; none: as much as the layer.").tag(config=True)
    open_files = Unicode("", help="Descriptors of one process, like 4096.").tag(config=True)
    messages = Unicode("", help="Output messages per second, like 1000; none: not limited.").tag(config=True)
    network = Unicode("", help="Bytes over the network in total, like 1G.").tag(config=True)
    bandwidth = Unicode("", help="Bytes over the network per second, like 1M.").tag(config=True)
    flood = Unicode("", help="cut or end: what becomes of a cell whose output is a flood.").tag(config=True)
    undo = Unicode("", help="How many automatic snapshots before cells are kept, like 8; 0: none.").tag(
        config=True
    )
    snapshots = Unicode("", help="How many other snapshots are kept, like 32.").tag(config=True)
    snapshot_memory = Unicode("", help="Memory that all snapshots may hold, like 2G.").tag(config=True)
    snapshot_share = Unicode(
        "", help="What an automatic snapshot may cost, as a share of the computing it saves, like 5%."
    ).tag(config=True)
    checkpoint_every = Unicode("", help="Write a checkpoint when so much time has passed, like 10m.").tag(
        config=True
    )
    checkpoint_cells = Unicode("", help="Write a checkpoint after so many cells, like 5.").tag(config=True)
    checkpoints = Unicode("", help="How many checkpoints of a notebook are kept, like 20.").tag(config=True)
    checkpoint_age = Unicode("", help="How long checkpoints are kept, like 720h.").tag(config=True)
    checkpoint_bytes = Unicode(
        "", help="Bytes on disk that checkpoints of a notebook may take, like 10G."
    ).tag(config=True)
    idle = Unicode(
        "", help="Time in which nothing is asked of the guest, after which it is paused, like 1h."
    ).tag(config=True)
    output = Unicode("", help="Bytes of output per cell, like 64M.").tag(config=True)
    page_hosts = Unicode(
        "", help="Hosts that outputs may load pictures from and link to, like cdn.example.org."
    ).tag(config=True)
    history = Unicode("", help="The history file; :memory: keeps none.").tag(config=True)


def read_python(path: Path) -> dict[str, Any]:
    """The ``c.KernelRuntime.*`` values of a ``.py`` configuration file."""
    config = PyFileConfigLoader(path.name, path=str(path.parent)).load_config()
    return dict(config.get("KernelRuntime", {}))
