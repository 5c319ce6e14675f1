"""Numbers through load and export: each comes back as it was written, or is refused."""

import gzip
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from segexport.exports.engine import Engine, Run
from segexport.exports.plan import plan_export, resolve_policy
from segexport.jobs.reading import parse_request
from segexport.jobs.request import FileFormat
from segexport.profiles.catalogue import Catalogue
from segexport.profiles.loading import LoadReport, load
from segexport.profiles.snapshots import ProfileStore, Snapshot
from segexport.sql import file_to_write, parquet
from support.engines import engine_called
from support.examples import examples
from support.fragments import NOW, RESOURCES, fragment, load_records

EXAMPLES: Final = {"duckdb": 30, "spark": 2}
"""How many stores by chance are tried on each engine: a slow one gets fewer."""
REASONS: Final = {"large_integer", "inexact_number"}

digits = st.integers(0, 10**42)
integers = st.integers(-(2**65), 2**65) | digits | st.integers(-9, 9)
NUMBERS = st.one_of(
    integers.map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(-1e6, 1e6).map(lambda number: f"{number:.17g}"),
    st.builds("{}.{}".format, st.integers(-(10**20), 10**20), digits),
    st.builds("{}e{}".format, integers, st.integers(-400, 400)),
    st.builds("{}.{}E+{}".format, st.integers(-9, 9), digits, st.integers(0, 30)),
    st.sampled_from(
        ["0.1", "-0.0", "-0", "1.0", "1e5", "9007199254740993", "5e99999", "0.5e99998"]
    ),
)
TEXTS = st.sampled_from(
    ['""', '"1.5"', '"a:1.2345678901234567890e99999,"', '":0.5e99998"', '"\\\\\\":NaN,"', "null"]
)
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "number": NUMBERS,
        "integer": integers.map(str),
        "numbers": st.lists(NUMBERS, max_size=3).map(lambda many: f"[{', '.join(many)}]"),
        "inside": st.builds('{{"of": {{"it": {}, "text":{}}}}}'.format, NUMBERS, TEXTS),
        "objects": st.builds('[{{"it" :{}}}, {{"text": {}}}]'.format, NUMBERS, TEXTS),
        "mixed": st.one_of(NUMBERS, TEXTS, st.just("{}"), st.just("[]")),
        "later": st.one_of(st.just('{"object": 1}'), st.builds('{{"object": {}}}'.format, NUMBERS)),
    },
)
LOADS = st.lists(st.lists(DOCUMENTS, min_size=1, max_size=6), min_size=1, max_size=3)


