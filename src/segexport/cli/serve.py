"""`segexport serve`: the service in the foreground."""

import asyncio
import signal

from segexport import service
from segexport.cli.app import app
from segexport.settings import Settings, load_settings
from segexport.telemetry import configure_logging


@app.command()
def serve() -> None:
    """Run the service: worker, relay, HTTP interfaces, and an embedded Kafka if none is configured.

    Listens on 127.0.0.1:8080, or as http.host and http.port say. Ends on SIGTERM or Ctrl-C:
    running pieces end or their jobs are handed back, and what is committed is delivered.

        segexport serve

        SEGEXPORT_KAFKA__BOOTSTRAP_SERVERS=kafka:9092 segexport serve

    Records are compressed with LZ4. For consumers that do not read that, such as kafkajs without
    its plugin, and at the price of a slower relay:

        SEGEXPORT_KAFKA__COMPRESSION=gzip segexport serve
    """
    settings = load_settings()
    configure_logging(style=settings.log_format, level=settings.log_level)
    asyncio.run(_until_signalled(settings))


async def _until_signalled(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await service.serve(settings, stop)
