"""An export on Spark in a process of its own, with a driver that no other test uses.

Run as a program with three arguments: a folder for a small profile store and what is
exported, the URL of a master, and `lose` if the driver is to be killed after a first piece.
Prints one JSON object: `rows` of the last piece, `errors` met on the way, and the number of
`tasks` that each executor has run.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyspark.core.context import SparkContext

from segexport.errors import EngineError
from segexport.exports.engines.duckdb import DuckDBEngine
from segexport.exports.engines.spark import SparkEngine
from segexport.exports.plan import plan_export
from segexport.jobs.reading import parse_request
from segexport.profiles.catalogue import TIMESTAMP_ORDERED
from segexport.settings import SparkSettings
from support.people import Person, write_snapshot
from support.spark import QUICK

TESTS = Path(__file__).parents[1]
PEOPLE = 400


def export_on(folder: Path, master: str, *, lose: bool = False) -> Mapping[str, Any]:
    """Run the program, and return what it prints. A master's executors are on the loopback."""
    found = subprocess.run(
        [sys.executable, "-m", "support.spark_process", folder, master, "lose" if lose else ""],
        cwd=TESTS,
        env=os.environ | {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_LOCAL_HOSTNAME": "localhost"},
        stdout=subprocess.PIPE,
        timeout=150,
        check=True,
    )
    printed: Mapping[str, Any] = json.loads(found.stdout)
    return printed


def main(folder: Path, master: str, *, lose: bool) -> None:
    """Export four pieces, and print what they came to."""
    snapshot = write_snapshot(folder, [Person(number) for number in range(PEOPLE)], buckets=8)
    plan = plan_export(
        parse_request({"destination": {"datasetId": "d"}}), snapshot, TIMESTAMP_ORDERED, pieces=4
    )
    local = DuckDBEngine(spill=folder / "spill", threads=1, memory_limit="256MB")
    properties = {**QUICK, "spark.executor.memory": "512m"}
    engine = SparkEngine(SparkSettings(master=master, properties=properties), local=local)
    run = engine.begin(plan)
    errors, rows = [], 0

    def piece(index: int) -> int:
        result = run.run_piece(index, data=[folder / f"data-{index}"], discards=folder / "none")
        return sum(part.data.rows for part in result.parts if part.data)

    for index in range(plan.pieces):
        try:
            rows += piece(index)
        except EngineError as error:
            errors.append(str(error))
            rows += piece(index)
        if lose and index == 0:
            driver: Any = SparkContext._gateway
            os.kill(driver.proc.pid, signal.SIGKILL)
    executors = SparkContext.getOrCreate()._jsc.sc().statusStore().executorList(True)
    tasks = {
        executor.id(): executor.totalTasks()
        for executor in map(executors.apply, range(executors.size()))
    }
    run.close()
    engine.close()
    print(json.dumps({"rows": rows, "errors": errors, "tasks": tasks}))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], lose=sys.argv[3] == "lose")
