"""What comes out of aiokafka, told in plain words: what was wrong, where, and what to do.

Whatever calls the library, or reads an answer that it brought, does so inside of one of these
blocks. Beside errors of its own, the library lets out what it stumbles over itself: KeyError,
struct.error, assertions, cancellations that nobody asked for. All of that is `ClientFailed`, an
outage. So no code of ours belongs into these blocks that has nothing to do with the library: its
mistakes would be taken for outages.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import structlog
from aiokafka import errors as kafka
from aiokafka.conn import collect_hosts, create_conn

from segexport.errors import (
    BrokerUnreachable,
    ClientFailed,
    DeliveryError,
    NotAuthorized,
    SegexportError,
    SettingRefused,
    TopicUnusable,
)
from segexport.kafka.client import client_arguments
from segexport.settings import KafkaSettings

PROBE_PATIENCE = 5.0
"""Seconds for asking one bootstrap server why it could not be used."""

_LOGIN = (
    kafka.SaslAuthenticationFailed,
    kafka.AuthenticationFailedError,
    kafka.UnsupportedSaslMechanismError,
    kafka.IllegalSaslStateError,
)
_TOPICS = (
    "a reader needs Describe and Read on the topic {topic!r}; the relay needs Describe, "
    "DescribeConfigs and Write on it, the same and Read on {positions!r}, and Create on both "
    "unless somebody else creates them"
)
_NEEDED: Mapping[type[Exception], str] = {
    kafka.TopicAuthorizationFailedError: _TOPICS,
    kafka.ClusterAuthorizationFailedError: _TOPICS,
    kafka.GroupAuthorizationFailedError: "a reader needs Read on its group",
    kafka.TransactionalIdAuthorizationFailed: (
        "the relay needs Describe and Write on the transactional id {transactional_id!r}"
    ),
}
_TOPIC = (
    kafka.UnknownTopicOrPartitionError,
    kafka.InvalidTopicError,
    kafka.InvalidPartitionsError,
    kafka.InvalidReplicationFactorError,
    kafka.InvalidConfigurationError,
    kafka.PolicyViolationError,
)
_HINTS: Mapping[type[Exception], str] = {
    kafka.InvalidTopicError: "; check kafka.topic",
    kafka.InvalidPartitionsError: "; kafka.partitions is {settings.partitions}",
    kafka.InvalidReplicationFactorError: (
        "; kafka.replication_factor is {settings.replication_factor}: lower it, or add brokers"
    ),
    kafka.PolicyViolationError: (
        "; kafka.partitions is {settings.partitions} and kafka.replication_factor "
        "{settings.replication_factor}: the cluster's policy asks for other values"
    ),
}


class UnsupportedCompression(kafka.BrokerResponseError):  # type: ignore[misc]  # aiokafka is untyped
    """The broker does not read this codec (error 76, which aiokafka lacks)."""

    errno = 76
    message = "UNSUPPORTED_COMPRESSION_TYPE"


# Without an entry of its own it would be an UnknownError.
kafka.kafka_errors.setdefault(UnsupportedCompression.errno, UnsupportedCompression)

_SETTINGS: Mapping[type[Exception], str] = {
    kafka.InvalidTransactionTimeout: (
        "takes no transactions as long as kafka.transaction_timeout, which is "
        "{settings.transaction_timeout}: lower it to the broker's transaction.max.timeout.ms "
        "(0:15:00 unless somebody has set it), or raise that"
    ),
    UnsupportedCompression: (
        "does not take kafka.compression {settings.compression!r}: use another one"
    ),
}
_AWAY = (
    kafka.KafkaConnectionError,
    kafka.KafkaTimeoutError,
    kafka.NodeNotReadyError,
    kafka.NoBrokersAvailable,
    kafka.RequestTimedOutError,
    kafka.LeaderNotAvailableError,
    kafka.NotEnoughReplicasError,
    kafka.NotEnoughReplicasAfterAppendError,
    OSError,  # TimeoutError among them
)


log: Final = structlog.stdlib.get_logger(__name__)


@asynccontextmanager
async def in_plain_words(settings: KafkaSettings) -> AsyncIterator[None]:
    """Let nothing but errors of ours out of the block: see `explain`."""
    try:
        yield
    except SegexportError:
        raise
    except asyncio.CancelledError as error:
        if _is_asked_for():
            raise
        raise client_failed(error) from error
    except Exception as error:
        raise await explain(error, settings) from error


@contextmanager
def passed_over() -> Iterator[None]:
    """Let no error out of the block: for goodbyes, whose failure changes nothing."""
    try:
        yield
    except asyncio.CancelledError:
        if _is_asked_for():
            raise
    except Exception:
        log.debug("the Kafka client has not ended cleanly", exc_info=True)


def _is_asked_for() -> bool:
    """Whether somebody cancels the task that runs; if not, the library has let it slip out."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


