"""What every engine does: the same as an export done slowly and obviously in Python."""

import tempfile
import threading
import time
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
from segexport.jobs.request import ExportRequest, parse_request
from segexport.profiles.snapshots import Attribute, Snapshot
from segexport.sql import parquet
from segexport.store.discards import COLUMNS
from support.people import ATTRIBUTES, Identity, Person, write_crowd, write_snapshot
from support.plain_export import Outcome, plain_export
from support.waiting import wait_until

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


def export(
    engine: Engine,
    request: ExportRequest,
    snapshot: Snapshot,
    folder: Path,
    pieces: int | None = None,
) -> Outcome:
    """Run all pieces, and read back what they wrote."""
    plan = plan_export(request, snapshot, pieces=pieces)
    run = engine.begin(plan)
    try:
        run.prepare()
        profiles: list[Mapping[str, Any]] = []
        discarded_in: list[Path] = []
        namespaces: dict[str, int] = {}
        for index in reversed(range(plan.pieces)):  # in no particular order
            data, discards = folder / f"data-{index}.parquet", folder / f"discards-{index}.parquet"
            result = run.run_piece(index, data=[data], discards=discards)
            (part,) = result.parts
            exported = rows(data) if part.data else []
            assert (part.data is not None) == data.exists()
            assert len(exported) == (part.data.rows if part.data else 0)
            if part.data:
                assert part.data.size == data.stat().st_size
            if result.discards:
                discarded_in.insert(0, discards)
            discarded = result.discards.rows if result.discards else 0
            assert part.discarded == discarded
            assert part.selected == len(exported) + discarded
            profiles += exported
            for namespace, count in part.namespaces.items():
                namespaces[namespace] = namespaces.get(namespace, 0) + count
        joined: Sequence[Any] = []
        if discarded_in:
            written = run.join_discards(discarded_in, folder / "discards.parquet")
            joined = [tuple(row.values()) for row in rows(folder / "discards.parquet")]
            assert written.rows == len(joined)
        return Outcome(profiles, joined, namespaces)
    finally:
        run.close()


