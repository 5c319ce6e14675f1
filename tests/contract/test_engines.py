"""What every engine does: the same as an export done slowly and obviously in Python."""

import gzip
import json
import math
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from segexport.errors import (
    DatasetError,
    ExportCancelled,
    ProfileStoreCorrupt,
    ProfileStoreError,
)
from segexport.exports.engine import Engine
from segexport.exports.engines import duckdb as duckdb_engine
from segexport.exports.plan import plan_export, resolve_policy, upper_bound
from segexport.jobs.reading import parse_request
from segexport.jobs.request import ExportRequest, FileFormat
from segexport.profiles.catalogue import (
    BUILT_IN,
    TIMESTAMP_ORDERED,
    Catalogue,
    Merging,
    PolicyDefinition,
)
from segexport.profiles.snapshots import Attribute, Snapshot
from segexport.sql import file_to_write, parquet
from segexport.store.discards import COLUMNS
from support.crowds import DATASETS, KEYS, MOMENTS, MOST_PEOPLE, NAMESPACES, SEGMENTS, some_people
from support.endpoints import (
    APPLICATION,
    ENDPOINT_ATTRIBUTES,
    REACHABLE,
    endpoints_of,
    in_order,
    read_endpoints,
)
from support.engines import engine_called
from support.examples import examples
from support.own_names import own_names
from support.people import (
    ATTRIBUTES,
    EVENT_ATTRIBUTES,
    JSON_LEAVES,
    NOW,
    Event,
    Fragment,
    Identity,
    Person,
    Standing,
    write_crowd,
    write_snapshot,
)
from support.plain_export import Batch, Outcome, plain_export
from support.waiting import wait_until

POLICIES = (
    *BUILT_IN,
    PolicyDefinition(
        id="in-order", version=1, merging=Merging.DATASET_PRECEDENCE, datasets=("web", "crm")
    ),
    PolicyDefinition(
        id="in-order",
        version=2,
        merging=Merging.DATASET_PRECEDENCE,
        datasets=(DATASETS[2], "unheard of", "crm"),
    ),
    PolicyDefinition(id="no-order", version=1, merging=Merging.DATASET_PRECEDENCE),
)
WEB_FIRST = POLICIES[len(BUILT_IN)]
UNMERGED = next(one for one in BUILT_IN if one.merging is Merging.NONE)
CATALOGUE = Catalogue(policies=POLICIES)

EXAMPLES = {"duckdb": 150, "spark": 5}
"""How many requests by chance are tried on each engine: a slow one gets fewer."""


