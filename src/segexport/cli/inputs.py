"""A file, or stdin, that holds JSON: its bytes in pieces, unpacked if they are gzip.

What begins as no JSON does, because it is another format or another encoding, is told by its
first bytes and refused as a whole.
"""

import gzip
import io
import re
import zlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PIECE: Final = 2**20
"""Bytes that are read at once, at most: a line, or a part of a longer one."""

_HEAD: Final = 8
"""Bytes by which a format is told."""
_GZIP: Final = b"\x1f\x8b"

_BINARY: Final = rb"[^\t\n\r\x20-\x7e]"
_FORMATS: Final[Mapping[re.Pattern[bytes], str]] = {
    re.compile(magic, re.DOTALL): words
    for magic, words in {
        rb"PAR1" + _BINARY: "is Parquet, not JSON; write its rows as NDJSON first",
        rb"Obj\x01": "is Avro, not JSON; write its records as NDJSON first (avro-tools tojson)",
        rb"ORC" + _BINARY: "is ORC, not JSON; write its rows as NDJSON first",
        rb"\x28\xb5\x2f\xfd": "is packed with zstd; unpack it first (zstd -dc)",
        rb"BZh[1-9]1AY&": "is packed with bzip2; unpack it first (bzip2 -dc)",
        rb"\xfd7zXZ\x00": "is packed with xz; unpack it first (xz -dc)",
        rb"\x04\x22\x4d\x18": "is packed with LZ4; unpack it first (lz4 -dc)",
        rb"\xff\x06\x00\x00sNaP": "is packed with Snappy; unpack it first",
        rb"PK\x03\x04": "is a ZIP archive; unpack it first (unzip -p)",
        rb"\x1f\x8b": "is packed with gzip twice; unpack it once first (gzip -dc)",
    }.items()
}
_ENCODINGS: Final[Mapping[bytes, str]] = {
    b"\xff\xfe\x00\x00": "UTF-32LE",
    b"\x00\x00\xfe\xff": "UTF-32BE",
    b"\xff\xfe": "UTF-16LE",
    b"\xfe\xff": "UTF-16BE",
}
"""Byte order marks, the longer ones first."""
_ZEROES: Final[Mapping[tuple[bool, ...], str]] = {
    (True, False, False, False): "UTF-32LE",
    (False, False, False, True): "UTF-32BE",
    (True, False, True, False): "UTF-16LE",
    (False, True, False, True): "UTF-16BE",
}
"""Which of a text's first four bytes are not zero: what is JSON begins with ASCII (RFC 4627)."""


class Readable(Protocol):
    """What bytes are read from, without waiting for more than there are."""

    def read(self, size: int, /) -> bytes: ...
    def read1(self, size: int, /) -> bytes: ...


class Input:
    """The pieces. `problem` says why they ended early, and what to do; None while all is well."""

    def __init__(self, file: Readable) -> None:
        self._file = file
        self.problem: str | None = None

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._pieces()
        except (EOFError, zlib.error, gzip.BadGzipFile):
            self.problem = "is gzip that is damaged or breaks off; get the whole file again"
        except OSError as error:
            self.problem = f"{error.strerror}; check the name and its permissions"

    def _pieces(self) -> Iterator[bytes]:
        head = self._file.read(_HEAD)
        stream = io.BufferedReader(_Rejoined(head, self._file))
        if head.startswith(_GZIP):
            unpacked = gzip.GzipFile(fileobj=stream, mode="rb")
            head = unpacked.read(_HEAD)
            stream = io.BufferedReader(_Rejoined(head, unpacked))
        self.problem = _foreign(head)
        while self.problem is None and (piece := stream.readline(PIECE)):
            yield piece


class _Rejoined(io.RawIOBase):
    """A stream whose first bytes have been read, from its beginning."""

    def __init__(self, head: bytes, rest: Readable) -> None:
        self._head = head
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        place = memoryview(buffer).cast("B")
        found = self._head[: len(place)] or self._rest.read1(len(place))
        self._head = self._head[len(place) :]
        place[: len(found)] = found
        return len(found)


def _foreign(head: bytes) -> str | None:
    """What a text is that begins so, if it is known not to be JSON in UTF-8."""
    for magic, words in _FORMATS.items():
        if magic.match(head):
            return words
    marked = next((it for mark, it in _ENCODINGS.items() if head.startswith(mark)), None)
    encoding = marked or _ZEROES.get(tuple(byte != 0 for byte in head[:4]))
    if encoding is None or (encoding == "UTF-32BE" and head[4:6].strip(b"\x00")):
        return None
    name = encoding if marked is None else encoding[:6]  # iconv takes the mark away by this name
    return f"is {encoding}, and JSON is UTF-8; convert it first (iconv -f {name} -t UTF-8)"