def rows(file: Path) -> list[dict[str, Any]]:
    with duckdb.connect() as database:
        found = database.execute(f"SELECT * FROM {parquet([file])}")
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
        memberships=st.dictionaries(
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
    unique_by=lambda wanted: wanted["segment"],
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
@given(
    people=people,
    wanted=filters,
    asked=fields,
    journey=journeys,
    cut=st.sampled_from([(1, 1), (2, 2), (3, 1), (3, 2), (5, 3)]),
)
@example(people=[], wanted=[], asked="", journey=None, cut=(2, 2))
def test_an_engine_exports_what_the_plain_export_does(
    engine: Engine,
    *,
    people: Sequence[Person],
    wanted: Sequence[Mapping[str, Any]],
    asked: str,
    journey: Mapping[str, Any] | None,
    cut: tuple[int, int],
) -> None:
    buckets, pieces = cut
    request = request_of(wanted, asked, journey)
    with tempfile.TemporaryDirectory() as folder:
        snapshot = write_snapshot(Path(folder), people, buckets=buckets, segments=SEGMENTS)
        expected = plain_export(request, people)
        found = export(engine, request, snapshot, Path(folder), pieces)
    assert comparable(found.profiles) == comparable(expected.profiles)
    in_order = sorted(expected.discards, key=lambda discard: (discard[2] % buckets, discard[2]))
    assert list(found.discards) == in_order
    assert dict(found.namespaces) == dict(expected.namespaces)
    assert len(found.profiles) + len(found.discards) <= upper_bound(request, snapshot)


HOSTILE = Attribute("it's {odd}.\"; --.$1 ?", "VARCHAR")


def test_names_are_data_and_never_part_of_a_query(engine: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "it's [o]dd *?"
    folder.mkdir()
    people = [
        Person(1, [{HOSTILE.path: "x'\";"}], {NAMESPACES[2]: [Identity("'\"")]}, memberships=IN_ODD)
    ]
    snapshot = write_snapshot(folder, people, attributes=[*ATTRIBUTES, HOSTILE])
    request = request_of(
        [{"segment": SEGMENTS[1], "status": ["realized"]}],
        f"{HOSTILE.path},identities",
        {"versionId": "v", "namespace": NAMESPACES[2]},
    )
    found = export(engine, request, snapshot, folder)
    assert found.profiles == [
        {
            "person_id": 1,
            "it's {odd}": {'"; --': {"$1 ?": "x'\";"}},
            "identities": [{"id": "'\"", "namespace": NAMESPACES[2]}],
        }
    ]


IN_ODD = {SEGMENTS[1]: "realized"}


def test_attributes_may_be_called_like_any_column_of_the_engine(
    engine: Engine, tmp_path: Path
) -> None:
    names = ["bucket", "code", "identity_map", "key", "merged", "picked", "position", "winner"]
    names += ["namespace", "person_key", "segment", "segment_membership", "standings", "status"]
    attributes = [Attribute(name, "VARCHAR") for name in names]
    told = {name: f"the {name}" for name in names}
    people = [
        Person(
            number,
            [told, {}],
            {"Email": [Identity(f"{number}")]},
            memberships={SEGMENTS[0]: "realized"},
        )
        for number in (1, 2)
    ]
    folder = tmp_path / "bucket=7" / "status=x"
    folder.mkdir(parents=True)
    snapshot = write_snapshot(folder, people, attributes=attributes)
    gold = {"segment": SEGMENTS[0], "status": ["realized"]}
    for wanted in ([], [gold]):
        request = request_of(
            wanted, ",".join([*names, "identityMap"]), {"versionId": "v", "namespace": "Email"}
        )
        found = export(engine, request, snapshot, folder)
        assert [{name: profile[name] for name in names} for profile in found.profiles] == [
            told,
            told,
        ]
        assert all(
            profile.keys() == {"person_id", *names, "identityMap"} for profile in found.profiles
        )


def test_a_profiles_key_is_its_primary_identity_or_else_the_first_by_id(
    engine: Engine, tmp_path: Path
) -> None:
    keys = {
        1: [Identity("a"), Identity("k", primary=True)],  # k
        2: [Identity("k"), Identity("b")],  # b
        3: [Identity(""), Identity("k")],  # k again
        4: [Identity("z", primary=True), Identity("b", primary=True)],  # b again
        5: [Identity("", primary=True), Identity("c")],  # c
    }
    people = [Person(number, identities={"Email": ids}) for number, ids in keys.items()]
    request = request_of(asked="identityMap", journey={"versionId": "v", "namespace": "Email"})
    found = export(engine, request, write_snapshot(tmp_path, people), tmp_path)
    assert sorted(row[2] for row in found.discards) == [3, 4]


def test_duplicates_across_buckets_leave_the_lowest_person_id(
    engine: Engine, tmp_path: Path
) -> None:
    people = [
        Person(number, identities={"Email": [Identity("same")]}, memberships=IN_ODD)
        for number in (7, 4, 5)
    ]
    # The lowest of all cannot be delivered, so it must not take the key from the others.
    people.append(Person(2, identities={"Email": [Identity("same")]}, test=False))
    request = request_of(
        [{"segment": SEGMENTS[1], "status": ["realized"]}],
        "identityMap",
        {"versionId": "v", "namespace": "Email"},
    )
    found = export(engine, request, write_snapshot(tmp_path, people), tmp_path)
    assert [(row[2], row[3]) for row in found.discards] == [
        (5, "ERROR_INSTANCE_DUPLICATION"),
        (7, "ERROR_INSTANCE_DUPLICATION"),
    ]
    assert rows(tmp_path / "discards.parquet")[0].keys() == set(COLUMNS)


def test_the_first_piece_has_columns_even_for_nobody(engine: Engine, tmp_path: Path) -> None:
    snapshot = write_snapshot(tmp_path, [], segments=SEGMENTS)
    request = request_of([{"segment": SEGMENTS[0], "status": ["exited"]}], "person,identityMap")
    run = engine.begin(plan_export(request, snapshot))
    data, discards = [tmp_path / "data"], tmp_path / "discards"
    assert run.run_piece(1, data=data, discards=discards).parts[0].data is None
    written = run.run_piece(0, data=data, discards=discards).parts[0].data
    assert written is not None
    assert written.rows == 0
    assert [column.name for column in run.columns(tmp_path / "data")] == [
        "person_id",
        "person",
        "identityMap",
    ]
    run.close()


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """Enough people that a piece takes seconds."""
    return write_crowd(tmp_path_factory.mktemp("crowd"), count=3_000_000)


def test_an_interrupt_ends_a_running_piece_soon_and_nothing_begins_after_it(
    engine: Engine, crowd: Snapshot, tmp_path: Path
) -> None:
    run = engine.begin(plan_export(request_of(), crowd))
    data, discards = [tmp_path / "data"], tmp_path / "discards"
    ended: list[BaseException] = []

    def work() -> None:
        try:
            run.run_piece(0, data=data, discards=discards)
        except ExportCancelled as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: run.progress() > 0, 30, "the piece makes progress")
    assert 0 < run.progress() < 1
    asked = time.monotonic()
    while thread.is_alive() and time.monotonic() < asked + 10:
        run.interrupt()
        thread.join(0.02)
    assert time.monotonic() - asked < 1
    assert len(ended) == 1
    with pytest.raises(ExportCancelled):
        run.run_piece(0, data=data, discards=discards)
    assert run.progress() == 0
    run.close()


def test_an_interrupt_leaves_other_runs_alone(
    engine: Engine, crowd: Snapshot, tmp_path: Path
) -> None:
    stopped = engine.begin(plan_export(request_of(), crowd))
    stopped.interrupt()
    people = [Person(1), Person(2)]
    assert (
        len(export(engine, request_of(), write_snapshot(tmp_path, people), tmp_path).profiles) == 2
    )
    stopped.close()


def test_a_missing_file_of_the_snapshot_is_a_fault_of_the_profile_store(
    engine: Engine, tmp_path: Path
) -> None:
    snapshot = write_snapshot(tmp_path, [Person(2)])
    snapshot.fragments_file(0).unlink()
    with pytest.raises(ProfileStoreError, match=r"fragments\.parquet.*mounted"):
        export(engine, request_of(), snapshot, tmp_path)


@pytest.mark.parametrize("damage", [b"", b"PAR1 nonsense PAR1", b"x" * 5000])
def test_a_damaged_file_of_the_snapshot_is_named(
    engine: Engine, tmp_path: Path, damage: bytes
) -> None:
    snapshot = write_snapshot(tmp_path, [Person(2)])
    snapshot.fragments_file(0).write_bytes(damage)
    with pytest.raises(ProfileStoreCorrupt, match=r"damaged.*fragments\.parquet.*load"):
        export(engine, request_of(), snapshot, tmp_path)


def test_persons_without_fragments_are_noticed(engine: Engine, tmp_path: Path) -> None:
    snapshot = write_snapshot(tmp_path, [Person(2), Person(4, fragments=[])])
    with pytest.raises(
        ProfileStoreCorrupt, match=r"buckets 0 to 0 .* give 1 profiles for 2 persons"
    ):
        export(engine, request_of(), snapshot, tmp_path)


def test_a_folder_that_is_not_there_cannot_be_written(engine: Engine, tmp_path: Path) -> None:
    run = engine.begin(plan_export(request_of(), write_snapshot(tmp_path, [Person(2)])))
    with pytest.raises(DatasetError, match=r"gone.*permissions"):
        run.run_piece(0, data=[tmp_path / "gone" / "data"], discards=tmp_path / "discards")
    run.close()


def test_a_full_disk_is_a_fault_of_the_dataset(engine: Engine, tmp_path: Path) -> None:
    run = engine.begin(plan_export(request_of(), write_snapshot(tmp_path, [Person(2)])))
    with pytest.raises(DatasetError, match="free space"):
        run.run_piece(0, data=[Path("/dev/full")], discards=tmp_path / "discards")
    run.close()
