"""Parquet and Arrow caches: the same as `.npz`, whole or in batches, and what is none is named."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import calibrate
from calibrate import FeatureCache, InputError, feature_cache, open_cache, read_cache, write_cache
from calibrate.errors import BadCache, BadPoint, BadPrior, MissingClass, NoRows, NotFinite, UnknownLabel, WrongShape
from calibrate.io.table_files import PER_ROW

RNG = np.random.default_rng(0)
N = 12
LABELS = [0, 1, 2] * 4
FEATURES = RNG.normal(size=(N, 3)).astype(np.float32)
LOGITS = RNG.normal(size=(N, 3))
HEAD: dict[str, Any] = {"weight": RNG.normal(size=(3, 3)).astype(np.float32), "bias": np.array([0.5, 0.0, -0.5])}
COSTS: dict[str, Any] = {name: RNG.uniform(size=N) for name in PER_ROW}
CACHES = {
    "features": feature_cache(features=FEATURES, **HEAD, labels=LABELS),
    "logits": feature_cache(logits=LOGITS, labels=LABELS),
    "both": feature_cache(features=FEATURES, logits=LOGITS.astype(np.float32), labels=LABELS),
    "float32": feature_cache(logits=LOGITS.astype(np.float32), labels=LABELS, prior=[0.1, 0.2, 0.7]),
    "one logit": feature_cache(logits=LOGITS[:, 0].astype(np.float32), labels=np.array(LABELS) % 2),
    "two logits": feature_cache(logits=LOGITS[:, :2], labels=np.array(LABELS) % 2),
    "minus zero": feature_cache(logits=LOGITS[:, :2] * [-0.0, 1], labels=np.array(LABELS) % 2),
    "costs": feature_cache(logits=LOGITS, labels=LABELS, **COSTS),
    "groups": feature_cache(logits=LOGITS, labels=LABELS, group=[f"card {i % 5}" for i in range(N)]),
    "names": feature_cache(logits=LOGITS, labels=["klar", "Übel", "ü"] * 4, classes=["klar", "Übel", "ü"]),
}
ARRAYS = ("logits", "labels", "features", "weight", "bias", "prior", *PER_ROW, "group")
Writer = Callable[[pa.Table], bytes]


def parquet(table: pa.Table, **options: Any) -> bytes:
    """A Parquet file of a table."""
    stream = io.BytesIO()
    pq.write_table(table, stream, **options)
    return stream.getvalue()


def arrow(table: pa.Table, compression: str | None = None) -> bytes:
    """An Arrow file of a table."""
    stream = io.BytesIO()
    with pa.ipc.new_file(stream, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table)
    return stream.getvalue()


def feather_file(table: pa.Table) -> bytes:
    """A Feather file of a table, compressed as it is by default."""
    stream = io.BytesIO()
    feather.write_feather(table, stream)
    return stream.getvalue()


WRITERS = [parquet, arrow, feather_file]


def assert_same(one: FeatureCache, other: FeatureCache) -> None:
    """Equal to the last bit and type."""
    assert one.classes == other.classes
    assert one.digest == other.digest
    for name in ARRAYS:
        ours, theirs = getattr(one, name), getattr(other, name)
        assert (ours is None) == (theirs is None), name
        if ours is not None:
            assert ours.dtype == theirs.dtype, name
            assert np.array_equal(ours, theirs), name


def joined(batches: list[FeatureCache]) -> dict[str, np.ndarray]:
    """The rows of some batches, by column."""
    names = [name for name in ("logits", "labels", *PER_ROW) if getattr(batches[0], name) is not None]
    return {name: np.concatenate([getattr(batch, name) for batch in batches]) for name in names}


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".feather", ".PARQUET"])
@pytest.mark.parametrize("cache", CACHES.values(), ids=CACHES.keys())
def test_a_file_gives_back_the_cache(cache: FeatureCache, suffix: str, tmp_path: Path) -> None:
    """As the `.npz` of it does, from its path and from its bytes; nothing else is left in the folder."""
    write_cache(tmp_path / f"cache{suffix}", cache)
    write_cache(tmp_path / "cache.npz", cache)
    assert {file.name for file in tmp_path.iterdir()} == {f"cache{suffix}", "cache.npz"}
    npz = read_cache(tmp_path / "cache.npz")
    assert_same(npz, cache)
    assert_same(read_cache(tmp_path / f"cache{suffix}"), npz)
    assert_same(read_cache(str(tmp_path / f"cache{suffix}")), npz)
    assert_same(read_cache((tmp_path / f"cache{suffix}").read_bytes()), npz)


def test_the_file_is_one_that_any_data_tool_reads(tmp_path: Path) -> None:
    """One row per row, fixed-size lists, one logit as a plain number, the rest as JSON in the metadata."""
    write_cache(tmp_path / "c.parquet", CACHES["float32"])
    table = pq.read_table(tmp_path / "c.parquet")
    assert table.schema.field("logits").type.list_size == 3
    assert table["labels"].to_pylist() == LABELS
    said = json.loads(table.schema.metadata[b"setpoint"])
    assert said == {"classes": ["0", "1", "2"], "prior": [0.1, 0.2, 0.7], "float32": []}
    write_cache(tmp_path / "c.parquet", CACHES["one logit"])
    assert pq.read_schema(tmp_path / "c.parquet").field("logits").type == pa.float32()


def test_a_cache_can_be_written_over_its_own_file(tmp_path: Path) -> None:
    """The arrays that were read do not hang on the file."""
    for suffix in (".parquet", ".arrow"):
        file = tmp_path / f"cache{suffix}"
        write_cache(file, CACHES["costs"])
        cache = read_cache(file)
        write_cache(file, cache)
        file.write_bytes(file.read_bytes()[:100])
        assert cache.digest == CACHES["costs"].digest


TWO = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([0, 1, 0], ("0", "1")),
        (pa.array([0, 1, 0], pa.uint8()), ("0", "1")),
        ([False, True, False], ("0", "1")),
        (pa.array([0, 1, 0]).dictionary_encode(), ("0", "1")),
        (["x", "y", "x"], ("x", "y")),
        (pa.array(["x", "y", "x"], pa.large_string()), ("x", "y")),
        (pa.array(["x", "y", "x"], pa.string_view()), ("x", "y")),
        (pa.array(["x", "y", "x"]).dictionary_encode(), ("x", "y")),
        (pa.DictionaryArray.from_arrays(pa.array([2, 1, 2], pa.int8()), ["unused", "y", "x"]), ("x", "y")),
    ],
)
def test_what_pyarrow_writes_is_read(write: Writer, labels: Any, classes: tuple[str, ...]) -> None:
    """Labels of every type that numbers and names have; lists of numbers from Python."""
    cache = read_cache(write(with_metadata({"classes": classes}, labels=labels, logits=TWO)))
    assert cache.classes == classes
    assert cache.labels.tolist() == [0, 1, 0]
    assert cache.logits.tolist() == TWO


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(
    ("type_", "read"),
    [
        (pa.list_(pa.float32()), np.float32),
        (pa.large_list(pa.float64()), np.float64),
        (pa.list_(pa.float32(), 2), np.float32),
        (pa.list_(pa.int16()), np.float64),
        (pa.list_(pa.float16()), np.float64),
    ],
)
def test_lists_of_every_kind_are_read(write: Writer, type_: pa.DataType, read: type) -> None:
    """Also in the middle of a longer column, and in more pieces than one."""
    logits = pa.array(np.array(TWO * 3, np.float16).tolist(), type_)
    table = pa.table({"labels": [0, 1, 0] * 3, "logits": logits})
    for cut in (table, table.slice(2, 3), pa.concat_tables([table.slice(1, 4), table.slice(6)])):
        cache = read_cache(write(cut))
        assert cache.logits.dtype == read
        assert cache.logits.tolist() == cut["logits"].to_pylist()


def test_what_other_writers_leave_is_read() -> None:
    """The index column that pandas adds, metadata with and without Arrow's own schema, row groups, compression."""
    table = pa.table({"labels": ["b", "a", "b"], "logits": [1.0, 2.0, 3.0], "__index_level_0__": [7, 8, 9]})
    table = table.replace_schema_metadata({"setpoint": '{"classes": ["b", "a"]}', "pandas": "{}"})
    streams = [io.BytesIO(), io.BytesIO()]
    for stream, store_schema in zip(streams, (True, False), strict=True):
        with pq.ParquetWriter(stream, table.schema.remove_metadata(), store_schema=store_schema) as writer:
            writer.write_table(table.replace_schema_metadata())
            writer.add_key_value_metadata({"setpoint": '{"classes": ["b", "a"]}'})
    for data in (
        parquet(table, row_group_size=1, version="1.0", data_page_version="2.0"),
        *(key_values.getvalue() for key_values in streams),
        parquet(table, compression="zstd", use_dictionary=False),
        arrow(table, "zstd"),
        arrow(table, "lz4"),
    ):
        cache = read_cache(data)
        assert cache.classes == ("b", "a")
        assert cache.logits.tolist() == [[0, 1], [0, 2], [0, 3]]


