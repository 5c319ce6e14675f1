"""From settings to the arguments that every aiokafka client takes."""

import ssl
from typing import Any, Final

from aiokafka.conn import collect_hosts

from segexport.errors import SettingsError
from segexport.settings import KafkaSettings

REQUEST_TIMEOUT_MS: Final = 15_000
"""How long one answer of a broker is waited for."""


def client_arguments(settings: KafkaSettings, *, role: str) -> dict[str, Any]:
    """Arguments for an aiokafka producer, consumer or admin client.

    `role` (relay, reader, …) becomes part of the client id that the broker's logs show.
    Raises `SettingsError` when the addresses make no sense, or when a certificate or key
    cannot be read.
    """
    arguments: dict[str, Any] = {
        "bootstrap_servers": _addresses(settings),
        "client_id": f"segexport-{role}",
        "request_timeout_ms": REQUEST_TIMEOUT_MS,
        "security_protocol": settings.security_protocol,
    }
    if settings.security_protocol in {"SSL", "SASL_SSL"}:
        arguments["ssl_context"] = _tls(settings)
    if settings.sasl_password is not None and settings.security_protocol.startswith("SASL"):
        arguments |= {
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": settings.sasl_password.get_secret_value(),
        }
    return arguments


def _addresses(settings: KafkaSettings) -> list[str]:
    given = [each.strip() for each in (settings.bootstrap_servers or "").split(",")]
    try:
        ports = [port for _, port, _ in collect_hosts(given, randomize=False)]
    except ValueError:
        ports = [0]
    if not all(given) or not all(0 < port < 2**16 for port in ports):
        raise SettingsError(
            f"kafka.bootstrap_servers: {settings.bootstrap_servers!r} is not a list of "
            "host:port pairs with commas between them"
        )
    return given


def _tls(settings: KafkaSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ssl_cafile)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"kafka.ssl_cafile: {settings.ssl_cafile} holds no certificates that can be read "
            f"({error})"
        ) from error
    if settings.ssl_certfile is not None:
        secret = settings.ssl_key_password
        # An empty password instead of none: OpenSSL would ask for one at the terminal.
        password = secret.get_secret_value() if secret is not None else ""
        try:
            context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile, password)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(
                f"kafka.ssl_certfile, ssl_keyfile, ssl_key_password: {settings.ssl_certfile} and "
                f"its key cannot be used together ({error})"
            ) from error
    return context
