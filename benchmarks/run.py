"""`make bench`: the benchmarks, one after the other, or those that are named.

make bench
make bench ARGS="exports loading"
make bench ARGS=scale              # runs only when it is named
"""

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
USUAL = ("events", "store", "exports", "pieces", "skew", "spark", "loading", "relay")
LONG = ("scale",)


def main(names: list[str]) -> int:
    """Run each in a process of its own, so that none inherits another's memory."""
    known = USUAL + LONG
    unknown = set(names) - set(known)
    if unknown:
        print(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(known)}")
        return 2
    failed = [
        name
        for name in names or USUAL
        if subprocess.run([sys.executable, FOLDER / f"{name}.py"], check=False).returncode
    ]
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
