"""The engines that exports run on, for the tests of what they have in common."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segexport.exports.engine import Engine
from segexport.exports.engines.duckdb import DuckDBEngine
from segexport.exports.engines.spark import SparkEngine
from support.spark import ON_TWO_THREADS, require_spark


@contextmanager
def engine_called(name: str, spill: Path) -> Iterator[Engine]:
    """The engine `duckdb` or `spark`; the test is skipped, or fails, where it cannot run."""
    engine: Engine
    engine = local = DuckDBEngine(spill=spill, threads=2, memory_limit="512MB")
    if name == "spark":
        require_spark()
        engine = SparkEngine(ON_TWO_THREADS, local=local)
    yield engine
    engine.close()