def with_metadata(said: object, **columns: Any) -> pa.Table:
    """A table of two columns of numbers, with an entry in its metadata."""
    text = said if isinstance(said, str | bytes) else json.dumps(said)
    return pa.table({"labels": [0, 1, 0], "logits": TWO} | columns).replace_schema_metadata({"setpoint": text})


def table_of(**columns: Any) -> pa.Table:
    """The same without the entry; None leaves a column out."""
    given = {"labels": [0, 1, 0], "logits": TWO} | columns
    return pa.table({name: column for name, column in given.items() if column is not None})


BAD: list[tuple[pa.Table, type[InputError], str]] = [
    (table_of(labels=None), BadCache, "the cache has no labels, only logits"),
    (table_of(logits=None), BadCache, "features or logits, it has neither"),
    (table_of(logits=None, features=TWO), BadCache, "need the head's weight"),
    (table_of(features=[1.0, 2.0, 3.0]), WrongShape, "features: wanted 2 axes"),
    (table_of(group=[1.5, 2.0, 3.0]), BadCache, "group must hold names or whole numbers"),
    (table_of(group=["a", None, "b"]), BadCache, "column 'group', row 1 is null"),
    (table_of(group=[[1], [2], [3]]), BadCache, "column 'group' must hold names or whole numbers, got type"),
    (table_of(ids=[1, 2, 3]), BadCache, "a cache has the columns features, .* got 'ids'"),
    (table_of(prior=[0.5, 0.5, 0.5]), BadCache, "'prior' is not a column; write it into the metadata entry 'setpoint'"),
    (
        pa.Table.from_arrays([pa.array([0, 1]), pa.array([0, 1])], names=["labels", "labels"]),
        BadCache,
        "a column more than once",
    ),
    (table_of(labels=[0, None, 1]), BadCache, "column 'labels', row 1 is null"),
    (table_of(labels=["a", None, "b"]), BadCache, "column 'labels', row 1 is null"),
    (table_of(labels=[b"a", b"b", b"a"]), BadCache, "column 'labels' must hold names or whole numbers, got type"),
    (table_of(labels=pa.nulls(3)), BadCache, "column 'labels' must hold names or whole numbers, got type null"),
    (table_of(labels=[[0], [1], [0]]), BadCache, "column 'labels' must hold names or whole numbers"),
    (table_of(labels=[0, 1, 2]), UnknownLabel, r"labels\[2\] must be an index from 0 to 1, got 2"),
    (table_of(labels=["a", "a", "a"]), MissingClass, "every label is 'a'"),
    (table_of(labels=["a", "b", "a"], logits=[1.0, 2.0, 3.0]), BadCache, "the 2 columns are not: pass classes="),
    (with_metadata({"classes": ["a", "b"]}, labels=["a", "x", "a"]), UnknownLabel, r"labels\[1\] must be one of a, b"),
    (table_of(logits=[[1.0, 2.0], None, [3.0, 4.0]]), BadCache, "column 'logits', row 1 is null"),
    (table_of(logits=pa.array([[1.0, 2.0], None, [3.0, 4.0]], pa.list_(pa.float32(), 2))), BadCache, "row 1 is null"),
    (table_of(logits=[[1.0, 2.0], [3.0, 4.0], [5.0]]), BadCache, "'logits', row 2: wanted 2 numbers, as .* got 1"),
    (table_of(logits=[[1.0, 2.0], [], [5.0, 6.0]]), BadCache, "'logits', row 1: wanted 2 numbers, as .* got 0"),
    (table_of(logits=[[1.0, 2.0], [3.0, None], [5.0, 6.0]]), BadCache, "'logits', row 1: number 1 is null"),
    (table_of(logits=[[1.0, 2.0], [3.0, np.nan], [5.0, 6.0]]), NotFinite, r"logits\[1, 1\] must be finite, got nan"),
    (table_of(logits=[["a", "b"]] * 3), BadCache, "column 'logits' must hold numbers or lists of numbers, got type"),
    (table_of(logits=[[[1.0]]] * 3), BadCache, "column 'logits' must hold numbers or lists of numbers, got type"),
    (table_of(cost_fp=[1.0, None, 2.0]), BadCache, "column 'cost_fp', row 1 is null"),
    (table_of(cost_fn=[1.0, 2.0, -1.0]), BadCache, r"cost_fn\[2\] must be at least 0"),
    (table_of(sample_weight=[[1.0]] * 3), BadCache, "column 'sample_weight' must hold numbers, got type list"),
    (table_of().slice(0, 0), NoRows, "the cache has no rows"),
    (with_metadata("{"), BadCache, "the metadata entry 'setpoint' is not JSON"),
    (with_metadata(b"\xff\xfe\xfd"), BadCache, "the metadata entry 'setpoint' is not JSON"),
    (with_metadata("[" * 100_000), BadCache, "the metadata entry 'setpoint' is not JSON"),
    (with_metadata([1]), BadCache, "must be an object with classes, weight, bias, prior"),
    (with_metadata({"priors": [1]}), BadCache, "has the keys classes, weight, bias, prior; got 'priors'"),
    (with_metadata({"classes": "ab"}), BadPoint, "classes must be a list of names"),
    (with_metadata({"classes": ["a", "\ud800"]}), BadCache, "classes .* hold what is not text"),
    (with_metadata({"classes": ["a", "b", "c"]}), WrongShape, "3 classes .* but logits have 2 columns"),
    (with_metadata({"prior": [1, 0]}), BadPrior, "prior of class '1' must be > 0"),
    (with_metadata({"prior": "much"}), WrongShape, "prior: wanted numbers"),
    (with_metadata({"weight": {"a": 1}}), BadCache, "weight in the metadata entry 'setpoint' must be a list"),
    (with_metadata({"weight": [[1], [1, 2]], "float32": ["weight"]}), WrongShape, "weight: wanted numbers"),
    (with_metadata({"weight": [[1e300], [1]], "float32": ["weight"]}), NotFinite, r"weight\[0, 0\] must be finite"),
    (with_metadata('{"weight": [[NaN], [1]]}'), NotFinite, r"weight\[0, 0\] must be finite"),
    (with_metadata({"weight": [[1], [1]], "float32": 1}), BadCache, "must be a list of numbers"),
]


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(("table", "error", "message"), BAD, ids=[message[:40] for _, _, message in BAD])
def test_what_is_no_cache_is_named(write: Writer, table: pa.Table, error: type[InputError], message: str) -> None:
    """One fault at a time, with its column and row."""
    with pytest.raises(error, match=message):
        read_cache(write(table))


