"""Safe formats: what crosses comes back equal, what cannot says why, what is hostile is refused."""

from __future__ import annotations

import io
import json
import math
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_runtime.domain.errors import Invalid, KernelRuntimeError
from kernel_runtime.guest.values import decode, encode
from kernel_runtime.wire import Value

if TYPE_CHECKING:
    from tests.guest.conftest import Host

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
dtypes = st.sampled_from(
    [
        "?",
        "i1",
        "u2",
        "<i4",
        ">i8",
        "f2",
        "f4",
        ">f8",
        "c8",
        "c16",
        "S3",
        "U4",
        "M8[ns]",
        "m8[s]",
        "i4,f8",
        "V4",
    ]
)


def back(value: Any) -> Any:
    return decode(encode(value))


@given(plain)
def test_json_comes_back(value: Any) -> None:
    assert back(value) == value


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, -math.inf, "\ud800", 10**3000, -0.0, "", {}, []],
    ids=lambda v: ascii(v)[:10],
)
def test_odd_json_comes_back(value: Any) -> None:
    assert repr(back(value)) == repr(value)


@given(st.binary())
def test_bytes_come_back(value: bytes) -> None:
    assert back(value) == value


@given(dtypes, st.lists(st.integers(0, 4), min_size=0, max_size=3), st.booleans(), st.randoms())
def test_arrays_come_back(dtype: str, shape: list[int], fortran: bool, random: Any) -> None:
    count = math.prod(shape) * np.dtype(dtype).itemsize
    if np.dtype(dtype).kind == "U":
        array = np.full(shape, "aé", dtype)
    else:
        flat = np.frombuffer(bytes(random.randrange(2) for _ in range(count)), dtype)
        array = flat.reshape(shape, order="F" if fortran else "C")
    got = back(array)
    assert got.dtype == array.dtype
    assert got.shape == array.shape
    assert got.tobytes() == array.tobytes()
    assert got.flags.writeable


def test_array_views_and_scalars() -> None:
    array = np.arange(20).reshape(4, 5)
    assert (back(array[::2, ::-1]) == array[::2, ::-1]).all()
    assert (back(array.T) == array.T).all()
    assert type(back(np.float32(1.5))) is np.float32
    assert back(np.array(3)).shape == ()


columns = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    st.sampled_from(
        [
            [1, 2, 3],
            [1.5, math.nan, -2.0],
            ["a", None, "ü"],
            [True, False, True],
            pd.to_datetime(["2020-01-01", "2021-02-03", None]),
            pd.to_datetime(["2020-01-01", "2021-02-03", None]).tz_localize("Europe/Berlin"),
            pd.Categorical(["x", "y", "x"], categories=["y", "x", "z"], ordered=True),
            pd.array([1, None, 3], dtype="Int64"),
            pd.to_timedelta([1, 2, 3], unit="s"),
            pd.array(["p", None, "q"], dtype="string"),
        ]
    ),
    max_size=5,
)
indexes = st.sampled_from(
    [
        None,
        pd.RangeIndex(5, 11, 2),
        pd.Index(["a", "b", "c"], name="letters"),
        pd.MultiIndex.from_tuples([(1, "a"), (1, "b"), (2, "a")], names=["n", None]),
        pd.date_range("2020", periods=3, freq="D", tz="UTC"),
        pd.CategoricalIndex(["u", "v", "u"]),
    ]
)


@settings(deadline=None)
@given(columns, indexes)
def test_frames_come_back(data: dict[str, Any], index: Any) -> None:
    frame = pd.DataFrame({k: pd.Series(v) for k, v in data.items()}, index=pd.RangeIndex(3))
    if index is not None:
        frame.index = index
    pd.testing.assert_frame_equal(back(frame), frame, check_freq=False)


@pytest.mark.parametrize(
    "value",
    [
        pd.Series([1, 2], name="s"),
        pd.Series(["a", None]),
        pd.Series([1.5], index=["x"], name=3),
        pd.Series(pd.Categorical(["a", "b"])),
    ],
)
def test_series_come_back(value: Any) -> None:
    pd.testing.assert_series_equal(back(value), value)


