"""An S3 for tests: moto's server on the loopback interface, reached over HTTP."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pytest

from segexport.exports.dataset import Datasets
from segexport.settings import S3Settings

KEY, SECRET = "test-key", "test-secret"


class Server:
    """A server on a free port, which keeps its objects and its port while it is away."""

    def __init__(self) -> None:
        self._port = 0
        self.come_back()
        _, self._port = self._server.get_host_and_port()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def go_away(self) -> None:
        self._server.stop()

    def come_back(self) -> None:
        from moto.server import ThreadedMotoServer  # noqa: PLC0415  (most test runs do without)

        self._server = ThreadedMotoServer("127.0.0.1", self._port, verbose=False)
        self._server.start()


@dataclass(frozen=True)
class Bucket:
    """A bucket of one test."""

    server: Server
    name: str

    @property
    def root(self) -> str:
        """Where datasets go."""
        return f"s3://{self.name}/exports"

    @property
    def options(self) -> dict[str, Any]:
        """What s3fs, and pandas with it, needs to know."""
        return {"endpoint_url": self.server.endpoint, "key": KEY, "secret": SECRET}

    @property
    def settings(self) -> dict[str, Any]:
        """Settings for datasets here, for workers that do not try long to reach them."""
        once = {"config_kwargs": {"retries": {"max_attempts": 0}}}
        return {"datasets": self.root, "s3": S3Settings(**self.options, options=once)}

    @property
    def variables(self) -> dict[str, str]:
        """The same as environment variables."""
        s3 = {f"SEGEXPORT_S3__{name.upper()}": value for name, value in self.options.items()}
        return {"SEGEXPORT_DATASETS": self.root, **s3}

    @property
    def files(self) -> Any:
        """fsspec's view of it, without a memory."""
        return fsspec.filesystem("s3", **self.options, use_listings_cache=False)

    @property
    def keys(self) -> Sequence[str]:
        """All objects, below the root."""
        below = f"{self.name}/exports/"
        return [key.removeprefix(below) for key in sorted(self.files.find(self.name))]

    @property
    def unfinished_uploads(self) -> Sequence[Mapping[str, Any]]:
        found: Sequence[Mapping[str, Any]] = self.files.list_multipart_uploads(self.name)
        return found


@dataclass(frozen=True)
class Root:
    """Where the datasets of a test lie."""

    address: str
    bucket: Bucket | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """Settings for datasets here."""
        return self.bucket.settings if self.bucket else {"datasets": Path(self.address)}

    @property
    def variables(self) -> dict[str, str]:
        """The same as environment variables."""
        return self.bucket.variables if self.bucket else {"SEGEXPORT_DATASETS": self.address}

    @property
    def datasets(self) -> Datasets:
        return Datasets(self.address, **(self.bucket.options if self.bucket else {}))

    @property
    def moments(self) -> Mapping[str, Any]:
        """When each file here was made."""
        files: Any = self.bucket.files if self.bucket else fsspec.filesystem("file")
        return {key: files.modified(key) for key in files.find(self.address)}

    @property
    def content(self) -> bytes:
        """All that lies here, one file after the other."""
        files: Any = self.bucket.files if self.bucket else fsspec.filesystem("file")
        return b"".join(files.cat_file(key) for key in files.find(self.address))


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Server]:
    """One server for the session; do not stop it."""
    os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")  # nobody is asked for a login
    server = Server()
    yield server
    server.go_away()


def new_bucket(server: Server) -> Bucket:
    """An empty bucket."""
    bucket = Bucket(server, f"test-{uuid4().hex[:12]}")
    bucket.files.mkdir(bucket.name)
    return bucket


@pytest.fixture
def bucket(s3_server: Server) -> Bucket:
    """An empty bucket for one test."""
    return new_bucket(s3_server)


@pytest.fixture
def mortal_bucket() -> Iterator[Bucket]:
    """An empty bucket on a server of its own, which may go away."""
    server = Server()
    yield new_bucket(server)
    server.go_away()


@pytest.fixture(params=["folder", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Root:
    """A place for datasets, one test with each kind."""
    if request.param == "folder":
        return Root(str(tmp_path / "datasets"))
    bucket: Bucket = request.getfixturevalue("bucket")
    return Root(bucket.root, bucket)