PARQUET, ARROW = parquet(table_of()), arrow(table_of())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PAR1", "not a whole Parquet file"),
        (PARQUET[:-1], "not a whole Parquet file"),
        (PARQUET[: len(PARQUET) // 2], "not a whole Parquet file"),
        (PARQUET[:-8] + b"\xff\xff\xff\x7fPAR1", "not a whole Parquet file"),
        (b"ARROW1", "not a whole Arrow file"),
        (ARROW[:-1], "not a whole Arrow file"),
        (ARROW[: len(ARROW) // 2], "not a whole Arrow file"),
        (ARROW[:200] + ARROW[-10:], "not a whole Arrow file"),
        (b"ARROW1\0\0" + b"\xff" * 100 + b"ARROW1", "not a whole Arrow file"),
    ],
)
def test_a_file_that_is_not_whole_is_refused(data: bytes, message: str, tmp_path: Path) -> None:
    """From bytes and from a path."""
    with pytest.raises(BadCache, match=message):
        read_cache(data)
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(BadCache, match=message):
        read_cache(tmp_path / "file")


def test_what_a_path_names_decides_where_its_content_does_not(tmp_path: Path) -> None:
    """Content first, then the suffix; a folder and a file that is not there are errors too."""
    for suffix, name in ((".parquet", "Parquet"), (".arrow", "Arrow"), (".feather", "Arrow"), (".npz", r"\.npz")):
        file = tmp_path / f"cache{suffix}"
        with pytest.raises(BadCache, match=rf"there is no file .*cache\{suffix}"):
            read_cache(file)
        file.mkdir()
        with pytest.raises(BadCache, match=f"not a whole {name} file"):
            read_cache(file)
        file.rmdir()
        file.write_bytes(b"")
        with pytest.raises(BadCache, match=f"not a whole {name} file"):
            read_cache(file)
        file.write_bytes(PARQUET)
        assert read_cache(file).rows == 3


def test_a_file_that_unpacks_to_too_much_is_refused_unread(tmp_path: Path) -> None:
    """Some kilobytes that would become megabytes, in a column, in one row, in names, and in the metadata."""
    n = 2 * 10**5
    zeros = pa.table({"labels": np.zeros(n, np.int64), "logits": np.zeros(n)})
    one_row = pa.table({"labels": [0, 1], "logits": [[0.0], [0.0] * n]})
    names = pa.table({"labels": pa.array(["a" * 10, "b"] * (n // 2)).dictionary_encode(), "logits": np.zeros(n)})
    brackets = with_metadata('{"weight": [' + "[]," * 10_000 + "[]]}")
    for table in (zeros, one_row, names, brackets):
        for data in (parquet(table, compression="zstd"), arrow(table, "zstd")):
            assert len(data) < 200_000
            with pytest.raises(BadCache, match=r"unpacks to \d+ bytes, wanted at most 500000$"):
                read_cache(data, most_bytes=500_000)
    with pytest.raises(BadCache, match=r"unpacks to \d+ bytes, wanted at most 500000$"):
        read_cache(arrow(zeros), most_bytes=500_000)
    (tmp_path / "c.arrow").write_bytes(arrow(zeros))
    with pytest.raises(BadCache, match=r"unpacks to \d+ bytes, wanted at most 500000$"):
        read_cache(tmp_path / "c.arrow", most_bytes=500_000)


def test_a_long_name_takes_no_room_for_each_row() -> None:
    """A name of a megabyte on 100,000 rows, which as an array of texts would be 400 gigabytes."""
    indices = pa.array(np.arange(10**5, dtype=np.int32) % 2)
    labels = pa.DictionaryArray.from_arrays(indices, pa.array(["a" * 10**6, "b"]))
    table = with_metadata({"classes": ["a" * 10**6, "b"]}, labels=labels, logits=[[0.0, 1.0]] * 10**5)
    for write in WRITERS:
        cache = read_cache(write(table), most_bytes=10**8)
        assert cache.labels[:4].tolist() == [0, 1, 0, 1]


WHOLE = with_metadata({"classes": ["a", "b"], "prior": [0.5, 0.5]}, labels=["a", "b", "a"], cost_fp=[1.0, 2.0, 3.0])
DAMAGED = [parquet(WHOLE, write_page_checksum=True), parquet(WHOLE), arrow(WHOLE), feather_file(WHOLE)]


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(DAMAGED), st.data())
def test_a_damaged_file_is_an_input_error_or_still_a_cache(whole: bytes, data: st.DataObject) -> None:
    """Any byte flipped, any end cut off: never another kind of exception."""
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = bytearray(whole)
    damaged[at] ^= data.draw(st.integers(1, 255))
    try:
        cache = read_cache(bytes(damaged[:at] if data.draw(st.booleans()) else damaged), most_bytes=10**8)
    except InputError:
        return
    assert cache.rows >= 1


def test_a_damaged_size_in_the_footer_does_not_end_the_process() -> None:
    """Each byte of a Parquet footer changed in turn: in some, pyarrow's own account of a column would end it."""
    whole = DAMAGED[0]
    length = int.from_bytes(whole[-8:-4], "little")
    for at in range(len(whole) - 8 - length, len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= (1, 4, 128)[at % 3]
        try:
            read_cache(bytes(damaged), most_bytes=10**8)
        except InputError:
            continue


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_a_stream_refuses_groups(suffix: str, tmp_path: Path) -> None:
    """Rows of a group may lie in different batches; the file as a whole is read."""
    file = tmp_path / f"cache{suffix}"
    write_cache(file, CACHES["groups"])
    with pytest.raises(BadCache, match="cannot keep groups together"):
        next(open_cache(file).batches())
    assert read_cache(file).group is not None


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
@pytest.mark.parametrize("batch_rows", [1, 5, 7, N, 10**9])
@pytest.mark.parametrize(
    "cache", [c for c in CACHES.values() if c.group is None], ids=[c for c in CACHES if c != "groups"]
)
def test_a_stream_is_the_whole_file(cache: FeatureCache, batch_rows: int, suffix: str, tmp_path: Path) -> None:
    """Whatever the size of a batch, and again at each call."""
    file = tmp_path / f"cache{suffix}"
    write_cache(file, cache)
    stream = open_cache(file, batch_rows=batch_rows)
    assert stream.classes == cache.classes
    assert stream.rows == N
    assert (stream.prior is None) == (cache.prior is None)
    assert stream.prior is None or np.array_equal(stream.prior, np.array(cache.prior))
    for _ in range(2):
        batches = list(stream.batches())
        assert [batch.rows for batch in batches[:-1]] == [min(N, batch_rows)] * (len(batches) - 1)
        assert {batch.classes for batch in batches} == {cache.classes}
        for name, values in joined(batches).items():
            assert np.array_equal(values, getattr(cache, name)), name
            assert values.dtype == getattr(cache, name).dtype


@settings(max_examples=50, deadline=None)
@given(st.permutations(range(4)), st.integers(1, 15), st.integers(1, 10))
def test_files_in_any_order_are_their_rows_in_that_order(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], batch_rows: int, group_rows: int
) -> None:
    """Parquet beside Arrow, row groups and record batches of any size, a file without rows, names as labels."""
    folder = tmp_path_factory.mktemp("stream")
    metadata = {"setpoint": '{"classes": ["b", "a", "c"], "prior": [0.2, 0.3, 0.5]}'}
    columns = {"labels": ["a", "b", "c"] * 4, "logits": LOGITS.tolist(), "sample_weight": np.arange(N) + 1.0}
    table = pa.table(columns).replace_schema_metadata(metadata)
    pieces = [table.slice(0, 5), table.slice(5, 0), table.slice(5, 3), table.slice(8)]
    pieces[2] = pieces[2].replace_schema_metadata({"setpoint": '{"classes": ["b", "a", "c"]}'})
    files = [folder / name for name in ("0.parquet", "1.parquet", "2.arrow", "3.feather")]
    for file, piece in zip(files[:2], pieces[:2], strict=True):
        pq.write_table(piece, file, row_group_size=group_rows)
    with pa.ipc.new_file(str(files[2]), table.schema) as writer:
        writer.write_table(pieces[2], max_chunksize=group_rows)
    feather.write_feather(pieces[3], str(files[3]), chunksize=group_rows)
    stream = open_cache([files[i] for i in order], batch_rows=batch_rows)
    rows = np.concatenate([np.arange(N)[[slice(0, 5), slice(5, 5), slice(5, 8), slice(8, N)][i]] for i in order])
    read = joined(list(stream.batches()))
    assert stream.rows == N
    assert np.array_equal(read["logits"], LOGITS[rows])
    assert np.array_equal(read["labels"], np.array([1, 0, 2] * 4)[rows])
    assert np.array_equal(read["sample_weight"], rows + 1.0)
    assert stream.prior is not None
    assert all(np.array_equal(batch.prior, stream.prior) for batch in stream.batches() if batch.prior is not None)


def test_patterns_are_expanded_and_sorted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative and absolute, beside plain paths; a file whose name looks like a pattern is itself."""
    for i, name in enumerate(["b.parquet", "a.parquet", "[c].parquet", "d.arrow"]):
        write_cache(tmp_path / name, feature_cache(logits=[float(i)], labels=[0]))
    monkeypatch.chdir(tmp_path)
    for paths, values in (
        ("[ab].parquet", [1, 0]),
        (str(tmp_path / "?.parquet"), [1, 0]),
        (["*.arrow", Path("b.parquet"), "[c].parquet"], [3, 0, 2]),
    ):
        batches = open_cache(paths).batches()  # type: ignore[arg-type]
        assert [batch.logits[0, 1] for batch in batches] == values


def refused(folder: Path, tables: dict[str, Any], **options: Any) -> str:
    """The message with which a stream of these tables is refused, when it is opened or read."""
    for name, table in tables.items():
        (folder / name).write_bytes(table if isinstance(table, bytes) else parquet(table))
    with pytest.raises(InputError) as caught:
        list(open_cache([folder / name for name in tables], **options).batches())
    return str(caught.value).replace(f"{folder}/", "")


def test_files_that_do_not_fit_each_other_are_named(tmp_path: Path) -> None:
    """Classes, prior, head and columns, each with both files."""
    named = with_metadata({"classes": ["a", "b"], "prior": [0.5, 0.5]})
    others = {
        "b.parquet: classes are 0, 1, in a.parquet a, b": table_of(),
        "b.parquet: classes are b, a, in a.parquet a, b": with_metadata({"classes": ["b", "a"]}),
        "b.parquet: prior in the metadata is not as in a.parquet": with_metadata(
            {"classes": ["a", "b"], "prior": [0.4, 0.6]}
        ),
        "a.parquet: there is no column 'cost_fp', but b.parquet has one": with_metadata(
            {"classes": ["a", "b"]}, cost_fp=[1.0, 1.0, 1.0]
        ),
    }
    for message, other in others.items():
        assert refused(tmp_path, {"a.parquet": named, "b.parquet": other}) == message
    heads = []
    for weight in (1, 2):
        table = pa.table({"labels": [0, 1, 0], "features": TWO})
        heads.append(table.replace_schema_metadata({"setpoint": json.dumps({"weight": [[weight, 0], [0, 1]]})}))
    said = refused(tmp_path, dict(zip(("a.parquet", "b.parquet"), heads, strict=True)))
    assert said == "b.parquet: weight in the metadata is not as in a.parquet"


def test_a_row_is_named_with_its_file(tmp_path: Path) -> None:
    """Counted from the start of that file, whatever the batch."""
    good = table_of(logits=TWO * 4, labels=[0, 1, 0] * 4)
    bad_rows: dict[str, dict[str, Any]] = {
        "logits[9, 1] must be finite, got inf": {"logits": [*(TWO * 3), [0, np.inf], *TWO[1:]]},
        "labels[10] must be an index from 0 to 1, got 5": {"labels": [0] * 10 + [5, 0]},
        "column 'logits', row 11 is null": {"logits": [*(TWO * 3), *TWO[:2], None]},
        "column 'logits', row 8: wanted 2 numbers, as in the rows before, got 3": {
            "logits": [*(TWO * 2), *TWO[:2], [1, 2, 3], *TWO]
        },
        "cost_fp[7] must be at least 0, got -1.0": {"cost_fp": [1.0] * 7 + [-1.0] + [1.0] * 4},
    }
    for message, columns in bad_rows.items():
        first = good.append_column("cost_fp", pa.array([1.0] * 12)) if "cost_fp" in columns else good
        bad = table_of(**{"logits": TWO * 4, "labels": [0, 1, 0] * 4} | columns)
        for batch_rows in (1, 4, 100):
            said = refused(tmp_path, {"a.parquet": first, "b.parquet": bad}, batch_rows=batch_rows)
            assert said == f"b.parquet: {message}"


def test_what_cannot_be_streamed_is_refused(tmp_path: Path) -> None:
    """No files, no rows, names without classes, another kind of file, a folder, the same file twice."""
    with pytest.raises(BadCache, match="wanted at least one file, got none"):
        open_cache([])
    with pytest.raises(BadCache, match=r"no file fits .*\*\.parquet"):
        open_cache(str(tmp_path / "*.parquet"))
    with pytest.raises(BadCache, match=r"there is no file .*none\.parquet"):
        open_cache(tmp_path / "none.parquet")
    with pytest.raises(BadCache, match="is a folder; name its files"):
        open_cache(tmp_path)
    with pytest.raises(WrongShape, match="batch_rows: wanted at least 1, got 0"):
        open_cache("x", batch_rows=0)
    assert refused(tmp_path, {"a.parquet": table_of().slice(0, 0)}) == "a.parquet: wanted at least one row, got none"
    assert "write classes into the metadata entry 'setpoint'" in refused(
        tmp_path, {"a.parquet": table_of(labels=["x", "y", "x"])}
    )
    assert "features or logits, it has neither" in refused(tmp_path, {"a.parquet": table_of(logits=None)})
    assert refused(tmp_path, {"a.npz": b"PK"}) == "a.npz: wanted a Parquet or Arrow file (.parquet, .arrow, .feather)"
    assert refused(tmp_path, {"a.parquet": PARQUET[:-1]}).startswith("a.parquet: the cache is not a whole Parquet file")
    (tmp_path / "a.parquet").write_bytes(PARQUET)
    with pytest.raises(BadCache, match=r"a\.parquet is named more than once"):
        open_cache([tmp_path / "a.parquet", str(tmp_path / "*.parquet")])


def test_a_file_that_changes_between_two_readings_is_refused(tmp_path: Path) -> None:
    """Fewer rows than when it was opened, and no file at all."""
    file = tmp_path / "a.parquet"
    file.write_bytes(PARQUET)
    stream = open_cache(file)
    file.write_bytes(parquet(table_of().slice(0, 2)))
    with pytest.raises(BadCache, match=r"a\.parquet: the cache claims 3 rows, but holds 2"):
        list(stream.batches())
    file.unlink()
    with pytest.raises(BadCache, match=r"there is no file .*a\.parquet"):
        list(stream.batches())


def test_pyarrow_is_imported_only_when_it_is_needed(tmp_path: Path) -> None:
    """Neither by `import calibrate` nor by an `.npz` file; `open_cache` is there all the same."""
    write_cache(tmp_path / "c.npz", CACHES["logits"])
    code = (
        f"import sys, calibrate; calibrate.read_cache({str(tmp_path / 'c.npz')!r}); "
        "assert 'pyarrow' not in sys.modules; from calibrate import open_cache; assert 'pyarrow' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'open_caches'"):
        _ = calibrate.open_caches  # type: ignore[attr-defined]


MEASURE = """
import re, sys
from pathlib import Path
from calibrate import open_cache

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

small, large = sys.argv[1:]
list(open_cache(small).batches())
before = peak()
rows = sum(batch.rows for batch in open_cache(large, batch_rows=100_000).batches())
print(rows, peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_a_stream_holds_one_batch_in_memory(tmp_path: Path) -> None:
    """2,000,000 rows of 32 logits in one row group, 256 MB as they are: in batches of 13 MB the peak grows by < 128."""
    n, k = 2_000_000, 32
    logits = RNG.standard_normal((20_000, k), dtype=np.float32)
    whole = feature_cache(logits=logits, labels=np.arange(20_000) % k)
    write_cache(tmp_path / "small.parquet", whole)
    piece = pq.read_table(tmp_path / "small.parquet")
    table = pa.concat_tables([piece] * (n // 20_000))
    pq.write_table(table, tmp_path / "large.parquet", row_group_size=n, use_dictionary=False)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, tmp_path / "small.parquet", tmp_path / "large.parquet"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows, growth = map(int, done.stdout.split())
    assert rows == n
    assert growth < 128 * 2**20
