"""A Parquet file says what the same records say in NDJSON, whoever wrote it."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segexport.errors import FragmentsUnreadable, ProfileStoreError
from segexport.profiles.loading import load
from segexport.profiles.parquet_rows import MAX_LISTS
from support.examples import examples
from support.fragments import (
    NOW,
    RESOURCES,
    Document,
    contents,
    event,
    fragment,
    snapshot_of,
    write_lines,
)

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

AT: Final = "2026-01-01T00:00:00Z"


@dataclass(frozen=True)
class Part:
    """A value of a schema: its Arrow type, and the JSON values that it may have."""

    type: pa.DataType
    drawn: st.SearchStrategy[Any]


TEXT: Final = st.text(st.characters(codec="utf-8"), max_size=5)
SCALARS: Final = (
    Part(pa.string(), TEXT),
    Part(pa.large_string(), TEXT),
    Part(pa.dictionary(pa.int32(), pa.string()), st.sampled_from(["gold", "silver"])),
    Part(pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    Part(pa.int8(), st.integers(-128, 127)),
    Part(pa.float64(), st.sampled_from([0.5, -1.25])),
    Part(pa.bool_(), st.booleans()),
    Part(pa.null(), st.none()),
)
OUR_OWN: Final = (
    *("file_row_number", "filename", "file_index", "position", "raw", "reason", "every", "number"),
    *("c0", "C1", "item0", "document", "attributes", "memberships", "bucket", "namespace"),
    *("__index_level_0__", "key", "value", "list", "element", "array", "key_value", "one"),
)
"""Names of DuckDB, of Parquet and of our own queries."""
TWINS: Final = ("name", "Name", "NAME", "name_1", "name_2")
ODD: Final = ("", "a.b", 'a"b', "a'b", "a b", "a\0b", "a,b", "a:b", "é", "É", "x" * 300, "\n", "$")
NAMES: Final = st.sampled_from([*OUR_OWN, *TWINS, *ODD])


def struct_of(members: Mapping[str, Part]) -> Part:
    """Objects that have some of the members: what a row lacks is null in Arrow."""
    kind = pa.struct([(name, part.type) for name, part in members.items()])
    values = {name: part.drawn for name, part in members.items()}
    return Part(kind, st.fixed_dictionaries({}, optional=values))


def list_of(part: Part) -> Part:
    values = st.one_of(st.none(), part.drawn)
    return Part(pa.list_(part.type), st.lists(values, max_size=3))


def pair_of(part: Part) -> Part:
    values = st.one_of(st.none(), part.drawn)
    return Part(pa.list_(part.type, 2), st.lists(values, min_size=2, max_size=2))


def map_of(part: Part) -> Part:
    values = st.one_of(st.none(), part.drawn)
    return Part(pa.map_(pa.string(), part.type), st.dictionaries(NAMES, values, max_size=3))


def structs(parts: st.SearchStrategy[Part]) -> st.SearchStrategy[Part]:
    return st.dictionaries(NAMES, parts, min_size=1, max_size=4).map(struct_of)


PARTS: Final = st.recursive(
    st.sampled_from(SCALARS),
    lambda parts: st.one_of(
        structs(parts), parts.map(list_of), parts.map(pair_of), parts.map(map_of)
    ),
    max_leaves=6,
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[pa.Schema, Sequence[Document]]:
    """A schema, and records of it."""
    columns = draw(st.dictionaries(NAMES, PARTS, max_size=4))
    records = [
        {"_id": f"p{number}", "updatedAt": AT, **draw(struct_of(columns).drawn)}
        for number in range(draw(st.integers(1, 4)))
    ]
    fields = [("_id", pa.string()), ("updatedAt", pa.string())]
    return pa.schema([*fields, *((name, part.type) for name, part in columns.items())]), records


def said(kind: pa.DataType, value: Any) -> Any:
    """A value as NDJSON says it: without the members of structs that are null."""
    if value is None:
        return None
    if pa.types.is_struct(kind):
        members = {each.name: said(each.type, value.get(each.name)) for each in kind}
        return {name: member for name, member in members.items() if member is not None}
    if pa.types.is_map(kind):
        return {name: said(kind.item_type, one) for name, one in value.items()}
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return [said(kind.value_type, one) for one in value]
    return value


def outcome(file: Path, **options: Any) -> Any:
    """What a load of the file alone comes to: the whole store, or the error's words."""
    with tempfile.TemporaryDirectory() as store:
        try:
            report = load(Path(store), [file], now=NOW, resources=RESOURCES, **options)
        except ProfileStoreError as error:
            return str(error).rpartition("differ only in case")[2]  # of several twins one pair
        if report.snapshot is None:
            return report.refused
        snapshot = report.snapshot
        return report.refused, snapshot.attributes, snapshot.segments, contents(snapshot)


