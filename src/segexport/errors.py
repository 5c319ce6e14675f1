"""Every error that segexport raises on purpose, as one tree.

    SegexportError
    ├── SettingsError
    ├── InvalidRequest            all problems of one request, each with its path
    ├── InvalidDefinition
    │   └── InvalidPredicate
    ├── UnknownSegment
    ├── AccessRefused             who asks is not known, or may not do this
    ├── TooManyRequests
    ├── BodyTooLarge
    │   └── BodyFragmented
    ├── BodyTooLate
    ├── RequestConflict
    ├── JobNotFound
    ├── IllegalTransition
    │   └── TooLateToCancel
    ├── LeaseLost
    ├── InvalidEvent
    ├── StoreError
    │   ├── StoreTooNew
    │   ├── StoreUnavailable
    │   ├── StoreReplaced
    │   ├── DiscardFileUnusable
    │   └── DiscardsWaiting
    ├── ProfileStoreError
    │   ├── ProfileStoreMissing
    │   ├── ProfileStoreCorrupt
    │   ├── ProfileStoreBusy
    │   ├── UnknownPolicy
    │   ├── SeveralPersons
    │   ├── GraphContradiction
    │   └── FragmentsUnreadable
    ├── DatasetError
    │   ├── DatasetFull
    │   ├── DatasetUnreachable
    │   │   └── OutletUnreachable
    │   └── OutletMissing
    ├── InstancesUnusable
    ├── EngineError
    │   ├── EngineOutOfMemory
    │   └── EngineUnreachable
    ├── PieceFailed               a piece is out of tries, and its job with it
    ├── ExportCancelled           a running query was told to stop
    ├── KeysError                 the file of API keys, or the master key
    │   └── UnknownKey
    ├── TokenRefused
    │   └── TokenExpired
    ├── ProviderUnreachable       whether a token is good cannot be said now
    ├── SignatureRefused
    ├── ServiceError              the service elsewhere that a command asks
    │   ├── ServiceUnreachable
    │   ├── ServiceFailed
    │   └── NotSegexport
    ├── FileNameUnusable          a file that DuckDB cannot be told of
    ├── PartFailed                the service itself: a part of it has ended
    ├── SystemRefused             the operating system, where nobody nearer says what that means
    │   ├── OutputFailed          results that cannot be written to stdout
    │   │   └── OutputClosed
    │   └── InputFailed
    ├── DependencyFailed          a client library, likewise
    └── DeliveryError
        ├── BrokerUnreachable
        ├── NotAuthorized
        ├── TopicUnusable
        ├── SettingRefused
        ├── ClientFailed          Kafka's client library, or an answer that it cannot read
        ├── RelayFenced
        └── PositionMismatch

Each message says what was wrong, where, and what to do. `code` is stable: machines may
match on it, and it does not change when the wording does. A message is for whoever runs the
service, and may name its files and addresses; `disclosure` says what others are told instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar


class SegexportError(Exception):
    """Something that segexport detected and can explain."""

    code: ClassVar[str] = "segexport"


class SettingsError(SegexportError):
    """A setting is missing, unknown or out of range."""

    code = "settings"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a document: where, and what."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path or '(document)'}: {self.message}"


class InvalidRequest(SegexportError):
    """An export request that cannot be accepted; carries every problem found in it."""

    code = "request.invalid"

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("the export request is refused: " + "; ".join(map(str, self.problems)))


class InvalidDefinition(SegexportError):
    """A merge policy or a segment that cannot be defined so."""

    code = "definition.invalid"


class InvalidPredicate(InvalidDefinition):
    """A predicate that is not in the language, or does not fit the attributes of the store."""

    code = "definition.predicate"


class UnknownSegment(SegexportError):
    """No segment of this namespace and id is defined."""

    code = "definition.unknown"


class AccessFault(StrEnum):
    """Why somebody was refused; no answer says more than this about a secret."""

    TOKEN_MISSING = "token_missing"  # noqa: S105  (the name of a fault)
    TOKEN_INVALID = "token_invalid"  # noqa: S105  (as above)
    KEY_MISSING = "key_missing"
    KEY_INVALID = "key_invalid"
    ORGANIZATION_MISSING = "organization_missing"
    ORGANIZATION_FOREIGN = "organization_foreign"
    SANDBOX_MISSING = "sandbox_missing"
    SANDBOX_FOREIGN = "sandbox_foreign"
    SIGNATURE_INVALID = "signature_invalid"
    HEADER_REPEATED = "header_repeated"
    CLOCK_SKEWED = "clock_skewed"
    SESSION_EXPIRED = "session_expired"
    ORIGIN_FOREIGN = "origin_foreign"


class AccessRefused(SegexportError):
    """Whoever asks is not known, or may not do what was asked."""

    code = "access"

    def __init__(self, fault: AccessFault, message: str) -> None:
        self.fault = fault
        super().__init__(message)


class TooManyRequests(SegexportError):
    """The organization has used up its rate; `retry_after` is in whole seconds."""

    code = "access.rate"

    def __init__(self, retry_after: int) -> None:
        self.retry_after = retry_after
        super().__init__(f"too many requests of this organization; try again in {retry_after} s")


class BodyTooLarge(SegexportError):
    """The body of an HTTP request has more bytes than it may."""

    code = "http.body_too_large"


class BodyFragmented(BodyTooLarge):
    """The body of an HTTP request comes in more small chunks than it may."""

    code = "http.body_fragmented"


class BodyTooLate(SegexportError):
    """The body of an HTTP request did not arrive in time."""

    code = "http.body_too_late"


class RequestConflict(SegexportError):
    """The request id was used before, with another body."""

    code = "request.conflict"


class JobNotFound(SegexportError):
    """No such job in this organization and sandbox."""

    code = "job.not_found"


class IllegalTransition(SegexportError):
    """The job's state does not allow what was asked."""

    code = "job.illegal_transition"


