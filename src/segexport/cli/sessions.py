"""`segexport keys session`: credentials of an AWS client that end by themselves."""

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Final

import typer

from segexport.clerk.documents import rfc_3339
from segexport.cli.keys import keys
from segexport.cli.present import out, print_json
from segexport.http.keys import KeyFile, MasterKey
from segexport.http.sessions import LONGEST, SHORTEST, temporary_credentials
from segexport.settings import load_settings

_UNITS: Final = {"": "seconds", "s": "seconds", "m": "minutes", "h": "hours"}


class SessionFormat(StrEnum):
    """Lines for a shell, or what AWS's clients expect of a `credential_process`."""

    ENV = "env"
    CREDENTIAL_PROCESS = "credential-process"


def _duration(text: str) -> timedelta:
    found = re.fullmatch(r"([0-9]{1,6})([smh]?)", text)
    length = timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else timedelta(0)
    if not SHORTEST <= length <= LONGEST:
        raise typer.BadParameter("give a time from 15m to 12h, such as 3600, 90m or 1h")
    return length


@keys.command()
def session(
    client_id: Annotated[str, typer.Argument(metavar="CLIENT_ID", help="The key's client id.")],
    duration: Annotated[
        timedelta,
        typer.Option(parser=_duration, metavar="TIME", help="How long they are good: 15m to 12h."),
    ] = "1h",  # type: ignore[assignment]  # the parser makes a timedelta of it
    output: Annotated[
        SessionFormat,
        typer.Option("--format", help="For a shell, or as AWS's `credential_process`."),
    ] = SessionFormat.ENV,
) -> None:
    """Give temporary AWS credentials for an API key.

    An access key id, a secret access key and a session token, with which clients of Amazon
    Pinpoint may do what the key may. They end by themselves, and within a second when the key is
    revoked. It needs the service's master key, so run it where the service runs.

    Into the environment of a shell:

        eval "$(segexport keys session 0123456789abcdef0123456789abcdef)"

    As a profile in `~/.aws/config`, whose clients renew them by themselves:

        [profile exports]
        credential_process = segexport keys session 0123456789abcdef0123456789abcdef --format credential-process
    """  # noqa: E501  (a line of that file)
    settings = load_settings()
    key = KeyFile(settings.keys_file).get(client_id)
    made = temporary_credentials(
        MasterKey.of(settings), key, now=datetime.now(UTC), lifetime=duration
    )
    if output is SessionFormat.CREDENTIAL_PROCESS:
        print_json(
            {
                "Version": 1,
                "AccessKeyId": made.access_key_id,
                "SecretAccessKey": made.secret_access_key,
                "SessionToken": made.session_token,
                "Expiration": rfc_3339(made.expires_at),
            }
        )
        return
    for name, value in (
        ("AWS_ACCESS_KEY_ID", made.access_key_id),
        ("AWS_SECRET_ACCESS_KEY", made.secret_access_key),
        ("AWS_SESSION_TOKEN", made.session_token),
        ("AWS_CREDENTIAL_EXPIRATION", rfc_3339(made.expires_at)),
    ):
        out.print(f"export {name}={value}", markup=False)
