"""`segexport keys`: who may call the HTTP interfaces."""

import sys
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.table import Table

from segexport.cli.app import app
from segexport.cli.markup import escape
from segexport.cli.present import OutputFormat, out, print_json, print_table
from segexport.cli.profiles import Format, table_of
from segexport.http.keys import IssuedKey, Key, KeyFile, MasterKey
from segexport.settings import load_settings

keys = typer.Typer(
    name="keys",
    no_args_is_help=True,
    help="""Say who may call the HTTP interfaces: API keys, and temporary credentials for them.

    Run these as the user of the service and with its settings; it takes a change within a second.

    For example:

        segexport keys create nightly --organization acme --sandbox prod

        segexport keys list

        segexport keys session 0123456789abcdef0123456789abcdef

        segexport keys revoke 0123456789abcdef0123456789abcdef
    """,
)
app.add_typer(keys)


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help="What people call the key; need not be unique.")],
    organization: Annotated[str, typer.Option(help="The organization whose jobs it is for.")],
    sandbox: Annotated[
        list[str] | None,
        typer.Option(help="A sandbox that it is for; repeat it. Without one, all of them."),
    ] = None,
    output: Format = OutputFormat.TEXT,
) -> None:
    """Make an API key, and show its secrets this once.

    The client id (API key) and the client secret are for Experience Platform's API, the AWS
    access key for Amazon Pinpoint's. With the first key, the service stops believing everybody.
    Where the secrets cannot be printed, no key is made.

    For example:

        segexport keys create nightly --organization acme --sandbox prod --sandbox dev

    Straight into a store of secrets:

        segexport keys create nightly --organization acme --format json
    """
    settings = load_settings()

    def show(issued: IssuedKey) -> None:
        if output is OutputFormat.JSON:
            print_json(
                {
                    **_document(issued.key),
                    "clientSecret": issued.client_secret,
                    "secretAccessKey": issued.secret_access_key,
                }
            )
        else:
            _print_issued(issued)
        sys.stdout.flush()

    KeyFile(settings.keys_file).create(
        MasterKey.of(settings),
        name,
        organization=organization,
        sandboxes=tuple(sandbox or ()),
        now=datetime.now(UTC),
        show=show,
    )


@keys.command("list")
def list_(output: Format = OutputFormat.TEXT) -> None:
    """List the API keys, oldest first.

    Their secrets are shown only once, when they are made. Revoked keys are gone.

    For scripts, one a line:

        segexport keys list --format json
    """
    known = KeyFile(load_settings().keys_file).keys()
    if output is OutputFormat.JSON:
        for key in known:
            print_json(_document(key))
        return
    if not known:
        out.print("no keys")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("client id", "AWS access key id"):
        table.add_column(column, no_wrap=True)
    for column in ("name", "organization", "sandboxes", "created"):
        table.add_column(column, overflow="fold")
    for key in known:
        table.add_row(
            key.client_id,
            key.access_key_id,
            escape(key.name),
            escape(key.organization),
            escape(_sandboxes(key)),
            f"{key.created_at:%Y-%m-%d %H:%M:%S}",
        )
    print_table(table)


@keys.command()
def revoke(
    client_id: Annotated[str, typer.Argument(metavar="CLIENT_ID", help="The key's client id.")],
    output: Format = OutputFormat.TEXT,
) -> None:
    """Revoke an API key, and with it its AWS access key and all of its tokens.

    Its jobs stay as they are. Without any key left, nobody is believed.

    For example:

        segexport keys revoke 0123456789abcdef0123456789abcdef
    """
    key = KeyFile(load_settings().keys_file).revoke(client_id)
    if output is OutputFormat.JSON:
        print_json(_document(key))
    else:
        out.print(f"revoked [bold]{escape(key.name)}[/] of {escape(key.organization)}")


def _document(key: Key) -> dict[str, Any]:
    return {
        "clientId": key.client_id,
        "name": key.name,
        "organization": key.organization,
        "sandboxes": key.sandboxes,
        "accessKeyId": key.access_key_id,
        "createdAt": f"{key.created_at:%Y-%m-%dT%H:%M:%SZ}",
    }


def _print_issued(issued: IssuedKey) -> None:
    key = issued.key
    table = table_of("", "")
    table.show_header = False
    for name, value in (
        ("name", key.name),
        ("organization", key.organization),
        ("sandboxes", _sandboxes(key)),
        ("client id (API key)", key.client_id),
        ("client secret", issued.client_secret),
        ("AWS access key id", key.access_key_id),
        ("AWS secret access key", issued.secret_access_key),
    ):
        table.add_row(f"[dim]{name}[/]", escape(value))
    print_table(table)
    out.print("[yellow]Keep the two secrets: they are not shown again.[/]")


def _sandboxes(key: Key) -> str:
    return ", ".join(key.sandboxes) or "all"
