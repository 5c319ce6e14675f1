"""What docs/exports.md shows is run as it stands there."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from segexport.exports.dataset import Batch, Datasets
from segexport.jobs.job import Scope
from segexport.jobs.reading import parse_request
from support.people import Person, write_snapshot
from support.s3 import KEY, SECRET, Bucket
from support.workplace import Workplace

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

PAGE = Path(__file__).parents[2] / "docs" / "exports.md"
HERE = Scope("local", "prod")
PEOPLE = [
    Person(
        number + (1 << 60),
        [{"person.name.lastName": f"n{number}", "loyalty.points": number}],
        memberships={("ups", "gold"): "realized"},
    )
    for number in range(1, 8)
]
TELLING = {
    "homeAddress.city": "0012",
    "person.name.firstName": "2026-01-05",
    "person.name.lastName": "2026-01-05T01:00:00+02:00",
    "personalEmail.address": "1e3",
    "tags": ["true", "007", None],
    "consents": {"code": "0012", "count": 2**53 + 1, "share": 0.1},
    "loyalty.active": True,
    "loyalty.points": 2**53 + 1,
    "loyalty.share": 0.1,
}
"""Attributes that a reader which guesses would change, where somebody else has none."""
LACKING = [
    Person(1 << 60, [TELLING], memberships={("ups", "gold"): "realized"}),
    Person(1 + (1 << 60), [{}], memberships={("ups", "gold"): "realized"}),
]
FORMATS = pytest.mark.parametrize("form", ["parquet", "ndjson", "ndjson.gz"])


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def run(code: str, names: dict[str, Any]) -> dict[str, Any]:
    """Run code of the page; the names that it knows then."""
    exec(compile(code, str(PAGE), "exec"), names)
    return names


DATASETS, PANDAS, SPARK, S3 = range(4)
"""The Python on the page, in its order."""


def snippet(place: int) -> str:
    found = blocks("python")
    assert len(found) == 4
    return found[place]


@pytest.fixture
def export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Makes a batch of each of `fields` in a format, where the page says that they are."""

    async def make(
        form: str,
        people: Sequence[Person] = PEOPLE,
        *,
        fields: Sequence[str] = ("",),
        **others: Any,
    ) -> None:
        data = tmp_path / ".segexport"
        data.mkdir()
        place = await Workplace.open(data, others)
        write_snapshot(place.settings.profiles_folder, people)
        destination = {"datasetId": "audience", "format": form}
        async with place.working():
            for each in fields:
                request = parse_request({"fields": each, "destination": destination})
                submission = await place.commands.submit(HERE, request)
                await place.ended(submission.job)
        await place.store.close()
        monkeypatch.chdir(tmp_path)

    return make


def test_the_request_on_the_page_has_every_word() -> None:
    (shown,) = blocks("json")
    assert parse_request(shown).document() == json.loads(shown)


@FORMATS
async def test_the_code_on_the_page_reads_a_batch(export: Callable[..., Any], form: str) -> None:
    await export(form)
    names = run(snippet(DATASETS), {})
    assert sorted(names["rows"]) == [(f"n{number}",) for number in range(1, 8)]


@FORMATS
async def test_the_query_on_the_page_reads_all_batches(
    export: Callable[..., Any], form: str
) -> None:
    await export(form)
    parquet, ndjson = blocks("sql")
    with duckdb.connect() as database:
        query = parquet if form == "parquet" else ndjson
        assert database.execute(query).fetchall() == [(7,)]


@FORMATS
async def test_the_query_on_the_page_changes_no_value(
    export: Callable[..., Any], form: str
) -> None:
    await export(form, LACKING)
    parquet, ndjson = blocks("sql")
    if form == "parquet":
        query, city, points = parquet, "homeAddress.city", "loyalty.points"
    else:
        query, city, points = ndjson, "homeAddress->>'$.city'", "(loyalty->'$.points')::BIGINT"
        assert f"`{city}`" in PAGE.read_text()
        assert f"`{points}`" in PAGE.read_text()
    first = "person.name.firstName" if form == "parquet" else "person->>'$.name.firstName'"
    assert "count(*)" in query
    query = query.replace("count(*)", f"{city}, {points}, {first}").rstrip(";\n ")
    with duckdb.connect() as database:
        rows = database.execute(f"{query} ORDER BY ALL").fetchall()
    assert rows == [("0012", 2**53 + 1, "2026-01-05"), (None, None, None)]


@FORMATS
async def test_the_query_on_the_page_reads_batches_of_other_columns_together(
    export: Callable[..., Any], form: str
) -> None:
    await export(form, LACKING, fields=["tags", "homeAddress,consents"])
    query = blocks("sql")[form != "parquet"].replace("count(*)", "count(tags), count(homeAddress)")
    with duckdb.connect() as database:
        assert database.execute(query).fetchall() == [(1, 2)]


async def test_pyarrow_reads_a_batch_as_the_page_says(export: Callable[..., Any]) -> None:
    await export("parquet")
    expression = "pyarrow.dataset.dataset(list(batch.paths))"
    assert f"`{expression}`" in PAGE.read_text()
    names = run(f"import pyarrow.dataset\nfound = {expression}", {"batch": newest()})
    assert names["found"].count_rows() == 7


@FORMATS
async def test_pandas_reads_a_batch_as_the_page_says(export: Callable[..., Any], form: str) -> None:
    await export(form)
    profiles = run(snippet(PANDAS), {"batch": newest()})["profiles"]
    assert sorted(map(int, profiles["person_id"])) == [person.id for person in PEOPLE]
    assert sorted(one["points"] for one in profiles["loyalty"]) == list(range(1, 8))


