"""What a journey demands of a person of the store, as SQL in an engine's dialect."""

from segexport.events.vocabulary import EventCode
from segexport.exports.engines.dialect import Dialect
from segexport.exports.plan import Delivery


def key(sql: Dialect, delivery: Delivery) -> str:
    """A person's key: the primary identity in the journey's namespace, else the first by id.

    Most have one identity there and need no ranking, which takes as long as all the rest.
    """
    identities = sql.at("identity_map", sql.literal(delivery.namespace))
    named = sql.filter(identities, "i", "coalesce(i.id, '') <> ''")
    primary = f"i.{sql.identifier('primary')}"
    order = sql.struct({"later": f"NOT coalesce({primary}, false)", "id": "i.id"})
    return (
        f"CASE WHEN {sql.length(identities)} = 1 "
        f"THEN nullif({sql.first(identities)}.id, '') "
        f"ELSE ({sql.least(sql.transform(named, 'i', order))}).id END"
    )


def judgement(sql: Dialect, delivery: Delivery) -> str:
    """The arms of a CASE that names why a person cannot be delivered, but for duplicates."""
    identities = sql.size("identity_map")
    arms = [
        (f"coalesce({identities}, 0) = 0", EventCode.ERROR_INSTANCE_NO_IDENTITY_MAP),
        ("key IS NULL", EventCode.ERROR_INSTANCE_BAD_NAMESPACE),
    ]
    if delivery.test_mode:
        untested = "NOT coalesce(test_profile, false)"
        arms.append((untested, EventCode.ERROR_INSTANCE_NOT_A_TEST_PROFILE))
    return " ".join(f"WHEN {condition} THEN {sql.literal(code)}" for condition, code in arms)
