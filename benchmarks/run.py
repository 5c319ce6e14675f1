"""`make bench`: the benchmarks, one after the other, or those that are named.

make bench
make bench ARGS="exports loading"
make bench ARGS=http               # calls, pages, memory and hostile
make bench ARGS=scale              # runs only when it is named, as compressions does
"""

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
USUAL = ("events", "store", "exports", "pieces", "skew", "spark", "loading", "relay", "calls")
LONG = ("compressions", "pages", "memory", "hostile", "scale")
GROUPS = {"http": ("calls", "pages", "memory", "hostile")}
"""What several are called together."""


def main(names: list[str]) -> int:
    """Run each in a process of its own, so that none inherits another's memory."""
    known = (*USUAL, *LONG, *GROUPS)
    unknown = set(names) - set(known)
    if unknown:
        print(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(known)}")
        return 2
    wanted = [each for name in names or USUAL for each in GROUPS.get(name, (name,))]
    failed = [
        name
        for name in wanted
        if subprocess.run([sys.executable, FOLDER / f"{name}.py"], check=False).returncode
    ]
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
