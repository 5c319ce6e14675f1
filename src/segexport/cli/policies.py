"""`segexport policies`: how fragments of one person become one profile."""

from typing import Annotated

import typer

from segexport.cli.app import app
from segexport.cli.markup import escape
from segexport.cli.present import OutputFormat, out, print_json, print_table
from segexport.cli.profiles import Format, Store, table_of
from segexport.profiles.catalogue import Merging, open_catalogue, policy_document
from segexport.profiles.definitions import define_policy
from segexport.settings import load_settings

policies = typer.Typer(
    name="policies",
    no_args_is_help=True,
    help="Define merge policies: how fragments of one person become one profile.",
)
app.add_typer(policies)


@policies.command()
def define(
    policy: Annotated[str, typer.Argument(metavar="ID", help="The policy's id.")],
    merging: Annotated[
        Merging,
        typer.Option(
            help="timestampOrdered: of each attribute the latest value. dataSetPrecedence: that of "
            "the first dataset which has one. none: the latest fragment alone."
        ),
    ],
    dataset: Annotated[
        list[str] | None,
        typer.Option(help="The order of dataSetPrecedence; repeat it, the one that wins first."),
    ] = None,
    store: Store = None,
    output: Format = OutputFormat.TEXT,
) -> None:
    """Define a merge policy, or its next version. The same again changes nothing.

    Fragments of datasets that are not named come after all that are.

    For example, what the CRM says before what the website says:

        segexport policies define crm-first --merging dataSetPrecedence --dataset crm --dataset web
    """
    folder = store or load_settings().profiles_folder
    defined = define_policy(folder, policy, merging, dataset or ())
    if output is OutputFormat.JSON:
        print_json(policy_document(defined))
    else:
        out.print(f"merge policy [bold]{escape(defined.id)}[/], version {defined.version}")


@policies.command("list")
def list_policies(store: Store = None, output: Format = OutputFormat.TEXT) -> None:
    """List the merge policies, every version of each.

    Those that are built in come first.

    For scripts, one a line:

        segexport policies list --format json
    """
    known = open_catalogue(store or load_settings().profiles_folder).policies
    if output is OutputFormat.JSON:
        for policy in known:
            print_json(policy_document(policy))
        return
    table = table_of("policy", "merging")
    table.add_column("version", justify="right")
    table.add_column("datasets", overflow="fold")
    for policy in known:
        datasets = escape(", ".join(policy.datasets))
        table.add_row(escape(policy.id), policy.merging.value, str(policy.version), datasets)
    print_table(table)