@FORMATS
async def test_pandas_changes_no_value(export: Callable[..., Any], form: str) -> None:
    await export(form, LACKING)
    profiles = run(snippet(PANDAS), {"batch": newest()})["profiles"]
    told, untold = sorted(profiles.to_dict("records"), key=lambda row: int(row["person_id"]))
    consents = told["consents"]
    assert {
        **{path: number_or_text(told, path) for path in TELLING},
        "consents": json.loads(consents) if form == "parquet" else plain(consents),
    } == TELLING
    assert all(number_or_text(untold, path) is None for path in TELLING)


async def test_pandas_reads_a_double_as_a_float_and_what_a_float_rounds_as_a_decimal(
    export: Callable[..., Any],
) -> None:
    await export("ndjson", LACKING)
    batch = newest()
    profiles = run(snippet(PANDAS), {"batch": batch})["profiles"]
    shares = [one["share"] for one in profiles["loyalty"]]
    assert sorted(shares, key=str) == [0.1, None]
    assert [type(one) for one in shares if one is not None] == [float]

    digits = ("0.12345678901234567", "0.1000", "1e300", "-0.0", "12345678901234567.5")
    Path(batch.paths[0]).write_text("".join(f'{{"number": {each}}}\n' for each in digits))
    read = run(snippet(PANDAS), {"batch": batch})["profiles"]["number"]
    assert [repr(one) for one in read.dropna()] == [
        "Decimal('0.12345678901234567')",
        *("0.1", "1e+300", "-0.0"),
        "Decimal('12345678901234567.5')",
    ]


def number_or_text(row: Mapping[str, Any], path: str) -> Any:
    """What a row has at a path, None where pandas says that there is nothing."""
    value: Any = row
    for name in path.split("."):
        value = value[name]
    return plain(value)


def plain(value: Any) -> Any:
    """A value with floats in place of decimals, and lists in place of arrays."""
    match value:
        case Decimal():
            return float(value)
        case Mapping():
            return {name: plain(one) for name, one in value.items()}
        case None | str() | int() | float():
            return value
        case _:
            return list(value)


@FORMATS
async def test_spark_changes_no_value(
    export: Callable[..., Any], form: str, spark: "SparkSession"
) -> None:
    await export(form, LACKING)
    profiles = run(snippet(SPARK), {**at_hand(), "spark": spark})["profiles"]
    told, untold = profiles.select(*TELLING).sort("person_id").collect()
    found = dict(zip(TELLING, told, strict=True))
    assert {**found, "consents": json.loads(found["consents"])} == TELLING
    assert set(untold) == {None}


@FORMATS
async def test_spark_reads_a_batch_as_the_page_says(
    export: Callable[..., Any], form: str, spark: "SparkSession"
) -> None:
    await export(form)
    profiles = run(snippet(SPARK), {**at_hand(), "spark": spark})["profiles"]
    rows = profiles.select("person_id", "person.name.lastName", "loyalty.points").collect()
    assert sorted((int(row[0]), row[1], row[2]) for row in rows) == [
        (person.id, f"n{number}", number) for number, person in enumerate(PEOPLE, start=1)
    ]


async def test_the_code_on_the_page_reads_from_s3(
    export: Callable[..., Any], bucket: Bucket
) -> None:
    await export("parquet", **bucket.settings)
    code = snippet(DATASETS).partition("datasets =")[0] + "import pandas as pd\n" + snippet(S3)
    for shown, meant in (
        ("https://storage.example:9000", bucket.server.endpoint),
        ('"key": "…"', f'"key": "{KEY}"'),
        ('"secret": "…"', f'"secret": "{SECRET}"'),
        ("s3://bucket/exports", bucket.root),
    ):
        assert shown in code
        code = code.replace(shown, meant)
    names = run(code, {})
    ids = [person.id for person in PEOPLE]
    assert sorted(number for (number,) in names["rows"]) == ids
    assert sorted(names["frame"]["person_id"]) == ids


@pytest.mark.parametrize("form", ["ndjson", "ndjson.gz"])
async def test_pandas_reads_ndjson_from_s3_as_the_page_says(
    export: Callable[..., Any], bucket: Bucket, form: str
) -> None:
    await export(form, LACKING, **bucket.settings)
    text = PAGE.read_text()
    opened = 'opened(path, "rt", encoding="utf-8")'
    there = 'fsspec.open(path, "rt", encoding="utf-8", compression="infer", **options)'
    assert f"`{opened}`" in text
    assert f"`{there}`" in text
    options: dict[str, Any] = {
        "endpoint_url": bucket.server.endpoint,
        "key": KEY,
        "secret": SECRET,
    }
    batch = Datasets(bucket.root, **options).dataset(HERE, "audience").batches()[-1]
    code = "import fsspec\n" + snippet(PANDAS).replace(opened, there)
    profiles = run(code, {"batch": batch, "options": options})["profiles"]
    cities = {one["city"] for one in profiles["homeAddress"]}
    assert cities == {TELLING["homeAddress.city"], None}


def newest() -> Batch:
    batch: Batch = at_hand()["batch"]
    return batch


def at_hand() -> dict[str, Any]:
    """The names that the first code on the page makes, for the code that follows."""
    return run(snippet(DATASETS), {})
