"""Memory that values share: numpy arrays and their views, pandas objects that lazily share blocks.

An array is saved as the memory it lies in (its root, once) and where it lies there, so that a
view stays a view. Everything here is looked up in ``sys.modules``: what is not imported has no
values.
"""

from __future__ import annotations

import array as array_module
import copyreg
import mmap
import sys
from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Reduced = tuple[Any, ...]

#: Smaller memory is written into the stream: a buffer of its own costs more.
SMALL = 8 * 1024
_HOOKS = ("__reduce__", "__reduce_ex__", "__getstate__", "__setstate__")
#: What ``getrefcount`` says of a value that one other value and a variable hold.
_HELD_HERE = 3


class Unsaveable(Exception):
    """A value that no pickle could bring back as it is; the text says why."""


class Mapped(mmap.mmap):
    """Memory of a restored buffer: the guest's own copy, page by page as it is written."""


def beside(buffers: list[PickleBuffer]) -> Callable[[PickleBuffer], bool]:
    """Keeps large buffers out of the stream (pickle wants False for these)."""

    def take(buffer: PickleBuffer) -> bool:
        with memoryview(buffer) as view:
            if view.nbytes <= SMALL or not view.contiguous:
                return True
        buffers.append(buffer)
        return False

    return take


# -- numpy ----------------------------------------------------------------------------------


def root_of(array: Any) -> Any:
    """The array that owns the memory in which ``array`` lies."""
    ndarray = sys.modules["numpy"].ndarray
    while (base := array.base) is not None:
        if not isinstance(base, ndarray):
            base = _array_behind(base)
            if base is None:
                break
        array = base
    return array


def _array_behind(base: Any) -> Any:
    """The array that a row is of, or what ``as_strided`` puts between two arrays."""
    numpy = sys.modules["numpy"]
    while isinstance(base, numpy.void) or type(base).__name__ == "DummyArray":
        base = base.base
    return base if isinstance(base, numpy.ndarray) else None


def owner_of(array: Any) -> Any:
    """What the memory of an array belongs to: another array, bytes, or the array itself."""
    root = root_of(array)
    return root if root.base is None else _owner(root)


def _owner(root: Any) -> Any:
    base = root.base
    while isinstance(base, memoryview):
        base = base.obj
    return root if base is None or isinstance(base, Mapped) else base


def reduce_array(array: Any) -> Any:
    """How to save an array: by its root and its place there, or (a root) by its memory."""
    import numpy as np

    root = root_of(array)
    owner = root if root.base is None else _owner(root)
    if type(array) is np.memmap or isinstance(owner, mmap.mmap):
        raise Unsaveable("it maps a file; save the path and map it again")
    kind = type(array)
    if kind is not np.ndarray and not _is_simple(kind):
        del root, owner
        return _by_itself(array)
    if isinstance(owner, bytes | bytearray | array_module.array):
        start = _address(array) - _address(np.frombuffer(owner, np.uint8))
        _check_reach(array, root, start, memoryview(owner).nbytes)
        place = (start, array.shape, array.strides, array.dtype)
        return _with_attributes(array, _over, (owner, kind, *place, array.flags.writeable))
    if root is not array:
        _check_root(array, root)
        place = _place(array, root)
        _check_reach(array, root, place[0], root.nbytes)
        return _with_attributes(array, _view, (root, kind, *place, array.flags.writeable))
    of_ctypes = owner is not root and any(base.__module__ == "_ctypes" for base in type(owner).__mro__)
    del root, owner
    if of_ctypes:  # others have what is theirs: what a tree of sklearn is pickled as lies in the tree
        _refuse_shared(array)
    if array.dtype.hasobject or type(array.dtype).__name__ == "StringDType":
        return NotImplemented
    flat = _flat(array)
    if flat is None:
        return NotImplemented
    strides = None if array.flags.c_contiguous else array.strides
    made = (PickleBuffer(flat), kind, array.shape, strides, array.dtype, array.flags.writeable)
    return _with_attributes(array, _root, made)


def _is_simple(kind: type) -> bool:
    """Whether its values are memory and attributes: it pickles itself in no way of its own."""
    import numpy as np

    if kind in (np.ndarray, np.matrix, np.recarray):
        return True
    bases = (np.ndarray, getattr(sys.modules.get("numpy.ma"), "MaskedArray", np.ndarray))
    return not copyreg._slotnames(kind) and any(  # type: ignore[attr-defined] # as pickle asks for them
        all(getattr(kind, hook, None) is getattr(base, hook, None) for hook in _HOOKS) for base in bases
    )


def _with_attributes(array: Any, make: Callable[..., Any], arguments: Reduced) -> Reduced:
    own = getattr(array, "__dict__", None)
    return (make, arguments, own, None, None, _set_attributes) if own else (make, arguments)


def _set_attributes(array: Any, own: dict[str, Any]) -> None:
    vars(array).update(own)


def _check_root(array: Any, root: Any) -> None:
    """Whether a view can be made of it again."""
    if type(root.dtype).__name__ == "StringDType":
        raise Unsaveable("a view of an array of StringDType; copy it")
    if root.dtype.hasobject and array.dtype != root.dtype:
        raise Unsaveable("a view of a part of what an array with objects has; copy it")
    if not _is_whole(root):
        raise Unsaveable("a view of memory with gaps, or in an order that would not come back; copy it")


def _is_whole(root: Any) -> bool:
    """Whether a root comes back in the order in which its memory lies now."""
    if root.flags.c_contiguous or root.flags.f_contiguous:
        return True
    return _is_simple(type(root)) and not root.dtype.hasobject and _flat(root) is not None


