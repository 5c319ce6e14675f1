"""Where a reader of the live stream is: the id of a message, and what Last-Event-ID brings back."""

import re
import struct
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

_TEXT: Final = re.compile(r"[0-9a-f]{32}")
_BLOCK: Final = struct.Struct(">IQI")
"""Generation, number, and zeros by which a text that was made elsewhere is known."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in the store's one order of events: everything up to `number` has been seen.

    In another life of the store (`generation`) the numbers mean others.
    """

    generation: int
    number: int


class Cursors:
    """Cursors as texts, which only holders of `secret` (256 bits) can read.

    The numbers count the events of all organizations together. One organization could see in
    them how busy the others are; so a text is the numbers in one block of AES.
    """

    def __init__(self, secret: bytes) -> None:
        # One block of its own for each number, never the same number twice with another
        # meaning: there is nothing that a mode would add.
        self._cipher = Cipher(algorithms.AES(secret), modes.ECB())  # noqa: S305  (one block)

    def text(self, cursor: Cursor) -> str:
        """The cursor as 32 hexadecimal digits."""
        encryptor = self._cipher.encryptor()
        block = _BLOCK.pack(cursor.generation, cursor.number, 0)
        return (encryptor.update(block) + encryptor.finalize()).hex()

    def read(self, text: str) -> Cursor | None:
        """The cursor that `text` is; None if it is none, or one that another secret has made."""
        if not _TEXT.fullmatch(text):
            return None
        decryptor = self._cipher.decryptor()
        block = decryptor.update(bytes.fromhex(text)) + decryptor.finalize()
        generation, number, zeros = _BLOCK.unpack(block)
        return Cursor(generation, number) if zeros == 0 else None
