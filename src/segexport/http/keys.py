"""API keys: who may call, and how they prove it.

A key names an organization and, if it is to see no more, some of its sandboxes. Its holder
proves to be that with the client secret (for tokens) or by signatures with an AWS secret access
key. Of the first only a hash is kept; the second is derived from the master key and kept nowhere.
"""

import base64
import hmac
import secrets
import string
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal

import structlog
from pydantic import AwareDatetime, ConfigDict, Field, TypeAdapter, ValidationError

from segexport.errors import KeysError, UnknownKey
from segexport.http import private_file
from segexport.jobs.job import Scope
from segexport.jobs.values import Name, unfit
from segexport.settings import Settings
from segexport.settings.kinds import FolderName
from segexport.validation import all_words, repeated_name, shown, words_of

log: Final = structlog.stdlib.get_logger(__name__)

PAUSE: Final = 1.0
"""Seconds between two looks at the file of keys: until a change takes effect."""

_SECRET_BYTES: Final = 32
_ACCESS_KEY_LETTERS: Final = string.ascii_uppercase + string.digits


@dataclass(frozen=True, slots=True)
class Key:
    """An API key without its secrets. No `sandboxes` means all of the organization.

    `client_id` is what clients call API key; `secret_hash` is the SHA-256 of the client secret,
    in hexadecimal digits.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", revalidate_instances="always"
    )

    client_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    name: Name
    organization: FolderName
    sandboxes: tuple[FolderName, ...]
    access_key_id: Annotated[str, Field(pattern=r"^[A-Z0-9]{20}$")]
    secret_hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] = field(repr=False)
    created_at: AwareDatetime

    def allows(self, scope: Scope) -> bool:
        """Whether the holder may see and do things in this sandbox."""
        return scope.organization == self.organization and (
            not self.sandboxes or scope.sandbox in self.sandboxes
        )


def new_access_key_id() -> str:
    """An AWS access key id that nobody has: 103 random bits."""
    return "".join(secrets.choice(_ACCESS_KEY_LETTERS) for _ in range(20))


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key with its secrets, which nobody can be told a second time."""

    key: Key
    client_secret: str = field(repr=False)
    secret_access_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class MasterKey:
    """What AWS secrets and the key of our tokens are derived from.

    Another master key makes all of them invalid, client secrets excepted.
    """

    secret: str = field(repr=False)

    @classmethod
    def of(cls, settings: Settings) -> "MasterKey":
        """`http.master_key`, or that in `<data>/master.key`, which is made if it is not there.

        The file holds what the setting could be set to instead. Raises `KeysError`.
        """
        if settings.http.master_key is not None:
            return cls(settings.http.master_key.get_secret_value())
        return cls.in_file(settings.master_key_file)

    @classmethod
    def in_file(cls, path: Path) -> "MasterKey":
        """The master key of this file, which is made if it is not there. Raises `KeysError`."""
        text = private_file.read(path)
        if text is None:
            with private_file.changing(path):
                text = private_file.read(path)
                if text is None:
                    text = secrets.token_urlsafe(_SECRET_BYTES)
                    private_file.replace(path, f"{text}\n")
        secret = text.strip()
        if len(secret) < _SECRET_BYTES:
            raise KeysError(
                f"{path} is damaged: a master key has {_SECRET_BYTES} characters or more; bring "
                "it back from a backup, or delete it to have another one made, with which all "
                "AWS secrets and tokens that were handed out become invalid"
            )
        return cls(secret)

    def secret_access_key(self, access_key_id: str) -> str:
        """The AWS secret access key that belongs to this id: 40 characters, 240 bits."""
        return base64.b64encode(self._derive("aws", access_key_id)[:30]).decode()

    def session_secret(self, session_token: str) -> str:
        """The AWS secret access key that belongs to a session token: 40 characters, 240 bits."""
        return base64.b64encode(self._derive("aws session", session_token)[:30]).decode()

    @property
    def signing_key(self) -> bytes:
        """The 256 bits that our tokens are signed with."""
        return self._derive("tokens", "")

    @property
    def session_key(self) -> bytes:
        """The 256 bits that session tokens of AWS clients are signed with."""
        return self._derive("aws session tokens", "")

    @property
    def cursor_key(self) -> bytes:
        """The 256 bits that cursors of the live stream are sealed with."""
        return self._derive("cursors", "")

    def _derive(self, purpose: str, of: str) -> bytes:
        message = f"segexport {purpose}\0{of}".encode()
        return hmac.digest(self.secret.encode(), message, "sha256")


