"""Listening: uvicorn, with a time limit on whatever a client may leave half done."""

import asyncio
import resource
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import h11
import structlog
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import RequestResponseCycle

from segexport.errors import SettingsError
from segexport.http.connection import Connection
from segexport.settings import HttpSettings

log: Final = structlog.stdlib.get_logger(__name__)

KEEP_ALIVE: Final = 75
"""Seconds that a connection may be idle between two requests."""
BACKLOG: Final = 1024
"""Connections that wait to be accepted."""
OTHER_FILES: Final = 512
"""Files that the rest of the process may have open, beside connections: store, exports, brokers."""


@asynccontextmanager
async def listening(
    app: ASGIApp,
    settings: HttpSettings,
    start: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]] = asyncio.create_task,
) -> AsyncIterator[str]:
    """Serve `app` during the block; gives the address, such as `http://127.0.0.1:8080`.

    `start` makes the task that does so. At the end of the block, open requests have
    `settings.grace` to be answered. Raises `SettingsError` if the address cannot be taken, or the
    certificate cannot be used.
    """
    _make_room(settings.max_connections)
    server = _Server(_config(app, settings))
    listener = _bound(settings)
    serving = start(server.serve(sockets=[listener]))
    host, port = listener.getsockname()[:2]
    scheme = "https" if settings.certificate else "http"
    address = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    log.info("listening", address=address)
    try:
        yield address
    finally:
        server.should_exit = True
        await asyncio.wait({serving})
        for connection in list(server.server_state.connections):
            connection.transport.abort()


def _make_room(connections: int) -> None:
    """Let the process have so many files open: what is usual is fewer, and meant to be raised.

    Otherwise connections would take from the store and from exports what these cannot do without.
    """
    wanted = connections + OTHER_FILES
    given = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, most = (sys.maxsize if each == resource.RLIM_INFINITY else each for each in given)
    if wanted > most:
        log.warning(
            "more connections are allowed than files may be open: lower http.max_connections, or "
            "raise the limit of open files (ulimit -Hn, LimitNOFILE)",
            max_connections=connections,
            open_files=most,
        )
    if soft < min(wanted, most):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, most), given[1]))


def _bound(settings: HttpSettings) -> socket.socket:
    try:
        found = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, _, _, address = found[0]
        listener = socket.create_server(
            (str(address[0]), int(address[1])), family=family, backlog=BACKLOG
        )
    except OSError as error:
        raise SettingsError(
            f"cannot listen on {settings.host} port {settings.port} ({error.strerror or error}); "
            "set http.host and http.port to others, or end what uses them"
        ) from error
    # Connections inherit it. asyncio does not see that such a socket speaks TCP, and without it
    # the second part of an answer waits for the first to be acknowledged: up to 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _config(app: ASGIApp, settings: HttpSettings) -> uvicorn.Config:
    def protocol(**options: Any) -> Connection:
        return _Connection(settings, **options)

    config = uvicorn.Config(
        app,
        http=protocol,  # type: ignore[arg-type]  # called with what a protocol class is made of
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=settings.max_connections,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, round(settings.grace.total_seconds())),
        ssl_certfile=settings.certificate,
        ssl_keyfile=settings.private_key,
    )
    try:
        config.load()
    except OSError as error:
        raise SettingsError(
            f"the certificate {settings.certificate} cannot be used ({error}); check "
            "http.certificate and http.private_key"
        ) from error
    return config


class _Server(uvicorn.Server):
    """Leaves the process's signals to the service."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Connection(Connection):
    """Closes a connection on which a request does not arrive, or an answer is not taken.

    uvicorn itself only limits how long a connection may be silent between two requests. One
    that it is told to close it keeps until all is sent.
    """

    def __init__(self, settings: HttpSettings, **options: Any) -> None:
        super().__init__(**options)
        self._head_timeout = settings.head_timeout.total_seconds()
        self._patience = settings.stream_patience.total_seconds()
        self._arrival: asyncio.TimerHandle | None = None
        self._departure: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_a_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._arrival is None and not self._is_asked:
            self._await_a_head()

    def handle_events(self) -> None:
        super().handle_events()
        self._note_arrival()

    def _go_on(self) -> None:
        super()._go_on()
        self._note_arrival()

    @property
    def _is_asked(self) -> bool:
        """Whether there is a request that is not answered yet."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _note_arrival(self) -> None:
        if self._is_asked:
            self._has_arrived()

    def connection_lost(self, exc: Exception | None) -> None:
        self._has_arrived()
        self._is_taken()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._is_taken()
        self._departure = self.loop.call_later(self._patience, self._give_up)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._is_taken()
        self._await_the_rest(self.cycle)

    def on_response_complete(self) -> None:
        answered: RequestResponseCycle = self.cycle
        super().on_response_complete()
        if self._departure is None:
            self._await_the_rest(answered)

    def _await_the_rest(self, cycle: RequestResponseCycle) -> None:
        """Of a complete answer: it may be too little for writing to pause."""
        if cycle.response_complete and self.transport.get_write_buffer_size():
            self._departure = self.loop.call_later(self._patience, self._miss_the_rest, cycle)

    def _miss_the_rest(self, cycle: RequestResponseCycle) -> None:
        self._departure = None
        if self.cycle is cycle and self.transport.get_write_buffer_size():
            self._give_up()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  (uvicorn's signature)
        if self.conn.our_state is h11.IDLE:
            self.transport.write(self.conn.refusal())
            self.transport.close()
        else:  # an answer has begun, and there cannot be another one
            self.transport.abort()

    def _give_up(self) -> None:
        log.info("an answer is not taken: its connection is cut off")
        self.transport.abort()

    def _await_a_head(self) -> None:
        self._arrival = self.loop.call_later(self._head_timeout, self.transport.abort)

    def _has_arrived(self) -> None:
        if self._arrival is not None:
            self._arrival.cancel()
            self._arrival = None

    def _is_taken(self) -> None:
        if self._departure is not None:
            self._departure.cancel()
            self._departure = None