@pytest.mark.parametrize(
    "value",
    [
        pd.Index([1, 2, 3], name="n"),
        pd.Index(["a", "b"]),
        pd.date_range("2020", periods=3, tz="UTC"),
        pd.MultiIndex.from_product([[1, 2], ["a", "b"]], names=["x", "y"]),
        pd.CategoricalIndex(["u", "v"]),
    ],
)
def test_indexes_come_back(value: Any) -> None:
    got = back(value)
    assert type(got) is type(value)
    assert got.equals(value)
    assert got.names == value.names


def test_integer_column_labels_come_back() -> None:
    frame = pd.DataFrame([[1, 2], [3, 4]])
    pd.testing.assert_frame_equal(back(frame), frame, check_column_type=False)


def test_tables_come_back() -> None:
    table = pa.table({"a": [1, None], "b": [["x"], []], "c": [{"k": 1.5}, None]})
    assert back(table).equals(table)


class Thing:
    pass


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ((1, 2), "tuple"),
        ({1}, "set"),
        ({1: 2}, "key of type int"),
        (Thing(), "Thing"),
        ([Thing()], "Thing"),
        (1 + 2j, "complex"),
        (np.array([Thing()]), "dtype object"),
        (np.ma.array([1]), "MaskedArray"),
        (pd.DataFrame({"a": [Thing()]}), "DataFrame"),
        (pd.Timestamp("2020"), "Timestamp"),
        (print, "builtin_function"),
        (type("Int", (int,), {})(3), "Int"),
        (10**5000, "digits"),
        (bytearray(b"x"), "bytearray"),
    ],
    ids=lambda v: v if isinstance(v, str) else type(v).__name__,
)
def test_what_cannot_cross_names_its_type(value: Any, part: str) -> None:
    with pytest.raises(Invalid, match=part) as caught:
        encode(value, "x")
    assert str(caught.value).startswith("x: ")


def test_cycles_and_depth() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(Invalid, match="nested deeper"):
        encode(loop)


def test_too_large() -> None:
    with pytest.raises(Invalid, match="too much for one value"):
        encode(bytes(65 << 20))


def npy(header: str, body: bytes = b"") -> Value:
    text = header.encode().ljust(117) + b"\n"
    return Value(format="npy", data=b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body)


def pickled_array() -> Value:
    file = io.BytesIO()
    np.save(file, np.array([Thing], dtype=object), allow_pickle=True)
    return Value(format="npy", data=file.getvalue())


def bomb() -> Value:
    sink = io.BytesIO()
    table = pa.table({"a": pa.nulls(10**9)})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return Value(format="arrow", data=sink.getvalue(), meta={"kind": "DataFrame"})


@pytest.mark.parametrize(
    "value",
    [
        Value(format="pickle", data=pickle.dumps(1)),
        Value(format="json", data=b"{"),
        Value(format="json", data=b"\xff"),
        Value(format="json", data=b"[" * 10**5),
        pickled_array(),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}"),
        npy("{'descr': 'V0', 'fortran_order': False, 'shape': (1000000000000,)}"),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}", b"12345678"),
        npy("__import__('os').getpid()"),
        Value(format="npy", data=b""),
        Value(format="npy", data=b"\x93NUMPY\x09\x00"),
        Value(format="arrow", data=b"nonsense"),
        Value(format="arrow", data=b""),
        bomb(),
    ],
)
def test_hostile_values_are_refused(value: Value) -> None:
    with pytest.raises(KernelRuntimeError):
        decode(value)


@given(st.binary(max_size=200), st.sampled_from(["json", "npy", "arrow"]))
def test_garbage_is_refused_or_decoded(data: bytes, kind: str) -> None:
    try:
        decode(Value(format=kind, data=data))
    except KernelRuntimeError:
        pass


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_damaged_arrow_does_no_harm(data: st.DataObject) -> None:
    good = encode(
        pd.DataFrame({"a": [1, 2, 3], "b": ["x", "yy", None], "c": pd.Categorical(["u", "v", "u"])})
    )
    body = bytearray(good.data)
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode(Value(format="arrow", data=bytes(body), meta=good.meta))
    except KernelRuntimeError:
        pass


