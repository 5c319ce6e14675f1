"""Loading fragments into the profile store against a plain rewrite of them as Parquet.

    python benchmarks/loading.py [--profiles 150000] [--runs 3] [--folder DIR]

Ours is what `segexport profiles load` does with files of NDJSON: it checks every record, finds
its person, derives the attributes and their types, splits by bucket, joins identities and
memberships, sorts, forces to disk and publishes a snapshot. DuckDB is told the columns and
their types, reads the same files and writes one Parquet file: it does nothing of that but
parse and write. Each side runs in a process of its own.
"""

import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import stores
from apart import apart
from command import run
from copier import copier
from measure import Case, aim, compare
from segexport.database import open_database
from segexport.exports.engines.dialect import DuckDBDialect
from segexport.exports.fields import Tree, tree
from segexport.profiles.builder import Resources
from segexport.profiles.loading import load
from segexport.profiles.snapshots import Attribute, Snapshot
from segexport.settings import Settings
from segexport.sql import file_to_write, ndjson, parquet

MEMORY: Final = 1.0
"""GB that the process of a load should take at most."""
OURS: Final = "segexport"
REWRITE: Final = "DuckDB rewrite"


@dataclass(frozen=True, slots=True)
class Files:
    """Files of NDJSON, a fragment a line, and the DuckDB type of each column."""

    paths: Sequence[Path]
    columns: Mapping[str, str]

    @property
    def size(self) -> int:
        """Bytes of all together."""
        return sum(path.stat().st_size for path in self.paths)


class Loader:
    """Loads the files into a store that is empty before."""

    def __init__(self, store: Path, files: Files, resources: Resources) -> None:
        self._store = store
        self._files = files
        self._resources = resources

    def load(self) -> int:
        """Load, and return the fragments accepted."""
        report = load(
            self._store, self._files.paths, now=datetime.now(UTC), resources=self._resources
        )
        if report.refused:
            raise RuntimeError(f"fragments were refused: {report.refused}")
        return report.fragments


@asynccontextmanager
async def loader(settings: Settings, store: Path, files: Files) -> AsyncIterator[Loader]:
    """Loads with what the settings allow."""
    exports = settings.exports
    resources = Resources(threads=exports.threads, memory_limit=exports.memory_limit)
    yield Loader(store, files, resources)


async def measure(folder: Path, profiles: int, runs: int) -> None:
    """Write the files, and print the comparison."""
    settings = Settings(data=folder)
    files = _write(stores.sample(settings, profiles), folder)
    store = folder / "loaded"
    async with (
        apart(loader, settings, store, files) as ours,
        apart(copier, settings, folder / "rewritten.parquet") as peer,
    ):
        comparison = await compare(
            f"loading {files.size / 1e6:,.0f} MB of NDJSON, an item is a fragment",
            {
                OURS: Case(partial(ours.run, "load"), after=partial(shutil.rmtree, store)),
                REWRITE: partial(peer.run, "copy", ndjson(files.paths, files.columns)),
            },
            runs=runs,
            baseline=REWRITE,
        )
    print(comparison)
    peak = comparison.sides[OURS].peak or 0
    print(aim(f"{OURS}'s peak of memory, in GB,", peak / 1e9, MEMORY))


def _write(snapshot: Snapshot, folder: Path) -> Files:
    """The fragments of a sample as NDJSON; the first of a person says who it is and where."""
    paths = []
    with open_database() as database:
        for bucket in range(snapshot.buckets):
            query = _fragments(snapshot, bucket)
            paths.append(folder / f"fragments-{bucket:05d}.ndjson")
            target = file_to_write(paths[-1])
            database.execute(f"COPY ({query}) TO {target} (FORMAT json, ARRAY false)")
        described = database.execute(f"DESCRIBE {query}").fetchall()
    return Files(paths, {name: str(kind) for name, kind, *_ in described})


def _fragments(snapshot: Snapshot, bucket: int) -> str:
    attributes = ", ".join(
        f"{_nested(node)} AS {DuckDBDialect().identifier(name)}"
        for name, node in tree(snapshot.attributes).items()
    )
    return f"""
        WITH by_namespace AS (
            SELECT person_id, namespace,
                   map_from_entries(list(struct_pack(key := segment, value := struct_pack(
                       status := status, "lastQualificationTime" := {_moment("qualified_at")}))))
                       AS standing
            FROM {parquet([snapshot.memberships_file(bucket)])} GROUP BY ALL
        ), standings AS (
            SELECT person_id,
                   map_from_entries(list(struct_pack(key := namespace, value := standing)))
                       AS memberships
            FROM by_namespace GROUP BY person_id
        )
        SELECT dataset_id || '-' || person_id AS "_id", person_key AS "personID",
               CASE WHEN dataset_id = 'crm' THEN identity_map END AS "identityMap",
               CASE WHEN dataset_id = 'crm' THEN memberships END AS "segmentMembership",
               {attributes},
               struct_pack("lastUpdatedDate" := {_moment("fragments.updated_at")})
                   AS "extSourceSystemAudit"
        FROM {parquet([snapshot.fragments_file(bucket)])} AS fragments
        JOIN {parquet([snapshot.persons_file(bucket)])} AS persons USING (person_id)
        LEFT JOIN standings USING (person_id)"""


def _nested(node: Attribute | Tree) -> str:
    if isinstance(node, Attribute):
        return DuckDBDialect().identifier(node.path)
    return DuckDBDialect().struct({name: _nested(below) for name, below in node.items()})


def _moment(value: str) -> str:
    return DuckDBDialect().rfc3339(value)


if __name__ == "__main__":
    run("loading", measure, __doc__, "duckdb", profiles=150_000, runs=3)
