"""Which parts run in this process, and how they are put together from the settings."""

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from segexport.commands import Checked, Commands
from segexport.errors import (
    BrokerUnreachable,
    ClientFailed,
    DeliveryError,
    NotAuthorized,
    SettingRefused,
    StoreUnavailable,
    TopicUnusable,
)
from segexport.events.announcement import Voice
from segexport.events.record import store_source
from segexport.exports.dataset import Datasets, schema_problems
from segexport.exports.interruption import within
from segexport.exports.outlets import Outlets
from segexport.exports.plan import check_request, resolve_policy
from segexport.exports.worker import worker_of
from segexport.jobs.job import Scope
from segexport.jobs.request import ExportRequest
from segexport.kafka import ensure_topics
from segexport.modes import close_to_others, make_shared
from segexport.profiles.snapshots import ProfileStore
from segexport.race import race
from segexport.relay.embedded import EmbeddedBroker
from segexport.relay.idempotent import EmbeddedPublishers
from segexport.relay.publisher import Publisher
from segexport.relay.relay import Relay
from segexport.relay.transactional import TransactionalPublisher
from segexport.settings import KafkaSettings, Settings
from segexport.store.sqlite import SqliteStore
from segexport.supervision import Supervisor

PATIENCE: Final = 5.0
"""Seconds that an object store has to answer whoever waits for a request to be accepted."""

FOR_A_PERSON: Final = (NotAuthorized, TopicUnusable, SettingRefused)
"""What ends the service at its start, when somebody is there to mend it; later it is waited for."""

log: Final = structlog.stdlib.get_logger(__name__)


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[SqliteStore]:
    """The job store of the settings, closed at the end. Its folder is made if need be."""
    try:
        make_shared(settings.data)
    except OSError as error:
        raise StoreUnavailable(
            f"the folder {settings.data} cannot be made: {error.strerror}; set `data` to one "
            "that can (SEGEXPORT_DATA)"
        ) from error
    store = await SqliteStore.open(settings.store_file)
    try:
        yield store
    finally:
        await store.close()


def voice_of(settings: Settings, store: SqliteStore) -> Voice:
    """How the events of this store are spoken."""
    identity = store.identity
    return Voice.of(
        identity.id,
        identity.generation,
        dialect=settings.events.dialect,
        form=settings.events.form,
    )


def commands_of(settings: Settings, store: SqliteStore) -> Commands:
    """The commands over an open store."""
    return Commands(
        store=store,
        voice=voice_of(settings, store),
        check=partial(
            check,
            ProfileStore(settings.profiles_folder),
            Datasets.of(settings),
            Outlets.of(settings),
        ),
        deadline=settings.exports.deadline,
    )


def check(
    profiles: ProfileStore,
    datasets: Datasets,
    outlets: Outlets,
    scope: Scope,
    request: ExportRequest,
) -> Checked:
    """Hold a request against the newest snapshot, what is defined, and where it is to go.

    Reads files, and with datasets on an object store asks it for one: not for the event loop.
    Raises `ProfileStoreMissing` where there is no snapshot, `ProfileStoreCorrupt`, and
    `DatasetUnreachable` where the object store does not answer in time.
    """
    catalogue = profiles.catalogue()
    dataset = datasets.dataset(scope, request.destination.dataset_id)
    with within(PATIENCE):
        problems = [
            *check_request(request, profiles.latest(), catalogue),
            *schema_problems(request, dataset),
            *outlets.problems(scope, request),
        ]
    if problems:
        return Checked(request, problems)
    policy = resolve_policy(request, catalogue)
    return Checked(request.with_policy(policy.id, policy.version))


@asynccontextmanager
async def open_commands(settings: Settings) -> AsyncIterator[Commands]:
    """The commands, over a store that is open for as long as the block lasts."""
    async with open_store(settings) as store:
        yield commands_of(settings, store)


@dataclass(frozen=True, slots=True)
class Parts:
    """What runs: over which store, to which Kafka; `supervisor` knows whether it still does."""

    store: SqliteStore
    kafka: KafkaSettings
    supervisor: Supervisor


