"""Variables across the wall in safe formats: JSON, bytes, npy, Arrow IPC. Never pickle.

Both sides use it: ``encode`` where the value lives, ``decode`` where it goes. What ``decode``
is given is hostile: sizes are checked against the bytes that are there before memory is taken.
numpy, pandas and pyarrow are imported only when a value needs them.
"""

from __future__ import annotations

import io
import json
import math
import sys
from typing import Any

from kernel_runtime import wire
from kernel_runtime.domain.amounts import KIB, show_bytes
from kernel_runtime.domain.errors import Invalid, KernelRuntimeError
from kernel_runtime.guest import arrow_stream

#: Room for the frame around the value.
MAX_VALUE = wire.MAX_FRAME - 64 * KIB
#: Cells that may take no bytes of their own (nulls) in a table; each takes eight or more in pandas.
_MAX_FREE_CELLS = 10_000_000


def encode(value: Any, name: str = "value") -> wire.Value:
    """A value → its safe format; ``Invalid`` names the type and how to convert it."""
    encoded = _encode(value, name)
    if len(encoded.data) > MAX_VALUE:
        raise Invalid(
            f"{name}: {show_bytes(len(encoded.data))} are too much for one value; "
            f"at most {show_bytes(MAX_VALUE)} cross at once"
        )
    return encoded


def _encode(value: Any, name: str) -> wire.Value:
    kind = type(value)
    if kind is bytes:
        return wire.Value(format="bytes", data=value)
    room = kind.__module__.partition(".")[0]
    if room == "numpy" or _is(value, "numpy", "ndarray"):
        return _encode_array(value, name)
    if room in ("pandas", "pyarrow"):
        return _encode_table(value, name)
    _check_plain(value, name, wire.MAX_DEPTH)
    return wire.Value(format="json", data=_to_json(value, name))


def decode(value: wire.Value) -> Any:
    """A safe format → the value; ``Invalid`` when it is not what it says it is."""
    decoder = _DECODERS.get(value.format)
    if decoder is None:
        raise Invalid(f"value: no format is called {value.format!r}; there are {', '.join(_DECODERS)}")
    try:
        return decoder(value)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, SyntaxError) as error:
        raise Invalid(f"value: not valid {value.format}: {error}") from None


# -- JSON -----------------------------------------------------------------------------------


def _check_plain(value: Any, name: str, depth: int) -> None:
    """Exact types only: a subclass or a tuple would come back as something else."""
    if value is None or type(value) in (bool, int, float, str):
        return
    if depth == 0:
        raise Invalid(f"{name}: nested deeper than {wire.MAX_DEPTH}, or containing itself")
    if type(value) is list:
        for item in value:
            _check_plain(item, name, depth - 1)
    elif type(value) is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise Invalid(
                    f"{name}: a dict with a key of type {_type_name(key)} cannot cross; use str keys"
                )
            _check_plain(item, name, depth - 1)
    else:
        raise Invalid(f"{name}: a value of type {_type_name(value)} cannot cross; {_advice(value)}")


_ADVICE = {
    tuple: "convert it with list(...)",
    set: "convert it with sorted(...)",
    frozenset: "convert it with sorted(...)",
    complex: "pass [z.real, z.imag]",
    bytearray: "convert it with bytes(...)",
    range: "convert it with list(...)",
}


def _advice(value: Any) -> str:
    general = (
        "what can: JSON values (None, bool, int, float, str, list, dict), bytes, "
        "numpy arrays, pandas and pyarrow tables"
    )
    specific = _ADVICE.get(type(value))
    return specific or ("pass its contents, e.g. vars(...) or str(...); " + general)


def _to_json(value: Any, name: str) -> bytes:
    """JSON with Python's NaN, Infinity and -Infinity, so that floats come back as they are."""
    try:
        try:
            return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        except UnicodeEncodeError:
            return json.dumps(value, separators=(",", ":")).encode()
    except ValueError as error:
        raise Invalid(f"{name}: {error}") from None


def _from_json(value: wire.Value) -> Any:
    wire.check_json(value.data)
    return json.loads(value.data)


# -- numpy ----------------------------------------------------------------------------------


def _encode_array(value: Any, name: str) -> wire.Value:
    import numpy as np

    scalar = isinstance(value, np.generic)
    if not scalar and type(value) is not np.ndarray:
        raise Invalid(
            f"{name}: a value of type {_type_name(value)} cannot cross; convert it with numpy.asarray(...)"
        )
    if value.dtype.hasobject or type(value.dtype).__name__ == "StringDType":
        raise Invalid(
            f"{name}: a numpy array of dtype {value.dtype} cannot cross (it would need pickle); "
            "convert it with .tolist() or .astype(str)"
        )
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(value), allow_pickle=False)
    return wire.Value(format="npy", data=file.getvalue(), meta={"kind": "scalar"} if scalar else {})


def _decode_array(value: wire.Value) -> Any:
    import numpy as np

    file = io.BytesIO(value.data)
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(
        version
    )
    if read is None:
        raise Invalid(f"value: npy version {version} is not supported")
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise Invalid("value: npy with objects would need pickle")
    present = len(value.data) - file.tell()
    if math.prod(shape) * dtype.itemsize != present or math.prod(shape) > max(present, 1):
        raise Invalid(f"value: npy of shape {shape} and {present} bytes")
    flat = np.frombuffer(value.data, dtype, count=math.prod(shape), offset=file.tell())
    array = flat.reshape(shape, order="F" if fortran else "C").copy(order="K")
    return array[()] if value.meta.get("kind") == "scalar" else array


