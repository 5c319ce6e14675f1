"""A load that is killed leaves the old snapshot or the new one whole, and nothing in the way."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from segexport.profiles.snapshots import ProfileStore
from support import load_process
from support.fragments import contents, expected, fragment, load_records, snapshot_of, write_lines

pytestmark = pytest.mark.crash

TESTS = Path(load_process.__file__).parents[1]
BEFORE = [fragment(f"p{number}", "2026-01-01T00:00:00Z", n=number) for number in range(60)]
NEW = [fragment(f"p{number}", "2026-01-02T00:00:00Z", n=-number) for number in range(40, 100)]


@pytest.mark.parametrize(
    "point", ["reading", "merging 0", "merging 1", "merging 3", "renaming", "renamed"]
)
def test_the_newest_snapshot_is_whole_and_the_next_load_goes_through(
    point: str, tmp_path: Path
) -> None:
    store = tmp_path / "profiles"
    load_records(store, BEFORE)
    file = write_lines(tmp_path / "new.ndjson", NEW)
    killed = subprocess.run(
        [sys.executable, "-m", "support.load_process", store, file, point],
        cwd=TESTS,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL

    there = BEFORE + NEW if point == "renamed" else BEFORE
    newest = ProfileStore(store).latest()
    assert contents(newest) == expected(there, newest)
    assert list(store.glob(".staging-*"))

    after = snapshot_of(load_records(store, NEW))
    assert contents(after) == expected(there + NEW, after)
    assert not list(store.glob(".staging-*"))
