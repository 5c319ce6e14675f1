"""PROCESSING: the pieces of a job run, until its outcome can be fixed."""

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from segexport.disclosure import public_words
from segexport.errors import (
    DatasetError,
    DatasetUnreachable,
    EngineError,
    ExportCancelled,
    LeaseLost,
    PieceFailed,
    ProfileStoreCorrupt,
    ProfileStoreError,
)
from segexport.exports.disk import discard
from segexport.exports.engine import Column, PieceResult, Written, WrittenEndpoints
from segexport.exports.plan import ExportPlan, upper_bound
from segexport.exports.publishing import fixed, manifest_of, stage_manifest
from segexport.exports.workbench import Workbench
from segexport.jobs.job import Job
from segexport.jobs.publication import Counts, DataFile, DiscardFile, Publication, PublishedBatch
from segexport.store.discards import fingerprint
from segexport.store.store import Failure, FinishedPart, FinishedPiece, Lease

log: Final = structlog.stdlib.get_logger(__name__)

LONGEST_DELAY: Final = 60.0
"""Seconds between two tries of a piece, at most."""


class Processing:
    """Runs the pieces that are still missing, several at once, and collects the outcome."""

    def __init__(self, bench: Workbench, job: Job, lease: Lease, plan: ExportPlan) -> None:
        self._bench = bench
        self._job = job
        self._lease = lease
        self._plan = plan
        self._staging = bench.staging(job)
        self._run = bench.engine.begin(plan)
        self._missing: deque[int] = deque()
        self._finished: dict[int, FinishedPiece] = {}
        self._winding_down = False
        self._interrupted = threading.Event()

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
        recorded = await self._bench.store.pieces(self._job.id)
        if recorded:
            is_kept = await self._bench.in_thread(self._staging.kept)
            self._finished = {one.index: one for one in recorded if all(map(is_kept, _files(one)))}
        self._missing.extend(i for i in range(self._plan.pieces) if i not in self._finished)
        if not self._missing:
            return
        await self._bench.in_thread(self._run.prepare, self._interrupt)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._bench.settings.slots):
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
        settings = self._bench.settings
        tried = 0
        while True:
            tried += 1
            try:
                async with self._bench.slots:
                    write = partial(self._write, index, self._usual_size())
                    return await self._bench.in_thread(write, self._interrupt)
            except asyncio.CancelledError:
                discard(*self._paths(index))
                raise
            except ProfileStoreCorrupt:
                raise
            except (ProfileStoreError, EngineError, DatasetUnreachable) as error:
                await self._note(index, tried, error)
                if tried == settings.piece_tries:
                    raise PieceFailed(index, tried, error) from error
                delay = settings.piece_delay.total_seconds() * 2 ** (tried - 1)
                await asyncio.sleep(min(delay, LONGEST_DELAY) * (1 + self._bench.jitter() / 2))

    async def _note(self, index: int, tried: int, error: Exception) -> None:
        """Remember a failure, for whoever asks about the job."""
        log.warning("a piece has failed", piece=index, tried=tried, error=str(error))
        failure = Failure(
            piece=index,
            attempt=tried,
            failed_at=await self._bench.store.now(),
            message=public_words(error),
        )
        await self._bench.store.save_failure(self._lease, failure)

    def _write(self, index: int, usual_size: int | None) -> FinishedPiece:
        expected = self._size_of_source(index) if usual_size is None else usual_size
        with self._bench.budget.reserved(expected):
            return self._write_files(index)

    def _write_files(self, index: int) -> FinishedPiece:
        data, discards = self._data(index), self._staging.discards(index)
        try:
            result = self._run.run_piece(index, data=data, discards=discards)
            endpoints = self._endpoints(index, result)
            file = self._recorded(self._staging.endpoints(index), endpoints.file)
            piece = FinishedPiece(
                index=index,
                epoch=self._job.epoch,
                parts=tuple(
                    FinishedPart(
                        selected=part.selected,
                        discarded=part.discarded,
                        data=self._recorded(path, part.data),
                        namespaces=part.namespaces,
                        endpoints=file,
                        unknown_consents=endpoints.unknown_consents,
                    )
                    for path, part in zip(data, result.parts, strict=True)
                ),
                discards=self._recorded(discards, result.discards),
            )
            self._staging.keep(_files(piece))
        except BaseException:
            discard(*self._paths(index))
            raise
        return piece

    def _endpoints(self, index: int, result: PieceResult) -> WrittenEndpoints:
        """The endpoint definitions of a piece that has just been run."""
        if self._plan.application is None or result.parts[0].data is None:
            return WrittenEndpoints(None, unknown_consents=0)
        return self._run.write_endpoints(self._staging.data(index), self._staging.endpoints(index))

    def _usual_size(self) -> int | None:
        """Bytes of a finished piece, on the average; None without any."""
        sizes = [file.size for piece in self._finished.values() for file in _files(piece)]
        return sum(sizes) // len(self._finished) if sizes else None

    def _size_of_source(self, index: int) -> int:
        """Bytes that a piece reads of the snapshot, by the share of persons that it selects."""
        snapshot = self._plan.snapshot
        everything = 0
        for bucket in self._plan.buckets(index):
            for path in (snapshot.persons_file(bucket), snapshot.fragments_file(bucket)):
                with suppress(OSError):  # whoever reads it says so better
                    everything += path.stat().st_size
        selected = upper_bound(self._job.request, snapshot)
        return everything * selected // max(1, snapshot.persons)

    async def _save(self, piece: FinishedPiece) -> None:
        """Record a piece. Its files stay unless the store has said that it did not take it."""
        saving = asyncio.create_task(self._bench.store.save_piece(self._lease, piece))
        try:
            await asyncio.shield(saving)
        finally:
            await asyncio.wait({saving})
            if isinstance(saving.exception(), LeaseLost):
                with suppress(DatasetError):  # a worker's sweep finds them later
                    paths = self._paths(piece.index)
                    await self._bench.in_thread(partial(self._staging.withdraw, *paths))

    async def _collect(self) -> Publication:
        pieces = [self._finished[index] for index in range(self._plan.pieces)]
        batches = tuple(
            self._batch(batch, [piece.parts[batch] for piece in pieces])
            for batch in range(self._plan.batches)
        )
        discards = [piece.discards for piece in pieces if piece.discards]
        publication = Publication(
            batches=batches,
            discards=await self._join(batches[0].id, discards) if discards else None,
            endpoints=tuple(
                part.endpoints for piece in pieces for part in piece.parts if part.endpoints
            ),
            unknown_consents=sum(part.unknown_consents for piece in pieces for part in piece.parts),
        )
        if publication.unknown_consents:
            log.warning("consents are not understood", endpoints=publication.unknown_consents)
        columns = await self._bench.in_thread(partial(self._columns, batches[0].files[0].name))
        now = await self._bench.store.now()
        for batch in batches:
            manifest = manifest_of(self._job, batch, columns, now)
            await self._bench.in_thread(partial(stage_manifest, self._staging, manifest))
        return publication

    def _columns(self, name: str) -> Sequence[Column]:
        with self._staging.opened([name]) as (file,):
            return self._run.columns(file)

    def _batch(self, batch: int, parts: Sequence[FinishedPart]) -> PublishedBatch:
        namespaces: Counter[str] = Counter()
        for part in parts:
            namespaces.update(part.namespaces)
        return PublishedBatch(
            id=self._bench.new_batch_id(),
            files=tuple(part.data for part in parts if part.data),
            counts=Counts(
                total=sum(part.selected for part in parts),
                realized=sum(part.data.rows for part in parts if part.data),
                failed=sum(part.discarded for part in parts),
            ),
            namespaces=dict(sorted(namespaces.items())),
            segment=batch if self._plan.segment_per_batch else None,
        )

    async def _join(self, batch_id: str, discards: Sequence[DataFile]) -> DiscardFile:
        folder = self._bench.discards
        staged = folder.staged(self._job.id, batch_id)
        names = [file.name for file in discards]

        def join() -> DiscardFile:
            folder.open()
            with self._staging.opened(names) as sources:
                written = self._run.join_discards(sources, staged)
            final = folder.file(self._job.id)
            return fixed(staged, rows=written.rows, final=final, go_on=self._go_on)

        file = await self._bench.in_thread(join, self._interrupt)
        expected = sum(source.rows for source in discards)
        if file.rows != expected:
            raise EngineError(f"{staged} has {file.rows} rows where the pieces have {expected}")
        return file

    def _paths(self, index: int) -> Sequence[Path]:
        """Where all that a piece may have is written."""
        staging = self._staging
        return [*self._data(index), staging.discards(index), staging.endpoints(index)]

    def _data(self, index: int) -> Sequence[Path]:
        """Where its profiles are written, a file for each batch."""
        return [self._staging.data(index, batch) for batch in range(self._plan.batches)]

    def _recorded(self, path: Path, written: Written | None) -> DataFile | None:
        """A file that was written, with its checksum."""
        if written is None:
            return None
        sha256 = fingerprint(path, self._go_on)
        return DataFile(name=path.name, rows=written.rows, size=written.size, sha256=sha256)

    def _interrupt(self) -> None:
        """Stop what runs in threads: queries, and the reading of what they have written."""
        self._interrupted.set()
        self._run.interrupt()

    def _go_on(self) -> None:
        if self._interrupted.is_set():
            raise ExportCancelled("the export was told to stop")


def _files(piece: FinishedPiece) -> Sequence[DataFile]:
    """The files that a piece has, its discards last."""
    parts = [file for part in piece.parts for file in (part.data, part.endpoints)]
    files = [*parts, piece.discards]
    return [file for file in files if file is not None]
