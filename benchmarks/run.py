"""`make bench`: all benchmarks, one after the other, or those that are named.

make bench
make bench ARGS="store relay"
"""

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
ALL = ("events", "store", "exports", "relay")


def main(names: list[str]) -> int:
    """Run each in a process of its own, so that none inherits another's memory."""
    unknown = set(names) - set(ALL)
    if unknown:
        print(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(ALL)}")
        return 2
    failed = [
        name
        for name in names or ALL
        if subprocess.run([sys.executable, FOLDER / f"{name}.py"], check=False).returncode
    ]
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