@dataclass(frozen=True, slots=True)
class _Document:
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    version: Literal[1]
    keys: tuple[Key, ...]


_documents: Final = TypeAdapter(_Document)
_key: Final = TypeAdapter(Key)


@dataclass(frozen=True, slots=True)
class KeyFile:
    """The file of API keys. It holds those that are believed: revoking a key removes it."""

    path: Path

    def keys(self) -> tuple[Key, ...]:
        """All keys, oldest first; none if there is no file. Raises `KeysError`."""
        return self.read() or ()

    def read(self) -> tuple[Key, ...] | None:
        """All keys, oldest first, or None if there is no file. Raises `KeysError`."""
        text = private_file.read(self.path)
        return None if text is None else self._parse(text)

    def get(self, client_id: str) -> Key:
        """The key of this client id. Raises `UnknownKey`, or another `KeysError`."""
        for key in self.keys():
            if key.client_id == client_id:
                return key
        raise UnknownKey(
            f"{self.path} has no key {client_id[:64]!r}; `segexport keys list` shows those it has"
        )

    def create(
        self,
        master: MasterKey,
        name: str,
        *,
        organization: str,
        sandboxes: tuple[str, ...] = (),
        now: datetime,
        show: Callable[[IssuedKey], None] = lambda _: None,
    ) -> IssuedKey:
        """Add a key. Names are for people, and need not differ. Raises `KeysError`.

        `show` is called with it when nothing can go wrong any more but the renaming of a file:
        what it raises is raised, and there is no such key. So nobody has to take back a key whose
        secrets were never seen, and the first one closes no door before its holder knows it.
        """
        client_secret = secrets.token_hex(_SECRET_BYTES)
        key = Key(
            client_id=secrets.token_hex(16),
            name=name,
            organization=organization,
            sandboxes=tuple(dict.fromkeys(sandboxes)),
            access_key_id=new_access_key_id(),
            secret_hash=_hash(client_secret),
            created_at=now.astimezone(UTC).replace(microsecond=0),
        )
        _require_valid(key)
        issued = IssuedKey(key, client_secret, master.secret_access_key(key.access_key_id))
        with private_file.changing(self.path), self._writing((*self.keys(), key)):
            show(issued)
        return issued

    def revoke(self, client_id: str) -> Key:
        """Remove a key; it is returned. Raises `UnknownKey`, or another `KeysError`."""
        with private_file.changing(self.path):
            key = self.get(client_id)
            with self._writing(tuple(other for other in self.keys() if other != key)):
                return key

    def _parse(self, text: str) -> tuple[Key, ...]:
        if (name := repeated_name(text)) is not None:
            raise self._damaged(f"an object has the name {shown(name)} twice")
        try:
            keys = _documents.validate_json(text).keys
        except ValidationError as error:
            # Not chained: pydantic's own message quotes what it was given.
            raise self._damaged(all_words(error)) from None
        for ids in ({key.client_id for key in keys}, {key.access_key_id for key in keys}):
            if len(ids) < len(keys):
                raise self._damaged("an id is there twice")
        return keys

    def _damaged(self, how: str) -> KeysError:
        return KeysError(f"{self.path} is damaged: {how}; bring it back from a backup")

    def _writing(self, keys: tuple[Key, ...]) -> AbstractContextManager[None]:
        text = _documents.dump_json(_Document(1, keys), indent=2).decode()
        return private_file.replacing(self.path, f"{text}\n")


