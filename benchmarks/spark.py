"""A full export on Spark in the worker's own machine, against the same on DuckDB.

    python benchmarks/spark.py [--profiles 300000] [--runs 3] [--folder DIR]

What one machine shows is the price of a piece on Spark; what a cluster gains is not measured.
The peak of memory is that of the worker: Spark's driver and executor are a Java beside it.
"""

from functools import partial
from pathlib import Path
from typing import Final

import stores
from apart import apart
from command import run
from exporter import Wanted, exporter
from measure import compare
from segexport.settings import ExportSettings, Settings

DUCKDB: Final = "on DuckDB"
SPARK: Final = "on Spark, local[2]"


async def measure(folder: Path, profiles: int, runs: int) -> None:
    """Make the store, and print the comparison."""
    on_duckdb = Settings(data=folder / "duckdb", profiles=folder / "profiles")
    exports = ExportSettings.model_validate({"engine": "spark", "spark": {"master": "local[2]"}})
    on_spark = on_duckdb.model_copy(update={"data": folder / "spark", "exports": exports})
    stores.sample(on_duckdb, profiles)
    async with apart(exporter, on_duckdb) as one, apart(exporter, on_spark) as other:
        comparison = await compare(
            f"full export, {profiles:,} profiles",
            {
                DUCKDB: partial(one.run, "export", Wanted("full")),
                SPARK: partial(other.run, "export", Wanted("full")),
            },
            runs=runs,
            baseline=DUCKDB,
        )
    print(comparison)


if __name__ == "__main__":
    run("spark", measure, __doc__, "duckdb", "pyspark", profiles=300_000, runs=3)
