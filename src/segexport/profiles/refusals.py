"""Why records are refused, in words."""

from typing import Final

from segexport.profiles import graph
from segexport.profiles.fragments import EVENT, FRAGMENT
from segexport.profiles.rules import NOT_UTF8

EXPLANATIONS: Final = {
    NOT_UTF8: "the record is not UTF-8",
    **{
        rule.reason: rule.explanation
        for rules in (FRAGMENT.rules, EVENT.rules, graph.RULES)
        for rule in rules
    },
}
"""Every reason that a record can be refused for."""