class KeyRing:
    """The API keys as a running server holds them: those of the file, reread when it changes.

    A file that cannot be read any more, or is gone, leaves the keys as they were, and is an
    error in the log. So is a `master_file`, the one that `master` was read from, that is gone or
    holds another. `master` is what secrets are derived from, `clock` tells seconds.
    """

    def __init__(
        self,
        file: KeyFile,
        master: MasterKey,
        clock: Callable[[], float] = time.monotonic,
        *,
        master_file: Path | None = None,
    ) -> None:
        """Read the file. Raises `KeysError`: a server does not start without its keys."""
        self.master = master
        self._file = file
        self._master_file = master_file
        self._master_state: tuple[int, ...] | None = ()  # not looked at
        self._master_complaint = ""
        self._clock = clock
        self._looked_at = clock()
        self._complaint = ""
        self._state = _state(file.path)
        keys = file.read()
        self._exists = keys is not None
        self._clients, self._access_keys = _tables(keys or ())

    @property
    def is_empty(self) -> bool:
        """Whether no key was ever made: there is no file, and was none since the start.

        A file whose last key was revoked is something else: then nobody is believed.
        """
        self._look()
        return not self._exists

    def is_as_on_disk(self) -> bool:
        """Whether the files hold what the server goes by; the log says what is wrong with them."""
        self._look()
        return not self._complaint and not self._master_complaint

    def by_client(self, client_id: str) -> Key | None:
        """The key of this client id."""
        self._look()
        return self._clients.get(client_id)

    def by_access_key(self, access_key_id: str) -> Key | None:
        """The key of this AWS access key id."""
        self._look()
        return self._access_keys.get(access_key_id)

    def secret_access_key(self, key: Key) -> str:
        """The AWS secret access key of a key."""
        return self.master.secret_access_key(key.access_key_id)

    def believes(self, key: Key, client_secret: str) -> bool:
        """Whether this is the key's client secret; takes as long either way."""
        return hmac.compare_digest(_hash(client_secret), key.secret_hash)

    def _look(self) -> None:
        now = self._clock()
        if now - self._looked_at < PAUSE:
            return
        self._looked_at = now
        self._look_at_master()
        state = _state(self._file.path)
        if state == self._state and not self._complaint:
            return
        try:
            self._take(self._file.read())
        except KeysError as error:
            self._exists = True
            if str(error) != self._complaint:
                log.error("the keys stay as they were", error=str(error))  # noqa: TRY400
            self._complaint = str(error)
        else:
            self._state, self._complaint = state, ""

    def _look_at_master(self) -> None:
        path = self._master_file
        if path is None or (state := _state(path)) == self._master_state:
            return
        self._master_state = state
        try:
            text = private_file.read(path)
        except KeysError as error:
            self._master_complaint = str(error)
        else:
            self._master_complaint = ""
            if text is None or text.strip() != self.master.secret:
                self._master_complaint = (
                    f"{path} {'is gone' if text is None else 'holds another master key'}; bring "
                    "back the one that this service goes on with, or start again, which makes all "
                    "AWS secrets and tokens that it believes invalid"
                )
        if self._master_complaint:
            log.error("the master key stays as it was", error=self._master_complaint)

    def _take(self, keys: tuple[Key, ...] | None) -> None:
        if keys is not None:
            self._exists = True
            self._clients, self._access_keys = _tables(keys)
            log.info("the keys were read again", keys=len(keys))
        elif self._exists:
            raise KeysError(f"{self._file.path} is gone; restart to do without keys")


def _tables(keys: tuple[Key, ...]) -> tuple[Mapping[str, Key], Mapping[str, Key]]:
    return {key.client_id: key for key in keys}, {key.access_key_id: key for key in keys}


def _state(path: Path) -> tuple[int, ...] | None:
    """What differs as soon as a file's content or permissions do."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _hash(client_secret: str) -> str:
    # A slow hash protects what can be guessed. These are 256 random bits.
    return sha256(client_secret.encode("utf-8", "surrogatepass")).hexdigest()


def _require_valid(key: Key) -> None:
    hidden = unfit(key.name)
    wrong = [] if hidden is None else [f"name: {hidden}"]
    try:
        _key.validate_python(key)
    except ValidationError as error:
        wrong += [words for words in words_of(error) if words not in wrong]
    if wrong:
        raise KeysError(f"there can be no such key: {'; '.join(wrong)}")
