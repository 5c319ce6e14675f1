"""A Spark for tests: one session, in this machine's Java, for everybody."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from segexport.settings import SparkSettings
from support.must_run import missing

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

OLDEST = 17
"""The oldest Java that PySpark 4 runs on."""
_OPTIONS = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
QUICK: Mapping[str, str] = {
    "spark.driver.extraJavaOptions": _OPTIONS,
    "spark.executor.extraJavaOptions": _OPTIONS,
}
"""Each query is compiled for a few rows: the tests are over before a better compiler pays."""
ON_TWO_THREADS = SparkSettings(master="local[2]", properties=QUICK)
"""Settings of an engine in this machine's Java."""


def why_not() -> str | None:
    """Why Spark cannot run here, if it cannot."""
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if java is None:
        return f"Spark needs Java {OLDEST} or newer, and there is none; set JAVA_HOME"
    asked = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    version = re.search(r'version "(\d+)', asked.stderr)
    if version is None:
        return f"Spark needs Java {OLDEST} or newer, and {java} does not tell its version"
    if int(version[1]) < OLDEST:
        return f"Spark needs Java {OLDEST} or newer, and {java} is Java {version[1]}"
    return None


def require_spark() -> None:
    """Skip, or fail where everything has to run, if Spark cannot."""
    reason = why_not()
    if reason:
        missing(reason)


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator["SparkSession"]:
    """One Spark for the whole session, on two threads. Leave its settings as they are."""
    require_spark()
    from pyspark.sql import SparkSession  # noqa: PLC0415  (most test runs do without)

    folder = tmp_path_factory.mktemp("spark")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        session = (
            SparkSession.builder.master("local[2]")
            .appName("segexport-tests")
            .config("spark.ui.enabled", "false")
            .config("spark.driver.host", "127.0.0.1")
            .config("spark.driver.bindAddress", "127.0.0.1")
            .config("spark.driver.memory", "768m")
            .config(map={**QUICK})
            .config("spark.local.dir", str(folder / "local"))
            .config("spark.sql.warehouse.dir", str(folder / "warehouse"))
            .config("spark.sql.session.timeZone", "UTC")
            .config("spark.sql.shuffle.partitions", "2")
            .getOrCreate()
        )
        session.sparkContext.setLogLevel("ERROR")
        yield session
        session.stop()
