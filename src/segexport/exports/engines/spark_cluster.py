"""The process's connection to a Spark cluster, made when the first export needs it."""

import threading
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from py4j.protocol import Py4JError
from pyspark.core.context import SparkContext
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from segexport.errors import EngineError
from segexport.settings import SparkSettings

FOR_CONTEXT: Mapping[str, str] = MappingProxyType(
    {
        "spark.scheduler.mode": "FAIR",  # exports that run at once share the executors
        "spark.sql.catalogImplementation": "in-memory",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
    }
)
"""What a new connection has unless the settings say otherwise."""
FOR_QUERIES: Mapping[str, str] = MappingProxyType(
    {
        "spark.sql.ansi.enabled": "true",
        "spark.sql.caseSensitive": "true",
        "spark.sql.files.ignoreCorruptFiles": "false",
        "spark.sql.files.ignoreMissingFiles": "false",
        "spark.sql.legacy.parquet.nanosAsLong": "false",
        "spark.sql.parquet.inferTimestampNTZ.enabled": "true",
        "spark.sql.parser.escapedStringLiterals": "false",
        "spark.sql.session.timeZone": "UTC",
    }
)
"""What the queries mean rests on these: no setting changes them."""
FAULTS: Final = (PySparkException, Py4JError, OSError)
"""What a call of Spark raises; `OSError` if its driver, a process of its own, is gone."""


class SparkCluster:
    """Sessions on the cluster of the settings; safe to be used by several threads.

    A connection that the process has already is used, and left open at the end. `scratch`
    is a folder for what a local master cannot hold in memory.
    """

    def __init__(self, settings: SparkSettings, *, scratch: Path) -> None:
        self._settings = settings
        self._scratch = scratch
        self._lock = threading.Lock()
        self._spark: SparkSession | None = None
        self._own = False

    def session(self, options: Mapping[str, str]) -> SparkSession:
        """A session of its own: views and `options` of others are not seen in it.

        The first one takes some seconds. Raises `EngineError` if there is no cluster.
        """
        with self._lock:
            try:
                if self._spark is None or _is_stopped(self._spark):
                    self._spark = self._connect()
                session = self._spark.newSession()
                for name, value in (*options.items(), *FOR_QUERIES.items()):
                    session.conf.set(name, value)
            except FAULTS as error:
                self._forget()
                raise EngineError(
                    f"Spark at {self._settings.master} cannot be reached "
                    f"({first_line(error)}); check that it runs, that its version is PySpark's, "
                    "and that Java 17 or newer is installed here"
                ) from error
            return session

    def close(self) -> None:
        """Disconnect; what runs ends."""
        with self._lock:
            self._forget()

    def _connect(self) -> SparkSession:
        self._own = SparkContext._active_spark_context is None  # noqa: SLF001  (nothing else tells)
        builder = SparkSession.builder.master(self._settings.master).appName("segexport")
        options = dict(FOR_CONTEXT)
        if self._settings.master.startswith("local"):
            options["spark.driver.bindAddress"] = options["spark.driver.host"] = "127.0.0.1"
            options["spark.local.dir"] = str(self._scratch)
        for name, value in (options | dict(self._settings.properties)).items():
            builder = builder.config(name, value)
        return builder.getOrCreate()

    def _forget(self) -> None:
        spark, self._spark = self._spark, None
        if spark is None or not self._own:
            return
        try:
            spark.stop()
        except FAULTS:  # its driver is gone: the next connection starts another one
            SparkContext._active_spark_context = None  # noqa: SLF001
            SparkContext._gateway = SparkContext._jvm = None  # noqa: SLF001
            SparkSession._instantiatedSession = None  # noqa: SLF001


def first_line(error: BaseException) -> str:
    """What an error says, without the stack of Java that comes with it."""
    said = [line.strip() for line in str(error).splitlines() if line.strip()]
    caused = [line for line in said if line.startswith((": ", "Caused by: "))]
    return (caused or said or [type(error).__name__])[0].removeprefix(": ")


def _is_stopped(spark: SparkSession) -> bool:
    return bool(spark.sparkContext._jsc.sc().isStopped())  # noqa: SLF001  (PySpark does not tell)