class TooLateToCancel(IllegalTransition):
    """The job is being published: the point of no return is behind it."""

    code = "job.too_late_to_cancel"


class LeaseLost(SegexportError):
    """Another worker owns the job, or its state moved on; nothing was written."""

    code = "job.lease_lost"


class InvalidEvent(SegexportError):
    """An event breaks the contract; the transition that caused it was not stored."""

    code = "event.invalid"


class StoreError(SegexportError):
    """The job store cannot do what was asked."""

    code = "store"


class StoreTooNew(StoreError):
    """The store was written by a later version of segexport."""

    code = "store.too_new"


class StoreUnavailable(StoreError):
    """The store cannot be reached, or stayed locked for too long."""

    code = "store.unavailable"


class StoreReplaced(StoreError):
    """The store's files are gone, or are not those that were opened."""

    code = "store.replaced"


class DiscardFileUnusable(StoreError):
    """A job's discard file is missing, or not the one that the job was finished with."""

    code = "store.discards"


class DiscardsWaiting(StoreError):
    """Events of a job's discard file are still to be delivered, so it has to stay as it is."""

    code = "store.discards_waiting"


class ProfileStoreError(SegexportError):
    """The profile store cannot be used."""

    code = "profiles"


class ProfileStoreMissing(ProfileStoreError):
    """There is no profile store, or it holds no snapshot."""

    code = "profiles.missing"


class ProfileStoreCorrupt(ProfileStoreError):
    """A snapshot's files do not agree with its manifest."""

    code = "profiles.corrupt"


class ProfileStoreBusy(ProfileStoreError):
    """Another process is building the next snapshot."""

    code = "profiles.busy"


class SeveralPersons(ProfileStoreError):
    """An identity that one person was to be known by belongs to several."""

    code = "profiles.several_persons"


class GraphContradiction(ProfileStoreError):
    """Rows of one load give an identity to two persons; nothing of the load was kept."""

    code = "profiles.graph"


class UnknownPolicy(ProfileStoreError):
    """No merge policy of this id and version is defined."""

    code = "profiles.policy"


class FragmentsUnreadable(ProfileStoreError):
    """A file of profile fragments cannot be read at all; nothing of the load was kept."""

    code = "profiles.unreadable"


class DatasetError(SegexportError):
    """A dataset cannot be written or read."""

    code = "dataset"


class DatasetFull(DatasetError):
    """An export would take more of the disk than the datasets may."""

    code = "dataset.full"


class DatasetUnreachable(DatasetError):
    """The object store with the datasets does not answer; it may do so later."""

    code = "dataset.unreachable"


class OutletUnreachable(DatasetUnreachable):
    """Nothing can be written to where a Pinpoint job's prefix leads; it may be possible later."""

    code = "dataset.outlet_unreachable"


class OutletMissing(DatasetError):
    """The settings no longer say where a Pinpoint job's prefix leads."""

    code = "dataset.outlet_missing"


class InstancesUnusable(SegexportError):
    """Keys that are to be live instances of a journey cannot be taken."""

    code = "journeys.keys"


