"""Text of others inside Rich's markup."""

from rich import markup

from segexport.printable import printable


def escape(text: str) -> str:
    """The text as it is: no markup, and nothing that a terminal would obey."""
    return markup.escape(printable(text))
