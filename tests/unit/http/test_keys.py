"""API keys: made once, kept without their secrets, and read again by a running server."""

import json
import os
import stat
import threading
from codecs import BOM_UTF8
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest
from structlog.testing import capture_logs

from segexport.errors import KeysError, UnknownKey
from segexport.http import private_file
from segexport.http.keys import IssuedKey, KeyFile, KeyRing, MasterKey
from segexport.jobs.job import Scope
from segexport.settings import Settings
from unit.http.conftest import NOW, Clock

MASTER: Final = MasterKey("0123456789abcdefghijklmnopqrstuv")


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "made" / "keys.json")


@pytest.fixture(autouse=True)
def _usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def make(file: KeyFile, name: str = "ci", *sandboxes: str) -> IssuedKey:
    return file.create(MASTER, name, organization="acme", sandboxes=sandboxes, now=NOW)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_key_is_for_an_organization_or_some_of_its_sandboxes(file: KeyFile) -> None:
    everywhere, some = make(file).key, make(file, "some", "prod", "dev", "prod").key
    assert some.sandboxes == ("prod", "dev")
    assert everywhere.allows(Scope("acme", "whatever"))
    assert not everywhere.allows(Scope("other", "prod"))
    assert [some.allows(Scope("acme", name)) for name in ("prod", "dev", "stage")] == [
        True,
        True,
        False,
    ]
    assert not some.allows(Scope("other", "prod"))


def test_ids_and_secrets_look_as_clients_expect_and_are_never_the_same(file: KeyFile) -> None:
    issued = [make(file) for _ in range(10)]
    for one in issued:
        assert (len(one.key.access_key_id), len(one.secret_access_key)) == (20, 40)
        assert one.key.access_key_id.isalnum()
        assert one.key.access_key_id.isupper()
        assert len(bytes.fromhex(one.client_secret)) == 32
    assert len({one.client_secret for one in issued}) == len(issued)
    assert len({one.secret_access_key for one in issued}) == len(issued)


def test_the_file_holds_no_secret_and_only_its_owner_reads_it(file: KeyFile) -> None:
    issued = make(file)
    text = file.path.read_text()
    assert issued.client_secret not in text
    assert issued.secret_access_key not in text
    assert file.keys() == (issued.key,)
    assert mode(file.path) == 0o600


def test_a_file_is_private_from_its_first_moment(
    file: KeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.umask(0)
    seen: list[int] = []
    opened = os.open

    def watched(path: Path, flags: int, *arguments: int) -> int:
        descriptor = opened(path, flags, *arguments)
        if flags & os.O_CREAT:
            seen.append(mode(path))
        return descriptor

    monkeypatch.setattr(os, "open", watched)
    make(file)
    MasterKey.in_file(file.path.with_name("master.key"))
    assert seen == [0o600, 0o600]


def test_what_a_killed_writer_has_left_is_not_in_the_way(file: KeyFile) -> None:
    first = make(file)
    leftover = file.path.with_name("keys.json.next")
    leftover.write_text("half")
    leftover.chmod(0o644)
    second = make(file)
    assert file.keys() == (first.key, second.key)
    assert mode(file.path) == 0o600
    assert not leftover.exists()


def test_two_writers_do_not_lose_each_others_keys(
    file: KeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(2)
    replace = private_file.replace

    def replace_together(path: Path, text: str) -> None:
        """Wait a moment for the other one, who must not have come as far."""
        with suppress(threading.BrokenBarrierError):
            together.wait(0.2)
        replace(path, text)

    monkeypatch.setattr(private_file, "replace", replace_together)
    with ThreadPoolExecutor(2) as writers:
        made = list(writers.map(lambda name: make(file, name).key, ("one", "other")))
    assert sorted(file.keys(), key=lambda key: key.name) == made


def test_a_revoked_key_is_gone_and_cannot_be_revoked_again(file: KeyFile) -> None:
    first, second = make(file), make(file)
    assert file.revoke(first.key.client_id) == first.key
    assert file.keys() == (second.key,)
    with pytest.raises(UnknownKey, match="segexport keys list"):
        file.revoke(first.key.client_id)


@pytest.mark.parametrize(
    ("name", "organization", "sandbox", "wrong"),
    [
        ("", "acme", "prod", "name"),
        ("a\nb", "acme", "prod", "name"),
        ("a\u202eb", "../acme", "prod", r"name: its character 2 is U\+202E.*organization"),
        ("x" * 129, "acme", "prod", "name"),
        ("ci", "../acme", "prod", "organization"),
        ("ci", "acme", "a/b", "sandboxes"),
    ],
)
def test_what_could_not_be_a_scope_is_refused_and_nothing_is_written(
    file: KeyFile, name: str, organization: str, sandbox: str, wrong: str
) -> None:
    with pytest.raises(KeysError, match=f"there can be no such key: .*{wrong}"):
        file.create(MASTER, name, organization=organization, sandboxes=(sandbox,), now=NOW)
    assert file.keys() == ()


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620, 0o602])
def test_a_file_that_is_open_to_others_is_not_used(file: KeyFile, bits: int) -> None:
    make(file)
    file.path.chmod(bits)
    with pytest.raises(KeysError, match=f"open to others .*{bits:04o}.* chmod 600"):
        file.keys()
    with pytest.raises(KeysError, match="open to others"):
        make(file)


