"""The columns of the exported profiles, as SQL in an engine's dialect."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from segexport.exports.engines.dialect import Dialect
from segexport.exports.fields import (
    EVENT_LIST,
    IDENTITIES,
    IDENTITY_MAP,
    PERSON_ID,
    SEGMENT_MEMBERSHIP,
    Tree,
)
from segexport.exports.plan import ExportPlan
from segexport.jobs.request import FileFormat
from segexport.profiles.snapshots import Attribute

# An attribute may have any name, even that of a column beside it: each is qualified.
PICKED: Final = "picked"
MERGED: Final = "merged"
STANDINGS: Final = "standings"
EVENTS: Final = "happenings"


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of one plan: of the persons picked, beside them what was merged, and so on."""

    plan: ExportPlan
    dialect: Dialect

    def named(self) -> Iterator[tuple[str, str]]:
        """Every column of the exported profiles: its name, and the SQL of its value."""
        plan = self.plan
        yield PERSON_ID, self.person_id(f"{PICKED}.person_id")
        for name, node in plan.tree.items():
            yield name, self.nested(node, MERGED)
        if plan.identity_map:
            yield IDENTITY_MAP, f"{PICKED}.identity_map"
        if plan.identities:
            yield IDENTITIES, self._identities(plan.identities)
        if plan.segment_membership:
            yield SEGMENT_MEMBERSHIP, f"{STANDINGS}.segment_membership"
        if plan.events:
            events = f"coalesce({EVENTS}.event_list, {self.dialect.empty_list()})"
            yield EVENT_LIST, events

    def person_id(self, value: str) -> str:
        """A person id as the batch has it: JSON's numbers would lose its last digits."""
        return value if self.plan.format is FileFormat.PARQUET else self.dialect.text(value)

    def nested(self, node: Attribute | Tree, relation: str) -> str:
        """Attributes of a relation as a struct, or the one as it is."""
        if isinstance(node, Attribute):
            return self._written(f"{relation}.{self.dialect.identifier(node.path)}", node.type)
        return self.dialect.struct(
            {name: self.nested(below, relation) for name, below in node.items()}
        )

    def _written(self, value: str, kind: str) -> str:
        """A value as the file can have it: JSON has no number that is not finite."""
        if kind == "JSON":  # DuckDB's readers let those pass
            return self.dialect.finite_json(value)
        if self.plan.format is FileFormat.PARQUET or not kind.startswith("DOUBLE"):
            return value
        finite = "CASE WHEN {0} - {0} = 0 THEN {0} END"  # infinity less infinity is no number
        if kind == "DOUBLE":
            return finite.format(value)
        return self.dialect.transform(value, "x", finite.format("x"))

    def _identities(self, parts: Sequence[str]) -> str:
        """The identity map as one flat list; an absent map stays absent."""
        sql = self.dialect
        # DuckDB would take `e.key` for something in an attribute that is called `e`.
        entry, one = sql.identifier("entry,"), sql.identifier("one,")
        value = {"id": f"{one}.id", "namespace": f"{entry}.key"}
        part = sql.struct({part: value[part] for part in parts})
        inner = sql.transform(f"{entry}.value", one, part)
        outer = sql.transform(sql.entries(f"{PICKED}.identity_map"), entry, inner)
        return f"flatten({outer})"
