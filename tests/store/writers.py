"""A plain process in a guest's place: it has a namespace, saves it, or loads into it.

``python writers.py save|load FD PROGRAM`` runs PROGRAM in ``__main__``'s namespace (before saving,
or after loading, with ``result`` printed), so that what it defines is a notebook's.
"""

from __future__ import annotations

import json
import socket
import sys
import types

from kernel_runtime import wire
from kernel_runtime.guest.channel import Channel


def main() -> None:
    mode, fd, program = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    namespace = module.__dict__
    sock = socket.socket(fileno=fd)
    if mode == "save":
        from kernel_runtime.guest.checkpoint_save import save

        before = set(namespace)
        exec(program, namespace)
        names = [name for name in namespace if name not in before and name != "__builtins__"]
        save(Channel(sock, wire.decode_to_writer), namespace, names)
    else:
        from kernel_runtime.guest.checkpoint_load import load

        load(Channel(sock, wire.decode_to_loader), namespace)
        sock.close()
        exec(program, namespace)
        print(json.dumps(namespace.get("result")))


if __name__ == "__main__":
    main()
