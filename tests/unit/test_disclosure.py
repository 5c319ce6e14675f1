"""What is told of an error to others than those who run the service."""

import ast
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

import segexport
from segexport import disclosure
from segexport.disclosure import (
    GENERAL,
    LEFT_OUT,
    OWN_WORDS,
    has_own_words,
    may_name_a_place,
    public_words,
    without_places,
)
from segexport.errors import (
    EngineOutOfMemory,
    InvalidRequest,
    PieceFailed,
    Problem,
    ProfileStoreCorrupt,
    SegexportError,
)

PLACES = (
    "/srv/segexport/profiles/0001/bucket=3/persons.parquet",
    "s3://internal-bucket/exports",
    "kafka-1.internal:9092",
    "10.20.30.40:7077",
    "jobs.sqlite",
)
SECRETS = ("srv", "persons", "internal", "10.20", "7077", "sqlite")
TELLING = " and ".join(PLACES)


def every_error(root: type[SegexportError] = SegexportError) -> Iterator[type[SegexportError]]:
    yield root
    for kind in root.__subclasses__():
        yield from every_error(kind)


def telling(kind: type[SegexportError]) -> SegexportError:
    """An error of a type, with words that nobody but the operator may read."""
    if issubclass(kind, PieceFailed):
        return kind(1, 3, ProfileStoreCorrupt(TELLING))
    error = kind.__new__(kind, TELLING)  # whatever else it is made of
    assert str(error) == TELLING
    return error


@pytest.mark.parametrize("kind", [*every_error()], ids=lambda kind: kind.__name__)
def test_no_error_tells_others_a_place(kind: type[SegexportError]) -> None:
    words = public_words(telling(kind))
    assert words
    assert not [secret for secret in SECRETS if secret in words], words


@pytest.mark.parametrize("error", [OSError(2, "gone", "/srv/x"), ZeroDivisionError("/srv/x")])
def test_what_is_no_error_of_ours_is_told_in_general_words(error: Exception) -> None:
    assert public_words(error) == GENERAL


def test_an_error_that_nobody_has_thought_of_is_told_in_general_words() -> None:
    class New(SegexportError):
        pass

    assert public_words(New(TELLING)) == GENERAL


def test_whose_own_words_are_for_everybody_is_decided_here() -> None:
    """Whoever adds one looks at all of its messages first: they must name no place."""
    assert {kind.__name__ for kind in every_error() if issubclass(kind, OWN_WORDS)} == {
        "AccessRefused",
        "BodyFragmented",
        "BodyTooLarge",
        "BodyTooLate",
        "IllegalTransition",
        "InvalidDefinition",
        "InvalidPredicate",
        "InvalidRequest",
        "JobNotFound",
        "RequestConflict",
        "TooLateToCancel",
        "TooManyRequests",
        "UnknownPolicy",
        "UnknownSegment",
    }


def test_the_sentences_for_everybody_are_sentences_without_a_place() -> None:
    for sentence in (*disclosure._SENTENCES.values(), GENERAL):
        assert not may_name_a_place(sentence)
        assert sentence[0].islower()
        assert not sentence.endswith(".")


def test_a_piece_is_told_with_the_sentence_of_its_cause() -> None:
    error = PieceFailed(2, 4, EngineOutOfMemory("raise it in /etc/segexport.toml"))
    assert public_words(error) == (
        "piece 2 has failed 4 times, at last because: "
        "the export does not fit into the memory that the service has for it"
    )
    assert "/etc/segexport.toml" in str(error)


PLACE_NAMES = {
    *("folder", "file", "root", "manifest", "scratch", "staging", "staged", "target", "source"),
    *("bootstrap_servers", "server", "address", "data", "store", "directory", "filename", "here"),
}
"""What variables with places are called in this project."""


