"""Defines merge policies and segments: the one writer of the catalogue.

A new catalogue is written whole, forced to disk and renamed over the old one, under a lock
of its own: two writers wait for one another, and neither waits for a load.
"""

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

import orjson

from segexport.errors import InvalidDefinition, ProfileStoreError
from segexport.jobs.values import MAX_NAME, unfit
from segexport.modes import make_private
from segexport.profiles.catalogue import (
    BUILT_IN,
    CATALOGUE,
    TIMESTAMP_ORDERED,
    Catalogue,
    Merging,
    PolicyDefinition,
    SegmentDefinition,
    catalogue_document,
    open_catalogue,
)
from segexport.profiles.predicate import parse_predicate
from segexport.profiles.snapshots import Attribute, ProfileStore

T = TypeVar("T")

MAX_DATASETS: Final = 1_000
"""Datasets in the order of one policy."""

_LOCK: Final = ".catalogue.lock"
_NEXT: Final = ".catalogue.json.next"


def define_policy(
    store: Path, policy_id: str, merging: Merging, datasets: Sequence[str] = ()
) -> PolicyDefinition:
    """Define a merge policy, or the next version of one; the same again changes nothing.

    `datasets` is the order of `Merging.DATASET_PRECEDENCE`, first the one that wins.

    Raises `InvalidDefinition`, `ProfileStoreCorrupt` if the catalogue is damaged and
    `ProfileStoreError` if it cannot be written.
    """
    _require_name(policy_id, "a merge policy's id")
    if policy_id in {each.id for each in BUILT_IN}:
        raise InvalidDefinition(f"merge policy {policy_id!r} is built in; choose another id")
    for dataset in datasets:
        _require_name(dataset, "a dataset's id")
    if len(set(datasets)) < len(datasets):
        raise InvalidDefinition("a dataset is named twice; it has one place in the order")
    if len(datasets) > MAX_DATASETS:
        raise InvalidDefinition(f"{len(datasets):,} datasets are named; {MAX_DATASETS:,} may be")
    if (merging is Merging.DATASET_PRECEDENCE) != bool(datasets):
        raise InvalidDefinition(
            f"{Merging.DATASET_PRECEDENCE} needs datasets in their order, and only it has any"
        )

    def add(catalogue: Catalogue) -> tuple[Catalogue, PolicyDefinition]:
        versions = [each for each in catalogue.policies if each.id == policy_id]
        policy = PolicyDefinition(
            id=policy_id,
            version=len(versions) + 1,
            merging=merging,
            datasets=tuple(datasets),
        )
        if versions and replace(policy, version=versions[-1].version) == versions[-1]:
            return catalogue, versions[-1]
        return replace(catalogue, policies=(*catalogue.policies, policy)), policy

    return _change(store, add)


def define_segment(
    store: Path,
    segment: str,
    predicate: str,
    *,
    namespace: str = "ups",
    policy: str = TIMESTAMP_ORDERED.id,
    policy_version: int | None = None,
) -> SegmentDefinition:
    """Define a segment, or the next version of one; the same again changes nothing.

    The predicate is held against the attributes of the newest snapshot, if there is one.
    Without a `policy_version` the policy's newest is meant, now and ever after.

    Raises `InvalidPredicate`, `InvalidDefinition`, `UnknownPolicy`, `ProfileStoreCorrupt` if
    the store is damaged and `ProfileStoreError` if the catalogue cannot be written.
    """
    _require_name(namespace, "a segment's namespace")
    _require_name(segment, "a segment's id")
    parse_predicate(predicate, _attributes(store))

    def add(catalogue: Catalogue) -> tuple[Catalogue, SegmentDefinition]:
        merged = catalogue.policy(policy, policy_version)
        before = catalogue.segment(namespace, segment)
        definition = SegmentDefinition(
            namespace=namespace,
            segment=segment,
            version=before.version + 1 if before else 1,
            predicate=predicate,
            policy=merged.id,
            policy_version=merged.version,
        )
        if before and replace(definition, version=before.version) == before:
            return catalogue, before
        return replace(catalogue, segments=(*catalogue.segments, definition)), definition

    return _change(store, add)


def _attributes(store: Path) -> Sequence[Attribute] | None:
    profiles = ProfileStore(store)
    ids = profiles.ids()
    return profiles.snapshot(ids[-1]).attributes if ids else None


def _require_name(name: str, what: str) -> None:
    if not 0 < len(name) <= MAX_NAME:
        raise InvalidDefinition(
            f"{what} has 1 to {MAX_NAME} printable characters, and {name[:60]!r} has {len(name)}"
        )
    if hidden := unfit(name):
        raise InvalidDefinition(
            f"{what} has printable characters, and {name[:60]!a} has not: {hidden}"
        )


def _change(store: Path, add: Callable[[Catalogue], tuple[Catalogue, T]]) -> T:
    try:
        make_private(store)
        with _alone(store):
            before = open_catalogue(store)
            after, defined = add(before)
            if after != before:
                _write(store, after)
            return defined
    except OSError as error:
        raise ProfileStoreError(
            f"the catalogue in {store} cannot be written: {error.strerror}; it stays as it was"
        ) from error


def _write(store: Path, catalogue: Catalogue) -> None:
    document = orjson.dumps(catalogue_document(catalogue), option=orjson.OPT_INDENT_2)
    following = store / _NEXT
    with following.open("wb") as file:
        file.write(document)
        file.flush()
        os.fsync(file.fileno())
    following.rename(store / CATALOGUE)
    folder = os.open(store, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _alone(store: Path) -> Iterator[None]:
    """Wait for the catalogue's lock. The kernel frees it when the process ends."""
    with (store / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
