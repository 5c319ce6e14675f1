"""Opening the SQLite store: new, older, newer and strange files."""

import asyncio
import io
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from alembic import command
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory

from segexport.errors import StoreError, StoreTooNew, StoreUnavailable
from segexport.events.outbox import OutboxRow
from segexport.events.versions import FIRST
from segexport.jobs.job import Transition
from segexport.store import migrations
from segexport.store import rows as columns
from segexport.store.migrations import HEAD, REVISIONS, upgrade
from segexport.store.sqlite import SqliteStore, file
from support.job_stories import SCOPE, naming, new_job, submitted

to_revision = command.upgrade


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.sqlite"


async def create(path: Path) -> None:
    store = await SqliteStore.open(path)
    await submitted(store, job_id=1)
    await store.close()


def execute(path: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement).fetchall()


async def test_a_new_file_keeps_its_identity(path: Path) -> None:
    store = await SqliteStore.open(path, new_id=lambda: UUID(int=7))
    await store.close()
    store = await SqliteStore.open(path)
    assert (store.identity.id, store.identity.generation) == (UUID(int=7), 1)
    await store.close()


async def test_all_connections_of_a_store_together_keep_32_mib_of_its_pages(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It opens up to four that read; how much each keeps is counted when it is opened."""
    kept: list[int] = []
    connect = file.connect

    def noted(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **options)
        (told,) = connection.execute("PRAGMA cache_size").fetchone()
        kept.append(-told * 1024)
        return connection

    await create(path)
    monkeypatch.setattr(file, "connect", noted)
    store = await SqliteStore.open(path)
    kept.clear()  # of one that is closed again
    await submitted(store, job_id=2)
    for _ in range(20):
        await asyncio.gather(*(store.jobs(SCOPE) for _ in range(16)))
    await store.close()
    writer, *readers = sorted(kept, reverse=True)
    assert readers
    assert writer + 4 * max(readers) <= 32 << 20


async def test_a_raised_generation_stays(path: Path) -> None:
    store = await SqliteStore.open(path)
    before = store.identity
    raised = await store.raise_generation()
    assert (raised.id, raised.generation) == (before.id, 2)
    assert store.identity == raised
    await store.close()
    store = await SqliteStore.open(path)
    assert store.identity == raised
    await store.close()


async def test_many_who_open_a_new_file_at_once_share_one_store(path: Path) -> None:
    stores = await asyncio.gather(*(SqliteStore.open(path) for _ in range(5)))
    assert len({store.identity for store in stores}) == 1
    for store in stores:
        await store.close()


@pytest.mark.parametrize("moment", range(1, 6))
async def test_a_store_that_another_process_creates_meanwhile_is_opened(
    path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """Before each statement up to the one that takes the lock."""
    other = UUID(int=7)
    connect = sqlite3.connect
    statements = 0

    class Overtaken(sqlite3.Connection):
        def execute(self, *statement: Any) -> sqlite3.Cursor:
            nonlocal statements
            statements += 1
            if statements == opening + moment:
                with monkeypatch.context() as undisturbed:
                    undisturbed.setattr(sqlite3, "connect", connect)
                    file.prepare(path, patience=timedelta(seconds=1), new_id=lambda: other)
            return super().execute(*statement)

    def connect_slowly(*arguments: Any, **options: Any) -> sqlite3.Connection:
        return connect(*arguments, factory=Overtaken, **options)

    opening = sys.maxsize
    monkeypatch.setattr(sqlite3, "connect", connect_slowly)
    file.connect(path, timedelta(seconds=1)).close()
    opening, statements = statements, 0
    store = await SqliteStore.open(path)
    assert statements >= opening + moment
    assert store.identity.id == other
    await store.close()


async def test_creating_goes_on_where_sqlite_does_not_wait_for_another_that_creates(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect
    refusals = 3

    class Refusing(sqlite3.Connection):
        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            nonlocal refusals
            if "journal_mode" in sql and refusals:
                refusals -= 1
                refusal = sqlite3.OperationalError("database is locked")
                refusal.sqlite_errorcode = sqlite3.SQLITE_BUSY
                raise refusal
            return super().execute(sql, *parameters)

    def connect_refusing(*arguments: Any, **options: Any) -> sqlite3.Connection:
        return connect(*arguments, factory=Refusing, **options)

    monkeypatch.setattr(sqlite3, "connect", connect_refusing)
    await create(path)
    assert refusals == 0


async def test_commits_are_durable_and_readers_do_not_block_the_writer(path: Path) -> None:
    await create(path)
    with closing(file.connect(path, timedelta(seconds=1))) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.execute("PRAGMA foreign_keys").fetchone() == (1,)


async def test_a_creation_that_fails_half_way_leaves_an_empty_file(path: Path) -> None:
    def no_id() -> UUID:
        raise RuntimeError("no randomness today")

    with pytest.raises(RuntimeError):
        await SqliteStore.open(path, new_id=no_id)
    assert execute(path, "SELECT name FROM sqlite_master") == []
    await create(path)


async def test_opening_a_current_file_needs_neither_alembic_nor_sqlalchemy(path: Path) -> None:
    await create(path)
    program = (
        "import asyncio, sys, pathlib\n"
        "from segexport.store.sqlite import SqliteStore\n"
        "async def main():\n"
        "    await (await SqliteStore.open(pathlib.Path(sys.argv[1]))).close()\n"
        "asyncio.run(main())\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, path], check=True, capture_output=True, text=True
    )
    loaded = set(done.stdout.split())
    assert "segexport" in loaded
    assert not loaded & {"alembic", "sqlalchemy"}


async def test_a_file_of_a_later_version_is_refused_and_left_alone(path: Path) -> None:
    await create(path)
    execute(path, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreTooNew, match=rf"version 9999.*up to {HEAD}.*later segexport"):
        await SqliteStore.open(path)
    assert execute(path, "SELECT version_num FROM alembic_version") == [("9999",)]


async def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_text("id,name\n1,somebody\n" * 100)
    with pytest.raises(StoreError, match=r"jobs\.sqlite is not a SQLite database"):
        await SqliteStore.open(path)
    assert path.read_text().startswith("id,name")


@pytest.mark.parametrize(
    "statement", ["CREATE TABLE notes (text)", "PRAGMA application_id = 252006673"]
)
async def test_a_database_of_another_program_is_refused_and_left_alone(
    path: Path, statement: str
) -> None:
    execute(path, statement)
    before = path.read_bytes()
    with pytest.raises(StoreError, match="not a store of segexport"):
        await SqliteStore.open(path)
    assert path.read_bytes() == before


async def test_a_sqlite_that_is_too_old_is_named(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    with pytest.raises(StoreError, match=r"needs 3\.35\.0 or newer"):
        await SqliteStore.open(path)


async def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"no folder .*nowhere; create it"):
        await SqliteStore.open(tmp_path / "nowhere" / "jobs.sqlite")


async def test_a_folder_in_place_of_the_file_is_unusable(path: Path) -> None:
    path.mkdir()
    with pytest.raises(StoreUnavailable, match=r"jobs\.sqlite cannot be used"):
        await SqliteStore.open(path)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder nobody can write to")
async def test_a_folder_that_cannot_be_written_to_is_unusable() -> None:
    with pytest.raises(StoreUnavailable, match=r"check that its folder exists, is writable"):
        await SqliteStore.open(Path("/proc/self/jobs.sqlite"))


def test_the_known_versions_are_those_of_the_scripts() -> None:
    scripts = ScriptDirectory.from_config(upgrade.alembic_config())
    revisions = [script.revision for script in scripts.walk_revisions()]
    assert tuple(reversed(revisions)) == REVISIONS
    assert scripts.get_current_head() == HEAD


def test_the_scripts_also_speak_postgresql() -> None:
    scripts = ScriptDirectory.from_config(upgrade.alembic_config())
    written = io.StringIO()
    context = MigrationContext.configure(
        dialect_name="postgresql", opts={"as_sql": True, "output_buffer": written}
    )
    with Operations.context(context):
        for revision in REVISIONS:
            script = scripts.get_revision(revision)
            assert script is not None
            script.module.upgrade()
    sql = written.getvalue()
    assert "number BIGINT" in sql
    assert "id BIGINT GENERATED ALWAYS AS IDENTITY" in sql
    assert "event_id UUID NOT NULL" in sql
    assert "WHERE finished_at IS NULL" in sql
    assert "WHERE finished_at IS NOT NULL" in sql
    assert "(organization, sandbox, number) WHERE discards IS NULL" in sql


class TestFilesOfVersion0002:
    """From before jobs were noted by their segments."""

    @pytest.fixture(autouse=True)
    def older(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file as that version left it, without jobs."""
        with monkeypatch.context() as then:
            then.setattr(file, "HEAD", "0002")
            then.setattr(command, "upgrade", lambda config, _: to_revision(config, "0002"))
            file.prepare(path, patience=timedelta(seconds=1), new_id=uuid4)
        assert execute(path, "SELECT version_num FROM alembic_version") == [("0002",)]

    def write(self, path: Path, *transitions: tuple[Transition, Sequence[OutboxRow]]) -> None:
        """Store new jobs in the words of that version."""
        with closing(sqlite3.connect(path)) as connection, connection:
            for transition, rows in transitions:
                job = transition.after
                values = columns.fixed_values(job) + columns.changing_values(job)
                insert(connection, "jobs", columns.FIXED_COLUMNS + columns.CHANGING_COLUMNS, values)
                for row in rows:
                    *names, last = columns.ROW_COLUMNS
                    assert last == "contract"  # which came later
                    insert(connection, "outbox", names, columns.event_values(row)[:-1])

    async def test_jobs_and_events_are_kept(self, path: Path) -> None:
        first, second = new_job(), new_job()
        self.write(path, first, second)
        store = await SqliteStore.open(path)
        for transition, rows in (first, second):
            job = transition.after
            assert await store.get(SCOPE, job.id) == job
            found = await store.rows_of_job(job.id, after=0, through=9)
            assert [numbered.row for numbered in found] == [
                replace(row, contract=FIRST.number) for row in rows
            ]
        assert len(await store.job_events(SCOPE, after=0, limit=9)) == 2
        await store.close()

    async def test_their_jobs_are_found_by_segment_beside_new_ones(self, path: Path) -> None:
        requests = (naming("gold", "silver"), naming(), naming("silver", ("aam", "gold")))
        self.write(path, *(new_job(request=request) for request in requests))
        self.write(path, *(new_job(request=naming("bronze")) for _ in range(2_500)))
        store = await SqliteStore.open(path)
        new = await submitted(store, request=naming("gold"))
        gold = await store.jobs(SCOPE, segment="gold")
        assert [job.request for job in gold] == [new.request, requests[2], requests[0]]
        assert len(await store.jobs(SCOPE, segment="silver")) == 2
        assert len(await store.jobs(SCOPE, segment="bronze", limit=9_999)) == 2_500
        await store.close()


def insert(
    connection: sqlite3.Connection, table: str, names: Sequence[str], values: Sequence[Any]
) -> None:
    marks = ", ".join("?" * len(names))
    connection.execute(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})", values)


