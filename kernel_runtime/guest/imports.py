"""A word with a library once it has been imported, where it has to do something otherwise in a guest.

Nothing is imported for that, and a library that is not used costs nothing.
"""

from __future__ import annotations

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec
    from types import ModuleType

#: By a module's name, what is to be done with it.
Words: TypeAlias = "dict[str, Callable[[ModuleType], None]]"


def tell(words: Words) -> None:
    """Once, where the shell is built; libraries that are imported already are told at once."""
    for name, word in words.items():
        if name in sys.modules:
            word(sys.modules[name])
    sys.meta_path.insert(0, _Imports(words))


class _Imports(MetaPathFinder):
    """Tells a library once its module has been executed."""

    def __init__(self, words: Words) -> None:
        self._words = words

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        word = self._words.get(name)
        if word is None:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Telling(spec.loader, word)
        return spec


class _Telling(Loader):
    """A loader, and a word with the module afterwards."""

    def __init__(self, loader: Any, word: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._word = word

    def __getattr__(self, name: str) -> Any:  # get_data, is_package: whatever the loader can do
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        try:
            self._word(module)
        except Exception as error:  # noqa: BLE001 - another version of it: it does what it does anywhere
            sys.stderr.write(f"kernel_runtime: {module.__name__} is as anywhere else: {error!r}\n")