def damage(file: KeyFile, how: str) -> None:
    text = file.path.read_text()
    entry = json.loads(text)["keys"][0]
    damaged = {
        "cut": text[: len(text) // 2],
        "empty": "",
        "a list": "[]",
        "another version": json.dumps({"version": 2, "keys": []}),
        "a hash that is none": text.replace(entry["secret_hash"], "secret"),
        "a word too many": json.dumps({"version": 1, "keys": [{**entry, "secret": "much"}]}),
        "a name twice": text.replace('"organization"', '"name":"other","organization"', 1),
        "a key twice": json.dumps({"version": 1, "keys": [entry, entry]}),
    }
    file.path.write_text(damaged[how])


DAMAGES: Final = (
    "cut",
    "empty",
    "a list",
    "another version",
    "a hash that is none",
    "a word too many",
    "a name twice",
    "a key twice",
)


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_file_is_named_but_not_quoted(file: KeyFile, how: str) -> None:
    issued = make(file)
    damage(file, how)
    before = file.path.read_bytes()
    with pytest.raises(KeysError, match=r"is damaged: .* backup") as caught:
        file.keys()
    assert str(file.path) in str(caught.value)
    assert not {"much", issued.key.secret_hash} & set(str(caught.value).split())
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    with pytest.raises(KeysError, match="is damaged"):
        make(file)
    assert file.path.read_bytes() == before


def test_a_file_that_is_no_text_is_damaged(file: KeyFile) -> None:
    make(file)
    file.path.write_bytes(b"\xff\xfe")
    with pytest.raises(KeysError, match="is damaged"):
        file.keys()


def test_a_byte_order_mark_before_either_file_is_left_out(file: KeyFile) -> None:
    key = make(file).key
    master = MasterKey.in_file(file.path.with_name("master.key"))
    for path in file.path, file.path.with_name("master.key"):
        path.write_bytes(BOM_UTF8 + path.read_bytes())
    assert file.keys() == (key,)
    assert MasterKey.in_file(file.path.with_name("master.key")) == master


def test_where_nothing_can_be_written_the_error_says_so(tmp_path: Path) -> None:
    (tmp_path / "occupied").touch()
    with pytest.raises(KeysError, match="cannot be"):
        make(KeyFile(tmp_path / "occupied" / "keys.json"))


def test_the_master_key_is_made_when_first_needed_and_then_stays(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "data")
    master = MasterKey.of(settings)
    assert mode(settings.master_key_file) == 0o600
    assert MasterKey.of(settings) == master
    assert len(master.signing_key) == 32
    settings.master_key_file.chmod(0o644)
    with pytest.raises(KeysError, match="open to others"):
        MasterKey.of(settings)


def test_the_file_of_the_master_key_holds_what_the_setting_could_be(tmp_path: Path) -> None:
    made = MasterKey.of(Settings(data=tmp_path))
    text = (tmp_path / "master.key").read_text().strip()
    elsewhere = Settings.model_validate({"data": tmp_path / "x", "http": {"master_key": text}})
    assert MasterKey.of(elsewhere) == made
    assert not (tmp_path / "x").exists()


def test_a_master_key_that_was_cut_short_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    path.touch(0o600)
    with pytest.raises(KeysError, match="is damaged: a master key has 32"):
        MasterKey.in_file(path)
    assert path.read_bytes() == b""


def test_what_is_derived_differs_by_purpose_key_and_master() -> None:
    other = MasterKey("another master key of 32 letters")
    derived = {
        MASTER.signing_key,
        other.signing_key,
        MASTER.secret_access_key("A"),
        MASTER.secret_access_key("B"),
        other.secret_access_key("A"),
    }
    assert len(derived) == 5


def test_nothing_that_is_printed_shows_a_secret_or_a_hash(file: KeyFile) -> None:
    issued = make(file)
    shown = f"{issued!r} {issued} {issued.key!r} {MASTER!r} {KeyRing(file, MASTER)!r}"
    hidden = (
        issued.client_secret,
        issued.secret_access_key,
        issued.key.secret_hash,
        MASTER.secret,
    )
    assert not [secret for secret in hidden if secret in shown]
    assert issued.key.client_id in shown


def test_a_ring_finds_keys_and_knows_their_secrets(file: KeyFile) -> None:
    issued, other = make(file), make(file)
    ring = KeyRing(file, MASTER)
    assert ring.by_client(issued.key.client_id) == issued.key
    assert ring.by_access_key(other.key.access_key_id) == other.key
    assert (ring.by_client("x"), ring.by_access_key("x")) == (None, None)
    assert ring.secret_access_key(issued.key) == issued.secret_access_key
    assert ring.believes(issued.key, issued.client_secret)
    for wrong in (other.client_secret, "", issued.key.secret_hash, "é", "\ud800"):
        assert not ring.believes(issued.key, wrong)


def test_a_change_of_the_file_takes_effect_within_a_second(file: KeyFile, clock: Clock) -> None:
    ring = KeyRing(file, MASTER, clock)
    issued = make(file)
    assert ring.by_client(issued.key.client_id) is None
    clock.seconds = 1
    assert ring.by_client(issued.key.client_id) == issued.key
    file.revoke(issued.key.client_id)
    clock.seconds = 1.9
    assert ring.by_access_key(issued.key.access_key_id) == issued.key
    clock.seconds = 2
    assert ring.by_access_key(issued.key.access_key_id) is None


def test_a_file_that_has_not_changed_is_not_read_again(
    file: KeyFile, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    issued = make(file)
    ring = KeyRing(file, MASTER, clock)
    monkeypatch.setattr(private_file, "read", lambda _: pytest.fail("read again"))
    clock.seconds = 5
    assert ring.by_client(issued.key.client_id) == issued.key


def spoil(file: KeyFile, how: str) -> None:
    if how == "gone":
        file.path.unlink()
    elif how == "open":
        file.path.chmod(0o644)
    else:
        damage(file, how)


@pytest.mark.parametrize("how", ["gone", "open", *DAMAGES])
def test_a_running_server_keeps_its_keys_when_the_file_cannot_be_read(
    file: KeyFile, clock: Clock, how: str
) -> None:
    issued = make(file)
    good = file.path.read_text()
    ring = KeyRing(file, MASTER, clock)
    spoil(file, how)
    with capture_logs() as logs:
        for clock.seconds in (1, 2, 3):
            assert ring.by_client(issued.key.client_id) == issued.key
    assert [(line["log_level"], line["event"]) for line in logs] == [
        ("error", "the keys stay as they were")
    ]
    assert issued.key.secret_hash not in str(logs)

    file.path.touch(0o600)
    file.path.chmod(0o600)
    file.path.write_text(good)
    file.revoke(issued.key.client_id)
    clock.seconds = 4
    assert ring.by_client(issued.key.client_id) is None


def test_a_server_does_not_start_on_a_damaged_file(file: KeyFile) -> None:
    make(file)
    damage(file, "cut")
    with pytest.raises(KeysError, match="is damaged"):
        KeyRing(file, MASTER)


def test_a_ring_is_empty_only_where_no_key_was_ever_made(file: KeyFile, clock: Clock) -> None:
    ring = KeyRing(file, MASTER, clock)

    def is_empty(*, at: float) -> tuple[bool, bool]:
        """As the server sees it that runs, and one that starts now."""
        clock.seconds = at
        return ring.is_empty, KeyRing(file, MASTER).is_empty

    assert is_empty(at=0) == (True, True)
    issued = make(file)
    assert is_empty(at=1) == (False, False)
    file.revoke(issued.key.client_id)
    assert is_empty(at=2) == (False, False)
    file.path.unlink()
    assert is_empty(at=3) == (False, True)


def test_a_damaged_file_that_appears_does_not_leave_the_door_open(
    file: KeyFile, clock: Clock
) -> None:
    ring = KeyRing(file, MASTER, clock)
    make(file)
    damage(file, "cut")
    clock.seconds = 1
    assert not ring.is_empty


@pytest.mark.parametrize("how", ["gone", "open", "another"])
def test_a_running_server_keeps_its_master_key_and_says_that_the_file_has_another(
    tmp_path: Path, file: KeyFile, clock: Clock, how: str
) -> None:
    path = tmp_path / "master.key"
    master = MasterKey.in_file(path)
    text = path.read_text()
    issued = file.create(master, "ci", organization="acme", now=NOW)
    ring = KeyRing(file, master, clock, master_file=path)
    clock.seconds = 1
    assert ring.is_as_on_disk()
    if how == "open":
        path.chmod(0o644)
    else:
        path.unlink()
    if how == "another":
        MasterKey.in_file(path)
    with capture_logs() as logs:
        for clock.seconds in (2, 3, 4):
            assert not ring.is_as_on_disk()
            assert ring.secret_access_key(issued.key) == issued.secret_access_key
    assert [(line["log_level"], line["event"]) for line in logs] == [
        ("error", "the master key stays as it was")
    ]
    assert text.strip() not in str(logs)

    path.unlink(missing_ok=True)
    private_file.replace(path, text)
    clock.seconds = 5
    assert ring.is_as_on_disk()


def test_a_ring_says_while_the_file_of_keys_is_gone_that_it_goes_by_those_it_had(
    file: KeyFile, clock: Clock
) -> None:
    make(file)
    ring = KeyRing(file, MASTER, clock)
    good = file.path.read_text()
    file.path.unlink()
    clock.seconds = 1
    assert not ring.is_as_on_disk()
    private_file.replace(file.path, good)
    clock.seconds = 2
    assert ring.is_as_on_disk()
