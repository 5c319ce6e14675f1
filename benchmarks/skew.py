"""Segments of very different sizes in one store, each against a copy of as many rows.

    python benchmarks/skew.py [--profiles 1000000] [--runs 5] [--folder DIR]

Beside the sample's own segments one has 60 % of all profiles, ten have ten members each,
scattered over the store, and ten are empty. For a small segment what counts is the median in
milliseconds: a job's fixed costs (its transitions, each forced to disk, and a dozen queries a
piece) are all of it, while the peer finds its few rows in one scan.
"""

from pathlib import Path
from typing import Final

import stores
from against_copy import against_copy
from command import run
from segexport.settings import Settings

ONE: Final = 2.0
TOGETHER: Final = 1.7
"""Aims, those of the exports: the most that one should take, in times of the copy."""


async def measure(folder: Path, profiles: int, runs: int) -> None:
    """Make the store, and print all comparisons."""
    sampled = stores.sample(Settings(data=folder / "sampled"), profiles)
    settings = Settings(data=folder / "skewed")
    _, segments = stores.skewed(sampled, settings)
    by_size = sorted(segments, key=lambda one: one.realized)
    async with against_copy(settings, runs=runs) as sides:
        await sides.one("60 % of all profiles", by_size[-1], at_most=ONE)
        await sides.one("ten members", by_size[-2], at_most=ONE)
        await sides.one("nobody", by_size[0], at_most=ONE)
        await sides.several(
            f"all {len(segments)} together, a batch each", segments, at_most=TOGETHER
        )


if __name__ == "__main__":
    run("skew", measure, __doc__, "duckdb")
