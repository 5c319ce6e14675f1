"""`segexport profiles erase`: take a person out of everything that is kept."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from segexport.cli.markup import escape
from segexport.cli.present import OutputFormat, out, print_json, print_table
from segexport.cli.profiles import Format, profiles, progress_bars, resources_of, table_of
from segexport.exports.dataset import Datasets
from segexport.exports.erasure import Erasure, Places, erase
from segexport.exports.publishing import DiscardFolder
from segexport.profiles.subjects import Identity
from segexport.service import open_store
from segexport.settings import load_settings

EXIT_INCOMPLETE: Final = 1
"""Something of the person is still there."""


@profiles.command("erase")
def erase_(
    identity: Annotated[
        str, typer.Argument(metavar="NAMESPACE:ID", help="An identity of the person.")
    ],
    everybody: Annotated[
        bool, typer.Option("--all", help="Erase all who have the identity, if several have.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    output: Format = OutputFormat.TEXT,
) -> None:
    """Erase a person: from the profile store, discard files, journeys and datasets.

    Tells where the person was. The exit status is 1 if something has to stay for now, because
    an unfinished job or an undelivered event needs it; erase again later.

        segexport profiles erase Email:ines@example.com
    """
    namespace, colon, id_ = identity.partition(":")
    if not (namespace and colon and id_):
        raise typer.BadParameter("give an identity as NAMESPACE:ID, such as Email:ines@example.com")
    if not yes:
        typer.confirm(f"erase the person with the identity {identity} for good?", abort=True)
    settings = load_settings()

    async def act() -> Erasure:
        async with open_store(settings) as store:
            places = Places(
                profiles=settings.profiles_folder,
                datasets=Datasets.of(settings),
                scratch=settings.datasets_folder,
                discards=DiscardFolder(settings.discards_folder),
                journeys=settings.journeys_folder,
                store=store,
            )
            return await erase(
                Identity(namespace, id_),
                places,
                now=datetime.now(UTC),
                resources=resources_of(settings),
                everybody=everybody,
            )

    with progress_bars():
        erasure = asyncio.run(act())
    if output is OutputFormat.JSON:
        print_json(
            {
                "persons": len(erasure.persons),
                "complete": erasure.is_complete,
                "traces": [
                    {
                        "place": trace.place,
                        "name": trace.name,
                        "rows": trace.rows,
                        "kept": trace.kept or None,
                    }
                    for trace in erasure.traces
                ],
            }
        )
    else:
        _show(erasure)
    if not erasure.is_complete:
        raise typer.Exit(EXIT_INCOMPLETE)


def _show(erasure: Erasure) -> None:
    if not erasure.traces:
        out.print("nothing is known of such a person")
        return
    table = table_of("place", "which", "rows", "")
    for trace in erasure.traces:
        told = f"[yellow]kept: {escape(trace.kept)}[/]" if trace.kept else "erased"
        table.add_row(trace.place, escape(trace.name), f"{trace.rows:,}", told)
    print_table(table)
