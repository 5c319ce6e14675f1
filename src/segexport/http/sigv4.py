"""Requests signed as AWS clients sign them: Signature Version 4, for Amazon Pinpoint.

What is signed is the request as it was on the wire; so its path and query are needed as they
came, before anything has decoded them. Refusals carry the error types that AWS services with a
JSON protocol answer with, which clients tell one from another by.
"""

import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from segexport.errors import SignatureRefused, TokenExpired, TokenRefused
from segexport.http.keys import Key, KeyRing
from segexport.http.sessions import session_signer

ALGORITHM: Final = "AWS4-HMAC-SHA256"
SERVICE: Final = "mobiletargeting"
"""What Amazon Pinpoint is called in signatures."""
TERMINATOR: Final = "aws4_request"
TOLERANCE: Final = timedelta(minutes=5)
"""By how much the clocks of client and server may differ."""

SKEWED: Final = "RequestTimeTooSkewed"
"""The type upon which AWS's clients that correct their clock by the header Date do so: it is in
the lists of all of them, which differ otherwise (Go's has no RequestExpired)."""
EXPIRED: Final = "ExpiredTokenException"

MAX_AUTHORIZATION: Final = 8_192
"""Bytes in the Authorization header."""
MAX_TARGET: Final = 16_384
"""Bytes in path and query."""
MAX_SIGNED_HEADERS: Final = 64