def same_in_both(folder: Path, parquet: Path, records: Sequence[Document]) -> None:
    lines = write_lines(folder / "records.ndjson", records)
    assert outcome(parquet) == outcome(lines)


@given(table=tables())
@settings(max_examples=examples(40), deadline=None)
def test_arrow_tables_of_any_shape_say_what_their_records_say_in_ndjson(
    table: tuple[pa.Schema, Sequence[Document]],
) -> None:
    schema, records = table
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "records.parquet"
        pq.write_table(arrow_table(schema, records), file, row_group_size=2)
        same_in_both(Path(folder), file, [said(pa.struct(list(schema)), one) for one in records])


def arrow_table(schema: pa.Schema, records: Sequence[Document]) -> pa.Table:
    columns = [
        pa.array([arrow_value(field.type, one.get(field.name)) for one in records], field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def arrow_value(kind: pa.DataType, value: Any) -> Any:
    """A JSON value as Arrow takes it: a MAP is a list of pairs."""
    if value is None:
        return None
    if pa.types.is_map(kind):
        return [(key, arrow_value(kind.item_type, one)) for key, one in value.items()]
    if pa.types.is_struct(kind):
        return {each.name: arrow_value(each.type, value.get(each.name)) for each in kind}
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return [arrow_value(kind.value_type, one) for one in value]
    return value


PEOPLE: Final[Sequence[Document]] = [
    {
        "_id": "1",
        "updatedAt": AT,
        "identityMap": {"Email": [{"id": "one@example.com"}], "CRMID": [{"id": "1"}, {"id": "2"}]},
        "segmentMembership": {"ups": {"gold": {"status": "exited", "lastQualificationTime": AT}}},
        "tier": "gold",
        "orders": [{"sku": "a", "gift": "yes"}, {"sku": "b"}],
        "homeAddress": {"City": "Rome", "city": "Roma"},
    },
    {
        "_id": "2",
        "updatedAt": AT,
        "identityMap": {"CRMID": [{"id": "17", "primary": True}]},
        "segmentMembership": {
            "ups": {"silver": {"lastQualificationTime": AT}},
            "AAM": {"7": {"status": "realized", "lastQualificationTime": AT}},
        },
        "homeAddress": {"city": "Bonn"},
    },
    {"_id": "3", "updatedAt": AT, "tier": "silver", "orders": []},
]
"""Each lacks something that another one has; two names differ only in case."""


def by_pyarrow(file: Path) -> None:
    pq.write_table(pa.Table.from_pylist(PEOPLE), file)


def by_pandas(file: Path) -> None:
    frame = pd.DataFrame(PEOPLE)
    frame["tier"] = frame["tier"].astype("category")
    frame.to_parquet(file)


def by_pandas_from_python(file: Path) -> None:
    frame = pd.DataFrame(PEOPLE, dtype=object).iloc[[2, 0, 1]].sort_values("_id")
    frame.to_parquet(file, index=False, row_group_size=1)


def by_polars(file: Path) -> None:
    frame = pl.DataFrame(PEOPLE).with_columns(pl.col("tier").cast(pl.Categorical))
    frame.write_parquet(file)


@contextmanager
def older_form(spark: "SparkSession") -> Iterator[None]:
    """What Spark writes here has the lists of Hive and Avro."""
    spark.conf.set("spark.sql.parquet.writeLegacyFormat", "true")
    try:
        yield
    finally:
        spark.conf.unset("spark.sql.parquet.writeLegacyFormat")


def by_session(spark: "SparkSession", file: Path) -> None:
    time = "lastQualificationTime STRING"
    schema = f"""
        _id STRING, updatedAt STRING, tier STRING,
        identityMap MAP<STRING, ARRAY<STRUCT<id STRING, `primary` BOOLEAN>>>,
        segmentMembership STRUCT<ups: STRUCT<gold: STRUCT<status STRING, {time}>,
                                             silver: STRUCT<{time}>>,
                                 AAM: MAP<STRING, STRUCT<status STRING, {time}>>>,
        orders ARRAY<STRUCT<sku STRING, gift STRING>>,
        homeAddress MAP<STRING, STRING>"""
    frame = spark.createDataFrame(PEOPLE, schema)
    one_file(frame.coalesce(1).sort("_id"), file)


def one_file(frame: "DataFrame", file: Path) -> None:
    frame.write.parquet(str(file.with_suffix("")))
    (part,) = file.with_suffix("").glob("part-*.parquet")
    part.rename(file)


@pytest.mark.parametrize("write", [by_pyarrow, by_pandas, by_pandas_from_python, by_polars])
def test_people_are_the_same_whoever_wrote_the_file(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    file = tmp_path / "people.parquet"
    write(file)
    same_in_both(tmp_path, file, PEOPLE)


@pytest.mark.parametrize("form", [older_form, nullcontext])
def test_people_are_the_same_when_spark_wrote_the_file(
    form: "Callable[[SparkSession], AbstractContextManager[None]]",
    tmp_path: Path,
    spark: "SparkSession",
) -> None:
    file = tmp_path / "people.parquet"
    with form(spark):
        by_session(spark, file)
    same_in_both(tmp_path, file, PEOPLE)


def test_an_older_list_of_structs_with_one_member_keeps_its_name(
    tmp_path: Path, spark: "SparkSession"
) -> None:
    frame = spark.sql(f"""
        SELECT 'p' AS _id, '{AT}' AS updatedAt,
               map('Email', array(struct('e' AS id))) AS identityMap,
               array(array(struct('x' AS q))) AS deep,
               struct(array(struct('y' AS r)) AS s) AS in""")
    file = tmp_path / "older.parquet"
    with older_form(spark):
        one_file(frame.coalesce(1), file)
    identities = {"Email": [{"id": "e"}]}
    record = {"_id": "p", "updatedAt": AT, "identityMap": identities, "deep": [[{"q": "x"}]]}
    same_in_both(tmp_path, file, [{**record, "in": {"s": [{"r": "y"}]}}])


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (pa.timestamp("s"), 0, "1970-01-01T00:00:00.000000Z"),
        (pa.timestamp("ms"), 1, "1970-01-01T00:00:00.001000Z"),
        (pa.timestamp("us"), 1, "1970-01-01T00:00:00.000001Z"),
        (pa.timestamp("ns"), 1, "1970-01-01T00:00:00.000000001Z"),
        (pa.timestamp("ns"), -1_001, "1969-12-31T23:59:59.999998999Z"),
        (pa.timestamp("ns", "Europe/Berlin"), 10, "1970-01-01T00:00:00.000000010Z"),
        (pa.timestamp("ns"), 1_000, "1970-01-01T00:00:00.000001Z"),
        (pa.timestamp("us", "Europe/Berlin"), 1, "1970-01-01T00:00:00.000001Z"),
        (pa.date32(), 1, "1970-01-02"),
        (pa.date64(), 86_400_000, "1970-01-02"),
    ],
)
def test_times_and_dates_are_strings_as_in_json_wherever_they_stand(
    kind: pa.DataType, value: int, text: str, tmp_path: Path
) -> None:
    one = pa.array([value], kind)
    inside = pa.StructArray.from_arrays([one], names=["at"])
    columns = {
        "_id": pa.array(["p"]),
        "updatedAt": pa.array([AT]),
        "own": one,
        "inside": inside,
        "listed": pa.ListArray.from_arrays([0, 1], inside),
        "mapped": pa.MapArray.from_arrays([0, 1], pa.array(["a.b"]), one),
        "keys": pa.MapArray.from_arrays([0, 1], one, one),
    }
    file = tmp_path / "times.parquet"
    pq.write_table(pa.table(columns), file)
    record = {
        "_id": "p",
        "updatedAt": AT,
        "own": text,
        "inside": {"at": text},
        "listed": [{"at": text}],
        "mapped": {"a.b": text},
        "keys": {text: text},
    }
    same_in_both(tmp_path, file, [record])


@pytest.mark.parametrize(
    "kind", [pa.timestamp("us"), pa.timestamp("ns"), pa.timestamp("ms", "UTC")]
)
def test_an_update_time_may_be_a_timestamp_of_any_unit_with_a_zone_or_without(
    kind: pa.DataType, tmp_path: Path
) -> None:
    file = tmp_path / "times.parquet"
    moments = pa.array([pd.Timestamp(AT)], pa.timestamp("us", "UTC")).cast(kind)
    pq.write_table(pa.table({"_id": ["p"], "updatedAt": moments}), file)
    snapshot = snapshot_of(load(tmp_path / "store", [file], now=NOW, resources=RESOURCES))
    ((*_, moment),) = contents(snapshot).persons
    assert f"{moment.isoformat()}Z" == AT


@pytest.mark.parametrize(
    ("with_nulls", "without"),
    [
        ({"Email": None, "CRMID": [{"id": "1"}]}, {"CRMID": [{"id": "1"}]}),
        ({"Email": [None, {"id": "e", "primary": None}]}, {"Email": [{"id": "e"}]}),
        ({"Email": [{"id": None, "primary": True}]}, {}),
        ({"null": [{"id": "null"}]}, {"null": [{"id": "null"}]}),
    ],
)
def test_a_null_among_identities_says_nothing_in_parquet_and_json(
    with_nulls: Document, without: Document, tmp_path: Path
) -> None:
    nulls_say_nothing(tmp_path, {"identityMap": with_nulls}, {"identityMap": without})


MEMBER: Final = {"status": "exited", "lastQualificationTime": AT}


@pytest.mark.parametrize(
    ("with_nulls", "without"),
    [
        ({"ups": None, "AAM": {"1": MEMBER}}, {"AAM": {"1": MEMBER}}),
        ({"ups": {"gold": None, "null": MEMBER}}, {"ups": {"null": MEMBER}}),
        (
            {"ups": {"gold": {**MEMBER, "status": None}}},
            {"ups": {"gold": {"lastQualificationTime": AT}}},
        ),
        ({"ups": {"gold": {"status": None, "lastQualificationTime": None}}}, {}),
    ],
)
def test_a_null_among_memberships_says_nothing_in_parquet_and_json(
    with_nulls: Document, without: Document, tmp_path: Path
) -> None:
    nulls_say_nothing(tmp_path, {"segmentMembership": with_nulls}, {"segmentMembership": without})


def nulls_say_nothing(folder: Path, with_nulls: Document, without: Document) -> None:
    record = {"_id": "p", "updatedAt": AT}
    lines = write_lines(folder / "nulls.ndjson", [{**record, **with_nulls}])
    same_in_both(folder, lines, [{**record, **without}])
    # What is null in every row has no type in Arrow: a second row gives it one.
    other = {"_id": "q", "updatedAt": AT}
    identities = {"Email": [{"id": "x", "primary": True}], "CRMID": [{"id": "y"}]}
    members = {"ups": {"gold": MEMBER, "null": MEMBER}, "AAM": {"1": MEMBER}}
    full = {**other, "identityMap": identities, "segmentMembership": members}
    pq.write_table(pa.Table.from_pylist([full, {**record, **with_nulls}]), folder / "s")
    same_in_both(folder, folder / "s", [full, {**record, **without}])
    with duckdb.connect() as database:
        write_lines(folder / "two.ndjson", [full, {**record, **with_nulls}])
        database.execute(f"""
            COPY (FROM read_json('{folder}/two.ndjson', columns = {{
              "_id": 'VARCHAR', "updatedAt": 'VARCHAR',
              "identityMap": 'MAP(VARCHAR, STRUCT(id VARCHAR, "primary" BOOLEAN)[])',
              "segmentMembership": 'MAP(VARCHAR, MAP(VARCHAR,
                STRUCT(status VARCHAR, "lastQualificationTime" VARCHAR)))'}}))
            TO '{folder}/m' (FORMAT parquet)""")
    same_in_both(folder, folder / "m", [full, {**record, **without}])


def test_what_is_null_beside_what_is_wrong_is_still_refused(tmp_path: Path) -> None:
    records: Sequence[Document] = (
        {"identityMap": {"A": None, "B": {"id": "x"}}},
        {"identityMap": {"A": None, "B": [None, {}]}},
        {"identityMap": {"A": None, "B": [None, "x"]}},
        {"segmentMembership": {"A": None, "B": ["x"]}},
        {"segmentMembership": {"A": None, "B": {"x": None, "y": {}}}},
        {"segmentMembership": {"A": {"x": {"status": "exited", "lastQualificationTime": None}}}},
    )
    for wrong in records:
        lines = write_lines(tmp_path / "wrong.ndjson", [{"_id": "p", "updatedAt": AT, **wrong}])
        assert sum(outcome(lines).values()) == 1
    twice = f'{{"_id": "p", "updatedAt": "{AT}", "identityMap": {{"A": null, "A": []}}}}'
    lines = write_lines(tmp_path / "twice.ndjson", [twice])
    assert sum(outcome(lines).values()) == 1


def test_twins_in_case_are_an_error_that_names_both(tmp_path: Path) -> None:
    file = parquet_of(tmp_path, [("Name", "a"), ("name", "b")])
    with pytest.raises(ProfileStoreError, match="'Name' and 'name' differ only in case"):
        load(tmp_path / "store", [file], now=NOW, resources=RESOURCES)


def test_twins_in_case_of_several_files_are_an_error_that_names_both(tmp_path: Path) -> None:
    files = [
        parquet_of(tmp_path, [("Name", "a")], name="1"),
        parquet_of(tmp_path, [("name", "b")], name="2"),
    ]
    with pytest.raises(ProfileStoreError, match="'Name' and 'name' differ only in case"):
        load(tmp_path / "store", files, now=NOW, resources=RESOURCES)


def test_equal_names_of_columns_or_members_are_an_error_that_names_them(tmp_path: Path) -> None:
    store = tmp_path / "store"
    twice = pa.StructArray.from_arrays([pa.array(["x"]), pa.array(["y"])], names=["a", "a"])
    listed = pa.ListArray.from_arrays([0, 1], twice)
    for value, place in ((twice, "s.a"), (listed, "s.list.element.a")):
        file = parquet_of(tmp_path, [("s", value)])
        with pytest.raises(FragmentsUnreadable, match=f"two columns '{place}'"):
            load(store, [file], now=NOW, resources=RESOURCES)
    file = parquet_of(tmp_path, [("s", "x"), ("s", None)])
    with pytest.raises(FragmentsUnreadable, match="two columns 's'"):
        load(store, [file], now=NOW, resources=RESOURCES)


def test_decimals_of_more_digits_than_can_be_kept_are_an_error_that_names_them(
    tmp_path: Path,
) -> None:
    number = Decimal("1234567890123456789.05")
    wide, widest = (pa.array([number], pa.decimal256(digits, 2)) for digits in (38, 39))
    listed = pa.ListArray.from_arrays([0, 1], widest)
    inside = pa.StructArray.from_arrays([listed], names=["prices"])
    for value, place in ((widest, "d"), (inside, "d.prices.list.element")):
        file = parquet_of(tmp_path, [("d", value)])
        with pytest.raises(FragmentsUnreadable, match=f"'{place}' of DECIMALs with 39 digits"):
            load(tmp_path / "store", [file], now=NOW, resources=RESOURCES)
    file = parquet_of(tmp_path, [("d", wide)])
    record = f'{{"_id": "p", "updatedAt": "{AT}", "d": {number}}}'
    assert outcome(file) == outcome(write_lines(tmp_path / "records.ndjson", [record]))


@pytest.mark.parametrize("name", [*OUR_OWN, "name_1", "C0", 'a"b', "a b", "É", "x" * 128])
def test_a_name_in_the_store_is_one_that_stands_in_the_file(name: str, tmp_path: Path) -> None:
    inside = pa.StructArray.from_arrays([pa.array([name])], names=[name])
    file = parquet_of(tmp_path, [(name, name), ("inside", inside)])
    record = {"_id": "p", "updatedAt": AT, name: name, "inside": {name: name}}
    same_in_both(tmp_path, file, [record])


def parquet_of(folder: Path, columns: Sequence[tuple[str, Any]], *, name: str = "f") -> Path:
    """A file of one fragment, with these columns."""
    names = ["_id", "updatedAt", *(column for column, _ in columns)]
    values = [["p"], [AT], *(v if isinstance(v, pa.Array) else [v] for _, v in columns)]
    file = folder / f"{name}.parquet"
    pq.write_table(pa.table(values, names=names), file)
    return file


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_text_is_text_in_every_layout_of_arrow(kind: pa.DataType, tmp_path: Path) -> None:
    file = parquet_of(tmp_path, [("text", pa.array(['"é\\"'], kind))])
    same_in_both(tmp_path, file, [{"_id": "p", "updatedAt": AT, "text": '"é\\"'}])


def test_files_of_other_columns_are_loaded_together(tmp_path: Path) -> None:
    files = [
        parquet_of(tmp_path, [("a", "x")], name="1"),
        parquet_of(tmp_path, [("b", pa.array([{"c": 1}])), ("a", None)], name="2"),
        write_lines(tmp_path / "3.ndjson", [fragment(a="y")]),
    ]
    snapshot = snapshot_of(load(tmp_path / "store", files, now=NOW, resources=RESOURCES))
    assert [each.path for each in snapshot.attributes] == [
        "_id",
        "a",
        "b.c",
        "personID",
        "updatedAt",
    ]
    assert snapshot.fragments == 3


def test_lists_may_be_eight_deep_in_one_another(tmp_path: Path) -> None:
    value: Any = [1]
    for _ in range(MAX_LISTS - 1):
        value = [{"x": value}]
    file = parquet_of(tmp_path, [("deep", value)])
    same_in_both(tmp_path, file, [{"_id": "p", "updatedAt": AT, "deep": value}])
    file = parquet_of(tmp_path, [("deep", [value])])
    with pytest.raises(FragmentsUnreadable, match="more than 8 deep"):
        load(tmp_path / "store", [file], now=NOW, resources=RESOURCES)


def test_a_file_without_rows_has_no_fragments(tmp_path: Path) -> None:
    file = tmp_path / "none.parquet"
    schema = pa.schema([("_id", pa.string()), ("n", pa.null())])
    with pq.ParquetWriter(file, schema) as writer:
        writer.write_table(schema.empty_table())
        writer.write_table(schema.empty_table())
    report = load(tmp_path / "store", [file], now=NOW, resources=RESOURCES)
    assert (report.read, report.snapshot) == (0, None)


def test_an_encrypted_file_is_an_error_that_says_so(tmp_path: Path) -> None:
    file = tmp_path / "secret.parquet"
    with duckdb.connect() as database:
        database.execute("SET force_mbedtls_unsafe = 'true'")  # safe enough for a test
        database.execute("PRAGMA add_parquet_key('key', '0123456789abcdef')")
        database.execute(f"""
            COPY (SELECT 'p' AS "_id", '{AT}' AS "updatedAt")
            TO '{file}' (FORMAT parquet, ENCRYPTION_CONFIG {{footer_key: 'key'}})""")
    with pytest.raises(FragmentsUnreadable, match="encrypted"):
        load(tmp_path / "store", [file], now=NOW, resources=RESOURCES)


def test_events_and_the_identity_graph_come_from_structs_as_well(tmp_path: Path) -> None:
    happened = [
        event(None, identityMap={"Email": [{"id": "e"}]}, list=[{"file_row_number": 1}]),
        event(None, _id="e2", identityMap={"CRMID": [{"id": "c"}]}),
    ]
    rows = [{"namespace": "Email", "id": "e", "person": "P", "Person": "Q"}]
    loads = []
    for write in (write_lines, write_arrow):
        folder = tmp_path / write.__name__
        folder.mkdir()
        report = load(
            folder / "store",
            [],
            events=[write(folder / "events.parquet", happened)],
            graph=[write(folder / "graph.parquet", rows)],
            now=NOW,
            resources=RESOURCES,
        )
        snapshot = snapshot_of(report)
        loads.append((report.events, snapshot.event_attributes, contents(snapshot).persons))
    assert loads[0] == loads[1]
    assert loads[0][0] == 2


def write_arrow(path: Path, records: Sequence[Document | str | bytes]) -> Path:
    pq.write_table(pa.Table.from_pylist([one for one in records if isinstance(one, dict)]), path)
    return path
