"""`segexport datasets`: look at what was exported, check it, delete it."""

from datetime import datetime
from typing import Annotated, Any, Final

import typer

from segexport.cli.app import app
from segexport.cli.markup import escape
from segexport.cli.present import OutputFormat, out, print_json, print_table
from segexport.cli.profiles import Format, table_of
from segexport.exports.dataset import Batch, Dataset, Datasets
from segexport.jobs.job import Scope
from segexport.settings import Settings, load_settings

EXIT_DAMAGED: Final = 1
"""A file differs from its manifest."""

datasets = typer.Typer(
    name="datasets",
    no_args_is_help=True,
    help="Look at what was exported, check it, delete it.",
)
app.add_typer(datasets)

DatasetId = Annotated[str, typer.Argument(metavar="DATASET", help="The dataset's id.")]
BatchId = Annotated[
    str | None, typer.Argument(metavar="[BATCH]", help="One batch of it; all, if none is named.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@datasets.command("list")
def list_(output: Format = OutputFormat.TEXT) -> None:
    """List the datasets of the sandbox, with their batches, rows and bytes.

    Those of the organization and the sandbox in the settings.

    For scripts:

        segexport datasets list --format json
    """
    settings = load_settings()
    scope = _scope(settings)
    found = [
        (name, _datasets(settings).dataset(scope, name).batches())
        for name in _datasets(settings).named(scope)
    ]
    if output is OutputFormat.JSON:
        print_json([_dataset_document(name, batches) for name, batches in found])
        return
    table = table_of("dataset", "newest batch", "batches", "rows", "bytes")
    for name, batches in found:
        newest = _time(batches[-1].manifest.created) if batches else "-"
        sizes = (len(batches), sum(map(_rows, batches)), sum(batch.size for batch in batches))
        table.add_row(escape(name), newest, *(f"{size:,}" for size in sizes))
    print_table(table)


@datasets.command()
def show(dataset: DatasetId, batch: BatchId = None, output: Format = OutputFormat.TEXT) -> None:
    """Show the batches of a dataset, or one batch: its columns, files, counts and origin.

        segexport datasets show gold-members

    The manifest of a batch, as JSON:

        segexport datasets show gold-members 5f0c… --format json
    """
    found = _dataset(dataset)
    if batch is None:
        _show_dataset(dataset, found, output)
        return
    chosen = found.batch(batch)
    if output is OutputFormat.JSON:
        print_json(chosen.manifest.model_dump(mode="json"))
        return
    manifest, counts = chosen.manifest, chosen.manifest.counts
    table = table_of("fact", "value")
    for fact, value in (
        ("batch", manifest.batch),
        ("job", str(manifest.job)),
        ("created", _time(manifest.created)),
        ("snapshot", manifest.snapshot),
        ("segment", manifest.segment["segmentId"] if manifest.segment else "all of the request"),
        ("schema", manifest.schema_name),
        ("total/realized/failed", f"{counts.total}/{counts.realized}/{counts.failed}"),
        *((("erased since", str(counts.erased)),) if counts.erased else ()),
        ("format", manifest.file_format.value),
    ):
        table.add_row(fact, escape(value))
    print_table(table)
    columns = table_of("column", "type")
    for column in manifest.columns:
        columns.add_row(escape(column.name), escape(column.type))
    print_table(columns)
    files = table_of("file", "SHA-256", "rows", "bytes")
    for file in manifest.files:
        files.add_row(escape(file.name), file.sha256 or "-", f"{file.rows:,}", f"{file.size:,}")
    print_table(files)


@datasets.command()
def verify(dataset: DatasetId, batch: BatchId = None, output: Format = OutputFormat.TEXT) -> None:
    """Read every file again, and compare checksums, sizes, rows and counts with the manifests.

    The exit status is 1 if something differs; all of it is named.

    For example:

        segexport datasets verify gold-members
    """
    found = _dataset(dataset)
    batches = [found.batch(batch)] if batch else found.batches()
    faults = [(each.manifest.batch, fault) for each in batches for fault in each.faults()]
    if output is OutputFormat.JSON:
        print_json(
            {
                "dataset": dataset,
                "batches": len(batches),
                "files": sum(len(each.manifest.files) for each in batches),
                "faults": [{"batch": name, "fault": fault} for name, fault in faults],
            }
        )
    else:
        for name, fault in faults:
            out.print(f"[red]batch {escape(name)}[/]: {escape(fault)}")
        whole = len(batches) - len({name for name, _ in faults})
        out.print(f"{whole} of {len(batches)} batches are as their manifests say")
    if faults:
        raise typer.Exit(EXIT_DAMAGED)


@datasets.command()
def delete(dataset: DatasetId, batch: BatchId = None, *, yes: Yes = False) -> None:
    """Delete a batch, or a dataset with all its batches.

    No reader sees half of a batch meanwhile. A dataset that a job writes to stays.

    For example:

        segexport datasets delete gold-members 5f0c… --yes
    """
    found = _dataset(dataset)
    if batch:
        chosen = found.batch(batch)
        _confirm(f"delete batch {batch} ({_rows(chosen):,} rows) of dataset {dataset}?", yes=yes)
        chosen.delete()
    else:
        batches = found.batches()
        _confirm(f"delete dataset {dataset} with {len(batches)} batches?", yes=yes)
        found.delete()
    out.print("deleted")


@datasets.command()
def register(
    dataset: DatasetId,
    schema: Annotated[str, typer.Option(help="The name of the schema that its batches have.")],
) -> None:
    """Say which schema a dataset has: jobs that name another one are refused from then on.

    Registering again says another one.

    For example:

        segexport datasets register gold-members --schema _xdm.context.profile
    """
    settings = load_settings()
    _datasets(settings).dataset(_scope(settings), dataset).register(schema)
    out.print(f"dataset {escape(dataset)} has schema {escape(schema)}")


def _show_dataset(name: str, dataset: Dataset, output: OutputFormat) -> None:
    batches = dataset.batches()
    if output is OutputFormat.JSON:
        print_json(
            {
                **_dataset_document(name, batches),
                "schema": dataset.registered_schema,
                "batchIds": [batch.manifest.batch for batch in batches],
            }
        )
        return
    table = table_of("batch", "created", "job", "rows", "bytes")
    for batch in batches:
        manifest = batch.manifest
        table.add_row(
            escape(manifest.batch),
            _time(manifest.created),
            str(manifest.job),
            f"{_rows(batch):,}",
            f"{batch.size:,}",
        )
    print_table(table)


def _dataset_document(name: str, batches: Any) -> dict[str, Any]:
    return {
        "dataset": name,
        "batches": len(batches),
        "rows": sum(map(_rows, batches)),
        "bytes": sum(batch.size for batch in batches),
    }


def _rows(batch: Batch) -> int:
    return sum(file.rows for file in batch.manifest.files)


def _confirm(question: str, *, yes: bool) -> None:
    if not yes:
        typer.confirm(question, abort=True)


def _dataset(name: str) -> Dataset:
    settings = load_settings()
    scope = _scope(settings)
    if name not in _datasets(settings).named(scope):
        raise typer.BadParameter(
            f"there is no dataset {name!r} in organization {scope.organization}, sandbox "
            f"{scope.sandbox}; `segexport datasets list` shows those there are"
        )
    return _datasets(settings).dataset(scope, name)


def _datasets(settings: Settings) -> Datasets:
    return Datasets.of(settings)


def _scope(settings: Settings) -> Scope:
    return Scope(settings.organization, settings.sandbox)


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"