_TIME: Final = "%Y%m%dT%H%M%SZ"
_DATE_HEADER: Final = "x-amz-date"
_TOKEN_HEADER: Final = "x-amz-security-token"  # noqa: S105  (the name of a header)
_CONTENT_HEADER: Final = "x-amz-content-sha256"
_ALWAYS_SIGNED: Final = ("host", _DATE_HEADER)


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request as it came: path and query still encoded, headers in their order.

    `has_ids`: it is for an operation whose path has ids, so that a segment may be `.` or `..`.
    """

    method: str
    raw_path: bytes
    query: bytes
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes
    has_ids: bool = False


@dataclass(frozen=True, slots=True)
class _Authorization:
    """What the Authorization header says. `scope` is date, region, service and terminator."""

    access_key_id: str
    scope: tuple[str, ...]
    signed_headers: tuple[str, ...]
    signature: str


def verify(request: SignedRequest, ring: KeyRing, *, regions: Sequence[str], now: datetime) -> Key:
    """The key that this request is signed with.

    Raises `SignatureRefused`. The work is bounded by the size of the request, of which all but
    the body is limited here; the body is looked at last.
    """
    headers = _by_name(request.headers)
    given = _authorization(headers)
    _require_scope(given, regions)
    _require_signed(given, headers)
    signed_at = _signing_time(given, headers, now)
    key, secret = _signer(given, headers, ring, now)
    forms = _canonical_forms(request, given, headers)
    for described in forms:
        to_sign = f"{ALGORITHM}\n{signed_at}\n{'/'.join(given.scope)}\n{described}"
        if hmac.compare_digest(_signature(secret, given, to_sign), given.signature):
            return key
    raise _wrong(
        "the signature is not that of this request with the secret access key of "
        f"{given.access_key_id}: either the secret is another, or the request was changed "
        f"on its way (the SHA-256 of its canonical form here is {' or '.join(forms)})"
    )


def _by_name(headers: Sequence[tuple[bytes, bytes]]) -> Mapping[str, Sequence[bytes]]:
    found: dict[str, list[bytes]] = {}
    for name, value in headers:
        found.setdefault(name.decode("latin-1").lower(), []).append(value)
    return found


def _only(headers: Mapping[str, Sequence[bytes]], name: str) -> str:
    """The value of a header that may be there just once."""
    values = headers[name]
    if len(values) > 1:
        raise _incomplete(f"the header {name} is there {len(values)} times")
    return values[0].decode("latin-1").strip()


def _authorization(headers: Mapping[str, Sequence[bytes]]) -> _Authorization:
    if "authorization" not in headers:
        raise SignatureRefused(
            "MissingAuthenticationTokenException",
            403,
            "the request has no Authorization header; sign it with an access key "
            "(AWS Signature Version 4)",
        )
    text = _only(headers, "authorization")
    if len(text) > MAX_AUTHORIZATION:
        raise _incomplete(f"Authorization has more than {MAX_AUTHORIZATION} bytes")
    algorithm, _, rest = text.partition(" ")
    if algorithm != ALGORITHM:
        raise _incomplete(f"Authorization has to begin with {ALGORITHM}; that alone is taken")
    parts = [part.strip().partition("=") for part in rest.split(",")]
    named = {name: value for name, _, value in parts}
    if len(named) < len(parts) or named.keys() != {"Credential", "SignedHeaders", "Signature"}:
        raise _incomplete(
            "Authorization needs Credential, SignedHeaders and Signature, each once, "
            "with commas between them"
        )
    access_key_id, *scope = named["Credential"].split("/")
    if not re.fullmatch(r"[A-Za-z0-9]{1,128}", access_key_id) or len(scope) != 4:  # noqa: PLR2004
        raise _incomplete("Credential has to be ACCESS-KEY-ID/DATE/REGION/SERVICE/aws4_request")
    if not re.fullmatch(r"[0-9a-f]{64}", named["Signature"]):
        raise _incomplete("Signature has to be 64 hexadecimal digits, letters in lower case")
    return _Authorization(
        access_key_id=access_key_id,
        scope=tuple(scope),
        signed_headers=tuple(named["SignedHeaders"].split(";")),
        signature=named["Signature"],
    )


def _signer(
    given: _Authorization, headers: Mapping[str, Sequence[bytes]], ring: KeyRing, now: datetime
) -> tuple[Key, str]:
    """Whose access key it is, and its secret."""
    if _TOKEN_HEADER not in headers:
        key = ring.by_access_key(given.access_key_id)
        if key is None:
            raise _unknown(
                f"there is no access key {given.access_key_id}, or it was revoked; a temporary "
                "one needs its session token as well"
            )
        return key, ring.secret_access_key(key)
    try:
        return session_signer(_only(headers, _TOKEN_HEADER), given.access_key_id, ring, now)
    except TokenExpired as error:
        raise SignatureRefused(
            EXPIRED,
            403,
            "the session token has expired; get new temporary credentials with "
            "`segexport keys session`",
        ) from error
    except TokenRefused as error:
        raise _unknown(
            f"the session token is not believed ({error}). Those of AWS itself, of assumed roles "
            "and single sign-on, mean nothing here: sign with an access key of `segexport keys "
            "create`, or with credentials of `segexport keys session`, in a profile of their own "
            "(and unset AWS_SESSION_TOKEN)"
        ) from error


def _require_scope(given: _Authorization, regions: Sequence[str]) -> None:
    region, *others = given.scope[1:]
    if region not in regions or others != [SERVICE, TERMINATOR]:
        taken = " or ".join(f"/{one}/{SERVICE}/{TERMINATOR}" for one in regions)
        raise _wrong(f"Credential should end with {taken} (pinpoint.regions)")


def _require_signed(given: _Authorization, headers: Mapping[str, Sequence[bytes]]) -> None:
    signed = given.signed_headers
    if len(signed) > MAX_SIGNED_HEADERS:
        raise _incomplete(f"more than {MAX_SIGNED_HEADERS} headers are signed")
    if list(signed) != sorted(set(signed)):
        raise _incomplete("SignedHeaders has to be sorted, each name once")
    for name in signed:
        if name not in headers:
            raise _wrong(f"the header {name[:128]!r} is signed, but not there")
    for name in (*_ALWAYS_SIGNED, *(name for name in headers if name.startswith("x-amz-"))):
        if name not in signed:
            raise _wrong(f"the header {name[:128]!r} has to be signed")


def _signing_time(
    given: _Authorization, headers: Mapping[str, Sequence[bytes]], now: datetime
) -> str:
    text = _only(headers, _DATE_HEADER)
    try:
        # strptime by itself is content with fewer digits.
        moment = datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    except ValueError:
        moment = None
    if moment is None or not re.fullmatch(r"\d{8}T\d{6}Z", text, re.ASCII):
        raise _incomplete(f"{_DATE_HEADER} has to be a time such as 20260131T235959Z")
    if given.scope[0] != text[:8]:
        raise _wrong(f"the date in Credential is not that of {_DATE_HEADER}")
    # Clients know by the type that it is their clock which differs, and by how much from Date.
    earliest, latest = now - TOLERANCE, now + TOLERANCE
    minutes = f"{TOLERANCE.total_seconds() / 60:.0f} min."
    if moment < earliest:
        raise _skewed(
            f"Signature expired: {text} is now earlier than {earliest:{_TIME}} "
            f"({now:{_TIME}} - {minutes})"
        )
    if moment > latest:
        raise _skewed(
            f"Signature not yet current: {text} is still later than {latest:{_TIME}} "
            f"({now:{_TIME}} + {minutes})"
        )
    return text


def _canonical_forms(
    request: SignedRequest, given: _Authorization, headers: Mapping[str, Sequence[bytes]]
) -> Sequence[str]:
    """The SHA-256 of each canonical form that the request may have been signed in."""
    if len(request.raw_path) + len(request.query) > MAX_TARGET:
        raise _wrong(f"path and query have more than {MAX_TARGET} bytes")
    paths = _canonical_paths(request.raw_path, has_ids=request.has_ids)
    lines = [
        _canonical_query(request.query),
        *(
            name.encode("latin-1") + b":" + b",".join(map(_trimmed, headers[name]))
            for name in given.signed_headers
        ),
        b"",
        ";".join(given.signed_headers).encode("latin-1"),
        _content_hash(request.body, headers).encode(),
    ]
    method = request.method.encode("latin-1", "replace")
    return [sha256(b"\n".join([method, path, *lines])).hexdigest() for path in paths]


def _canonical_paths(raw: bytes, *, has_ids: bool) -> Sequence[bytes]:
    """The path with each segment encoded once more, as it is for all services but S3.

    Most signers leave out empty segments and dots, some do not; routes never do. So a path
    with an id that is `.` or `..` is signed as one of two. It cannot lead elsewhere than
    somebody has signed but to an id of the same application. Other paths of that kind would.
    """
    segments = raw.split(b"/")
    dots = bool({b".", b".."} & set(segments))
    if not raw.startswith(b"/") or b"" in segments[1:-1] or (dots and not has_ids):
        raise _wrong("the path has to begin with / and be free of //, /./ and /../")
    paths = [raw, _shortened(segments)] if dots else [raw]
    return [quote(path, safe="/~").encode() for path in paths]


def _shortened(segments: Sequence[bytes]) -> bytes:
    """The path of these segments without dots (RFC 3986, section 5.2.4), as signers have it."""
    kept: list[bytes] = []
    for segment in segments[1:]:
        if segment == b"..":
            del kept[-1:]
        elif segment != b".":
            kept.append(segment)
    return b"/" + b"/".join(kept)


def _canonical_query(raw: bytes) -> bytes:
    """The parameters, each encoded in the one way that is canonical, sorted by name and value.

    A bare + is the space that every reader of a query takes it for.
    """
    if not raw:
        return b""
    pairs = (pair.partition(b"=") for pair in raw.replace(b"+", b" ").split(b"&"))
    encoded = sorted((_encoded(name), _encoded(value)) for name, _, value in pairs)
    return "&".join(f"{name}={value}" for name, value in encoded).encode()


def _encoded(text: bytes) -> str:
    return quote(unquote_to_bytes(text), safe="-_.~")


def _trimmed(value: bytes) -> bytes:
    return b" ".join(value.split())


def _content_hash(body: bytes, headers: Mapping[str, Sequence[bytes]]) -> str:
    """The SHA-256 of the body, always by our own count."""
    content = sha256(body).hexdigest()
    if _CONTENT_HEADER in headers:
        told = _only(headers, _CONTENT_HEADER)
        if told.startswith(("UNSIGNED-", "STREAMING-")):
            raise _wrong("the body has to be signed, as a whole")
        if told != content:
            raise _wrong(f"{_CONTENT_HEADER} is not the SHA-256 of the body")
    return content


def _signature(secret: str, given: _Authorization, to_sign: str) -> str:
    key = f"AWS4{secret}".encode()
    for part in given.scope:
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, to_sign.encode(), "sha256").hex()


def _skewed(message: str) -> SignatureRefused:
    return SignatureRefused(SKEWED, 403, message)


def _incomplete(message: str) -> SignatureRefused:
    return SignatureRefused("IncompleteSignatureException", 403, message)


def _unknown(message: str) -> SignatureRefused:
    return SignatureRefused("UnrecognizedClientException", 403, message)


def _wrong(message: str) -> SignatureRefused:
    return SignatureRefused("InvalidSignatureException", 403, message)
