"""Why there was no answer, in plain words."""

import socket
import ssl
from collections.abc import Iterator

import httpx


def is_lasting(error: BaseException) -> bool:
    """Whether it is pointless to try again: there is no TLS that can be trusted."""
    return any(isinstance(cause, ssl.SSLError) for cause in _causes(error))


def reason_of(error: BaseException, timeout: float) -> str:
    """What went wrong, and what to do; `timeout` is that of an answer, in seconds."""
    causes = list(_causes(error))
    if any(isinstance(cause, TimeoutError | httpx.TimeoutException) for cause in causes):
        return f"no answer within {timeout:g} s (client.timeout)"
    for cause in causes:
        match cause:
            case ssl.SSLCertVerificationError():
                return (
                    f"its certificate is not trusted ({cause.verify_message}); set client.cafile "
                    "to a file with the certificate of who has issued it"
                )
            case ssl.SSLError():
                return f"there is no TLS ({cause.reason or cause}); is it https?"
            case socket.gaierror():
                return f"there is no such host ({cause.strerror}); check --url, or client.url"
            case ConnectionRefusedError():
                return (
                    "the connection is refused; does `segexport serve` run there? Check --url, or "
                    "client.url"
                )
            case _:
                pass
    said = str(error) or type(error).__name__
    return next((one.strerror for one in causes if isinstance(one, OSError) and one.strerror), said)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and what is behind it."""
    if error is None:
        return
    yield error
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _causes(one)
    yield from _causes(error.__cause__ or error.__context__)
