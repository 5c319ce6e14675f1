from hashlib import sha256
from pathlib import Path

import duckdb
import pytest

from segexport.errors import DiscardFileUnusable
from segexport.jobs.publication import DiscardFile
from segexport.store.discards import CHUNK, DiscardReader, DiscardRow, fingerprint

ROWS = 300_000  # three row groups as DuckDB writes them


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> DiscardFile:
    path = tmp_path_factory.mktemp("discards") / "discards.parquet"
    with duckdb.connect() as database:
        database.execute(
            "COPY (SELECT 'ups' AS segment_namespace, 'segment-' || (i % 3) AS segment,"
            " (i * 7919)::BIGINT AS person_id, 'ERROR_INSTANCE_BAD_NAMESPACE' AS code"
            f" FROM range({ROWS}) AS rows(i)) TO '{path}' (FORMAT parquet)"
        )
    return DiscardFile(path=str(path), sha256=fingerprint(path), rows=ROWS)


def expected(index: int) -> DiscardRow:
    return ("ups", f"segment-{index % 3}", index * 7919, "ERROR_INSTANCE_BAD_NAMESPACE")


def read_all(reader: DiscardReader, step: int) -> list[DiscardRow]:
    found: list[DiscardRow] = []
    while rows := reader.read(step):
        found.extend(rows)
    return found


@pytest.mark.parametrize("start", [0, 1, 122_880, 200_001, ROWS - 1, ROWS])
def test_reading_goes_on_at_any_row_in_the_order_of_the_file(file: DiscardFile, start: int) -> None:
    with DiscardReader(file, start) as reader:
        assert read_all(reader, 7_000) == [expected(index) for index in range(start, ROWS)]


def test_a_discard_without_a_segment_is_read_as_such(tmp_path: Path) -> None:
    path = tmp_path / "discards.parquet"
    with duckdb.connect() as database:
        database.execute(
            "COPY (SELECT NULL::VARCHAR AS segment_namespace, NULL::VARCHAR AS segment,"
            f" 5::BIGINT AS person_id, 'ERROR_INSTANCE_INTERNAL' AS code) TO '{path}'"
        )
    with DiscardReader(DiscardFile(path=str(path), sha256=fingerprint(path), rows=1)) as reader:
        assert reader.read(10) == [(None, None, 5, "ERROR_INSTANCE_INTERNAL")]


def test_a_missing_file_is_named_together_with_what_to_do(tmp_path: Path) -> None:
    gone = DiscardFile(path=str(tmp_path / "gone.parquet"), sha256="0" * 64, rows=1)
    with pytest.raises(DiscardFileUnusable, match=r"gone\.parquet cannot be read.*bring it back"):
        DiscardReader(gone)


def test_a_changed_file_is_refused_before_any_row_is_read(
    file: DiscardFile, tmp_path: Path
) -> None:
    changed = tmp_path / "changed.parquet"
    changed.write_bytes(Path(file.path).read_bytes() + b"\0")
    with pytest.raises(DiscardFileUnusable, match="has changed since its job was finished"):
        DiscardReader(DiscardFile(path=str(changed), sha256=file.sha256, rows=ROWS))


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "discards.parquet"
    path.write_text("not parquet")
    with pytest.raises(DiscardFileUnusable, match="not what segexport writes"):
        DiscardReader(DiscardFile(path=str(path), sha256=fingerprint(path), rows=1))


def test_a_file_with_another_number_of_rows_than_the_job_has_counted_is_refused(
    file: DiscardFile,
) -> None:
    with pytest.raises(DiscardFileUnusable, match=f"holds {ROWS} rows.*counted {ROWS + 1}"):
        DiscardReader(DiscardFile(path=file.path, sha256=file.sha256, rows=ROWS + 1))


def test_a_fingerprint_is_asked_between_chunks_whether_to_go_on(tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_bytes(bytes(range(256)) * (2 * CHUNK // 256) + b"more")
    asked: list[None] = []
    assert fingerprint(file, lambda: asked.append(None)) == sha256(file.read_bytes()).hexdigest()
    assert len(asked) == 4

    def enough() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fingerprint(file, enough)


@pytest.mark.parametrize("how", ["removed", "replaced", "overwritten"])
def test_a_file_that_changes_while_it_is_read_gives_no_more_rows(
    file: DiscardFile, tmp_path: Path, how: str
) -> None:
    path, other = tmp_path / "discards.parquet", tmp_path / "other.parquet"
    path.write_bytes(Path(file.path).read_bytes())
    other.write_bytes(path.read_bytes()[::-1])
    with DiscardReader(DiscardFile(path=str(path), sha256=file.sha256, rows=ROWS)) as reader:
        assert reader.read(2) == [expected(0), expected(1)]
        if how == "removed":
            path.unlink()
        elif how == "replaced":
            other.rename(path)
        else:
            path.write_bytes(other.read_bytes())
        with pytest.raises(DiscardFileUnusable, match="bring the original back and replay"):
            read_all(reader, 7_000)


def test_a_link_in_the_place_of_the_file_is_not_followed(file: DiscardFile, tmp_path: Path) -> None:
    linked = tmp_path / "1.parquet"
    linked.symlink_to(file.path)
    with pytest.raises(DiscardFileUnusable, match="is a symbolic link, and none is followed"):
        DiscardReader(DiscardFile(path=str(linked), sha256=file.sha256, rows=file.rows))
