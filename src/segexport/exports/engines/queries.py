"""The plan as queries: written once, read by every engine in its own `Dialect`.

A query is a SELECT over `Sources`; where its rows go (a table, a view, a file) is the
engine's business.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from segexport.events.vocabulary import EventCode
from segexport.exports.engines.dialect import Dialect
from segexport.exports.plan import (
    IDENTITIES,
    IDENTITY_MAP,
    PERSON_ID,
    SEGMENT_MEMBERSHIP,
    Delivery,
    ExportPlan,
    Tree,
)
from segexport.profiles.snapshots import Attribute

# An attribute may have any name, even that of a column beside it: each is qualified.
_PICKED: Final = "picked"
_MERGED: Final = "merged"
_STANDINGS: Final = "standings"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What the queries read, each as it stands behind FROM.

    The first three have the rows of the buckets at hand, as `segexport.profiles.snapshots`
    describes them. The others are the rows of the queries of the same names: `selected`
    and `picked` of these buckets, `duplicates` of the whole export.
    """

    persons: str
    fragments: str
    memberships: str
    selected: str = "selected"
    picked: str = "picked"
    duplicates: str = "duplicates"


@dataclass(frozen=True, slots=True)
class Queries:
    """The queries of one plan in one dialect."""

    plan: ExportPlan
    dialect: Dialect

    def selected(self, sources: Sources) -> str:
        """Who stands in a wanted segment: person_id, position of the first that selects."""
        wanted = ", ".join(
            f"({position}, {self._text(wanted.namespace)}, {self._text(wanted.segment)}, "
            f"{self._text(standing)})"
            for position, wanted in enumerate(self.plan.segments)
            for standing in wanted.standings
        )
        return (
            f"SELECT person_id, min(position) AS position FROM {sources.memberships} "
            f"JOIN (VALUES {wanted}) AS wanted(position, namespace, segment, status) "
            "USING (namespace, segment, status) GROUP BY person_id"
        )

    def keys(self, sources: Sources) -> str:
        """The keys of those who could be delivered: key, person_id. For a journey only."""
        return (
            f"SELECT key, person_id FROM ({self._persons(sources)}) AS persons "
            f"WHERE (CASE {self._judgement()} END) IS NULL"
        )

    def duplicates(self, keys: str) -> str:
        """The keys that several persons share: key, winner."""
        return f"SELECT key, min(person_id) AS winner FROM {keys} GROUP BY key HAVING count(*) > 1"

    def picked(self, sources: Sources) -> str:
        """Who is selected: person_id, position, identity_map, code of those discarded.

        Selecting comes before merging, so that merging has only the selected to do.
        """
        code, join = self.dialect.text("NULL"), ""
        if self.plan.delivery:
            duplication = self._text(EventCode.ERROR_INSTANCE_DUPLICATION)
            code = f"CASE {self._judgement()} WHEN winner <> person_id THEN {duplication} END"
            join = f"LEFT JOIN {sources.duplicates} AS duplicates USING (key)"
        return (
            f"SELECT person_id, position, identity_map, {code} AS code "
            f"FROM ({self._persons(sources)}) AS persons {join}"
        )

    def counts(self, sources: Sources) -> str:
        """Selected, and discarded among them."""
        return f"SELECT count(*), count(code) FROM {sources.picked} AS {_PICKED}"

    def namespaces(self, sources: Sources) -> str:
        """Exported profiles by namespace."""
        namespace = self.dialect.exploded("map_keys(identity_map)")
        return (
            f"SELECT namespace, count(*) FROM (SELECT {namespace} AS namespace "
            f"FROM {sources.picked} AS {_PICKED} WHERE code IS NULL) AS named "
            "GROUP BY namespace ORDER BY namespace"
        )

    def profiles(self, sources: Sources) -> str:
        """The exported profiles, merged and nested."""
        source = f"{sources.picked} AS {_PICKED}"
        if self.plan.attributes:
            source += f" JOIN ({self._merged(sources)}) AS {_MERGED} USING (person_id)"
        if self.plan.segment_membership:
            source += f" LEFT JOIN ({self._standings(sources)}) AS {_STANDINGS} USING (person_id)"
        columns = ", ".join(
            f"{value} AS {self.dialect.identifier(name)}" for name, value in self._output()
        )
        return f"SELECT {columns} FROM {source} WHERE {_PICKED}.code IS NULL"

    def discards(self, sources: Sources) -> str:
        """The rows of the discard file, in the order of buckets and person ids."""
        wanted = ", ".join(
            f"({position}, {self._text(segment.namespace)}, {self._text(segment.segment)})"
            for position, segment in enumerate(self.plan.segments)
        )
        namespace, segment, join = self.dialect.text("NULL"), self.dialect.text("NULL"), ""
        if wanted:
            namespace, segment = "wanted.namespace", "wanted.segment"
            join = (
                f"JOIN (VALUES {wanted}) AS wanted(position, namespace, segment) USING (position)"
            )
        return (
            f"SELECT {namespace} AS segment_namespace, {segment} AS segment, person_id, code "
            f"FROM {sources.picked} AS {_PICKED} {join} WHERE code IS NOT NULL "
            f"ORDER BY person_id % {self.plan.snapshot.buckets}, person_id"
        )

    def _text(self, value: str) -> str:
        return self.dialect.literal(value)

    def _persons(self, sources: Sources) -> str:
        """The selected persons: person_id, position, identity_map, for a journey key as well."""
        columns, delivery = "person_id, identity_map", self.plan.delivery
        if delivery:
            columns += f", {self._key(delivery)} AS key"
            columns += ", test_profile" if delivery.test_mode else ""
        if not self.plan.segments:
            return f"SELECT {columns}, CAST(NULL AS INTEGER) AS position FROM {sources.persons}"
        return (
            f"SELECT {columns}, position FROM {sources.persons} "
            f"JOIN {sources.selected} AS selected USING (person_id)"
        )

    def _delivered(self, sources: Sources) -> str:
        return f"SELECT person_id FROM {sources.picked} AS {_PICKED} WHERE code IS NULL"

    def _merged(self, sources: Sources) -> str:
        """Of each attribute the latest value that is not null, by person.

        Without segments that is everyone: most persons have one fragment, and need no
        merging.
        """
        names = [self.dialect.identifier(attribute.path) for attribute in self.plan.attributes]
        latest = ", ".join(f"{self.dialect.latest(name, 'rank')} AS {name}" for name in names)
        if self.plan.segments:
            return (
                f"SELECT person_id, {latest} FROM {sources.fragments} "
                f"WHERE person_id IN ({self._delivered(sources)}) GROUP BY person_id"
            )
        return (
            f"WITH several AS {self.dialect.materialized} (SELECT person_id "
            f"FROM {sources.fragments} GROUP BY person_id HAVING count(*) > 1) "
            f"SELECT person_id, {', '.join(names)} FROM {sources.fragments} "
            "ANTI JOIN several USING (person_id) "
            f"UNION ALL SELECT person_id, {latest} FROM {sources.fragments} "
            "SEMI JOIN several USING (person_id) GROUP BY person_id"
        )

    def _key(self, delivery: Delivery) -> str:
        """A person's key: the primary identity in the journey's namespace, else the first by id.

        Most have one identity there and need no ranking, which takes as long as all the rest.
        """
        sql = self.dialect
        identities = sql.at("identity_map", self._text(delivery.namespace))
        named = sql.filter(identities, "i", "coalesce(i.id, '') <> ''")
        primary = f"i.{sql.identifier('primary')}"
        order = sql.struct({"later": f"NOT coalesce({primary}, false)", "id": "i.id"})
        return (
            f"CASE WHEN {sql.length(identities)} = 1 "
            f"THEN nullif({sql.first(identities)}.id, '') "
            f"ELSE ({sql.least(sql.transform(named, 'i', order))}).id END"
        )

    def _judgement(self) -> str:
        """The arms of a CASE that names why a person cannot be delivered, but for duplicates."""
        identities = self.dialect.size("identity_map")
        arms = [
            (f"coalesce({identities}, 0) = 0", EventCode.ERROR_INSTANCE_NO_IDENTITY_MAP),
            ("key IS NULL", EventCode.ERROR_INSTANCE_BAD_NAMESPACE),
        ]
        if self.plan.delivery and self.plan.delivery.test_mode:
            untested = "NOT coalesce(test_profile, false)"
            arms.append((untested, EventCode.ERROR_INSTANCE_NOT_A_TEST_PROFILE))
        return " ".join(f"WHEN {condition} THEN {self._text(code)}" for condition, code in arms)

    def _output(self) -> Iterator[tuple[str, str]]:
        plan = self.plan
        yield PERSON_ID, f"{_PICKED}.person_id"
        for name, node in plan.tree.items():
            yield name, self._nested(node, _MERGED)
        if plan.identity_map:
            yield IDENTITY_MAP, f"{_PICKED}.identity_map"
        if plan.identities:
            yield IDENTITIES, self._identities(plan.identities)
        if plan.segment_membership:
            yield SEGMENT_MEMBERSHIP, f"{_STANDINGS}.segment_membership"

    def _nested(self, node: Attribute | Tree, relation: str) -> str:
        if isinstance(node, Attribute):
            return f"{relation}.{self.dialect.identifier(node.path)}"
        return self.dialect.struct(
            {name: self._nested(below, relation) for name, below in node.items()}
        )

    def _identities(self, parts: Sequence[str]) -> str:
        """The identity map as one flat list; an absent map stays absent."""
        sql, value = self.dialect, {"id": "i.id", "namespace": "e.key"}
        part = sql.struct({part: value[part] for part in parts})
        inner = sql.transform("e.value", "i", part)
        outer = sql.transform(sql.entries(f"{_PICKED}.identity_map"), "e", inner)
        return f"flatten({outer})"

    def _standings(self, sources: Sources) -> str:
        """XDM's segmentMembership: namespace → segment → status and time of qualification."""
        standing = {"status": "status", "lastQualificationTime": "qualified_at"}
        by_segment = self._mapped("segment", self.dialect.struct(standing))
        return (
            f"SELECT person_id, {self._mapped('namespace', 'standing')} AS segment_membership "
            f"FROM (SELECT person_id, namespace, {by_segment} AS standing "
            f"FROM {sources.memberships} WHERE person_id IN ({self._delivered(sources)}) "
            "GROUP BY person_id, namespace) AS by_namespace GROUP BY person_id"
        )

    def _mapped(self, key: str, value: str) -> str:
        entry: Mapping[str, str] = {"key": key, "value": value}
        return f"map_from_entries({self.dialect.listed(self.dialect.struct(entry), key)})"