# -- pandas and pyarrow -----------------------------------------------------------------------


def _encode_table(value: Any, name: str) -> wire.Value:
    import pyarrow as pa

    try:
        table, meta = _to_table(value, name)
    except (pa.ArrowException, TypeError, ValueError) as error:
        reason = str(error.args[0] if error.args else error)
        raise Invalid(
            f"{name}: a {_type_name(value)} with values that Arrow cannot hold ({reason}); "
            "convert such columns, e.g. with .astype(str)"
        ) from None
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return wire.Value(format="arrow", data=sink.getvalue(), meta=meta)


def _to_table(value: Any, name: str) -> tuple[Any, dict[str, str]]:
    import pyarrow as pa

    if isinstance(value, pa.Table):
        return value, {"kind": "Table"}
    if _is(value, "pandas", "DataFrame"):
        return pa.Table.from_pandas(value), {"kind": "DataFrame"}
    if _is(value, "pandas", "Series"):
        frame = value.to_frame(name="0")
        return pa.Table.from_pandas(frame), {"kind": "Series", "name": _label(value.name, name)}
    if _is(value, "pandas", "MultiIndex"):
        frame = value.to_frame(index=False, name=[str(n) for n in range(value.nlevels)])
        return pa.Table.from_pandas(frame), {"kind": "MultiIndex", "names": _label(list(value.names), name)}
    if _is(value, "pandas", "Index"):
        frame = value.to_frame(index=False, name="0")
        return pa.Table.from_pandas(frame), {"kind": "Index", "name": _label(value.name, name)}
    raise Invalid(
        f"{name}: a value of type {_type_name(value)} cannot cross; "
        "pass a DataFrame, Series, Index or pyarrow.Table, or convert it with str(...)"
    )


def _label(label: Any, name: str) -> str:
    _check_plain(label, f"{name}.name", 2)
    return json.dumps(label)


def _decode_table(value: wire.Value) -> Any:
    import pyarrow as pa

    kind = value.meta.get("kind", "Table")
    if kind not in _FROM_TABLE:
        raise Invalid(f"value: arrow of unknown kind {kind!r}")
    try:
        arrow_stream.check(value.data)
        with pa.ipc.open_stream(value.data) as reader:
            for field in reader.schema:
                _check_type(field.type)
            table = reader.read_all()
        table.validate(full=True)
        _check_size(table, len(value.data))
        return _FROM_TABLE[kind](table, value.meta)
    except (KernelRuntimeError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 — pandas meets hostile metadata with whatever comes to it
        raise Invalid(f"value: not valid arrow: {type(error).__name__}: {error}") from None


def _check_type(kind: Any, nested: bool = False) -> None:
    """Refuse what says little and becomes much: views share bytes, runs share values, and a
    dictionary inside a list is written out for each use.
    """
    import pyarrow as pa

    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        _check_type(kind.storage_type, nested)
        return
    view = any(getattr(types, f"is_{name}_view")(kind) for name in ("string", "binary", "list", "large_list"))
    if view or types.is_run_end_encoded(kind) or (nested and types.is_dictionary(kind)):
        raise Invalid(f"value: arrow of the type {kind}; convert it to a plain type first")
    if types.is_dictionary(kind):
        _check_type(kind.value_type, nested=True)
    for place in range(kind.num_fields):
        _check_type(kind.field(place).type, nested=True)


def _check_size(table: Any, size: int) -> None:
    """Cells at every depth against the bytes that came: nulls take no byte, however many."""
    cells = table.num_rows + sum(_cells(chunk) for column in table.columns for chunk in column.chunks)
    if cells > _MAX_FREE_CELLS + size:
        raise Invalid(f"value: arrow table of {cells} cells in {size} bytes")


def _cells(array: Any) -> int:
    import pyarrow as pa

    if isinstance(array, pa.ExtensionArray):
        return _cells(array.storage)
    count = len(array)
    if isinstance(array, pa.StructArray | pa.UnionArray):
        return count + sum(_cells(array.field(place)) for place in range(array.type.num_fields))
    if isinstance(array, pa.MapArray):
        return count + _cells(array.keys) + _cells(array.items)
    if isinstance(array, pa.ListArray | pa.LargeListArray | pa.FixedSizeListArray):
        return count + _cells(array.values)
    if isinstance(array, pa.DictionaryArray):
        return count + _cells(array.dictionary)
    return count


def _to_series(table: Any, meta: dict[str, str]) -> Any:
    return table.to_pandas()["0"].rename(json.loads(meta["name"]))


def _to_index(table: Any, meta: dict[str, str]) -> Any:
    import pandas as pd

    return pd.Index(table.to_pandas()["0"]).rename(json.loads(meta["name"]))


def _to_multi_index(table: Any, meta: dict[str, str]) -> Any:
    import pandas as pd

    return pd.MultiIndex.from_frame(table.to_pandas(), names=json.loads(meta["names"]))


_FROM_TABLE = {
    "Table": lambda table, _: table,
    "DataFrame": lambda table, _: table.to_pandas(),
    "Series": _to_series,
    "Index": _to_index,
    "MultiIndex": _to_multi_index,
}

_DECODERS = {
    "json": _from_json,
    "bytes": lambda value: value.data,
    "npy": _decode_array,
    "arrow": _decode_table,
}


def _is(value: Any, module: str, name: str) -> bool:
    """isinstance without importing: a module that is not loaded has no instances."""
    loaded = sys.modules.get(module)
    cls = getattr(loaded, name, None)
    return cls is not None and isinstance(value, cls)


def _type_name(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
