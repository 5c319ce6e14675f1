"""The verdict on a document whose text has a name twice in one object."""

from collections.abc import Iterable

from segexport.events.contract import Judgement, Verdict
from segexport.events.explain import Finding
from segexport.events.xdm import Path


def refuse_repeated(judgement: Judgement, repeated: Iterable[Path]) -> Judgement:
    """The judgement on a document whose text has names twice in one object, at these places.

    Such a text means what its reader makes of it: it is invalid, whatever was parsed from it.
    """
    found = tuple(
        Finding(path, "unique", None, "is there twice in one object; keep one of them")
        if path
        else Finding(path, "unique", None, "has a name twice in one object, deep inside")
        for path in repeated
    )
    if not found:
        return judgement
    return Judgement(Verdict.INVALID, judgement.form, (*found, *judgement.findings))