class EngineError(SegexportError):
    """A query of an export went wrong for another reason than the files that it touches."""

    code = "engine"


class EngineOutOfMemory(EngineError):
    """A query of an export needs more memory than it may have."""

    code = "engine.memory"


class EngineUnreachable(EngineError):
    """The cluster that exports run on does not answer."""

    code = "engine.unreachable"


class PieceFailed(SegexportError):
    """A piece of an export has failed as often as it may; the job fails with it."""

    code = "export.piece"

    def __init__(self, piece: int, tries: int, cause: SegexportError) -> None:
        self.piece = piece
        self.tries = tries
        self.cause = cause
        super().__init__(f"piece {piece} has failed {tries} times, at last because: {cause}")


class ExportCancelled(SegexportError):
    """A running piece was interrupted on request; nothing of it is kept."""

    code = "export.cancelled"


class KeysError(SegexportError):
    """The file of API keys, or the master key, cannot be read or written."""

    code = "keys"


class UnknownKey(KeysError):
    """There is no API key of this client id."""

    code = "keys.unknown"


class TokenRefused(SegexportError):
    """A bearer token that is not believed."""

    code = "token.refused"


class TokenExpired(TokenRefused):
    """A bearer token, or a session token, that was good once."""

    code = "token.expired"


class ProviderUnreachable(SegexportError):
    """The identity provider's keys cannot be had, so nothing can be said of its tokens."""

    code = "token.provider"


class SignatureRefused(SegexportError):
    """A request whose AWS signature is not believed.

    `error_type` is what AWS calls that, `status` the HTTP status that it answers with.
    """

    code = "signature.refused"

    def __init__(self, error_type: str, status: int, message: str) -> None:
        self.error_type = error_type
        self.status = status
        super().__init__(message)


class ServiceError(SegexportError):
    """The service that a command asks does not do what it was asked."""

    code = "service"


class ServiceUnreachable(ServiceError):
    """The service does not answer, or cannot be believed to be the one that is meant."""

    code = "service.unreachable"


class ServiceFailed(ServiceError):
    """The service answers that it cannot do it, for a reason that lies there."""

    code = "service.failed"


class NotSegexport(ServiceError):
    """What answers is no service of segexport, or one of another version."""

    code = "service.foreign"


class FileNameUnusable(SegexportError):
    """A file whose name DuckDB cannot be given: it would read another one, or none."""

    code = "files.name"


class PartFailed(SegexportError):
    """A part of the service has met an error that nobody foresaw, and the service ends."""

    code = "service.part"

    def __init__(self, part: str, error: BaseException | None) -> None:
        self.part = part
        reason = repr(error) if error is not None else "it has returned unasked"
        super().__init__(
            f"the {part} of the service has failed ({reason}), so the service ends; start it "
            "again, and report the traceback in its log"
        )
        self.__cause__ = error


class SystemRefused(SegexportError):
    """The operating system refuses something, and nobody nearer has said what that means."""

    code = "system"


class OutputFailed(SystemRefused):
    """Results cannot be written to stdout."""

    code = "system.output"


class OutputClosed(OutputFailed):
    """Whoever read stdout has gone, and wants no more of it."""

    code = "system.output_closed"


class InputFailed(SystemRefused):
    """Stdin cannot be read."""

    code = "system.input"


class DependencyFailed(SegexportError):
    """A client library has failed, and nobody nearer has said what that means."""

    code = "system.dependency"


class DeliveryError(SegexportError):
    """Events cannot be delivered to Kafka at the moment."""

    code = "delivery"


class BrokerUnreachable(DeliveryError):
    """No broker answers at the configured address."""

    code = "delivery.unreachable"


class NotAuthorized(DeliveryError):
    """The broker refuses the credentials or the operation."""

    code = "delivery.not_authorized"


class TopicUnusable(DeliveryError):
    """A topic is missing, or configured in a way that would break a promise."""

    code = "delivery.topic"


class SettingRefused(DeliveryError):
    """The broker does not allow what a setting says."""

    code = "delivery.setting"


class ClientFailed(DeliveryError):
    """Kafka's client library failed in a way that it does not foresee."""

    code = "delivery.client"


class RelayFenced(DeliveryError):
    """Another relay took over; this one has stopped."""

    code = "delivery.fenced"


class PositionMismatch(DeliveryError):
    """The topic's position was written from another store, or another life of it."""

    code = "delivery.position"
