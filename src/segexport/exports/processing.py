"""PROCESSING: the pieces of a job run, until its outcome can be fixed."""

import asyncio
from collections import deque
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from segexport.errors import EngineError, LeaseLost, ProfileStoreCorrupt, ProfileStoreError
from segexport.exports.engine import PieceResult, Written
from segexport.exports.plan import ExportPlan
from segexport.exports.publishing import fixed, manifest_of, stage_manifest
from segexport.exports.staging import Staging, discard, force_to_disk
from segexport.exports.workbench import Workbench
from segexport.jobs.job import Job
from segexport.jobs.publication import Counts, DataFile, DiscardFile, Publication
from segexport.store.store import FinishedPiece, Lease

log: Final = structlog.stdlib.get_logger(__name__)

TRIES: Final = 3
"""A piece that meets an error of the files or the engine is run again at once so often in
all, before the whole job has to wait."""
BETWEEN_TRIES: Final = 0.5  # seconds


class Processing:
    """Runs the pieces that are still missing, several at once, and collects the outcome."""

    def __init__(self, bench: Workbench, job: Job, lease: Lease, plan: ExportPlan) -> None:
        self._bench = bench
        self._job = job
        self._lease = lease
        self._plan = plan
        dataset = bench.datasets.dataset(job.scope, job.request.destination.dataset_id)
        self._staging = Staging(dataset.staging(job.id), job.epoch)
        self._run = bench.engine.begin(plan)
        self._missing: deque[int] = deque()
        self._finished: dict[int, FinishedPiece] = {}
        self._winding_down = False

    @property
    def progress(self) -> float:
        """How much is done, 0 to 1."""
        return min(1.0, (len(self._finished) + self._run.progress()) / self._plan.pieces)

    def wind_down(self) -> None:
        """Begin no piece any more."""
        self._winding_down = True

    async def outcome(self) -> Publication | None:
        """Run what is missing; what is to be published, or None when wound down before.

        Raises `LeaseLost`, and what an engine raises. Files of a piece that is not recorded
        as finished are gone by then.
        """
        try:
            await self._bench.in_thread(self._staging.open)
            await self._run_pieces()
            if len(self._finished) < self._plan.pieces:
                return None
            return await self._collect()
        finally:
            self._run.close()

    async def _run_pieces(self) -> None:
        for piece in await self._bench.store.pieces(self._job.id):
            if self._staging.holds(piece.data) and self._staging.holds(piece.discards):
                self._finished[piece.index] = piece
        self._missing.extend(i for i in range(self._plan.pieces) if i not in self._finished)
        if not self._missing:
            return
        await self._bench.in_thread(self._run.prepare, self._run.interrupt)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._bench.settings.pieces_in_flight):
                    group.create_task(self._take_pieces())
        except ExceptionGroup as failures:
            lost = (error for error in failures.exceptions if isinstance(error, LeaseLost))
            raise next(lost, failures.exceptions[0]) from None

    async def _take_pieces(self) -> None:
        while self._missing and not self._winding_down:
            index = self._missing.popleft()
            piece = await self._piece(index)
            await self._save(piece)
            self._finished[index] = piece

    async def _piece(self, index: int) -> FinishedPiece:
        write = partial(self._write, index)
        for tried in range(1, TRIES + 1):
            try:
                result = await self._bench.in_thread(write, self._run.interrupt)
                break
            except asyncio.CancelledError:
                discard(*self._files(index))
                raise
            except ProfileStoreCorrupt:
                raise
            except (ProfileStoreError, EngineError) as error:
                if tried == TRIES:
                    raise
                log.warning("a piece is run again", piece=index, tried=tried, error=str(error))
                await asyncio.sleep(BETWEEN_TRIES * tried)
        data, discards = self._files(index)
        return FinishedPiece(
            index=index,
            epoch=self._job.epoch,
            data=_named(data.name, result.data),
            selected=result.selected,
            discards=_named(discards.name, result.discards),
            namespaces=result.namespaces,
        )

    def _write(self, index: int) -> PieceResult:
        data, discards = self._files(index)
        try:
            result = self._run.run_piece(index, data=data, discards=discards)
            for path, written in ((data, result.data), (discards, result.discards)):
                if written:
                    force_to_disk(path)
            force_to_disk(self._staging.folder)
        except BaseException:
            discard(data, discards)
            raise
        return result

    async def _save(self, piece: FinishedPiece) -> None:
        """Record a piece. Its files stay unless the store has said that it did not take it."""
        saving = asyncio.create_task(self._bench.store.save_piece(self._lease, piece))
        try:
            await asyncio.shield(saving)
        finally:
            await asyncio.wait({saving})
            if isinstance(saving.exception(), LeaseLost):
                discard(*self._files(piece.index))

    async def _collect(self) -> Publication:
        pieces = [self._finished[index] for index in range(self._plan.pieces)]
        counts = Counts(
            total=sum(piece.selected for piece in pieces),
            realized=sum(piece.data.rows for piece in pieces if piece.data),
            failed=sum(piece.discards.rows for piece in pieces if piece.discards),
        )
        namespaces: dict[str, int] = {}
        for piece in pieces:
            for namespace, count in piece.namespaces.items():
                namespaces[namespace] = namespaces.get(namespace, 0) + count
        batch_id = self._bench.new_batch_id()
        discards = [piece.discards for piece in pieces if piece.discards]
        publication = Publication(
            batch_id=batch_id,
            files=tuple(piece.data for piece in pieces if piece.data),
            counts=counts,
            namespaces=dict(sorted(namespaces.items())),
            discards=await self._join(batch_id, discards) if discards else None,
        )
        first = self._staging.folder / publication.files[0].name
        columns = await self._bench.in_thread(partial(self._run.columns, first))
        manifest = manifest_of(self._job, publication, columns, await self._bench.store.now())
        await self._bench.in_thread(partial(stage_manifest, self._staging.folder, manifest))
        return publication

    async def _join(self, batch_id: str, discards: Sequence[DataFile]) -> DiscardFile:
        folder = self._bench.discards
        staged = folder.staged(self._job.id, batch_id)
        sources = [self._staging.folder / file.name for file in discards]

        def join() -> DiscardFile:
            folder.open()
            written = self._run.join_discards(sources, staged)
            return fixed(staged, rows=written.rows, final=folder.file(self._job.id))

        file = await self._bench.in_thread(join, self._run.interrupt)
        expected = sum(source.rows for source in discards)
        if file.rows != expected:
            raise EngineError(f"{staged} has {file.rows} rows where the pieces have {expected}")
        return file

    def _files(self, index: int) -> tuple[Path, Path]:
        return self._staging.data(index), self._staging.discards(index)


def _named(name: str, written: Written | None) -> DataFile | None:
    return DataFile(name=name, rows=written.rows, size=written.size) if written else None