@pytest.fixture(scope="module", params=EXAMPLES)
def engine_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def engine(engine_name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with (
        engine_called(engine_name, tmp_path_factory.mktemp("spill")) as engine,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(duckdb_engine, "KEYS_AT_ONCE", 5)  # so that few are searched in ranges, too
        yield engine


def export(
    engine: Engine,
    request: ExportRequest,
    snapshot: Snapshot,
    folder: Path,
    *,
    pieces: int | None = None,
    instances: Path | None = None,
) -> Outcome:
    """Run all pieces, and read back what they wrote."""
    policy = resolve_policy(request, CATALOGUE)
    plan = plan_export(request, snapshot, policy, pieces=pieces, instances=instances)
    run = engine.begin(plan)
    folder = Path(tempfile.mkdtemp(dir=folder))
    try:
        run.prepare()
        profiles: list[list[Mapping[str, Any]]] = [[] for _ in range(plan.batches)]
        namespaces: list[Counter[str]] = [Counter() for _ in range(plan.batches)]
        discarded_in: list[Path] = []
        for index in reversed(range(plan.pieces)):  # in no particular order
            discards = folder / f"discards-{index}"
            data = [folder / f"data-{index}-{batch}" for batch in range(plan.batches)]
            result = run.run_piece(index, data=data, discards=discards)
            for batch, (part, path) in enumerate(zip(result.parts, data, strict=True)):
                exported = written(path, plan.format) if part.data else []
                assert (part.data is not None) == path.exists()
                assert index > 0 or path.exists()
                assert len(exported) == (part.data.rows if part.data else 0)
                if part.data:
                    assert part.data.size == path.stat().st_size
                assert part.selected == len(exported) + part.discarded
                profiles[batch] += exported
                namespaces[batch].update(part.namespaces)
            if result.discards:
                discarded_in.insert(0, discards)
            discarded = result.discards.rows if result.discards else 0
            assert sum(part.discarded for part in result.parts) == discarded
        columns = [column.name for column in run.columns(folder / "data-0-0")]
        assert all(list(profile) == columns for batch in profiles for profile in batch)
        joined: Sequence[Any] = []
        if discarded_in:
            whole = run.join_discards(discarded_in, folder / "discards")
            joined = [tuple(row[name] for name in COLUMNS) for row in rows(folder / "discards")]
            assert whole.rows == len(joined)
        return Outcome([Batch(*batch) for batch in zip(profiles, namespaces, strict=True)], joined)
    finally:
        run.close()


def rows(file: Path) -> list[dict[str, Any]]:
    with duckdb.connect() as database:
        found = database.execute(f"SELECT * FROM {parquet([file])}")
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def written(file: Path, kind: FileFormat) -> list[dict[str, Any]]:
    """The rows of a data file of either format."""
    if kind is FileFormat.PARQUET:
        return [parsed(row) for row in rows(file)]
    opened = gzip.open if kind is FileFormat.NDJSON_GZ else open
    with opened(file, "rt", encoding="utf-8") as lines:
        return [json.loads(line, parse_constant=pytest.fail) for line in lines]


def parsed(value: Any, name: str = "") -> Any:
    """A value of a Parquet file, with what is JSON in it read."""
    if isinstance(value, dict):
        return {key: parsed(below, key) for key, below in value.items()}
    if isinstance(value, list):
        return [parsed(below) for below in value]
    return json.loads(value) if name in JSON_LEAVES and isinstance(value, str) else value


def comparable(profiles: Sequence[Mapping[str, Any]]) -> list[str]:
    """Profiles in an order of their own, with the types of all values."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(below) for key, below in sorted(value.items())}
        if isinstance(value, float):
            return value + 0.0  # both zeros are one to the writers of Parquet's dictionaries
        return [plain(below) for below in value] if isinstance(value, list) else value

    return sorted(repr(plain(dict(profile))) for profile in profiles)


moments = st.sampled_from(MOMENTS)
earlier = st.sampled_from(MOMENTS[:3])
statuses = st.sampled_from(["realized", "existing", "exited"])
fields = st.lists(
    st.sampled_from(
        [
            *(attribute.path for attribute in ATTRIBUTES),
            "loyalty",
            "person",
            "person.name",
            "identityMap",
            "identities",
            "identities.id",
            "identities.namespace",
            "segmentMembership",
        ]
    ),
    max_size=4,
).map(", ".join)
event_fields = st.lists(
    st.sampled_from([*(attribute.path for attribute in EVENT_ATTRIBUTES), "commerce", "web"]),
    max_size=3,
).map(",".join)


def segment_of(
    name: tuple[str, str], status: Sequence[str] | str = ("realized",)
) -> dict[str, Any]:
    named = status if isinstance(status, str) else [*status]
    return {"segmentNs": name[0], "segmentId": name[1], "status": named}


@st.composite
def between(draw: st.DrawFn, start: str, end: str) -> dict[str, str]:
    """Two times in order under these names, or one of them, or none."""
    times = sorted(draw(st.lists(moments, min_size=2, max_size=2, unique=True)))
    asked = draw(st.sets(st.sampled_from([start, end])))
    return {
        name: time.isoformat()
        for name, time in zip((start, end), times, strict=True)
        if name in asked
    }


@st.composite
def requests(draw: st.DrawFn) -> ExportRequest:
    """A request with any of the words that there are."""
    segments: list[dict[str, Any]] = draw(
        st.lists(
            st.builds(
                segment_of,
                st.sampled_from(SEGMENTS),
                statuses | st.lists(statuses, min_size=1, max_size=3),
            ),
            max_size=3,
            unique_by=lambda one: (one["segmentNs"], one["segmentId"]),
        )
    )
    asked: dict[str, Any] = {"segments": segments}
    if draw(st.booleans()) and segments:
        asked["segmentQualificationTime"] = draw(between("startTime", "endTime"))
    if draw(st.booleans()):
        asked["fromIngestTimestamp"] = draw(earlier).isoformat()
    if draw(st.booleans()):
        asked["emptyProfiles"] = draw(st.booleans())
    document: dict[str, Any] = {
        "fields": draw(fields),
        "filter": asked,
        "destination": {
            "datasetId": "d",
            "segmentPerBatch": draw(st.booleans()) and bool(segments),
            "format": draw(st.sampled_from(FileFormat)),
        },
    }
    if draw(st.booleans()):
        policy = draw(st.sampled_from(POLICIES))
        version = {"version": policy.version} if draw(st.booleans()) else {}
        document["mergePolicy"] = {"id": policy.id} | version
    if draw(st.booleans()):
        times = draw(between("fromIngestTimestamp", "toIngestTimestamp"))
        document["additionalFields"] = {
            "eventList": {"fields": draw(event_fields), "filter": times}
        }
    if draw(st.booleans()):
        document["evaluationInfo"] = {"segmentation": True}
    if draw(st.booleans()):
        document["journey"] = {
            "versionId": "v1",
            "namespace": draw(st.just(NAMESPACES[0]) | st.sampled_from([*NAMESPACES, "of nobody"])),
            "testMode": draw(st.booleans()),
        }
    return parse_request(document)


def request_of(
    segments: Sequence[Mapping[str, Any]] = (), asked: str = "", **more: Any
) -> ExportRequest:
    document = {"fields": asked, "destination": {"datasetId": "d"}, "filter": {}} | more
    document["filter"] = {"segments": list(segments)} | document["filter"]
    return parse_request(document)


def write_instances(file: Path, keys: Collection[str]) -> Path:
    """A file of the keys that are in a journey."""
    with duckdb.connect() as database:
        database.execute("CREATE TABLE keys (key VARCHAR)")
        for key in keys:
            database.execute("INSERT INTO keys VALUES (?)", [key])
        database.execute(f"COPY keys TO {file_to_write(file)} (FORMAT parquet)")
    return file


EVERYBODY_WITH_ALL = request_of(
    asked=",".join([*(attribute.path for attribute in ATTRIBUTES), "identityMap", "identities"]),
    mergePolicy={"id": TIMESTAMP_ORDERED.id},
    additionalFields={
        "eventList": {"fields": ",".join(attribute.path for attribute in EVENT_ATTRIBUTES)}
    },
    journey={"versionId": "v1", "namespace": NAMESPACES[0]},
)
BATCHES_OF_LINES = request_of(
    [segment_of(name, ["realized", "existing"]) for name in SEGMENTS],
    "person,loyalty,segmentMembership",
    mergePolicy={"id": "in-order", "version": 1},
    destination={"datasetId": "d", "segmentPerBatch": True, "format": "ndjson.gz"},
    journey={"versionId": "v1", "namespace": NAMESPACES[2]},
    filter={"emptyProfiles": True},
)


def test_an_engine_exports_what_the_plain_export_does(engine: Engine, engine_name: str) -> None:
    @settings(max_examples=examples(EXAMPLES[engine_name]), deadline=None)
    @given(
        number=st.integers(0, 2**32),
        size=st.integers(0, MOST_PEOPLE),
        request=requests(),
        live=st.none() | st.sets(st.sampled_from([*KEYS, "it's"])),
        cut=st.sampled_from([(1, 1), (2, 2), (3, 1), (3, 2), (5, 3)]),
    )
    @example(number=0, size=0, request=request_of(), live=None, cut=(2, 2))
    @example(number=1, size=MOST_PEOPLE, request=EVERYBODY_WITH_ALL, live=None, cut=(3, 2))
    @example(number=2, size=MOST_PEOPLE, request=BATCHES_OF_LINES, live={"x"}, cut=(2, 2))
    def holds(
        *,
        number: int,
        size: int,
        request: ExportRequest,
        live: Collection[str] | None,
        cut: tuple[int, int],
    ) -> None:
        people, (buckets, pieces) = some_people(number, size), cut
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            snapshot = write_snapshot(
                folder, people, buckets=buckets, segments=SEGMENTS, evaluated_for=1
            )
            expected = plain_export(request, people, resolve_policy(request, CATALOGUE), live or ())
            instances = None if live is None else write_instances(folder / "live", live)
            found = export(engine, request, snapshot, folder, pieces=pieces, instances=instances)
        for ours, theirs in zip(found.batches, expected.batches, strict=True):
            assert comparable(ours.profiles) == comparable(theirs.profiles)
            assert dict(ours.namespaces) == dict(theirs.namespaces)
        in_order = sorted(expected.discards, key=lambda discard: (discard[2] % buckets, discard[2]))
        assert list(found.discards) == in_order
        assert len(set(found.discards)) == len(found.discards)
        exported = sum(len(batch.profiles) for batch in found.batches)
        assert exported + len(found.discards) <= upper_bound(request, snapshot)

    holds()


HOSTILE = Attribute("it's {odd}.\"; --.$1 ?", "VARCHAR")


def test_names_are_data_and_never_part_of_a_query(engine: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "it's [o]dd *?"
    folder.mkdir()
    people = [
        Person(1, [{HOSTILE.path: "x'\";"}], {NAMESPACES[2]: [Identity("'\"")]}, memberships=IN_ODD)
    ]
    snapshot = write_snapshot(folder, people, attributes=[*ATTRIBUTES, HOSTILE])
    request = request_of(
        [segment_of(SEGMENTS[1], ["realized"])],
        f"{HOSTILE.path},identities",
        journey={"versionId": "v", "namespace": NAMESPACES[2]},
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
    names = [name for name in own_names() if name not in JSON_LEAVES]
    assert {"code", "merged", "picked", "position", "standings", "winner"} < {*names}
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
    gold = segment_of(SEGMENTS[0], ["realized"])
    for wanted in ([], [gold]):
        request = request_of(
            wanted,
            ",".join([*names, "identityMap", "identities"]),
            journey={"versionId": "v", "namespace": "Email"},
        )
        found = export(engine, request, snapshot, folder)
        assert [{name: profile[name] for name in names} for profile in found.profiles] == [
            told,
            told,
        ]
        assert all(
            profile.keys() == {"person_id", *names, "identityMap", "identities"}
            for profile in found.profiles
        )
        assert [profile["identities"] for profile in found.profiles] == [
            [{"id": "1", "namespace": "Email"}],
            [{"id": "2", "namespace": "Email"}],
        ]


@pytest.mark.parametrize(
    ("policy", "tiers", "cities"),
    [
        ({"id": "timestampOrdered-none-mp"}, "bronze", ["Oslo", "Lyon"]),
        ({"id": "in-order", "version": 1}, "silver", ["Oslo", "Lyon"]),
        ({"id": "in-order", "version": 2}, "gold", ["Lyon", "Bern"]),
        ({"id": "no-order"}, "bronze", ["Oslo", "Lyon"]),
        ({"id": "none-none-mp"}, None, [None, "Lyon"]),
    ],
)
def test_a_merge_policy_decides_between_the_fragments_of_a_person(
    engine: Engine,
    tmp_path: Path,
    *,
    policy: dict[str, Any],
    tiers: str | None,
    cities: list[str | None],
) -> None:
    name, city = "person.name.firstName", "homeAddress.city"
    people = [
        Person(
            1,
            [
                Fragment({name: "gold", city: "Lyon"}, dataset="crm"),
                Fragment({name: "silver", city: "Oslo"}, dataset="web"),
                Fragment({name: "bronze"}, dataset=None),
                Fragment({city: None}, dataset="unnamed"),
            ],
            memberships=IN_ODD,
        ),
        Person(
            2,
            [Fragment({city: "Bern"}, dataset="crm"), Fragment({city: "Lyon"}, dataset="web")],
            memberships=IN_ODD,
        ),
    ]
    snapshot = write_snapshot(tmp_path, people)
    for wanted in ([], [segment_of(SEGMENTS[1], ["realized"])]):
        request = request_of(wanted, f"{name},{city}", mergePolicy=policy)
        first, second = sorted(
            export(engine, request, snapshot, tmp_path).profiles, key=itemgetter("person_id")
        )
        assert first["person"]["name"]["firstName"] == tiers
        assert [one["homeAddress"]["city"] for one in (first, second)] == cities


def test_windows_are_half_open_and_ingestion_is_strictly_later(
    engine: Engine, tmp_path: Path
) -> None:
    before, start, end = MOMENTS[0], MOMENTS[1], MOMENTS[2]
    people = [
        Person(
            number,
            [Fragment(ingested=moment)],
            events=[Event({"_id": f"{at:%H}"}, ingested=at) for at in (before, start, end)],
            memberships={SEGMENTS[0]: Standing("realized", moment)},
        )
        for number, moment in enumerate((before, start, end))
    ]
    snapshot = write_snapshot(tmp_path, people)

    def exported(filtered: dict[str, Any], events: dict[str, str]) -> dict[int, list[str]]:
        request = request_of(
            asked="identityMap",
            filter=filtered,
            additionalFields={"eventList": {"fields": "_id", "filter": events}},
        )
        found = export(engine, request, snapshot, tmp_path).profiles
        return {one["person_id"]: [event["_id"] for event in one["eventList"]] for one in found}

    window = {"startTime": start.isoformat(), "endTime": end.isoformat()}
    gold = {"segments": [segment_of(SEGMENTS[0], ["realized"])]}
    every = [f"{at:%H}" for at in (before, start, end)]
    assert exported(gold | {"segmentQualificationTime": window}, {}) == {1: every}
    assert exported({"fromIngestTimestamp": start.isoformat()}, {}) == {2: every[2:]}
    between = {"fromIngestTimestamp": before.isoformat(), "toIngestTimestamp": end.isoformat()}
    assert exported({}, between) == {0: every[1:2], 1: every[1:2], 2: every[1:2]}


def test_whoever_stands_in_several_segments_is_in_the_batch_of_each(
    engine: Engine, tmp_path: Path
) -> None:
    both = {SEGMENTS[0]: "realized", SEGMENTS[2]: "existing"}
    people = [
        Person(1, identities={"Email": [Identity("k")]}, memberships=both),
        Person(2, identities={"Email": [Identity("k")]}, memberships=both),
        Person(3, identities={"Email": [Identity("m")]}, memberships={SEGMENTS[2]: "realized"}),
    ]
    request = request_of(
        [segment_of(name, ["realized"]) for name in (SEGMENTS[2], SEGMENTS[1], SEGMENTS[0])],
        "identities.id",
        destination={"datasetId": "d", "segmentPerBatch": True},
        journey={"versionId": "v", "namespace": "Email"},
    )
    found = export(engine, request, write_snapshot(tmp_path, people, segments=SEGMENTS), tmp_path)
    ids = [sorted(one["person_id"] for one in batch.profiles) for batch in found.batches]
    assert ids == [[1, 3], [], [1]]
    assert [dict(batch.namespaces) for batch in found.batches] == [{"Email": 2}, {}, {"Email": 1}]
    twice = "ERROR_INSTANCE_DUPLICATION"
    assert found.discards == [(*SEGMENTS[2], 2, twice), (*SEGMENTS[0], 2, twice)]


def test_json_lines_say_what_json_can_say(engine: Engine, tmp_path: Path) -> None:
    fragment = Fragment({"loyalty.share": math.inf, "consents": {"email": [True]}})
    since = NOW.replace(tzinfo=None)
    people = [Person(2**63 - 1, [fragment], memberships={SEGMENTS[0]: Standing("exited")})]
    snapshot = write_snapshot(tmp_path, people)
    for kind in ("ndjson", "ndjson.gz"):
        destination = {"datasetId": "d", "format": kind}
        request = request_of(
            asked="loyalty.share,consents,segmentMembership", destination=destination
        )
        (profile,) = export(engine, request, snapshot, tmp_path, pieces=1).profiles
        standing = {"status": "exited", "lastQualificationTime": f"{since.isoformat()}.000000Z"}
        assert profile == {
            "person_id": "9223372036854775807",
            "consents": {"email": [True]},
            "loyalty": {"share": None},
            "segmentMembership": {"ups": {"gold": standing}},
        }


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
        [segment_of(SEGMENTS[1], ["realized"])],
        "identityMap",
        journey={"versionId": "v", "namespace": "Email"},
    )
    found = export(engine, request, write_snapshot(tmp_path, people), tmp_path)
    assert [(row[2], row[3]) for row in found.discards] == [
        (5, "ERROR_INSTANCE_DUPLICATION"),
        (7, "ERROR_INSTANCE_DUPLICATION"),
    ]


def test_the_first_piece_has_columns_even_for_nobody(engine: Engine, tmp_path: Path) -> None:
    snapshot = write_snapshot(tmp_path, [], segments=SEGMENTS)
    request = request_of([segment_of(SEGMENTS[0], ["exited"])], "person,identityMap")
    run = engine.begin(plan_export(request, snapshot, TIMESTAMP_ORDERED))
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
    run = engine.begin(plan_export(request_of(), crowd, TIMESTAMP_ORDERED))
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
    stopped = engine.begin(plan_export(request_of(), crowd, TIMESTAMP_ORDERED))
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


@pytest.mark.parametrize("empties", [False, True])
def test_persons_without_fragments_are_noticed(
    engine: Engine, tmp_path: Path, *, empties: bool
) -> None:
    people = [Person(2), Person(4, fragments=[], record=True), Person(6, fragments=[])]
    snapshot = write_snapshot(tmp_path, people)
    request = request_of(filter={"emptyProfiles": empties})
    given = f"give {1 + empties} profiles for {2 + empties} persons"
    with pytest.raises(ProfileStoreCorrupt, match=f"buckets 0 to 0 .* {given}"):
        export(engine, request, snapshot, tmp_path)


def test_a_folder_that_is_not_there_cannot_be_written(engine: Engine, tmp_path: Path) -> None:
    run = engine.begin(
        plan_export(request_of(), write_snapshot(tmp_path, [Person(2)]), TIMESTAMP_ORDERED)
    )
    with pytest.raises(DatasetError, match=r"gone.*permissions"):
        run.run_piece(0, data=[tmp_path / "gone" / "data"], discards=tmp_path / "discards")
    run.close()


def test_a_full_disk_is_a_fault_of_the_dataset(engine: Engine, tmp_path: Path) -> None:
    run = engine.begin(
        plan_export(request_of(), write_snapshot(tmp_path, [Person(2)]), TIMESTAMP_ORDERED)
    )
    with pytest.raises(DatasetError, match="free space"):
        run.run_piece(0, data=[Path("/dev/full")], discards=tmp_path / "discards")
    run.close()


# Endpoints of Pinpoint


@pytest.mark.parametrize("kind", list(FileFormat))
def test_endpoints_are_the_identities_that_a_channel_reaches(
    engine: Engine, tmp_path: Path, kind: FileFormat
) -> None:
    snapshot = write_snapshot(
        tmp_path / "profiles", REACHABLE, buckets=1, attributes=ENDPOINT_ATTRIBUTES
    )
    found, ids = read_endpoints(endpoint_file(engine, snapshot, tmp_path, kind))
    assert in_order(found) == in_order(endpoints_of(REACHABLE))
    assert len(set(ids)) == len(ids) == 12
    assert all(len(id_) == 32 and int(id_, 16) for id_ in ids)


def test_the_id_of_an_endpoint_does_not_depend_on_what_else_is_known(
    engine: Engine, tmp_path: Path
) -> None:
    ids = []
    for number, values in enumerate(({}, {"person.name.lastName": "new"})):
        person = Person(1, [values], {"Email": [Identity("one@example.com")]})
        snapshot = write_snapshot(tmp_path / str(number), [person], buckets=1)
        ids.append(read_endpoints(endpoint_file(engine, snapshot, tmp_path, FileFormat.PARQUET))[1])
    assert ids[0] == ids[1]


def test_a_consent_may_be_an_attribute_of_its_own(engine: Engine, tmp_path: Path) -> None:
    path = "consents.marketing.email.val"
    people = [
        Person(number, [{path: value}], {"Email": [Identity(f"{value}@example.com")]})
        for number, value in enumerate(("y", "n", "u", "dn"), start=1)
    ]
    snapshot = write_snapshot(
        tmp_path / "profiles", people, buckets=1, attributes=[Attribute(path, "VARCHAR")]
    )
    found, _ = read_endpoints(endpoint_file(engine, snapshot, tmp_path, FileFormat.PARQUET))
    assert [one["OptOut"] for one in in_order(found)] == ["NONE", "ALL", "NONE", "ALL"]


@pytest.mark.parametrize("kind", [FileFormat.PARQUET, FileFormat.NDJSON])
def test_endpoints_say_the_same_whatever_types_the_columns_have(
    engine: Engine, tmp_path: Path, kind: FileFormat
) -> None:
    """One odd value of somebody else's makes a column JSON."""
    attributes = [Attribute(one.path, "JSON") for one in ENDPOINT_ATTRIBUTES]
    people = [
        replace(
            person,
            fragments=[
                {path: one.values[path] for path in one.values if one.values[path] != math.inf}
                for one in person.known
            ],
        )
        for person in REACHABLE
    ]
    snapshot = write_snapshot(tmp_path / "profiles", people, buckets=1, attributes=attributes)
    written = write_endpoints(engine, snapshot, tmp_path, kind)
    found, _ = read_endpoints(written.lines)
    assert in_order(found) == in_order(endpoints_of(people))
    assert written.unknown_consents == 0


@pytest.mark.parametrize("kind", [FileFormat.PARQUET, FileFormat.NDJSON])
def test_a_consent_that_is_no_value_of_xdm_is_a_no_and_counted(
    engine: Engine, tmp_path: Path, kind: FileFormat
) -> None:
    none: Sequence[Any] = ("y", "dy", "p", "u", "LI", "CT", "CP", "VI", "PI", None, {})
    strings: Sequence[Any] = ("N", " n ", "Y", "yes", "", "null", "li")
    others: Sequence[Any] = (True, False, 1, 0.5, [], ["y"], {"y": 1})
    path = "consents.marketing.email.val"
    people = [
        Person(number, [{path: value}], {"Email": [Identity("one@example.com")]})
        for number, value in enumerate([*none, "n", "dn", *strings, *others], start=1)
    ]
    snapshot = write_snapshot(
        tmp_path / "profiles", people, buckets=1, attributes=[Attribute(path, "JSON")]
    )
    written = write_endpoints(engine, snapshot, tmp_path, kind)
    found, _ = read_endpoints(written.lines)
    refused = len(["n", "dn", *strings, *others])
    assert [one["OptOut"] for one in in_order(found)] == ["NONE"] * len(none) + ["ALL"] * refused
    assert written.unknown_consents == len(strings) + len(others)


@pytest.mark.parametrize(
    ("path", "kind", "value"),
    [
        ("consents", "VARCHAR", "none"),
        ("consents", "JSON", "none"),
        ("consents", "JSON", ["none"]),
        ("consents.marketing", "VARCHAR[]", ["email"]),
        ("consents.marketing", "JSON", {"any": "n"}),
        ("consents.marketing.email", "VARCHAR", "n"),
        ("consents.marketing.email", "JSON", False),
        ("consents.marketing.email.val", "BOOLEAN", False),
        ("consents.marketing.email.val", "VARCHAR[]", ["n"]),
        ("consents.marketing.email.val.value", "VARCHAR", "n"),
        ("xdm:consents", "JSON", {"xdm:marketing": {"xdm:any": {"xdm:val": "no"}}}),
        ("xdm:consents.xdm:marketing.xdm:email.xdm:val", "VARCHAR", "N"),
    ],
)
def test_what_stands_in_the_place_of_a_consent_is_a_no(
    engine: Engine, tmp_path: Path, path: str, kind: str, value: Any
) -> None:
    """Who says nothing has not refused, as ever."""
    people = [
        Person(number, [{path: said}], {"Email": [Identity("one@example.com")]})
        for number, said in enumerate((value, None), start=1)
    ]
    snapshot = write_snapshot(
        tmp_path / "profiles", people, buckets=1, attributes=[Attribute(path, kind)]
    )
    written = write_endpoints(engine, snapshot, tmp_path, FileFormat.PARQUET)
    found, _ = read_endpoints(written.lines)
    assert [one["OptOut"] for one in in_order(found)] == ["ALL", "NONE"]
    assert written.unknown_consents == 1


@pytest.mark.parametrize("kind", [FileFormat.PARQUET, FileFormat.NDJSON])
@pytest.mark.parametrize("policy", [TIMESTAMP_ORDERED, WEB_FIRST, UNMERGED])
def test_consents_in_one_json_column_are_merged_one_by_one(
    engine: Engine, tmp_path: Path, policy: PolicyDefinition, kind: FileFormat
) -> None:
    fragments: Sequence[tuple[str, Mapping[str, Any], str | None]] = [
        ("crm", {"marketing": {"email": {"val": "n"}, "sms": {"val": "y"}}}, "3011"),
        ("web", {"marketing": {"email": {"val": "y"}, "push": {"val": "n"}}}, "3012"),
        ("web", {"marketing": {"email": {"val": None}}, "collect": {"val": "y"}}, None),
    ]
    leaves = ("marketing.email.val", "marketing.push.val", "marketing.sms.val", "collect.val")
    reached = {name: [Identity(f"{name} of one")] for name in ("Email", "Phone", "APNS")}

    def found(folder: Path, person: Person, *types: Attribute) -> Sequence[Mapping[str, Any]]:
        folder.mkdir()
        odd = Person(2, [{one.path: "odd"} for one in types if one.type == "JSON"])
        snapshot = write_snapshot(folder / "profiles", [person, odd], buckets=1, attributes=types)
        written = write_endpoints(engine, snapshot, folder, kind, policy)
        endpoints = in_order(read_endpoints(written.lines)[0])
        return [{k: v for k, v in one.items() if k != "User"} for one in endpoints]

    whole = [
        Fragment({"consents": said, "homeAddress": {"postalCode": code}}, dataset)
        for dataset, said, code in fragments
    ]
    apart = [
        Fragment(
            {f"consents.{path}": _within(said, path) for path in leaves}
            | {"homeAddress.postalCode": code},
            dataset,
        )
        for dataset, said, code in fragments
    ]
    assert found(
        tmp_path / "whole",
        Person(1, whole, reached),
        Attribute("consents", "JSON"),
        Attribute("homeAddress", "JSON"),
    ) == found(
        tmp_path / "apart",
        Person(1, apart, reached),
        *(Attribute(f"consents.{path}", "VARCHAR") for path in sorted(leaves)),
        Attribute("homeAddress.postalCode", "VARCHAR"),
    )


def test_a_consent_that_was_loaded_in_uri_form_counts_until_there_is_a_later_one(
    engine: Engine, tmp_path: Path
) -> None:
    path = "consents.marketing.email.val"
    uri = "xdm:consents.xdm:marketing.xdm:email.xdm:val"
    said = [{uri: "n"}, {uri: "y"}, {uri: "n", path: "y"}, {uri: "y", path: "n"}]
    people = [
        Person(number, [one], {"Email": [Identity(f"{number}@example.com")]})
        for number, one in enumerate(said, start=1)
    ]
    attributes = [Attribute(path, "VARCHAR"), Attribute(uri, "VARCHAR")]
    snapshot = write_snapshot(tmp_path / "profiles", people, buckets=1, attributes=attributes)
    found, _ = read_endpoints(endpoint_file(engine, snapshot, tmp_path, FileFormat.PARQUET))
    assert [one["OptOut"] for one in in_order(found)] == ["ALL", "NONE", "NONE", "ALL"]


def test_the_writing_of_endpoints_is_interrupted_with_the_rest(
    engine: Engine, tmp_path: Path
) -> None:
    snapshot = write_snapshot(tmp_path / "profiles", REACHABLE)
    run = engine.begin(plan_export(pinpoint_request(), snapshot, TIMESTAMP_ORDERED))
    run.interrupt()
    with pytest.raises(ExportCancelled):
        run.write_endpoints(tmp_path / "data", tmp_path / "endpoints")
    run.close()


def test_profiles_that_no_channel_reaches_have_no_file(engine: Engine, tmp_path: Path) -> None:
    people = [Person(1, [{}]), Person(2, [{}], {"ECID": [Identity("4711")]})]
    snapshot = write_snapshot(tmp_path / "profiles", people, buckets=1)
    assert not endpoint_file(engine, snapshot, tmp_path, FileFormat.PARQUET)


def pinpoint_request(kind: FileFormat = FileFormat.PARQUET) -> ExportRequest:
    return parse_request(
        {
            "destination": {"datasetId": "d", "format": kind},
            "pinpoint": {
                "applicationId": APPLICATION,
                "roleArn": "arn:aws:iam::111122223333:role/export",
                "s3UrlPrefix": "s3://bucket/",
            },
        }
    )


@dataclass(frozen=True)
class Endpoints:
    """The gzipped lines that an engine has written, none without a file, and what it counts."""

    lines: bytes
    unknown_consents: int


def endpoint_file(engine: Engine, snapshot: Snapshot, folder: Path, kind: FileFormat) -> bytes:
    """The endpoints of everybody in the one bucket of a snapshot; nothing without a file."""
    return write_endpoints(engine, snapshot, folder, kind).lines


def write_endpoints(
    engine: Engine,
    snapshot: Snapshot,
    folder: Path,
    kind: FileFormat,
    policy: PolicyDefinition = TIMESTAMP_ORDERED,
) -> Endpoints:
    """The endpoints of everybody in the one bucket of a snapshot."""
    run = engine.begin(plan_export(pinpoint_request(kind), snapshot, policy))
    data, target = folder / f"data.{kind}", folder / "endpoints.json.gz"
    try:
        run.prepare()
        run.run_piece(0, data=[data], discards=folder / "discards")
        endpoints = run.write_endpoints(data, target)
    finally:
        run.close()
    written = endpoints.file
    assert (written is not None) == target.exists()
    if written is None:
        return Endpoints(b"", endpoints.unknown_consents)
    assert written.size == target.stat().st_size
    assert written.rows == gzip.decompress(target.read_bytes()).count(b"\n")
    return Endpoints(target.read_bytes(), endpoints.unknown_consents)


def _within(document: Mapping[str, Any], path: str) -> Any:
    value: Any = document
    for name in path.split("."):
        value = value.get(name) if value else None
    return value