@pytest.fixture(scope="module", params=EXAMPLES)
def engine_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def engine(engine_name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with engine_called(engine_name, tmp_path_factory.mktemp("spill")) as engine:
        yield engine


def test_a_number_comes_back_as_it_was_written_or_is_refused(
    engine: Engine, engine_name: str
) -> None:
    @settings(max_examples=examples(EXAMPLES[engine_name]), deadline=None)
    @given(loads=LOADS)
    @example([[{"number": "9007199254740993"}], [{"number": "0.5"}], [{"number": "1e300"}]])
    @example([[{"number": "0.5"}, {"number": "1e-30"}], [{"number": "12345678901234567890.5"}]])
    @example([[{"numbers": "[]"}, {"mixed": "{}"}], [{"numbers": "[1]"}, {"mixed": "0.1"}]])
    def holds(loads: Sequence[Sequence[Mapping[str, str]]]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            written: dict[str, Mapping[str, Any]] = {}
            for number, documents in enumerate(loads):
                records = {f"p{number}-{at}": document for at, document in enumerate(documents)}
                lines = [text_of(key, document) for key, document in records.items()]
                report = load_records(Path(folder) / "profiles", lines)
                assert set(report.refused) <= REASONS
                refused = refused_in(report)
                for key, document in records.items():
                    assert (key in refused) == (not all(map(is_kept, numbers_in(document)))), key
                    if key not in refused:
                        written[key] = document
            if written:
                snapshot = ProfileStore(Path(folder) / "profiles").latest()
                for form in FileFormat:
                    assert exported(engine, snapshot, form, Path(folder)) == {
                        key: said(document) for key, document in written.items()
                    }

    holds()


def test_a_decimal_of_parquet_comes_back_with_all_its_digits(
    engine: Engine, tmp_path: Path
) -> None:
    values = ["0.1", "12345678901234567890.123456789012345678", "-0.000000000000000001", "7"]
    rows = ", ".join(
        f"('p{number}', '{value}'::DECIMAL(38, 18), ['{value}'::DECIMAL(38, 18)], "
        f"{{'inner': '{value}'::DECIMAL(38, 18)}}, '{number}'::DECIMAL(38, 0), 1.5::FLOAT)"
        for number, value in enumerate(values)
    )
    file = tmp_path / "decimals.parquet"
    with duckdb.connect() as database:
        database.execute(f"""
            COPY (SELECT *, '2026-01-01T00:00:00Z' AS "updatedAt"
                  FROM (VALUES {rows}) AS t("personID", price, prices, nested, count, share))
            TO {file_to_write(file)}""")
    report = load(tmp_path / "profiles", [file], now=NOW, resources=RESOURCES)
    assert not report.refused
    snapshot = ProfileStore(tmp_path / "profiles").latest()
    types = {one.path: one.type for one in snapshot.attributes}
    assert (types["price"], types["prices"]) == ("DECIMAL(38,18)", "DECIMAL(38,18)[]")
    assert (types["nested.inner"], types["count"]) == ("DECIMAL(38,18)", "BIGINT")
    for form in FileFormat:
        assert exported(engine, snapshot, form, tmp_path) == {
            f"p{number}": {
                "price": Decimal(value),
                "prices": [Decimal(value)],
                "nested": {"inner": Decimal(value)},
                "count": number,
                "share": Decimal("1.5"),
            }
            for number, value in enumerate(values)
        }


def test_every_type_of_parquet_comes_back_as_its_number_or_its_text(
    engine: Engine, tmp_path: Path
) -> None:
    kinds: Mapping[str, tuple[str, Any]] = {
        "unsigned": ("18446744073709551615::UBIGINT", Decimal(2**64 - 1)),
        "tiny": ("200::UTINYINT", Decimal(200)),
        "float": ("0.1::FLOAT", Decimal("0.10000000149011612")),  # the same number as a double
        "small": ("1.10::DECIMAL(4, 2)", Decimal("1.1")),
        "large": (f"{'9' * 38}::DECIMAL(38, 0)", Decimal("9" * 38)),
        "blob": ("'\\xAAb'::BLOB", "\\xAAb"),
        "time": ("'12:34:56.789'::TIME", "12:34:56.789"),
        "interval": ("INTERVAL '1 month 2 days'", "1 month 2 days"),
        "uuid": (f"'{UUID(int=10)}'::UUID", str(UUID(int=10))),
        "choice": ("'x'::ENUM('x', 'y')", "x"),
        "date": ("DATE '2026-01-01'", "2026-01-01"),
        "nanoseconds": (
            "'2026-01-01 00:00:00.123456789'::TIMESTAMP_NS",
            "2026-01-01T00:00:00.123456789Z",
        ),
        "by_time": (
            "MAP {TIMESTAMP '2026-01-01': 1.50::DECIMAL(4, 2)}",
            {"2026-01-01T00:00:00.000000Z": Decimal("1.5")},
        ),
        "by_number": ("MAP {1.50::DECIMAL(4, 2): 1}", {"1.50": Decimal(1)}),
    }
    columns = ", ".join(f"{value} AS {name}" for name, (value, _) in kinds.items())
    file = tmp_path / "kinds.parquet"
    with duckdb.connect() as database:
        database.execute(f"""
            COPY (SELECT 'p0' AS "personID", '2026-01-01T00:00:00Z' AS "updatedAt", {columns})
            TO {file_to_write(file)}""")
    report = load(tmp_path / "profiles", [file], now=NOW, resources=RESOURCES)
    assert report.snapshot
    for form in FileFormat:
        found = exported(engine, report.snapshot, form, tmp_path)
        assert found == {"p0": {name: wanted for name, (_, wanted) in kinds.items()}}


def test_an_endpoint_has_numbers_with_all_their_digits(engine: Engine, tmp_path: Path) -> None:
    many = "12345678901234567890.12345"
    document = {
        "integer": str(2**53 + 1),
        "double": "0.1",
        "decimal": many,
        "decimals": f"[0.5, {many}]",
        "mixed": many,
        "objects": f'[{{"it": {many}}}, "a:{many}e99999", null]',
        "strange": "NaN",
    }
    load_records(
        tmp_path / "profiles",
        [text_of("p0", {**document, "identityMap": '{"Email": [{"id": "a@example.com"}]}'})],
    )
    load_records(tmp_path / "profiles", [text_of("p1", {"mixed": '"x"', "strange": "2.5"})])
    snapshot = ProfileStore(tmp_path / "profiles").latest()
    for form in FileFormat:
        (endpoint,) = endpoints(engine, snapshot, form, tmp_path)
        assert endpoint["Metrics"] == {
            "integer": 2**53 + 1,
            "double": Decimal("0.1"),
            "decimal": Decimal(many),
            "mixed": Decimal(many),
        }
        said = endpoint["User"]["UserAttributes"]
        assert said["decimals"] == ["0.5", many]
        assert said["objects"] == [f'{{"it":{many}}}', f"a:{many}e99999"]


def test_what_is_not_finite_is_null_wherever_it_stands(engine: Engine, tmp_path: Path) -> None:
    strange = '[{"a":NaN},{"b":[-Infinity,2]},{"NaN":"NaN"},{"s":"a:NaN,\\":-Infinity,"},{"c":inf}]'
    lines = [
        f'{{"personID":"p0","updatedAt":"2026-01-01T00:00:00Z","mixed":NaN,"objects":{strange}}}',
        '{"personID":"p1","updatedAt":"2026-01-01T00:00:00Z","mixed":"NaN","plain":-Infinity}',
    ]
    report = load_records(tmp_path / "profiles", lines)
    assert report.snapshot
    wanted = [{"b": [None, 2]}, {"NaN": "NaN"}, {"s": 'a:NaN,":-Infinity,'}]
    for form in FileFormat:
        found = exported(engine, report.snapshot, form, tmp_path)
        (first, *others, last) = found["p0"]["objects"]
        assert (first, others, last) == ({"a": None}, wanted, {"c": None})
        assert (found["p0"].get("mixed"), found["p1"]["mixed"]) == (None, "NaN")


def text_of(key: str, document: Mapping[str, str]) -> str:
    begun = json.dumps(fragment(key)).removesuffix("}")
    return "".join([begun, *(f', "{name}": {value}' for name, value in document.items()), "}"])


def refused_in(report: LoadReport) -> set[str]:
    if report.rejects is None:
        return set()
    rejects = map(json.loads, report.rejects.read_text().splitlines())
    return {json.loads(one["raw"])["personID"] for one in rejects}


def read(text: str) -> Any:
    return json.loads(text, parse_float=Decimal, parse_int=Decimal, parse_constant=pytest.fail)


def numbers_in(document: Mapping[str, str]) -> Iterator[Decimal]:
    def numbers(value: Any) -> Iterator[Decimal]:
        match value:
            case dict():
                yield from (one for inner in value.values() for one in numbers(inner))
            case list():
                yield from (one for inner in value for one in numbers(inner))
            case Decimal():
                yield value

    for text in document.values():
        yield from numbers(read(text))


def is_kept(number: Decimal) -> bool:
    """Whether a number has up to 38 digits, or is written as a double is."""
    with localcontext(prec=1000):
        if Decimal(repr(float(number))) == number:
            return True
        _, digits_of, exponent = number.normalize().as_tuple()
        assert isinstance(exponent, int)
        before = max(0, len(digits_of) + exponent)
        return before + max(0, -exponent) <= 38


def said(document: Mapping[str, str]) -> Mapping[str, Any]:
    return without_nothing({name: read(value) for name, value in document.items()})


def without_nothing(value: Mapping[str, Any]) -> dict[str, Any]:
    """Null and empty objects say nothing: they are left out, outside of arrays."""
    inner = {
        name: without_nothing(one) if isinstance(one, dict) else one for name, one in value.items()
    }
    return {name: one for name, one in inner.items() if one is not None and one != {}}


def exported(
    engine: Engine, snapshot: Snapshot, form: FileFormat, folder: Path
) -> Mapping[str, Mapping[str, Any]]:
    """What is exported of each person, with all numbers as decimals."""
    with exporting(engine, snapshot, form, folder) as (_, data):
        pass
    if form is FileFormat.PARQUET:
        rows = parquet_rows(data, snapshot)
    else:
        packed = form is FileFormat.NDJSON_GZ
        text = gzip.decompress(data.read_bytes()) if packed else data.read_bytes()
        rows = [read(line) for line in text.decode().splitlines()]
    beside = {"person_id", "personID", "updatedAt", "identityMap"}
    return {
        row["personID"]: without_nothing(
            {name: value for name, value in row.items() if name not in beside}
        )
        for row in rows
    }


def endpoints(
    engine: Engine, snapshot: Snapshot, form: FileFormat, folder: Path
) -> Sequence[Mapping[str, Any]]:
    """The endpoints that are exported, with all numbers as decimals."""
    pinpoint = {"applicationId": "a", "roleArn": "r", "s3UrlPrefix": "s3://exports/all/"}
    with exporting(engine, snapshot, form, folder, pinpoint=pinpoint) as (run, data):
        run.write_endpoints(data, data.with_name("endpoints"))
    text = gzip.decompress(data.with_name("endpoints").read_bytes()).decode()
    return [read(line) for line in text.splitlines()]


@contextmanager
def exporting(
    engine: Engine, snapshot: Snapshot, form: FileFormat, folder: Path, **more: Any
) -> Iterator[tuple[Run, Path]]:
    """A run that has written the file of its only piece."""
    request = parse_request({"destination": {"datasetId": "d", "format": form}, **more})
    plan = plan_export(request, snapshot, resolve_policy(request, Catalogue()), pieces=1)
    run = engine.begin(plan)
    data = Path(tempfile.mkdtemp(dir=folder)) / f"data.{form}"
    try:
        run.prepare()
        run.run_piece(0, data=[data], discards=data.with_name("discards"))
        yield run, data
    finally:
        run.close()


def parquet_rows(data: Path, snapshot: Snapshot) -> Sequence[dict[str, Any]]:
    """The rows of a Parquet file: what is JSON by the snapshot is read."""
    rows = []
    with duckdb.connect() as database:
        for row in dicts(database, f"SELECT * FROM {parquet([data])}"):
            for attribute in snapshot.attributes:
                *above, name = attribute.path.split(".")
                inner = row
                for step in above:
                    inner = inner[step]
                inner[name] = plain(inner[name], attribute.type)
            rows.append(row)
    return rows


def plain(value: Any, kind: str) -> Any:
    if isinstance(value, list):
        return [plain(one, kind.removesuffix("[]")) for one in value]
    if isinstance(value, float):
        return Decimal(repr(value))
    return read(value) if kind == "JSON" and value is not None else value


def dicts(database: duckdb.DuckDBPyConnection, query: str) -> Iterator[dict[str, Any]]:
    found = database.execute(query)
    names = [column[0] for column in found.description or ()]
    yield from (dict(zip(names, row, strict=True)) for row in found.fetchall())