def _told_to_everybody() -> Iterator[tuple[str, ast.Call]]:
    """Where errors with words for everybody, and problems of requests, are made."""
    names = {kind.__name__ for kind in every_error() if issubclass(kind, OWN_WORDS)} | {"Problem"}
    for file in Path(segexport.__file__).parent.rglob("*.py"):
        nodes = ast.walk(ast.parse(file.read_text()))
        for call in (node for node in nodes if isinstance(node, ast.Call)):
            if isinstance(call.func, ast.Name) and call.func.id in names:
                yield f"{file.name}:{call.lineno}", call


def _names_in_words(call: ast.Call) -> Sequence[str]:
    written = [part for part in ast.walk(call) if isinstance(part, ast.FormattedValue)]
    return [
        name.id if isinstance(name, ast.Name) else name.attr
        for part in written
        for name in ast.walk(part.value)
        if isinstance(name, ast.Name | ast.Attribute)
    ]


def test_no_words_for_everybody_are_made_of_a_file_or_an_address() -> None:
    calls = list(_told_to_everybody())
    assert len(calls) > 50
    found = {
        where: sorted(PLACE_NAMES.intersection(_names_in_words(call)))
        for where, call in calls
        if PLACE_NAMES.intersection(_names_in_words(call))
    }
    assert not found


# The last line of defence


@pytest.mark.parametrize(
    "place",
    [
        "/srv/segexport",
        "/a",
        "~/exports/x",
        "../data/jobs",
        "./data",
        ".segexport/profiles/0001",
        "datasets/acme/prod/gold/b1",
        "bucket=3/persons.parquet",
        "persons.parquet",
        "part-00000-1.ndjson.gz",
        "jobs.sqlite",
        "jobs.sqlite-wal",
        "engine.py",
        r"C:\segexport\data",
        "file:/srv/x",
        "file:///srv/x",
        "s3://bucket/prefix/",
        "https://idp.example/keys?x=1",
        "postgresql://user:secret@db/jobs",
        "spark://master:7077",
        "localhost:9092",
        "kafka-1.internal:9092",
        "10.0.0.1",
        "10.0.0.1:9092",
        "[::1]:8080",
        "fe80::1%eth0",
        "2001:db8::8a2e:370:7334",
    ],
)
@pytest.mark.parametrize("words", ["{}", "{} cannot be read", "no: '{}'", "(see {})", "at {}; no"])
def test_what_looks_like_a_place_is_left_out(place: str, words: str) -> None:
    text = words.format(place)
    assert may_name_a_place(text)
    assert without_places(text) == words.format(LEFT_OUT)


@pytest.mark.parametrize(
    "text",
    [
        "the profile store has no field 'person.nam'; did you mean person.name?",
        "not finished by 2026-03-01 12:00:00.250000+00:00",
        "not finished by 2026-03-01T12:00:10Z",
        "the request no longer fits snapshot 00000002-20260301T130000Z: no segment 'gold'",
        "no segment 'vip/eu' in namespace 'ups'",
        "piece 3 has failed 4 times, at last because: a query of the export went wrong",
        "version 1.2.3 of 1.000.000 rows, 3.5 GB at 12:30",
        "set evaluationInfo.segmentation (`submit --evaluate`)",
        "see pinpoint.applications in the settings",
        "größe — no such thing…",
    ],
)
def test_what_is_no_place_stays(text: str) -> None:
    assert without_places(text) == text


@given(st.text())
def test_a_folder_is_left_out_whatever_stands_around_it(text: str) -> None:
    folder = tempfile.gettempdir() + "/segexport-x1"
    assert folder not in without_places(f"{text} {folder} {text}")


@pytest.mark.parametrize("letters", ["a", "a.", "a/", "a:", "@", "1.", "::", "~", "a-", ".a/", "/"])
def test_the_time_for_a_text_grows_with_its_length(letters: str) -> None:
    began = process_time()
    without_places(letters * 20_000)
    assert process_time() - began < 1


def test_own_words_lose_places_as_well() -> None:
    assert has_own_words(InvalidRequest([]))
    assert LEFT_OUT in public_words(InvalidRequest([Problem("fields", "see /srv/x")]))
