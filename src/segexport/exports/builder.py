"""Builds the next snapshot of a profile store: the one writer of its layout.

Work happens in `<store>/.staging-<snapshot id>`, held by a lock on `<store>/.lock`. The
snapshot becomes visible by one rename, after all its files are on disk. Whatever a killed
build left behind is removed by the next one.
"""

import fcntl
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

import duckdb

from segexport.errors import ProfileStoreBusy, ProfileStoreError
from segexport.exports.profiles import (
    Attribute,
    ProfileStore,
    SegmentSize,
    Snapshot,
    next_snapshot_id,
    write_manifest,
)
from segexport.exports.sql import identifier, literal

FRAGMENTS_PER_BUCKET: Final = 131_072
"""What one bucket should hold: a piece of an export that fits well into memory."""
TEST_PROFILE: Final = "testProfile"
"""The attribute that tells whether a profile is a test profile."""
HASH_KEY: Final = "greatest(1, (md5_number_lower({key}) >> 1)::BIGINT)"
"""The SQL that makes a person id from a person key: 63 bits of its MD5."""

_STAGING: Final = ".staging-"


Progress = Callable[[str, int, int], None]
"""Hears which step a build is at, how much of it is done, and of how much."""


def silent(_step: str, _done: int, _total: int) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What DuckDB may use while it builds: threads and memory (in DuckDB's notation)."""

    threads: int
    memory_limit: str = "2GB"


def buckets_for(fragments: int) -> int:
    """The number of buckets, a power of two, for that many fragments."""
    wanted = -(-fragments // FRAGMENTS_PER_BUCKET)
    return 1 << max(0, wanted - 1).bit_length()


@dataclass
class Draft:
    """A snapshot that is being built; nobody else sees it before `publish`.

    `base` is the snapshot that it adds to, if any. `connection` is DuckDB with bounded
    memory that spills into the staging folder.
    """

    store: Path
    staging: Path
    id: str
    created_at: datetime
    base: Snapshot | None
    connection: duckdb.DuckDBPyConnection
    hash_key: str = HASH_KEY
    _persons: int = 0
    _fragments: int = 0
    _namespaces: set[str] = field(default_factory=set)
    _segments: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where the snapshot's files are written until they are published."""
        return self.staging / "snapshot"

    def person_id(self, key: str) -> str:
        """SQL for the person id of the person key that the SQL `key` gives."""
        return self.hash_key.format(key=key)

    def write_bucket(
        self,
        bucket: int,
        *,
        buckets: int,
        fragments: str,
        memberships: str,
        attributes: Sequence[Attribute],
        base_columns: Mapping[str, str],
    ) -> None:
        """Merge what is new in a bucket with what the base holds, and write its three files.

        `fragments` is a query that gives person_id, person_key, updated_at, position (order
        of loading), identities STRUCT(namespace, id, "primary")[] and a column per
        attribute; `memberships` one that gives person_id, namespace, segment, status,
        qualified_at, position. `base_columns` says for each attribute path how it is read
        from the base's fragments.

        Raises `ProfileStoreError` if two persons of the bucket share an id.
        """
        folder = self.folder / f"bucket={bucket:05d}"
        folder.mkdir(parents=True)
        run = self.connection.execute
        run(f"CREATE OR REPLACE TEMP TABLE incoming AS {fragments}")
        self._bind_base(bucket, buckets, attributes, base_columns)
        self._refuse_collisions()
        columns = "".join(f", {identifier(attribute.path)}" for attribute in attributes)
        run(f"""
            COPY (
              SELECT person_id,
                     row_number() OVER (ORDER BY updated_at, source, position) AS rank,
                     updated_at{columns}
              FROM (SELECT person_id, updated_at, 0 AS source, position{columns} FROM base_fragments
                    UNION ALL BY NAME
                    SELECT person_id, updated_at, 1 AS source, position{columns} FROM incoming)
              ORDER BY person_id, rank
            ) TO {literal(folder / "fragments.parquet")} (FORMAT parquet)""")
        test_profile = (
            f"coalesce(arg_max({identifier(TEST_PROFILE)}, rank), false)"
            if any(attribute.path == TEST_PROFILE for attribute in attributes)
            else "false"
        )
        run(f"""
            COPY (
              WITH identities AS (
                SELECT person_id, namespace, id, bool_or("primary") AS "primary"
                FROM (SELECT person_id, unnest(identities, recursive := true) FROM incoming
                      UNION ALL BY NAME
                      SELECT person_id, namespace, unnest(identities, recursive := true)
                      FROM (SELECT person_id, unnest(map_keys(identity_map)) AS namespace,
                                   unnest(map_values(identity_map)) AS identities
                            FROM base_persons))
                GROUP BY ALL
              ), by_namespace AS (
                SELECT person_id, namespace,
                       list(struct_pack(id := id, "primary" := "primary")
                            ORDER BY "primary" DESC, id) AS identities
                FROM identities GROUP BY ALL
              ), identity_maps AS (
                SELECT person_id, map(list(namespace ORDER BY namespace),
                                      list(identities ORDER BY namespace)) AS identity_map
                FROM by_namespace GROUP BY person_id
              ), keys AS (
                SELECT person_id, any_value(person_key) AS person_key
                FROM (SELECT person_id, person_key FROM incoming
                      UNION ALL SELECT person_id, person_key FROM base_persons)
                GROUP BY person_id
              ), merged AS (
                SELECT person_id, max(updated_at) AS updated_at, {test_profile} AS test_profile
                FROM read_parquet({literal(folder / "fragments.parquet")}) GROUP BY person_id
              )
              SELECT person_id, person_key, identity_map, test_profile, updated_at
              FROM merged JOIN keys USING (person_id) LEFT JOIN identity_maps USING (person_id)
              ORDER BY person_id
            ) TO {literal(folder / "persons.parquet")} (FORMAT parquet)""")
        run(f"""
            COPY (
              SELECT person_id, namespace, segment, status, qualified_at
              FROM (SELECT person_id, namespace, segment,
                           arg_max(status, (qualified_at, position)) AS status,
                           max(qualified_at) AS qualified_at
                    FROM ({memberships}
                          UNION ALL BY NAME SELECT * FROM base_memberships)
                    GROUP BY ALL)
              ORDER BY namespace, segment, person_id
            ) TO {literal(folder / "memberships.parquet")} (FORMAT parquet)""")
        self._count(folder)

    def publish(self, *, buckets: int, attributes: Sequence[Attribute]) -> Snapshot:
        """Make the snapshot visible: everything on disk first, then one rename."""
        snapshot = Snapshot(
            id=self.id,
            folder=self.folder,
            created_at=self.created_at,
            buckets=buckets,
            persons=self._persons,
            fragments=self._fragments,
            attributes=tuple(attributes),
            segments=tuple(
                SegmentSize(
                    namespace=namespace,
                    segment=segment,
                    realized=sizes["realized"],
                    existing=sizes["existing"],
                    exited=sizes["exited"],
                )
                for (namespace, segment), sizes in sorted(self._segments.items())
            ),
            namespaces=tuple(sorted(self._namespaces)),
        )
        manifest = write_manifest(snapshot)
        for file in (*snapshot.files(), manifest):
            _sync(file)
        for folder in {file.parent for file in snapshot.files()} | {self.folder}:
            _sync(folder)
        self.folder.rename(self.store / self.id)
        _sync(self.store)
        return ProfileStore(self.store).snapshot(self.id)

    def _bind_base(
        self,
        bucket: int,
        buckets: int,
        attributes: Sequence[Attribute],
        base_columns: Mapping[str, str],
    ) -> None:
        run = self.connection.execute
        if self.base is None:
            columns = "".join(
                f", NULL::{attribute.type} AS {identifier(attribute.path)}"
                for attribute in attributes
            )
            run(f"""CREATE OR REPLACE TEMP VIEW base_fragments AS
                SELECT 0::BIGINT AS person_id, NULL::TIMESTAMP AS updated_at,
                       0::BIGINT AS position{columns} WHERE false""")
            run("""CREATE OR REPLACE TEMP VIEW base_persons AS
                SELECT 0::BIGINT AS person_id, '' AS person_key,
                       NULL::MAP(VARCHAR, STRUCT(id VARCHAR, "primary" BOOLEAN)[]) AS identity_map
                WHERE false""")
            run("""CREATE OR REPLACE TEMP VIEW base_memberships AS
                SELECT 0::BIGINT AS person_id, '' AS namespace, '' AS segment, '' AS status,
                       NULL::TIMESTAMP AS qualified_at, 0::BIGINT AS position WHERE false""")
            return
        old, here = bucket % self.base.buckets, f"person_id % {buckets} = {bucket}"
        columns = "".join(
            f", {base_columns[attribute.path]} AS {identifier(attribute.path)}"
            for attribute in attributes
        )
        run(f"""CREATE OR REPLACE TEMP VIEW base_fragments AS
            SELECT person_id, updated_at, rank AS position{columns}
            FROM read_parquet({literal(self.base.fragments_file(old))}) WHERE {here}""")
        run(f"""CREATE OR REPLACE TEMP VIEW base_persons AS
            SELECT person_id, person_key, identity_map
            FROM read_parquet({literal(self.base.persons_file(old))}) WHERE {here}""")
        run(f"""CREATE OR REPLACE TEMP VIEW base_memberships AS
            SELECT *, -1::BIGINT AS position
            FROM read_parquet({literal(self.base.memberships_file(old))}) WHERE {here}""")

    def _refuse_collisions(self) -> None:
        shared = self.connection.execute("""
            SELECT person_id, min(person_key), max(person_key)
            FROM (SELECT person_id, person_key FROM incoming
                  UNION ALL SELECT person_id, person_key FROM base_persons)
            GROUP BY person_id HAVING min(person_key) <> max(person_key)
            ORDER BY person_id LIMIT 1""").fetchone()
        if shared is not None:
            raise ProfileStoreError(
                f"the persons {shared[1]!r} and {shared[2]!r} get the same person id {shared[0]}; "
                "nothing was written: give one of them another personID"
            )

    def _count(self, folder: Path) -> None:
        run = self.connection.execute
        persons, fragments = (
            run(f"SELECT count(*) FROM read_parquet({literal(folder / name)})").fetchall()[0][0]
            for name in ("persons.parquet", "fragments.parquet")
        )
        self._persons += persons
        self._fragments += fragments
        self._namespaces.update(
            namespace
            for (namespace,) in run(f"""
                SELECT DISTINCT unnest(map_keys(identity_map))
                FROM read_parquet({literal(folder / "persons.parquet")})""").fetchall()
        )
        for namespace, segment, status, size in run(f"""
                SELECT namespace, segment, status, count(*)
                FROM read_parquet({literal(folder / "memberships.parquet")})
                GROUP BY ALL""").fetchall():
            self._segments.setdefault((namespace, segment), Counter())[status] += size


@contextmanager
def draft(store: Path, *, now: datetime, engine: Engine, fresh: bool = False) -> Iterator[Draft]:
    """A draft of the store's next snapshot; alone, and gone afterwards unless published.

    `fresh` starts from nothing instead of the newest snapshot. `now` is UTC.

    Raises `ProfileStoreBusy` while another build runs, and `ProfileStoreCorrupt` if the
    snapshot to add to is damaged.
    """
    store.mkdir(parents=True, exist_ok=True)
    with ExitStack() as cleanup:
        cleanup.enter_context(_alone(store))
        for leftover in store.glob(f"{_STAGING}*"):
            shutil.rmtree(leftover)
        opened = ProfileStore(store)
        ids = opened.ids()
        base = opened.latest() if ids and not fresh else None
        snapshot_id = next_snapshot_id(ids, now)
        staging = store / f"{_STAGING}{snapshot_id}"
        (staging / "spill").mkdir(parents=True)
        cleanup.callback(shutil.rmtree, staging, ignore_errors=True)
        connection = cleanup.enter_context(_connect(staging / "spill", engine))
        yield Draft(store, staging, snapshot_id, now, base, connection)


def _connect(spill: Path, engine: Engine) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(
        config={
            "threads": engine.threads,
            "memory_limit": engine.memory_limit,
            "temp_directory": str(spill),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
    )
    connection.execute("SET TimeZone = 'UTC'")
    return connection


@contextmanager
def _alone(store: Path) -> Iterator[None]:
    """Hold the store's lock. The kernel frees it when the process ends, however it ends."""
    with (store / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ProfileStoreBusy(
                f"another load is writing to {store}; wait until it has ended, then load again"
            ) from error
        yield


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