@asynccontextmanager
async def running(settings: Settings, *, http: bool = False) -> AsyncIterator[Parts]:
    """Worker and relay, and without a configured Kafka the embedded one, during the block.

    With `http` the HTTP interfaces as well. At its end these close, then running pieces end or
    their jobs are handed back, then the relay delivers what is committed; all in bounded time.

    A Kafka that is away is waited for: jobs go on. Raises `SettingsError`, `KeysError`,
    `NotAuthorized`, `TopicUnusable` or `SettingRefused` at the start. A part that fails meanwhile
    does not end the block, but is told by `Parts.supervisor`, and raised at the end:
    `PositionMismatch`, which only a person can mend, or `PartFailed`.
    """
    name = process_name()
    supervisor = Supervisor()
    # Before the store is opened: SQLite gives the log the mode of the file.
    close_to_others(settings.private_places)
    async with (
        open_store(settings) as store,
        _publishers(settings, store) as (kafka, publishers),
    ):
        relay = Relay(store, publishers, source=store_source(store.identity.id), owner=name)
        worker = worker_of(settings, store, voice_of(settings, store), name=name)
        watching = supervisor.start("store", store.keep_watch())
        relaying = supervisor.start("relay", relay.run())
        working = supervisor.start("worker", worker.run())
        parts = Parts(store, kafka, supervisor)
        try:
            async with _interfaces(settings, parts, relay) if http else nullcontext():
                log.info("serving", owner=name, store=str(settings.store_file), topic=kafka.topic)
                try:
                    yield parts
                finally:
                    log.info("stopping")
                    supervisor.stop()
        finally:
            supervisor.stop()  # also where the interfaces did not begin
            worker.stop(settings.exports.grace)
            await asyncio.wait({working})
            relay.stop()
            await asyncio.wait({relaying})
            watching.cancel()
            await asyncio.wait({watching})
        supervisor.require_sound()
        log.info("stopped")


def _interfaces(settings: Settings, parts: Parts, relay: Relay) -> AbstractAsyncContextManager[str]:
    # Here and not above: most commands serve nothing, and need not wait for FastAPI.
    from segexport.http.interfaces import interfaces  # noqa: PLC0415

    return interfaces(
        settings,
        parts.store,
        commands_of(settings, parts.store),
        supervisor=parts.supervisor,
        relay=relay.health,
    )


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Run everything until `stop`, or until a part fails.

    Raises as `running` does.
    """
    async with running(settings, http=True) as parts:
        await race(stop.wait(), parts.supervisor.failed())


def process_name() -> str:
    """What tells this process apart from all others that use the store."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


def kafka_of(settings: Settings) -> KafkaSettings:
    """The Kafka to read from: the configured one, or the embedded one of a running service.

    Raises `BrokerUnreachable` if there is neither.
    """
    if settings.kafka.bootstrap_servers is not None:
        return settings.kafka
    try:
        address = _address_file(settings).read_text()
    except OSError as error:
        raise BrokerUnreachable(
            f"no Kafka is configured, and no service with an embedded broker runs on "
            f"{settings.data}: start `segexport serve`, or set kafka.bootstrap_servers"
        ) from error
    return settings.kafka.embedded(address)


@asynccontextmanager
async def _publishers(
    settings: Settings, store: SqliteStore
) -> AsyncIterator[tuple[KafkaSettings, Callable[[], Publisher]]]:
    kafka = settings.kafka
    if kafka.bootstrap_servers is not None:
        try:
            for concern in (await ensure_topics(kafka)).concerns:
                log.warning("a topic weakens what is promised", concern=concern)
        except FOR_A_PERSON:
            raise
        except DeliveryError as error:
            trace = error.__cause__ if isinstance(error, ClientFailed) else None
            log.info("Kafka is waited for", code=error.code, reason=str(error), exc_info=trace)
        yield kafka, lambda: TransactionalPublisher(kafka)
        return
    async with EmbeddedBroker() as broker:
        embedded = kafka.embedded(broker.bootstrap_servers)
        told = _address_file(settings)
        _tell_address(told, embedded)
        try:
            moved = partial(_tell_address, told)
            yield embedded, EmbeddedPublishers(embedded, store.identity, broker, moved)
        finally:
            with suppress(OSError):
                told.unlink()


def _tell_address(file: Path, kafka: KafkaSettings) -> None:
    """Write where the embedded broker is, in one step: readers come at any moment."""
    beside = file.with_suffix(".new")
    try:
        beside.write_text(str(kafka.bootstrap_servers))
        beside.replace(file)
    except OSError as error:
        log.warning(
            "the address of the embedded broker cannot be told", file=str(file), reason=str(error)
        )


def _address_file(settings: Settings) -> Path:
    return settings.data / "embedded-broker"
