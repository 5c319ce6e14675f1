"""The process's connection to a Spark cluster, made when the first export needs it."""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from pathlib import Path
from types import MappingProxyType
from typing import Final

from py4j.protocol import Py4JError
from pyspark.core.context import SparkContext
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from segexport.errors import EngineUnreachable, ExportCancelled
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
        "spark.sql.files.maxRecordsPerFile": "0",
        "spark.sql.legacy.parquet.nanosAsLong": "false",
        "spark.sql.parquet.inferTimestampNTZ.enabled": "true",
        "spark.sql.parser.escapedStringLiterals": "false",
        "spark.sql.session.timeZone": "UTC",
    }
)
"""What the queries mean rests on these: no setting changes them."""
_ONE_CONTEXT: Final = threading.RLock()
"""Held while a context is made or stopped: a process can have one."""
BETWEEN_LOOKS: Final = 0.05
"""Seconds between two looks whether to go on waiting for a connection."""
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
        self._connection: _Connection | None = None

    def session(self, options: Mapping[str, str], is_stopped: Callable[[], bool]) -> SparkSession:
        """A session of its own: views and `options` of others are not seen in it.

        The first one takes some seconds. Raises `EngineUnreachable` if there is no cluster, and
        `ExportCancelled` if there is none yet and `is_stopped`.
        """
        connection = self._connected()
        try:
            return connection.session(options, is_stopped)
        except ExportCancelled:
            raise
        except Exception as error:  # also what nobody has foreseen: the next try connects anew
            with self._lock:
                if self._connection is connection:
                    self._connection = None
            connection.close()
            raise EngineUnreachable(
                f"Spark at {self._settings.master} cannot be reached ({first_line(error)}); "
                "check that it runs, that its version is PySpark's, and that Java 17 or newer "
                "is installed here"
            ) from error

    def close(self) -> None:
        """Disconnect; what runs ends."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _connected(self) -> "_Connection":
        with self._lock:
            if self._connection is None:
                self._connection = _Connection(self._settings, self._scratch)
            return self._connection


class _Connection:
    """A connection that is made in the background: a master that is away takes a minute to be
    given up, and whoever waits may be told to stop meanwhile.
    """

    def __init__(self, settings: SparkSettings, scratch: Path) -> None:
        self._settings = settings
        self._scratch = scratch
        self._own = True
        self._made: Future[SparkSession] = Future()
        threading.Thread(target=self._make, name="spark-connect", daemon=True).start()

    def session(self, options: Mapping[str, str], is_stopped: Callable[[], bool]) -> SparkSession:
        """A session of its own. Raises `ExportCancelled`, and whatever goes wrong."""
        while not self._made.done():
            if is_stopped():
                raise ExportCancelled("the export was told to stop")
            wait([self._made], timeout=BETWEEN_LOOKS)
        session = self._made.result().newSession()
        if session.sparkContext._jsc.sc().isStopped():  # noqa: SLF001  (PySpark does not tell)
            raise Py4JError("the connection was lost")
        for name, value in (*options.items(), *FOR_QUERIES.items()):
            session.conf.set(name, value)
        return session

    def close(self) -> None:
        """Let go, once it is made; a connection that others have made stays open."""
        self._made.add_done_callback(self._stop)

    def _make(self) -> None:
        with _ONE_CONTEXT:
            try:
                self._own = SparkContext._active_spark_context is None  # noqa: SLF001
                self._made.set_result(self._opened() if self._own else _existing())
            except Exception as error:  # noqa: BLE001  (whoever waits gets it, whatever it is)
                self._made.set_exception(error)

    def _stop(self, made: Future[SparkSession]) -> None:
        if made.exception() is not None or not self._own:
            return
        with _ONE_CONTEXT:
            try:
                made.result().stop()
            except FAULTS:  # the driver, a process of its own, is gone: the next starts another
                SparkContext._active_spark_context = None  # noqa: SLF001
                SparkContext._gateway = SparkContext._jvm = None  # noqa: SLF001
                SparkSession._instantiatedSession = None  # noqa: SLF001

    def _opened(self) -> SparkSession:
        builder = SparkSession.builder.master(self._settings.master).appName("segexport")
        options = dict(FOR_CONTEXT)
        if self._settings.master.startswith("local"):
            options["spark.driver.bindAddress"] = options["spark.driver.host"] = "127.0.0.1"
            if "," not in str(self._scratch):  # a list to Spark, which then takes its own default
                options["spark.local.dir"] = str(self._scratch.absolute())
        for name, value in (options | dict(self._settings.properties)).items():
            builder = builder.config(name, value)
        return builder.getOrCreate()


def _existing() -> SparkSession:
    return SparkSession(SparkContext.getOrCreate())


def first_line(error: BaseException) -> str:
    """What an error says, without the stack of Java that comes with it."""
    said = [line.strip() for line in str(error).splitlines() if line.strip()]
    caused = [line for line in said if line.startswith((": ", "Caused by: "))]
    return (caused or said or [type(error).__name__])[0].removeprefix(": ")
