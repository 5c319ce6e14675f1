"""The HTTP interfaces of a workplace, on a free port of this machine, and clients of them."""

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import boto3
import httpx
import pytest
from botocore.config import Config
from starlette.types import ASGIApp

from segexport.http.app import Door, create_app
from segexport.http.health import Health
from segexport.http.keys import IssuedKey, KeyFile, MasterKey
from segexport.http.server import listening
from segexport.http.tail import Tail
from segexport.profiles.snapshots import ProfileStore
from segexport.relay.relay import RelayHealth
from segexport.settings import Settings
from segexport.supervision import Supervisor
from support.people import write_snapshot
from support.workplace import PEOPLE, Workplace

PLATFORM = "/data/core/ups"
JOBS = f"{PLATFORM}/export/jobs"
APPLICATION = "spring"
HEALTHY = RelayHealth(
    leads=True, error=None, error_code=None, delivered=0, waiting=0, parked=0, transactions=0
)
BODY: Mapping[str, Any] = {
    "filter": {"segments": [{"segmentId": "gold"}]},
    "destination": {"datasetId": "audience"},
    "schema": {"name": "_xdm.context.profile"},
}
"""A request that is in order: half of `PEOPLE`."""


@dataclass
class Interfaces:
    """What is served, at `address`."""

    address: str
    place: Workplace
    door: Door
    tail: Tail
    app: ASGIApp
    supervisor: Supervisor
    relay: RelayHealth = HEALTHY

    @property
    def port(self) -> int:
        """That of the address."""
        return int(self.address.rpartition(":")[2])

    def new_key(self, *sandboxes: str, organization: str = "acme") -> IssuedKey:
        """Another key, which is believed at once."""
        key = new_key(self.place.settings, *sandboxes, organization=organization)
        self.look_at_keys()
        return key

    def look_at_keys(self) -> None:
        """Have changed keys taken up now, and not a second later."""
        self.door.ring._looked_at = -math.inf

    async def token(self, key: IssuedKey) -> str:
        """A bearer token, got as clients get theirs."""
        form = {
            "grant_type": "client_credentials",
            "client_id": key.key.client_id,
            "client_secret": key.client_secret,
            "scope": "openid",
        }
        async with httpx.AsyncClient(base_url=self.address) as client:
            answer = await client.post("/ims/token/v3", data=form)
        return str(answer.raise_for_status().json()["access_token"])

    @asynccontextmanager
    async def client(
        self, key: IssuedKey | None = None, sandbox: str = "prod", **headers: str
    ) -> AsyncIterator[httpx.AsyncClient]:
        """A client of Experience Platform's interface; without a key one of `SCOPE`."""
        given = {"x-gw-ims-org-id": "acme", "x-sandbox-name": sandbox}
        if key is not None:
            given["x-gw-ims-org-id"] = key.key.organization
            given["x-api-key"] = key.key.client_id
            given["authorization"] = f"Bearer {await self.token(key)}"
        async with httpx.AsyncClient(
            base_url=self.address, headers={**given, **headers}, timeout=30
        ) as client:
            yield client

    def pinpoint(self, key: IssuedKey | None = None, *, attempts: int = 1, **options: Any) -> Any:
        """boto3's own client, which blocks."""
        given = {
            "endpoint_url": self.address,
            "region_name": "us-east-1",
            "aws_access_key_id": key.key.access_key_id if key else "any",
            "aws_secret_access_key": key.secret_access_key if key else "any",
            "config": Config(retries={"total_max_attempts": attempts}),
        }
        return boto3.client("pinpoint", **{**given, **options})


def new_key(settings: Settings, *sandboxes: str, organization: str = "acme") -> IssuedKey:
    """A key in the file of these settings."""
    return KeyFile(settings.keys_file).create(
        MasterKey.of(settings),
        "tests",
        organization=organization,
        sandboxes=sandboxes,
        now=datetime.now(UTC),
    )


@asynccontextmanager
async def serving(place: Workplace) -> AsyncIterator[Interfaces]:
    """The interfaces over a workplace, until the end of the block."""
    door = Door.of(place.settings)
    tail = Tail(place.store, door.cursors)

    async def relay() -> RelayHealth:
        await place.store.backlog()
        return interfaces.relay

    supervisor = Supervisor()
    health = Health(supervisor, place.store, ProfileStore(place.settings.profiles_folder), relay)
    app = create_app(place.settings, place.commands, door, tail, health)
    interfaces = Interfaces("", place, door, tail, app, supervisor)
    following = asyncio.create_task(tail.run())
    async with listening(app, place.settings.http) as interfaces.address:
        yield interfaces
        await tail.close()
    await following


def http_settings(**more: Any) -> dict[str, Any]:
    """Settings of the interfaces that fit tests: a free port, and no limit that they meet."""
    return {"port": 0, "rate": 10_000, "burst": 10_000, "grace": 1, **more}


def pinpoint_settings(*, organization: str = "acme", **destinations: str) -> dict[str, Any]:
    """An application of an organization that may export to these buckets."""
    prefixes = {f"s3://{bucket}/": where for bucket, where in destinations.items()}
    return {"applications": {APPLICATION: {"organization": organization, "destinations": prefixes}}}


class OpenPlace(Protocol):
    """Opens a workplace with `PEOPLE`; takes settings."""

    async def __call__(self, **others: Any) -> Workplace: ...


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A profile store with `PEOPLE`; read it, do not change it."""
    folder = tmp_path_factory.mktemp("people") / "profiles"
    write_snapshot(folder, PEOPLE, buckets=4)
    return folder


@pytest.fixture
async def open_place(tmp_path: Path, people: Path) -> AsyncIterator[OpenPlace]:
    """Workplaces in the test's folder, for the interfaces; closed at its end."""
    opened: list[Workplace] = []

    async def open_one(**others: Any) -> Workplace:
        settings = {
            "http": http_settings(),
            "profiles": people,
            "pinpoint": pinpoint_settings(exports=str(tmp_path / "exported")),
        }
        opened.append(await Workplace.open(tmp_path, {**settings, **others}))
        return opened[-1]

    yield open_one
    for place in opened:
        await place.store.close()


@pytest.fixture
async def open_house(open_place: OpenPlace) -> AsyncIterator[Interfaces]:
    """Interfaces without keys."""
    async with serving(await open_place()) as interfaces:
        yield interfaces


@pytest.fixture
async def house(open_place: OpenPlace) -> AsyncIterator[Interfaces]:
    """Interfaces that want keys: there is one, of another organization."""
    place = await open_place()
    new_key(place.settings, organization="elsewhere")
    async with serving(place) as interfaces:
        yield interfaces
