"""What every engine does: the same as an export done slowly and obviously in Python."""

import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from segexport.errors import (
    DatasetError,
    ExportCancelled,
    ProfileStoreCorrupt,
    ProfileStoreError,
)
from segexport.exports.engine import Engine
from segexport.exports.engines.duckdb import DuckDBEngine
from segexport.exports.plan import plan_export, upper_bound
from segexport.exports.profiles import Attribute, Snapshot
from segexport.jobs.request import ExportRequest, parse_request
from segexport.store.discards import COLUMNS
from support.people import ATTRIBUTES, Identity, Person, write_snapshot
from support.plain_export import Outcome, plain_export

SEGMENTS = (("ups", "gold"), ("ups", 'it\'s "odd"; --'), ("AAM", "gold"))
NAMESPACES = ("Email", "ECID", "it's {odd}")


@pytest.fixture(scope="module", params=["duckdb"])
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    assert request.param == "duckdb"
    made = DuckDBEngine(spill=tmp_path_factory.mktemp("spill"), threads=2, memory_limit="512MB")
    yield made
    made.close()


def export(engine: Engine, request: ExportRequest, snapshot: Snapshot, folder: Path) -> Outcome:
    """Run all pieces, and read back what they wrote."""
    run = engine.begin(plan_export(request, snapshot))
    try:
        run.prepare()
        profiles: list[Mapping[str, Any]] = []
        pieces: list[Path] = []
        namespaces: dict[str, int] = {}
        for index in reversed(range(snapshot.buckets)):  # in no particular order
            data, discards = folder / f"data-{index}.parquet", folder / f"discards-{index}.parquet"
            result = run.run_piece(index, data=data, discards=discards)
            exported = rows(data) if result.data else []
            assert (result.data is not None) == data.exists()
            assert len(exported) == (result.data.rows if result.data else 0)
            if result.data:
                assert result.data.size == data.stat().st_size
            if result.discards:
                pieces.insert(0, discards)
            discarded = result.discards.rows if result.discards else 0
            assert result.selected == len(exported) + discarded
            profiles += exported
            for namespace, count in result.namespaces.items():
                namespaces[namespace] = namespaces.get(namespace, 0) + count
        joined: Sequence[Any] = []
        if pieces:
            written = run.join_discards(pieces, folder / "discards.parquet")
            joined = [tuple(row.values()) for row in rows(folder / "discards.parquet")]
            assert written.rows == len(joined)
        return Outcome(profiles, joined, namespaces)
    finally:
        run.close()


def rows(file: Path) -> list[dict[str, Any]]:
    with duckdb.connect() as database:
        found = database.execute("SELECT * FROM read_parquet(?)", [str(file)])
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def comparable(profiles: Sequence[Mapping[str, Any]]) -> list[str]:
    """Profiles in an order of their own, without the times that only memberships have."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            if set(value) == {"status", "lastQualificationTime"}:
                return value["status"]
            return {key: plain(below) for key, below in sorted(value.items())}
        return [plain(below) for below in value] if isinstance(value, list) else value

    return sorted(repr(plain(dict(profile))) for profile in profiles)


names = st.sampled_from(["a", "b", "c"])
fragments = st.fixed_dictionaries(
    {},
    optional={
        "homeAddress.city": st.none() | names,
        "loyalty.points": st.none() | st.integers(-3, 3),
        "person.name.firstName": st.none() | names,
        "person.name.lastName": st.none() | st.sampled_from(["", "Ø'\"\\"]),
        "personalEmail.address": st.none() | names,
        "tags": st.none() | st.lists(names, max_size=2),
    },
)
identities = st.none() | st.dictionaries(
    st.sampled_from(NAMESPACES),
    st.lists(st.builds(Identity, st.sampled_from(["x", "y", "z", ""]), st.booleans()), max_size=2),
    max_size=3,
)
people = st.lists(
    st.builds(
        Person,
        st.integers(1, 40),
        st.lists(fragments, min_size=1, max_size=3),
        identities,
        st.booleans(),
        st.dictionaries(
            st.sampled_from(SEGMENTS), st.sampled_from(["realized", "existing", "exited"])
        ),
    ),
    max_size=14,
    unique_by=lambda person: person.id,
)
filters = st.lists(
    st.fixed_dictionaries(
        {
            "segment": st.sampled_from(SEGMENTS),
            "status": st.lists(
                st.sampled_from(["realized", "existing", "exited"]), min_size=1, max_size=3
            ),
        }
    ),
    max_size=3,
    unique_by=lambda wanted: wanted["segment"],  # type: ignore[no-any-return]  # hypothesis' Any
)
fields = st.sampled_from(
    [
        "",
        "identityMap",
        "identities.id,personalEmail.address",
        "person, loyalty.points",
        "identities",
        "identities.namespace,segmentMembership",
        "person.name.lastName,tags",
    ]
)
journeys = st.none() | st.fixed_dictionaries(
    {
        "versionId": st.just("v1"),
        "namespace": st.sampled_from(NAMESPACES),
        "testMode": st.booleans(),
    }
)


def request_of(
    wanted: Sequence[Mapping[str, Any]] = (),
    asked: str = "",
    journey: Mapping[str, Any] | None = None,
) -> ExportRequest:
    document: dict[str, Any] = {
        "fields": asked,
        "destination": {"datasetId": "d"},
        "filter": {
            "segments": [
                {
                    "segmentNs": one["segment"][0],
                    "segmentId": one["segment"][1],
                    "status": one["status"],
                }
                for one in wanted
            ]
        },
    }
    return parse_request(document | ({"journey": journey} if journey else {}))


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(people=people, wanted=filters, asked=fields, journey=journeys, buckets=st.integers(1, 3))
@example(people=[], wanted=[], asked="", journey=None, buckets=2)
def test_an_engine_exports_what_the_plain_export_does(
    engine: Engine,
    people: Sequence[Person],
    wanted: Sequence[Mapping[str, Any]],
    asked: str,
    journey: Mapping[str, Any] | None,
    buckets: int,
) -> None:
    request = request_of(wanted, asked, journey)
    with tempfile.TemporaryDirectory() as folder:
        snapshot = write_snapshot(Path(folder), people, buckets=buckets, segments=SEGMENTS)
        expected = plain_export(request, people)
        found = export(engine, request, snapshot, Path(folder))
    assert comparable(found.profiles) == comparable(expected.profiles)
    in_order = sorted(expected.discards, key=lambda discard: (discard[2] % buckets, discard[2]))
    assert list(found.discards) == in_order
    assert dict(found.namespaces) == dict(expected.namespaces)
    assert len(found.profiles) + len(found.discards) <= upper_bound(request, snapshot)
