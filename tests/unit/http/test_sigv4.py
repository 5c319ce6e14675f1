"""What AWS's own signer signs is believed; anything that is changed afterwards is not."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

import boto3
import pytest
from botocore import auth
from botocore.awsrequest import AWSPreparedRequest, AWSRequest
from botocore.credentials import Credentials
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segexport.errors import SignatureRefused, TokenRefused
from segexport.http.keys import IssuedKey, KeyFile, KeyRing, MasterKey
from segexport.http.sessions import TemporaryCredentials, temporary_credentials
from segexport.http.sigv4 import MAX_SIGNED_HEADERS, MAX_TARGET, SignedRequest, verify
from segexport.http.tokens import Kind, Tokens
from segexport.settings.http import TokenSettings
from unit.http.conftest import NOW, Clock

REGION: Final = "us-east-1"
SERVICE: Final = "mobiletargeting"
URL: Final = "https://127.0.0.1:8443/v1/apps/shop/jobs/export"

Change = Callable[[SignedRequest], SignedRequest]


def sign(
    issued: IssuedKey,
    *,
    method: str = "POST",
    url: str = URL,
    parameters: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    body: bytes = b'{"SegmentId": "gold"}',
    region: str = REGION,
    service: str = SERVICE,
    token: str | None = None,
) -> SignedRequest:
    """A request as a server receives it from a client that uses botocore."""
    request = AWSRequest(
        method=method, url=url, params=parameters, headers=dict(headers or {}), data=body
    )
    login = Credentials(issued.key.access_key_id, issued.secret_access_key, token)
    auth.SigV4Auth(login, service, region).add_auth(request)
    return received(request.prepare())


def received(sent: AWSPreparedRequest) -> SignedRequest:
    target = urlsplit(sent.url)
    lines = [("Host", target.netloc), *sent.headers.items()]
    return SignedRequest(
        method=sent.method,
        raw_path=target.path.encode(),
        query=target.query.encode(),
        headers=tuple((name.encode(), _bytes(value)) for name, value in lines),
        body=sent.body or b"",
    )


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin-1")


def header(request: SignedRequest, name: bytes) -> bytes:
    (value,) = (value for other, value in request.headers if other.lower() == name.lower())
    return value


def with_header(name: bytes, change: Callable[[bytes], bytes]) -> Change:
    """Change the value of a header that is there."""

    def changed(request: SignedRequest) -> SignedRequest:
        header(request, name)
        return replace(
            request,
            headers=tuple(
                (other, change(value) if other.lower() == name.lower() else value)
                for other, value in request.headers
            ),
        )

    return changed


def with_more(*headers: tuple[bytes, bytes]) -> Change:
    return lambda request: replace(request, headers=(*request.headers, *headers))


def without(name: bytes) -> Change:
    return lambda request: replace(
        request, headers=tuple(one for one in request.headers if one[0].lower() != name.lower())
    )


def refused(request: SignedRequest, ring: KeyRing, **arguments: object) -> SignatureRefused:
    """How the request is refused."""
    now = arguments.get("now", datetime.now(UTC))
    assert isinstance(now, datetime)
    with pytest.raises(SignatureRefused) as caught:
        verify(request, ring, regions=[str(arguments.get("region", REGION))], now=now)
    return caught.value


def accepted(request: SignedRequest, ring: KeyRing, issued: IssuedKey) -> bool:
    return verify(request, ring, regions=[REGION], now=datetime.now(UTC)) == issued.key


# What may stand in a path without being encoded, and what clients encode of it, differs.
segments: Final = st.builds(
    quote,
    st.text(min_size=1, max_size=12),
    safe=st.sampled_from(["", "~", "!$&'()*+,;=:@~"]),
).filter(lambda segment: segment not in {".", ".."})
paths: Final = st.builds(
    lambda parts, end: "/v1/" + "/".join(parts) + end,
    st.lists(segments, min_size=1, max_size=5),
    st.sampled_from(["", "/"]),
)
queries: Final = st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=12), max_size=4)
printable: Final = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20)
more_headers: Final = st.fixed_dictionaries(
    {"X-Amz-Meta": printable}, optional={"Content-Type": printable, "Accept": printable}
)
requests: Final = st.fixed_dictionaries(
    {
        "method": st.sampled_from(["GET", "POST", "DELETE"]),
        "url": paths.map(lambda path: f"https://127.0.0.1:8443{path}"),
        "parameters": queries.map(lambda query: {"token": "1", **query}),
        "headers": more_headers,
        "body": st.binary(max_size=64),
    }
)
often: Final = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

CHANGES: Final[Mapping[str, Change]] = {
    "method": lambda request: replace(request, method="PUT"),
    "letters of the method": lambda request: replace(request, method=request.method.lower()),
    "longer path": lambda request: replace(request, raw_path=request.raw_path + b"x"),
    "other path": lambda request: replace(request, raw_path=b"/v2" + request.raw_path[3:]),
    "path encoded otherwise": lambda request: replace(
        request, raw_path=b"/%761" + request.raw_path[3:]
    ),
    "a query's value": lambda request: replace(
        request, query=request.query.replace(b"token=1", b"token=2")
    ),
    "one more query": lambda request: replace(request, query=request.query + b"&page-size=1"),
    "no query": lambda request: replace(request, query=b""),
    "host": with_header(b"host", lambda value: value + b"1"),
    "a signed header": with_header(b"x-amz-meta", lambda value: value + b"1"),
    "a signed header twice": with_more((b"X-Amz-Meta", b"1")),
    "a signed header less": without(b"x-amz-meta"),
    "an Amazon header that is not signed": with_more((b"X-Amz-Target", b"x")),
    "body": lambda request: replace(request, body=request.body + b" "),
    "date": with_header(b"x-amz-date", lambda value: value[:-2] + b"%1dZ" % (1 - value[-2] % 2)),
    "signature": with_header(
        b"authorization", lambda value: value[:-1] + (b"0" if value[-1:] != b"0" else b"1")
    ),
    "names of signed headers": with_header(
        b"authorization", lambda value: value.replace(b"x-amz-meta", b"x-amz-metb")
    ),
}


@often
@given(request=requests)
def test_what_botocore_signs_is_accepted(
    request: Mapping[str, object], ring: KeyRing, issued: IssuedKey
) -> None:
    assert accepted(sign(issued, **request), ring, issued)  # type: ignore[arg-type]


@pytest.mark.parametrize("change", CHANGES)
@settings(parent=often, max_examples=15)
@given(request=requests)
def test_what_was_changed_on_its_way_is_refused(
    change: str, request: Mapping[str, object], ring: KeyRing, issued: IssuedKey
) -> None:
    signed = sign(issued, **request)  # type: ignore[arg-type]
    refusal = refused(CHANGES[change](signed), ring)
    assert (refusal.error_type, refusal.status) == ("InvalidSignatureException", 403)


@often
@given(request=requests, data=st.data())
def test_no_other_byte_of_path_query_or_body_is_accepted(
    request: Mapping[str, object], data: st.DataObject, ring: KeyRing, issued: IssuedKey
) -> None:
    signed = sign(issued, **request)  # type: ignore[arg-type]
    where = data.draw(st.sampled_from(["raw_path", "query", "body"]))
    before = getattr(signed, where) or b"x"
    at = data.draw(st.integers(0, len(before) - 1))
    byte = data.draw(st.sampled_from(b"aB1-~").filter(lambda byte: byte != before[at]))
    changed = bytes(before[:at]) + bytes([byte]) + bytes(before[at + 1 :])
    # %2a and %2A are one character, as are A and %41, in a query; so are a name without = and
    # one with an empty value.
    if where == "query" and b"%" in before[max(0, at - 2) : at + 1]:
        return
    refused(replace(signed, **{where: changed}), ring)  # type: ignore[arg-type]


class Sent(Exception):
    """A request that would have gone out now."""


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        (
            "create_export_job",
            {"ExportJobRequest": {"RoleArn": "any", "S3UrlPrefix": "s3://exports/é"}},
        ),
        ("get_export_job", {"JobId": "4711"}),
        ("get_export_jobs", {"PageSize": "5", "Token": "a+b/c= d~"}),
        ("get_segment_export_jobs", {"SegmentId": "gold/é +%~"}),
    ],
)
def test_the_client_of_amazon_pinpoint_is_believed(
    operation: str, arguments: Mapping[str, object], ring: KeyRing, issued: IssuedKey
) -> None:
    client = boto3.session.Session().client(
        "pinpoint",
        region_name=REGION,
        endpoint_url="http://127.0.0.1:8080",
        aws_access_key_id=issued.key.access_key_id,
        aws_secret_access_key=issued.secret_access_key,
    )

    def catch(request: AWSPreparedRequest, **_: object) -> None:
        raise Sent(request)

    client.meta.events.register("before-send.pinpoint", catch)
    with pytest.raises(Sent) as caught:
        getattr(client, operation)(ApplicationId="shop (new)/é", **arguments)
    assert accepted(received(caught.value.args[0]), ring, issued)


def test_the_signers_region_service_and_secret_have_to_be_right(
    ring: KeyRing, issued: IssuedKey
) -> None:
    other = replace(issued, secret_access_key=issued.secret_access_key[::-1])
    assert refused(sign(other), ring).error_type == "InvalidSignatureException"
    for request in (sign(issued, region="eu-west-1"), sign(issued, service="s3")):
        refusal = refused(request, ring)
        assert refusal.error_type == "InvalidSignatureException"
        assert "/us-east-1/mobiletargeting/aws4_request" in str(refusal)
    assert "/eu-west-1/" in str(refused(sign(issued), ring, region="eu-west-1"))


def test_a_request_may_be_signed_for_any_of_the_regions(ring: KeyRing, issued: IssuedKey) -> None:
    regions = ["us-east-1", "eu-west-1"]
    for region in regions:
        request = sign(issued, region=region)
        assert verify(request, ring, regions=regions, now=datetime.now(UTC)) == issued.key
    with pytest.raises(SignatureRefused, match=r"/us-east-1/\S+ or /eu-west-1/"):
        verify(sign(issued, region="us-west-2"), ring, regions=regions, now=datetime.now(UTC))


def test_a_region_that_was_only_written_over_is_refused(ring: KeyRing, issued: IssuedKey) -> None:
    request = sign(issued, region="eu-west-1")
    moved = with_header(b"authorization", lambda value: value.replace(b"eu-west-1", b"us-east-1"))
    assert "signature is not that of" in str(refused(moved(request), ring))


def test_clocks_may_differ_by_five_minutes(ring: KeyRing, issued: IssuedKey) -> None:
    request = sign(issued)
    text = header(request, b"x-amz-date").decode()
    moment = datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    far = timedelta(minutes=5)
    for now in (moment - far, moment + far):
        assert verify(request, ring, regions=[REGION], now=now) == issued.key
    late = refused(request, ring, now=moment + far + timedelta(seconds=1))
    early = refused(request, ring, now=moment - far - timedelta(seconds=1))
    assert str(late).startswith(f"Signature expired: {text} is now earlier than")
    assert str(early).startswith(f"Signature not yet current: {text} is still later than")
    assert {late.error_type, early.error_type} == {"RequestTimeTooSkewed"}


def test_another_master_key_makes_signatures_invalid(ring: KeyRing, issued: IssuedKey) -> None:
    other = KeyRing(ring._file, MasterKey("another master key of 32 letters"))
    assert refused(sign(issued), other).error_type == "InvalidSignatureException"
    assert other.believes(issued.key, issued.client_secret)


def test_an_access_key_that_is_not_there_is_named(ring: KeyRing, issued: IssuedKey) -> None:
    stranger = replace(issued, key=replace(issued.key, access_key_id="ABCDEFGHIJKLMNOPQRST"))
    refusal = refused(sign(stranger), ring)
    assert refusal.error_type == "UnrecognizedClientException"
    assert "ABCDEFGHIJKLMNOPQRST" in str(refusal)


def test_a_session_token_of_aws_means_nothing_here(ring: KeyRing, issued: IssuedKey) -> None:
    refusal = refused(sign(issued, token="of another account"), ring)
    assert refusal.error_type == "UnrecognizedClientException"
    assert "AWS_SESSION_TOKEN" in str(refusal)
    assert "of another account" not in str(refusal)
    assert "segexport keys session" in str(refusal)


# Temporary credentials


def temporary(ring: KeyRing, issued: IssuedKey, seconds: float = 3_600) -> TemporaryCredentials:
    return temporary_credentials(
        ring.master, issued.key, now=datetime.now(UTC), lifetime=timedelta(seconds=seconds)
    )


def signed_with(login: TemporaryCredentials, issued: IssuedKey, **other: str) -> SignedRequest:
    """A request of a client that has these credentials; `other` are parts of others."""
    given = {
        "access_key_id": login.access_key_id,
        "secret_access_key": login.secret_access_key,
        "session_token": login.session_token,
        **other,
    }
    stand_in = replace(
        issued,
        key=replace(issued.key, access_key_id=given["access_key_id"]),
        secret_access_key=given["secret_access_key"],
    )
    return sign(stand_in, token=given["session_token"])


def test_temporary_credentials_sign_for_their_key_until_they_end(
    ring: KeyRing, issued: IssuedKey
) -> None:
    login = temporary(ring, issued)
    assert accepted(signed_with(login, issued), ring, issued)
    ended = temporary(ring, issued, seconds=0)
    refusal = refused(signed_with(ended, issued), ring)
    assert (refusal.error_type, refusal.status) == ("ExpiredTokenException", 403)
    assert "segexport keys session" in str(refusal)


def test_temporary_credentials_are_each_time_others_and_shown_by_no_accident(
    ring: KeyRing, issued: IssuedKey
) -> None:
    first, second = temporary(ring, issued), temporary(ring, issued)
    for name in ("access_key_id", "secret_access_key", "session_token"):
        assert getattr(first, name) != getattr(second, name)
    assert first.secret_access_key not in repr(first)
    assert first.session_token not in repr(first)


def test_parts_of_different_credentials_do_not_go_together(
    ring: KeyRing, issued: IssuedKey
) -> None:
    login, other = temporary(ring, issued), temporary(ring, issued)
    for wrong in (
        {"access_key_id": other.access_key_id},
        {"access_key_id": issued.key.access_key_id},
        {"secret_access_key": other.secret_access_key},
        {"secret_access_key": issued.secret_access_key},
        {"session_token": other.session_token},
    ):
        kind = refused(signed_with(login, issued, **wrong), ring).error_type
        assert kind in {"UnrecognizedClientException", "InvalidSignatureException"}, wrong


def test_a_temporary_access_key_needs_its_session_token(ring: KeyRing, issued: IssuedKey) -> None:
    refusal = refused(signed_with(temporary(ring, issued), issued, session_token=""), ring)
    assert refusal.error_type == "UnrecognizedClientException"
    assert "session token" in str(refusal)


def test_a_session_token_has_to_be_signed_and_there_once(ring: KeyRing, issued: IssuedKey) -> None:
    login = temporary(ring, issued)
    plain = signed_with(login, issued, session_token="")
    more = with_more((b"x-amz-security-token", login.session_token.encode()))
    assert "'x-amz-security-token' has to be signed" in str(refused(more(plain), ring))
    twice = more(signed_with(login, issued))
    assert refused(twice, ring).error_type == "IncompleteSignatureException"


def test_temporary_credentials_end_with_their_key(
    master: MasterKey, tmp_path: Path, clock: Clock
) -> None:
    file = KeyFile(tmp_path / "keys.json")
    made = file.create(master, "ci", organization="acme", now=NOW)
    ring = KeyRing(file, master, clock)
    login = temporary(ring, made)
    assert accepted(signed_with(login, made), ring, made)
    file.revoke(made.key.client_id)
    clock.seconds = 1
    assert "was revoked" in str(refused(signed_with(login, made), ring))


def test_a_bearer_token_is_no_session_token(ring: KeyRing, issued: IssuedKey) -> None:
    for kind in Kind:
        token, _ = Tokens(ring.master, ring, TokenSettings()).issue(
            issued.key, datetime.now(UTC), kind
        )
        assert "not believed" in str(refused(sign(issued, token=token), ring))


async def test_a_session_token_is_no_bearer_token(ring: KeyRing, issued: IssuedKey) -> None:
    tokens = Tokens(ring.master, ring, TokenSettings())
    token = temporary(ring, issued).session_token
    for kind in Kind:
        with pytest.raises(TokenRefused):
            await tokens.client_of(token, datetime.now(UTC), kind)


def test_a_request_without_authorization_misses_it(ring: KeyRing, issued: IssuedKey) -> None:
    refusal = refused(without(b"authorization")(sign(issued)), ring)
    assert (refusal.error_type, refusal.status) == ("MissingAuthenticationTokenException", 403)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda _: b"Bearer abc", "begin with AWS4-HMAC-SHA256"),
        (lambda value: value.replace(b"SHA256", b"SHA1"), "begin with AWS4-HMAC-SHA256"),
        (lambda value: value.replace(b"Signature=", b"Signed="), "needs Credential"),
        (lambda value: value + b", Signature=" + b"0" * 64, "needs Credential"),
        (lambda value: value.replace(b"/aws4_request", b""), "ACCESS-KEY-ID/DATE"),
        (lambda value: value[:-64] + value[-64:].upper() + b"AF", "64 hexadecimal"),
        (lambda value: value[:-64] + "é".encode() * 32, "64 hexadecimal"),
        (lambda value: value + b"0" * 9_000, "more than 8192 bytes"),
        (lambda value: value.replace(b"host;", b"host;host;"), "sorted, each name once"),
        (lambda value: value.replace(b"host;x-amz-date", b"x-amz-date;host"), "sorted"),
        (
            lambda value: value.replace(
                b"host", b";".join(b"h%03d" % number for number in range(MAX_SIGNED_HEADERS))
            ),
            "headers are signed",
        ),
    ],
)
def test_an_authorization_that_is_not_whole_is_refused_with_what_is_wrong(
    change: Callable[[bytes], bytes], said: str, ring: KeyRing, issued: IssuedKey
) -> None:
    refusal = refused(with_header(b"authorization", change)(sign(issued)), ring)
    assert refusal.error_type == "IncompleteSignatureException"
    assert said in str(refusal)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"host;", b"", "'host' has to be signed"),
        (b";x-amz-date", b"", "'x-amz-date' has to be signed"),
        (b"host;", b"host;x-amz-a;", "'x-amz-a' is signed, but not there"),
    ],
)
def test_the_headers_that_matter_have_to_be_signed_and_there(
    old: bytes, new: bytes, said: str, ring: KeyRing, issued: IssuedKey
) -> None:
    change = with_header(b"authorization", lambda value: value.replace(old, new))
    refusal = refused(change(sign(issued)), ring)
    assert (refusal.error_type, said in str(refusal)) == ("InvalidSignatureException", True)


@pytest.mark.parametrize("name", [b"Authorization", b"X-Amz-Date"])
def test_what_may_be_there_once_is_not_taken_twice(
    name: bytes, ring: KeyRing, issued: IssuedKey
) -> None:
    request = sign(issued)
    twice = with_more((name, header(request, name)))(request)
    assert refused(twice, ring).error_type == "IncompleteSignatureException"


@pytest.mark.parametrize(
    "text",
    ["20260301", "20260301T1200Z", "20261301T120000Z", "20260301T12000\N{FULLWIDTH DIGIT TWO}Z"],
)
def test_a_date_that_is_none_is_refused(text: str, ring: KeyRing, issued: IssuedKey) -> None:
    change = with_header(b"x-amz-date", lambda _: text.encode())
    assert refused(change(sign(issued)), ring).error_type == "IncompleteSignatureException"


def test_the_date_of_the_scope_is_that_of_the_request(ring: KeyRing, issued: IssuedKey) -> None:
    request = sign(issued)
    today = header(request, b"x-amz-date")[:8]
    change = with_header(b"authorization", lambda value: value.replace(today, b"20200101"))
    assert "the date in Credential" in str(refused(change(request), ring))


@pytest.mark.parametrize("content", ["UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"])
def test_a_body_that_is_not_signed_is_refused(
    content: str, ring: KeyRing, issued: IssuedKey
) -> None:
    request = sign(issued, headers={"X-Amz-Content-SHA256": content})
    assert "has to be signed" in str(refused(request, ring))


def test_the_hash_of_the_body_is_our_own(ring: KeyRing, issued: IssuedKey) -> None:
    named = sign(issued, headers={"X-Amz-Content-SHA256": auth.EMPTY_SHA256_HASH}, body=b"")
    assert accepted(named, ring, issued)
    other = replace(named, body=b"{}")
    assert "not the SHA-256 of the body" in str(refused(other, ring))


@pytest.mark.parametrize("path", ["/v1//apps", "/v1/./apps", "/v1/x/../apps", "/v1/..", "//"])
def test_a_path_that_signers_shorten_is_refused(
    path: str, ring: KeyRing, issued: IssuedKey
) -> None:
    request = replace(sign(issued, url=f"https://127.0.0.1:8443{path}"), raw_path=path.encode())
    assert "the path has to" in str(refused(request, ring))


@pytest.mark.parametrize(
    "path",
    [
        "/v1/apps/shop/segments/../jobs/export",
        "/v1/apps/shop/segments/./jobs/export",
        "/v1/apps/shop/jobs/export/..",
        "/v1/apps/../jobs/export",
        "/v1/apps/shop/segments/%2E%2E/jobs/export",
    ],
)
@pytest.mark.parametrize("shortens", [True, False])
def test_an_id_of_dots_is_accepted_as_either_kind_of_signer_has_it(
    path: str,
    ring: KeyRing,
    issued: IssuedKey,
    monkeypatch: pytest.MonkeyPatch,
    *,
    shortens: bool,
) -> None:
    if not shortens:
        monkeypatch.setattr(
            auth.SigV4Auth, "_normalize_url_path", lambda _, given: quote(given, safe="/~")
        )
    request = replace(sign(issued, url=f"https://127.0.0.1:8443{path}"), has_ids=True)
    assert accepted(request, ring, issued)
    longer = replace(request, raw_path=request.raw_path + b"x")
    assert "signature is not that of" in str(refused(longer, ring))


@pytest.mark.parametrize("path", ["/v1//apps", "//", "/v1/apps//"])
def test_an_id_that_is_empty_is_refused(path: str, ring: KeyRing, issued: IssuedKey) -> None:
    signed = sign(issued, url=f"https://127.0.0.1:8443{path}")
    request = replace(signed, raw_path=path.encode(), has_ids=True)
    assert "the path has to" in str(refused(request, ring))


def test_a_bare_plus_in_the_query_is_a_space(ring: KeyRing, issued: IssuedKey) -> None:
    plus = sign(issued, parameters={"token": "a+b"})
    space = sign(issued, url=f"{URL}?token=a%20b")
    assert accepted(plus, ring, issued)
    assert accepted(replace(space, query=b"token=a+b"), ring, issued)
    assert "signature is not that of" in str(refused(replace(plus, query=b"token=a+b"), ring))


def test_a_target_without_end_is_refused(ring: KeyRing, issued: IssuedKey) -> None:
    request = sign(issued, parameters={"token": "x" * MAX_TARGET})
    assert f"more than {MAX_TARGET} bytes" in str(refused(request, ring))


def test_headers_of_one_name_count_together_and_spaces_once(
    ring: KeyRing, issued: IssuedKey
) -> None:
    request = sign(issued, headers={"X-Amz-Meta": "one,two  words"})
    lines: Sequence[tuple[bytes, bytes]] = [
        *without(b"x-amz-meta")(request).headers,
        (b"x-amz-meta", b" one"),
        (b"X-AMZ-META", b"two words "),
    ]
    assert accepted(replace(request, headers=lines), ring, issued)


def test_a_refusal_tells_neither_secret_nor_signature(ring: KeyRing, issued: IssuedKey) -> None:
    request = sign(issued)
    right = header(request, b"authorization")[-64:].decode()
    change = with_header(b"authorization", lambda value: value[:-1] + b"0")
    other = replace(change(request), body=b"")
    said = str(refused(other, ring)) + repr(issued) + repr(ring.master)
    assert right not in said
    assert issued.secret_access_key not in said
