"""Taking persons out of discard files."""

from pathlib import Path

import duckdb
import pytest

from segexport.errors import DiscardFileUnusable
from segexport.exports.redaction import redacted, rows_of
from segexport.jobs.publication import DiscardFile
from segexport.store.discards import DiscardReader, fingerprint

ROWS = 250_000  # three row groups


@pytest.fixture
def file(tmp_path: Path) -> DiscardFile:
    path = tmp_path / "77.parquet"
    with duckdb.connect() as database:
        database.execute(
            "COPY (SELECT 'ups' AS segment_namespace, 'gold' AS segment, "
            f"({1 << 40} + i % 200000)::BIGINT AS person_id, 'ERROR_' || i AS code "
            f"FROM range({ROWS}) AS rows(i)) TO '{path}' (FORMAT parquet)"
        )
    return DiscardFile(path=str(path), sha256=fingerprint(path), rows=ROWS)


def read(file: DiscardFile) -> list[tuple[str | None, str | None, int, str]]:
    with DiscardReader(file) as reader:
        return list(reader.read(ROWS + 1))


def test_only_the_ids_of_the_persons_go_and_each_row_keeps_its_place(file: DiscardFile) -> None:
    gone = {(1 << 40) + 5, (1 << 40) + 199_999}
    before = read(file)
    assert rows_of(file, gone) == 3
    after = redacted(file, gone)
    assert (after.path, after.rows) == (str(Path(file.path).with_name("77.1.parquet")), ROWS)
    assert read(after) == [
        (namespace, segment, place + 1 if person in gone else person, code)
        for place, (namespace, segment, person, code) in enumerate(before)
    ]
    assert rows_of(after, gone) == 0
    assert read(file) == before
    assert redacted(after, {(1 << 40) + 6}).path.endswith("77.2.parquet")


def test_a_file_that_is_not_there_is_named_with_what_to_do(tmp_path: Path) -> None:
    gone = DiscardFile(path=str(tmp_path / "78.parquet"), sha256="0" * 64, rows=1)
    with pytest.raises(DiscardFileUnusable, match=r"78\.parquet.*bring the file back"):
        rows_of(gone, {1})
    with pytest.raises(DiscardFileUnusable, match="bring the file back"):
        redacted(gone, {1})
