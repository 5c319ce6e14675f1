"""Apache Kafka's own programs, and the two ways to run them: a local Java, or Docker.

Both run the same main classes with the same arguments on the same files and ports (the
container shares the host's network), so a node or a tool does not know which it is.
"""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol
from uuid import uuid4
from xml.etree import ElementTree as ET

POM = Path(__file__).with_name("pom.xml")
MAVEN_PATIENCE = 600.0
"""Seconds for Maven to resolve everything the first time."""
TOOL_PATIENCE = 60.0

_JVM_OPTIONS = (
    "-Xms64m",
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",  # the tests are over before a better compiler pays
    "-Djava.net.preferIPv4Stack=true",
)


class KafkaMissing(Exception):
    """No Apache Kafka can be had this way; the text says why."""


class Running(Protocol):
    """A broker's process."""

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        ...

    def wait(self, patience: float) -> None:
        """Wait for its end. Raises TimeoutError."""
        ...

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        ...


class Distribution(Protocol):
    """Apache Kafka's programs."""

    def run(self, folder: Path, main: str, *arguments: str) -> str:
        """Run a main class to its end; its standard output. `folder` is what it may see."""
        ...

    def start(self, folder: Path, log: Path, main: str, *arguments: str) -> Running:
        """Start a main class; its output goes to `log`, somewhere in `folder`."""
        ...

    def close(self) -> None:
        """Let go of what starting needs; everything started has ended by then."""
        ...


def kafka_version() -> str:
    """The version that the tests run: the one in the pom."""
    found = ET.parse(POM).find(".//{*}kafka.version")
    assert found is not None
    assert found.text
    return found.text


class LocalJava:
    """Kafka's jars, resolved once by Maven, on the Java of this machine."""

    def __init__(self) -> None:
        for program in ("java", "mvn"):
            if shutil.which(program) is None:
                raise KafkaMissing(f"there is no `{program}` on the path")
        self._classpath = _classpath()
        self._reaper = _Reaper()

    def close(self) -> None:
        self._reaper.close()

    def run(self, folder: Path, main: str, *arguments: str) -> str:  # noqa: ARG002  (sees all folders)
        try:
            done = subprocess.run(
                self._command("off", main, arguments),
                capture_output=True,
                text=True,
                timeout=TOOL_PATIENCE,
                check=True,
            )
        except subprocess.CalledProcessError as error:
            error.add_note(f"{error.stdout}\n{error.stderr}")
            raise
        return done.stdout

    def start(self, folder: Path, log: Path, main: str, *arguments: str) -> Running:  # noqa: ARG002  (as above)
        with log.open("ab") as output:
            process = subprocess.Popen(
                self._command("warn", main, arguments),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C at the terminal is for pytest alone
            )
        self._reaper.watch(process.pid)
        return _JavaProcess(process, self._reaper)

    def _command(self, level: str, main: str, arguments: Sequence[str]) -> list[str]:
        quiet = f"-Dorg.slf4j.simpleLogger.defaultLogLevel={level}"
        return ["java", *_JVM_OPTIONS, quiet, "-cp", self._classpath, main, *arguments]


class _JavaProcess:
    def __init__(self, process: "subprocess.Popen[bytes]", reaper: "_Reaper") -> None:
        self._process = process
        self._reaper = reaper

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, patience: float) -> None:
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(str(error)) from error
        self._reaper.forget(self._process.pid)

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None


def _classpath() -> str:
    """All jars that the pom names, in Maven's own repository; asked of Maven only once."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "segexport-tests"
    cache.mkdir(parents=True, exist_ok=True)
    known = cache / f"kafka-{hashlib.sha256(POM.read_bytes()).hexdigest()[:16]}.classpath"
    if known.exists():
        jars = known.read_text().strip()
        if all(map(os.path.exists, jars.split(os.pathsep))):
            return jars
    fresh = known.with_suffix(f".{uuid4().hex}")
    command = ["mvn", "-q", "-B", "-ntp", "-f", str(POM), "dependency:build-classpath"]
    try:
        subprocess.run(
            [*command, f"-Dmdep.outputFile={fresh}"],
            capture_output=True,
            text=True,
            timeout=MAVEN_PATIENCE,
            check=True,
        )
    except subprocess.TimeoutExpired as error:
        raise KafkaMissing(f"Maven had not resolved it after {MAVEN_PATIENCE:.0f} s") from error
    except subprocess.CalledProcessError as error:
        said = [line for line in error.stdout.splitlines() if line.startswith("[ERROR]")]
        raise KafkaMissing(f"Maven cannot resolve it: {' '.join(said[:1])}") from error
    fresh.replace(known)
    return known.read_text().strip()


class _Reaper:
    """A process that outlives this one just long enough to kill what was left running."""

    _PROGRAM = """
import os, signal, sys
left = set()
for line in sys.stdin:
    {"+": left.add, "-": left.discard}[line[0]](int(line[1:]))
for pid in left:
    try: os.kill(pid, signal.SIGKILL)
    except ProcessLookupError: pass
"""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", self._PROGRAM],
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def watch(self, pid: int) -> None:
        self._say(f"+{pid}")

    def forget(self, pid: int) -> None:
        self._say(f"-{pid}")

    def close(self) -> None:
        self._process.communicate()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        print(line, file=self._process.stdin, flush=True)