def test_get_and_put(shared: Host) -> None:
    shared.run("x = {'a': [1, None]}; import numpy as np; a = np.arange(3); bad = object()")
    assert shared.get("x") == {"a": [1, None]}
    assert shared.get("a").tolist() == [0, 1, 2]
    shared.put("frame", pd.DataFrame({"v": [1, 2]}))
    assert shared.run("int(frame.v.sum())").result == "3"
    with pytest.raises(ValueError, match="bad: a value of type object cannot cross"):
        shared.get("bad")
    with pytest.raises(ValueError, match="no variable 'absent'"):
        shared.get("absent")


def test_no_pickle_anywhere() -> None:
    assert json.loads(encode([1]).data) == [1]
    from kernel_runtime.guest import values

    assert "pickle" not in vars(values)


# -- bombs: little on the wire, much in memory ------------------------------------------------


def arrow(table: pa.Table, **options: Any) -> Value:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return Value(format="arrow", data=sink.getvalue(), meta={"kind": "DataFrame"})


def column(array: Any) -> pa.Table:
    return pa.table({"0": array})


def list_of(values: pa.Array) -> pa.Table:
    return column(pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values))


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
@pytest.mark.parametrize(
    "array",
    [pa.array([0.0] * 1000), pa.array(["a" * 1000] * 3).dictionary_encode()],
    ids=["plain", "dictionary"],
)
def test_compressed_buffers_are_refused_unread(codec: str, array: pa.Array) -> None:
    with pytest.raises(Invalid, match="compressed"):
        decode(arrow(column(array), compression=codec))
    assert len(decode(arrow(column(array)))) == len(array)


@pytest.mark.parametrize(
    "table",
    [
        list_of(pa.nulls(100_000_000)),
        column(pa.FixedSizeListArray.from_arrays(pa.nulls(100_000_000), 100_000_000)),
        column(pa.StructArray.from_arrays([pa.nulls(5_000_000)] * 20, names=[str(i) for i in range(20)])),
        list_of(pa.DictionaryArray.from_arrays(pa.array([0] * 100, pa.int8()), pa.array(["x" * 1000]))),
        column(pa.array(["x" * 100]).cast(pa.string_view())),
        list_of(pa.RunEndEncodedArray.from_arrays(pa.array([10**8], pa.int32()), pa.array([1]))),
        column(pa.nulls(50_000_000)).replace_schema_metadata({"padding": "x" * 8_000_000}),
    ],
    ids=["nulls", "fixed", "struct", "dictionary", "view", "runs", "padded"],
)
def test_arrow_that_grows_is_refused(table: pa.Table) -> None:
    with pytest.raises(Invalid, match=r"cells|type"):
        decode(arrow(table))


def test_an_extension_types_own_code_never_runs() -> None:
    ran = []

    class Evil(pa.ExtensionType):
        def __init__(self) -> None:
            super().__init__(pa.int64(), "evil.pickle")

        def __arrow_ext_serialize__(self) -> bytes:
            return b""

        @classmethod
        def __arrow_ext_deserialize__(cls, storage: Any, serialized: bytes) -> Any:
            ran.append(serialized)
            return cls()

    value = arrow(list_of(pa.ExtensionArray.from_storage(Evil(), pa.array([1, 2]))))
    pa.register_extension_type(Evil())
    try:
        ran.clear()
        with pytest.raises(Invalid, match=r"evil\.pickle"):
            decode(value)
        assert ran == []
    finally:
        pa.unregister_extension_type("evil.pickle")


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_damaged_arrow_is_invalid_or_harmless(data: st.DataObject) -> None:
    table = pa.table({"0": ["a", "b"], "l": [[1], None], "d": pa.array(["x", "x"]).dictionary_encode()})
    damaged = bytearray(arrow(table).data)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode(Value(format="arrow", data=bytes(damaged), meta={"kind": "DataFrame"}))
    except Invalid:
        pass


@pytest.mark.parametrize("kind", ["period[M]", "interval", "category"], ids=str)
def test_types_of_pandas_still_cross(kind: str) -> None:
    made = {
        "period[M]": pd.Series(pd.period_range("2020", periods=3, freq="M")),
        "interval": pd.Series(pd.interval_range(0, 3)),
        "category": pd.Series(["a", "b", "a"], dtype="category"),
    }[kind]
    pd.testing.assert_series_equal(back(made), made)
