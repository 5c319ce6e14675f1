"""Where events go, and how they are spoken."""

from datetime import timedelta
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, SecretStr, model_validator

from segexport.settings.kinds import Duration, Section, TopicName


class KafkaSettings(Section):
    """Where events go. Without `bootstrap_servers`, an embedded broker for trying things.

    `transaction_timeout` is when a broker gives up a transaction; whatever the relay asks of it
    has half of that.
    """

    is_embedded: ClassVar[bool] = False

    bootstrap_servers: str | None = None
    topic: TopicName = "segment-export-job-events"
    partitions: int = Field(default=6, ge=1, le=10_000)
    replication_factor: int = Field(default=3, ge=1, le=100)
    compression: Literal["none", "gzip", "lz4"] = "lz4"
    transaction_timeout: Duration = Field(
        default=timedelta(seconds=60),
        ge=timedelta(seconds=1),
        le=timedelta(milliseconds=2**31 - 1),  # what Kafka's protocol can say
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    ssl_cafile: Path | None = None
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None
    ssl_key_password: SecretStr | None = None
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None

    @model_validator(mode="after")
    def _sasl_is_whole(self) -> "KafkaSettings":
        if self.security_protocol.startswith("SASL") and not (
            self.sasl_username and self.sasl_password
        ):
            raise ValueError("SASL needs sasl_username and sasl_password")
        return self

    @property
    def positions_topic(self) -> str:
        """The compacted topic that holds how far delivery is."""
        return f"{self.topic}.positions"

    @property
    def transactional_id(self) -> str:
        """One relay per topic: whoever starts with this id fences the one before."""
        return f"segexport-relay-{self.topic}"

    def embedded(self, address: str) -> "KafkaSettings":
        """How the embedded broker at `address` is reached, whatever is set about another one."""
        return _Embedded(bootstrap_servers=address, topic=self.topic, compression=self.compression)


class _Embedded(KafkaSettings):
    """Settings that nobody has set, so that no error may name them."""

    is_embedded: ClassVar[bool] = True


class EventSettings(Section):
    """How events are spoken: eventType's dialect, the form of the keys."""

    dialect: Literal["xdm", "journey-optimizer"] = "xdm"
    form: Literal["uri", "compact"] = "uri"
