"""Which fragment comes first when fragments become one profile: a merge policy in SQL."""

from collections.abc import Callable

from segexport.profiles.catalogue import Merging, PolicyDefinition
from segexport.profiles.snapshots import RANKS
from segexport.sql import literal


def merge_key(policy: PolicyDefinition, quoted: Callable[[str], str] = literal) -> str:
    """A BIGINT of a fragment, greater for one that comes before another of the same person.

    Made of the columns `rank` and `dataset_id`; unique within a bucket. `quoted` writes a
    string in another dialect than DuckDB's.
    """
    if policy.merging is not Merging.DATASET_PRECEDENCE or not policy.datasets:
        return "rank"
    places = len(policy.datasets)
    arms = " ".join(
        f"WHEN {quoted(dataset)} THEN {(places - place) * RANKS}"
        for place, dataset in enumerate(policy.datasets)
    )
    return f"(CASE dataset_id {arms} ELSE 0 END + rank)"


def merged_value(policy: PolicyDefinition, column: str) -> str:
    """DuckDB's aggregate, over the fragments of one person, that merges a column.

    `arg_max` passes over NULLs, so the first value that is there wins; where nothing is
    merged, the latest fragment's value stands, NULL or not.
    """
    aggregate = "arg_max_null" if policy.merging is Merging.NONE else "arg_max"
    return f"{aggregate}({column}, {merge_key(policy)})"