class TestOlderFiles:
    """What the next version of segexport will do with files of this one."""

    @pytest.fixture(autouse=True)
    def next_version(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A segexport with one more script, which this folder may change."""
        folder = tmp_path / "migrations 100%"
        shutil.copytree(Path(migrations.__file__).parent, folder)
        script = folder / "versions" / "v0002_notes.py"
        script.write_text(
            "from alembic import op\n"
            "import sqlalchemy as sa\n"
            f"revision, down_revision = 'next', {HEAD!r}\n"
            "def upgrade():\n"
            "    op.add_column('jobs', sa.Column('note', sa.Text))\n"
            "    op.execute(\"UPDATE jobs SET note = 'upgraded'\")\n"
        )
        self._monkeypatch = monkeypatch
        self._folder = folder
        return script

    def install(self) -> None:
        self._monkeypatch.setattr(upgrade, "_FOLDER", self._folder)
        self._monkeypatch.setattr(file, "REVISIONS", (*REVISIONS, "next"))
        self._monkeypatch.setattr(file, "HEAD", "next")

    async def test_an_older_file_is_brought_up_to_date_with_what_it_holds(self, path: Path) -> None:
        store = await SqliteStore.open(path)
        job, identity = await submitted(store), store.identity
        await store.close()
        self.install()
        store = await SqliteStore.open(path)
        assert store.identity == identity
        assert await store.get(SCOPE, job.id) == job
        await store.close()
        assert execute(path, "SELECT note FROM jobs") == [("upgraded",)]
        assert execute(path, "SELECT version_num FROM alembic_version") == [("next",)]

    async def test_an_upgrade_that_fails_half_way_leaves_the_file_as_it_was(
        self, path: Path, next_version: Path
    ) -> None:
        await create(path)
        next_version.write_text(
            next_version.read_text() + "    op.execute('INSERT INTO nowhere VALUES (1)')\n"
        )
        self.install()
        with pytest.raises(StoreError, match="no such table: nowhere"):
            await SqliteStore.open(path)
        columns = [column for _, column, *_ in execute(path, "PRAGMA table_info(jobs)")]
        assert "note" not in columns
        assert execute(path, "SELECT version_num FROM alembic_version") == [(HEAD,)]

    async def test_an_upgrade_that_breaks_references_is_given_up(
        self, path: Path, next_version: Path
    ) -> None:
        await create(path)
        next_version.write_text(next_version.read_text() + "    op.execute('DELETE FROM jobs')\n")
        self.install()
        with pytest.raises(StoreError, match="would refer to nothing in 'jobs'"):
            await SqliteStore.open(path)
        assert execute(path, "SELECT count(*) FROM jobs") == [(1,)]
