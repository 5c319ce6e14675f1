"""Which engine the exports of a worker run on."""

from segexport.errors import SettingsError
from segexport.exports.engine import Engine
from segexport.exports.engines.duckdb import DuckDBEngine
from segexport.settings import Settings


def engine_of(settings: Settings) -> Engine:
    """The engine that `exports.engine` names; Spark is imported only then.

    Raises `SettingsError` if that is Spark and PySpark is not installed, `OSError` if the
    folder of the data cannot be made.
    """
    exports = settings.exports
    if exports.engine == "spark":
        try:
            from segexport.exports.engines.spark import SparkEngine  # noqa: PLC0415  (an extra)
        except ModuleNotFoundError as error:
            raise SettingsError(
                "exports.engine is 'spark', but PySpark is not installed; install "
                "segexport[spark], or set exports.engine to 'duckdb'"
            ) from error
    local = DuckDBEngine(
        spill=settings.data / "spill",
        threads=exports.threads,
        memory_limit=exports.memory_limit,
    )
    return SparkEngine(exports.spark, local=local) if exports.engine == "spark" else local
