"""Why records are refused, in words."""

from typing import Final

from segexport.profiles import graph
from segexport.profiles.fragments import EVENT, FRAGMENT
from segexport.profiles.rules import NOT_UTF8, TOO_LARGE

EXPLANATIONS: Final = {
    NOT_UTF8: "the line is not UTF-8",
    TOO_LARGE: "the record is too large",
    **{
        rule.reason: rule.explanation
        for rules in (FRAGMENT.rules, EVENT.rules, graph.RULES)
        for rule in rules
    },
}
"""Every reason that a record can be refused for."""
