"""The folder for what does not fit into memory: one per process, gone with it."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from segexport.exports.engines.spill import SpillFolder

HOLD = """
import sys
from pathlib import Path
from segexport.exports.engines.spill import SpillFolder
folder = SpillFolder(Path(sys.argv[1]))
(folder.path / "spilled").write_text("much")
print(folder.path, flush=True)
sys.stdin.read()
"""


def test_a_killed_processs_folder_is_removed_and_a_living_ones_is_not(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    folders = []
    for process in processes:
        assert process.stdout is not None
        folders.append(Path(process.stdout.readline().strip()))
    dead, alive = processes
    dead.kill()
    dead.wait()
    mine = SpillFolder(tmp_path)
    assert not folders[0].exists()
    assert (folders[1] / "spilled").exists()
    mine.remove()
    assert not mine.path.exists()
    alive.communicate("")
    dead.communicate()


def test_processes_that_start_together_leave_each_others_folders_alone(tmp_path: Path) -> None:
    together = threading.Barrier(8)

    def start(_: int) -> SpillFolder:
        together.wait()
        return SpillFolder(tmp_path)

    with ThreadPoolExecutor(8) as starters:
        for _ in range(25):
            folders = list(starters.map(start, range(8)))
            assert all((folder.path / "lock").exists() for folder in folders)
            SpillFolder(tmp_path).remove()  # that they are locked, too
            assert all((folder.path / "lock").exists() for folder in folders)
            for folder in folders:
                folder.remove()