def _check_reach(array: Any, root: Any, start: int, size: int) -> None:
    if array is root or array.base is root or not array.size:
        return  # numpy sees to it
    steps = [(count - 1) * step for count, step in zip(array.shape, array.strides, strict=True)]
    least, most = sum(step for step in steps if step < 0), sum(step for step in steps if step > 0)
    if start + least < 0 or start + most + array.itemsize > size:
        raise Unsaveable("an array that reaches beyond the memory it lies in")


def _by_itself(array: Any) -> Any:
    """One that has its own way to be pickled: a copy, but for the constant."""
    if array is not getattr(sys.modules.get("numpy.ma"), "masked", None):
        _refuse_shared(array)
    return NotImplemented


def _refuse_shared(array: Any) -> None:
    """One that is copied must be the only one that has its memory. Call it while no variable has its owner."""
    held = array.base
    while held is not None:
        if sys.getrefcount(held) > _HELD_HERE:
            names = type(array).__name__, type(held).__name__
            raise Unsaveable("a {} that shares its memory with a {}; copy it".format(*names))
        held = held.obj if isinstance(held, memoryview) else getattr(held, "base", None)


def reduce_row(row: Any) -> Any:
    """A row of a structured array shares its memory with it."""
    import numpy as np

    if row.base is None:
        return NotImplemented
    root = root_of(row)
    _check_root(row, root)
    start = _address(row) - _address(root)
    return _row, (_view(root, np.ndarray, start, (), (), row.dtype, row.flags.writeable),)


def _row(array: Any) -> Any:
    return array[()]


def _flat(array: Any) -> Any:
    """The memory of an owner as bytes, in the order it lies; None if it has gaps."""
    import numpy as np

    plain = array.view(np.ndarray)
    flat = plain.ravel(order="K") if plain.ndim else plain.reshape(1)
    if plain.nbytes == 0 or root_of(flat) is not root_of(plain):
        return None
    return flat.view(np.uint8)


def _address(array: Any) -> int:
    place: int = array.__array_interface__["data"][0]
    return place


def _place(array: Any, root: Any) -> Reduced:
    return _address(array) - _address(root), array.shape, array.strides, array.dtype


def _root(memory: Any, kind: type, shape: Any, strides: Any, dtype: Any, writeable: bool) -> Any:
    import numpy as np

    return _as(np.ndarray(shape, dtype, memory, strides=strides), kind, writeable)


def _over(owner: Any, kind: type, start: int, shape: Any, strides: Any, dtype: Any, writeable: bool) -> Any:
    import numpy as np

    return _as(np.ndarray(shape, dtype, owner, start, strides), kind, writeable)


def _as(array: Any, kind: type, writeable: bool) -> Any:
    if type(array) is not kind:
        array = array.view(kind)
    if array.flags.writeable and not writeable:
        array.flags.writeable = False
    return array


def _view(root: Any, kind: type, start: int, shape: Any, strides: Any, dtype: Any, writeable: bool) -> Any:
    import numpy as np

    plain = root.view(np.ndarray)
    if dtype.hasobject:
        array = _object_view(plain, start, shape, strides)
    else:
        array = np.ndarray(shape, dtype, _flat(plain), start, strides)
    return _as(array, kind, writeable)


def _object_view(plain: Any, start: int, shape: Any, strides: Any) -> Any:
    import numpy as np

    flat = plain.ravel(order="K")
    return np.lib.stride_tricks.as_strided(flat[start // plain.itemsize :], shape, strides)


# -- pandas ---------------------------------------------------------------------------------


def reduce_block(block: Any) -> Reduced:
    """A block with its references: writing to one of two frames that share it must copy first."""
    return _block, (type(block), block.values, block.mgr_locs.indexer, block.ndim, block.refs)


def _block(kind: Any, values: Any, places: Any, ndim: int, refs: Any) -> Any:
    from pandas._libs.internals import BlockPlacement

    return kind(values, placement=BlockPlacement(places), ndim=ndim, refs=refs)


def reduce_column(manager: Any) -> Reduced:
    """A series' manager by its block; by itself it would save the values alone."""
    return type(manager), (manager.blocks[0], manager.axes[0])


def reduce_references(references: Any) -> Reduced:
    return type(references), ()


def reduce_index(index: Any) -> Any:
    """An index that shares memory with a column says so to the column."""
    reduced = index.__reduce__()
    references = vars(index).get("_references")  # some kinds compute theirs
    return (_index, (*reduced[:2], references)) if references is not None else reduced


def _index(rebuild: Callable[..., Any], arguments: Any, references: Any) -> Any:
    index = rebuild(*arguments)
    index._references = references
    references.add_index_reference(index)
    return index


def reducers() -> list[tuple[type, Callable[[Any], Any]]]:
    """How to save values of these types and their subclasses, of the libraries that are loaded."""
    found: list[tuple[type, Callable[[Any], Any]]] = []
    numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
    if numpy is not None and hasattr(numpy, "ndarray"):
        found += [(numpy.ndarray, reduce_array), (numpy.void, reduce_row)]
    internals = sys.modules.get("pandas._libs.internals")
    managers: Any = sys.modules.get("pandas.core.internals.managers")
    if internals is not None and hasattr(internals, "BlockValuesRefs"):
        found += [(internals.Block, reduce_block), (internals.BlockValuesRefs, reduce_references)]
    if pandas is not None and hasattr(pandas, "Index"):
        found.append((pandas.Index, reduce_index))
    if hasattr(managers, "SingleBlockManager"):
        found.append((managers.SingleBlockManager, reduce_column))
    return found
