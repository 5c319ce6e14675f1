"""What jobs that have ended have left in staging goes: nobody reads it, nobody needs it."""

import asyncio
from pathlib import Path
from typing import Final

import structlog

from segexport.errors import JobNotFound
from segexport.exports.dataset import Datasets
from segexport.exports.publishing import DiscardFolder
from segexport.store.store import JobStore

log: Final = structlog.stdlib.get_logger(__name__)


async def sweep_staging(
    store: JobStore, datasets: Datasets, scratch: Path, discards: DiscardFolder
) -> None:
    """Remove it, from `scratch` too, where this machine has its part of datasets elsewhere.

    Raises what the store raises, and `DatasetError`.
    """
    here = Datasets(datasets.root.on_disk(scratch))
    staged = await asyncio.to_thread(lambda: {*datasets.staged(), *here.staged()})
    for scope, job_id, folder in staged:
        try:
            job = await store.get(scope, job_id)
        except JobNotFound:
            continue  # of another store that writes to the same datasets
        if job.is_terminal:
            await asyncio.to_thread(discards.sweep, job_id)
            await asyncio.to_thread(folder.remove)
            log.info("staging swept", job_id=job_id)