async def explain(error: Exception, settings: KafkaSettings) -> DeliveryError:
    """The error of ours that says what aiokafka's `error` means for whoever runs this.

    `BrokerUnreachable`, `NotAuthorized`, `TopicUnusable`, `SettingRefused` or `ClientFailed`, else
    a bare `DeliveryError`. aiokafka keeps to itself why a first connection failed (a refused
    password and a broker that is down look the same), so the bootstrap servers are asked once more.
    """
    cause = error.__cause__  # what has ended one of aiokafka's tasks, if that is the matter
    if type(error) is kafka.KafkaError and isinstance(cause, Exception):
        error = cause
    if not isinstance(error, (kafka.KafkaError, OSError)):
        return client_failed(error)
    if isinstance(error, kafka.KafkaConnectionError):
        return await _why_unreachable(settings, error)
    return _told(error, settings, settings.bootstrap_servers or "")


def client_failed(error: BaseException) -> ClientFailed:
    """The error of ours for what the library stumbled over. Its traceback goes into the log."""
    return ClientFailed(
        f"the Kafka client library has failed ({type(error).__name__}: {error}): an answer that it "
        "does not understand, or a mistake of its own; if it stays, report its traceback in the "
        "log, with the version of the broker"
    )


async def _why_unreachable(settings: KafkaSettings, error: Exception) -> DeliveryError:
    arguments = client_arguments(settings, role="probe")
    servers = arguments.pop("bootstrap_servers")
    arguments["request_timeout_ms"] = int(PROBE_PATIENCE * 1000)

    async def ask(host: str, port: int) -> DeliveryError | None:
        try:
            async with asyncio.timeout(PROBE_PATIENCE):
                connection = await create_conn(host, port, **arguments)
                await connection.close()
        except (kafka.KafkaError, OSError) as found:
            return _told(found, settings, f"{host}:{port}")
        except Exception as found:  # noqa: BLE001  (the library's: see above)
            return client_failed(found)
        return None

    hosts = collect_hosts(servers, randomize=False)
    answers = await asyncio.gather(*(ask(host, port) for host, port, _ in hosts))
    # A broker that answered knows more than one that did not.
    reasons = sorted(filter(None, answers), key=lambda told: isinstance(told, BrokerUnreachable))
    return reasons[0] if reasons else _told(error, settings, ",".join(servers))


def _told(error: Exception, settings: KafkaSettings, where: str) -> DeliveryError:
    said = str(error).strip() or type(error).__name__
    told: DeliveryError
    match error:
        case ssl.SSLCertVerificationError():
            told = BrokerUnreachable(
                f"the certificate of {where} is not trusted ({error.verify_message}); name the "
                "authority that signed it with kafka.ssl_cafile, and the broker by the host "
                "name in the certificate"
            )
        case ssl.SSLError():
            told = BrokerUnreachable(
                f"{where} does not answer as a TLS broker would ({said}); check "
                "kafka.security_protocol, and kafka.ssl_certfile if the broker asks for one"
            )
        case _ if isinstance(error, _LOGIN):
            told = NotAuthorized(
                f"{where} refuses the login of {settings.sasl_username!r} by "
                f"{settings.sasl_mechanism} ({said}); check kafka.sasl_mechanism, "
                "sasl_username and sasl_password"
            )
        case _ if type(error) in _NEEDED:
            needed = _NEEDED[type(error)].format(
                topic=settings.topic,
                positions=settings.positions_topic,
                transactional_id=settings.transactional_id,
            )
            told = NotAuthorized(
                f"the cluster at {where} does not allow this to "
                f"{settings.sasl_username or 'an anonymous client'!r} ({said}): {needed}"
            )
        case _ if isinstance(error, _TOPIC):
            told = TopicUnusable(
                f"the topic {settings.topic!r} at {where} cannot be used: {said}"
                + _HINTS.get(type(error), "").format(settings=settings)
            )
        case kafka.InvalidTimestampError():
            told = DeliveryError(
                f"the brokers at {where} refuse the time of this machine: its clock is ahead of "
                "theirs by more than message.timestamp.after.max.ms of "
                f"{settings.positions_topic!r} allows, or far behind; set the clocks right"
            )
        case _ if type(error) in _SETTINGS:
            told = SettingRefused(
                f"the broker at {where} {_SETTINGS[type(error)].format(settings=settings)} ({said})"
            )
        case _ if isinstance(error, _AWAY) and settings.is_embedded:
            told = BrokerUnreachable(
                f"the embedded broker does not answer at {where} ({said}): it lives as long as "
                "`segexport serve`, which starts another one where it has ended"
            )
        case _ if isinstance(error, _AWAY):
            told = BrokerUnreachable(
                f"no broker answers as it should at {where} ({said}); check that it runs, that "
                "kafka.bootstrap_servers names it, and that it speaks kafka.security_protocol "
                f"{settings.security_protocol}"
                + (
                    " and does not ask for a certificate (kafka.ssl_certfile)"
                    if settings.security_protocol.endswith("SSL") and settings.ssl_certfile is None
                    else ""
                )
            )
        case _:
            told = DeliveryError(f"the broker at {where} cannot be worked with: {said}")
    return told
