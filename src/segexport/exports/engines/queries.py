"""The plan as queries: written once, read by every engine in its own `Dialect`.

A query is a SELECT over `Sources`; where its rows go (a table, a view, a file) is the
engine's business.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from segexport.events.vocabulary import EventCode
from segexport.exports.engines.columns import EVENTS, MERGED, PICKED, STANDINGS, Columns
from segexport.exports.engines.dialect import Dialect
from segexport.exports.engines.journey import judgement, key
from segexport.exports.fields import tree
from segexport.exports.plan import ExportPlan, NestedEvents
from segexport.jobs.request import FileFormat
from segexport.profiles.catalogue import Merging
from segexport.profiles.precedence import merge_key

BATCH: Final = "batch,"
"""The column that tells the batch of a row, called as no attribute at the top can be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What the queries read, each as it stands behind FROM.

    The first four have the rows of the buckets at hand, as `segexport.profiles.snapshots`
    describes them; `instances` those of the plan's file of live instances. The others are
    the rows of the queries of the same names: `selected` and `picked` of these buckets,
    `duplicates` of the whole export.
    """

    persons: str
    fragments: str
    events: str
    memberships: str
    instances: str = ""
    selected: str = "selected"
    picked: str = "picked"
    duplicates: str = "duplicates"


@dataclass(frozen=True, slots=True)
class Queries:
    """The queries of one plan in one dialect."""

    plan: ExportPlan
    dialect: Dialect

    def selected(self, sources: Sources) -> str:
        """Who stands in a wanted segment, with the segment's position: person_id, position.

        Once, with the first segment that selects, or once for each with a batch for each.
        """
        wanted = ", ".join(
            f"({position}, {self._text(wanted.namespace)}, {self._text(wanted.segment)}, "
            f"{self._text(standing)})"
            for position, wanted in enumerate(self.plan.segments)
            for standing in wanted.standings
        )
        window, bounds = self.plan.qualified, []
        if window.start:
            bounds.append(f"qualified_at >= {self.dialect.timestamp(window.start)}")
        if window.end:
            bounds.append(f"qualified_at < {self.dialect.timestamp(window.end)}")
        standing = (
            f"FROM {sources.memberships} AS memberships "
            f"JOIN (VALUES {wanted}) AS wanted(position, namespace, segment, status) "
            f"USING (namespace, segment, status) {_where(bounds)}"
        )
        if self.plan.segment_per_batch:
            return f"SELECT person_id, position {standing}"
        return f"SELECT person_id, min(position) AS position {standing} GROUP BY person_id"

    def keys(self, sources: Sources) -> str:
        """The keys of those who could be delivered to the journey: digest, person_id.

        A digest stands for the key, which may be ten times as long: those of millions of
        persons have to be held at once. It has 128 bits, so that no two keys share one.
        """
        delivery = self.plan.delivery
        if delivery is None:
            raise ValueError("only an export for a journey has keys")
        return (
            f"SELECT {self.dialect.digest('key')} AS digest, person_id "
            f"FROM ({self._persons(sources)}) AS persons "
            f"WHERE (CASE {judgement(self.dialect, delivery)} END) IS NULL"
        )

    def duplicates(self, keys: str) -> str:
        """The keys that several persons share: digest, winner."""
        return (
            f"SELECT digest, min(person_id) AS winner FROM {keys} "
            "GROUP BY digest HAVING count(*) > 1"
        )

    def picked(self, sources: Sources) -> str:
        """Who is selected, once each: person_id, position of the first segment that selects,

        identity_map, code of those discarded; has_record, where some may have none.
        Selecting comes before merging, so that merging has only the selected to do.
        """
        code, join, delivery = self.dialect.text("NULL"), "", self.plan.delivery
        if delivery:
            duplication = self._text(EventCode.ERROR_INSTANCE_DUPLICATION)
            twice = "winner <> person_id"
            join = (
                f"LEFT JOIN {sources.duplicates} AS duplicates "
                f"ON duplicates.digest = {self.dialect.digest('persons.key')}"
            )
            if delivery.instances:
                twice += " OR living IS NOT NULL"
                join += (
                    f" LEFT JOIN (SELECT key AS living FROM {sources.instances} AS instances) "
                    "AS instances ON living = persons.key"
                )
            code = f"CASE {judgement(self.dialect, delivery)} WHEN {twice} THEN {duplication} END"
        record = ", has_record" if self._may_be_empty else ""
        return (
            f"SELECT person_id, position, identity_map, {code} AS code{record} "
            f"FROM ({self._persons(sources)}) AS persons {join}"
        )

    def counts(self, sources: Sources) -> str:
        """Of each batch that somebody is selected for: its number, selected, discarded."""
        return (
            f"SELECT batch, count(*), count(code) FROM ({self._entries(sources)}) AS entries "
            "GROUP BY batch"
        )

    def namespaces(self, sources: Sources) -> str:
        """Of each batch the exported profiles by namespace: its number, namespace, profiles."""
        namespace = self.dialect.exploded("map_keys(identity_map)")
        return (
            f"SELECT batch, namespace, count(*) FROM (SELECT batch, {namespace} AS namespace "
            f"FROM ({self._entries(sources)}) AS entries WHERE code IS NULL) AS named "
            "GROUP BY batch, namespace ORDER BY batch, namespace"
        )

    def profiles(self, sources: Sources) -> str:
        """The exported profiles, once each, merged and nested."""
        plan, source = self.plan, f"{sources.picked} AS {PICKED}"
        condition = f"{PICKED}.code IS NULL"
        if plan.attributes:
            kind = "LEFT JOIN" if self._may_be_empty else "JOIN"
            source += f" {kind} ({self._merged(sources)}) AS {MERGED} USING (person_id)"
            if self._may_be_empty:
                condition += f" AND ({MERGED}.person_id IS NOT NULL OR NOT {PICKED}.has_record)"
        if plan.segment_membership:
            source += f" LEFT JOIN ({self._standings(sources)}) AS {STANDINGS} USING (person_id)"
        if plan.events:
            events = self._happenings(plan.events, sources)
            source += f" LEFT JOIN ({events}) AS {EVENTS} USING (person_id)"
        columns = ", ".join(
            f"{value} AS {self.dialect.identifier(name)}" for name, value in self._columns.named()
        )
        return f"SELECT {columns} FROM {source} WHERE {condition}"

    def batches(self, sources: Sources) -> str:
        """The exported profiles, once in each batch that has them, with its number in `BATCH`."""
        member = self._columns.person_id("selected.person_id")
        return (
            f"SELECT selected.position AS {self.dialect.identifier(BATCH)}, profiles.* "
            f"FROM ({self.profiles(sources)}) AS profiles "
            f"JOIN {sources.selected} AS selected ON {member} = profiles.person_id"
        )

    def nobody(self, sources: Sources) -> str:
        """The columns of the exported profiles, and no row."""
        return f"SELECT * FROM ({self.profiles(sources)}) AS profiles WHERE false"

    def discards(self, sources: Sources) -> str:
        """The rows of the discard file, in the order of buckets, person ids and segments."""
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
            f"FROM ({self._entries(sources)}) AS entries {join} WHERE code IS NOT NULL "
            f"ORDER BY person_id % {self.plan.snapshot.buckets}, person_id, position"
        )

    @property
    def _columns(self) -> Columns:
        return Columns(self.plan, self.dialect)

    @property
    def _may_be_empty(self) -> bool:
        """Whether persons without a fragment may be exported, who have nothing to merge."""
        return self.plan.empty_profiles and self.plan.snapshot.empty > 0

    def _text(self, value: str) -> str:
        return self.dialect.literal(value)

    def _entries(self, sources: Sources) -> str:
        """What the batches are made of, and the discards: batch, position, person_id,

        identity_map, code.
        """
        if not self.plan.segment_per_batch:
            return (
                "SELECT 0 AS batch, position, person_id, identity_map, code "
                f"FROM {sources.picked} AS {PICKED}"
            )
        return (
            "SELECT selected.position AS batch, selected.position AS position, person_id, "
            f"identity_map, code FROM {sources.picked} AS {PICKED} "
            f"JOIN {sources.selected} AS selected USING (person_id)"
        )

    def _persons(self, sources: Sources) -> str:
        """The selected persons, once each, with what is needed to judge them.

        Reads no column that the plan does not ask for.
        """
        plan, delivery = self.plan, self.plan.delivery
        columns, conditions = ["person_id", "identity_map"], []
        if delivery:
            columns.append(f"{key(self.dialect, delivery)} AS key")
            columns += ["test_profile"] if delivery.test_mode else []
        if self._may_be_empty:
            columns.append("has_record")
        elif plan.snapshot.empty:
            conditions.append("has_record")
        if plan.ingested_after:
            conditions.append(f"ingested_at > {self.dialect.timestamp(plan.ingested_after)}")
        join = ""
        if plan.segments:
            columns.append("position")
            selected = f"{sources.selected} AS selected"
            if plan.segment_per_batch:
                once = f"SELECT person_id, min(position) AS position FROM {selected}"
                selected = f"({once} GROUP BY person_id) AS selected"
            join = f"JOIN {selected} USING (person_id)"
        else:
            columns.append("CAST(NULL AS INTEGER) AS position")
        return (
            f"SELECT {', '.join(columns)} FROM {sources.persons} AS stored {join} "
            f"{_where(conditions)}"
        )

    def _delivered(self, sources: Sources) -> str:
        return f"SELECT person_id FROM {sources.picked} AS {PICKED} WHERE code IS NULL"

    def _merged(self, sources: Sources) -> str:
        """What the merge policy makes of the fragments, by person.

        Where everyone is exported, most have one fragment, and need no merging.
        """
        names = [self.dialect.identifier(attribute.path) for attribute in self.plan.attributes]
        plain, fragments = ", ".join(names), f"{sources.fragments} AS fragments"
        narrowed = bool(self.plan.segments or self.plan.ingested_after)
        only = _where([f"person_id IN ({self._delivered(sources)})"] if narrowed else [])
        if self.plan.policy.merging is Merging.NONE:
            return (
                f"SELECT person_id, {plain} FROM {fragments} SEMI JOIN "
                f"(SELECT person_id, max(rank) AS rank FROM {fragments} {only} "
                "GROUP BY person_id) AS newest USING (person_id, rank)"
            )
        order = merge_key(self.plan.policy, self._text)
        latest = ", ".join(f"{self.dialect.latest(name, order)} AS {name}" for name in names)
        if narrowed:
            return f"SELECT person_id, {latest} FROM {fragments} {only} GROUP BY person_id"
        return (
            f"WITH several AS {self.dialect.materialized} (SELECT person_id "
            f"FROM {fragments} GROUP BY person_id HAVING count(*) > 1) "
            f"SELECT person_id, {plain} FROM {fragments} ANTI JOIN several USING (person_id) "
            f"UNION ALL SELECT person_id, {latest} FROM {fragments} "
            "SEMI JOIN several USING (person_id) GROUP BY person_id"
        )

    def _standings(self, sources: Sources) -> str:
        """XDM's segmentMembership: namespace → segment → status and time of qualification."""
        time = "qualified_at"
        if self.plan.format is not FileFormat.PARQUET:
            time = self.dialect.rfc3339(time)
        standing = {"status": "status", "lastQualificationTime": time}
        by_segment = self._mapped("segment", self.dialect.struct(standing))
        return (
            f"SELECT person_id, {self._mapped('namespace', 'standing')} AS segment_membership "
            f"FROM (SELECT person_id, namespace, {by_segment} AS standing "
            f"FROM {sources.memberships} AS memberships "
            f"WHERE person_id IN ({self._delivered(sources)}) "
            "GROUP BY person_id, namespace) AS by_namespace GROUP BY person_id"
        )

    def _happenings(self, events: NestedEvents, sources: Sources) -> str:
        """The events of each person who has some: person_id, event_list."""
        conditions = [f"person_id IN ({self._delivered(sources)})"]
        if events.after:
            conditions.append(f"ingested_at > {self.dialect.timestamp(events.after)}")
        if events.before:
            conditions.append(f"ingested_at < {self.dialect.timestamp(events.before)}")
        event = self.dialect.struct(
            {
                name: self._columns.nested(node, "events")
                for name, node in tree(events.attributes).items()
            }
        )
        return (
            f"SELECT person_id, {self.dialect.listed(event, 'rank')} AS event_list "
            f"FROM {sources.events} AS events {_where(conditions)} GROUP BY person_id"
        )

    def _mapped(self, key: str, value: str) -> str:
        entry: Mapping[str, str] = {"key": key, "value": value}
        return f"map_from_entries({self.dialect.listed(self.dialect.struct(entry), key)})"


def _where(conditions: Sequence[str]) -> str:
    return f"WHERE {' AND '.join(conditions)}" if conditions else ""
