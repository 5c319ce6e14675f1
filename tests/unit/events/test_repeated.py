"""Documents with a name that is twice in one object."""

from segexport.events.contract import Verdict, judge
from segexport.events.repeated import refuse_repeated
from segexport.events.vocabulary import SEGMENT_EXPORT_JOB as JOB
from segexport.events.vocabulary import SERVICE_EVENTS

ID = SERVICE_EVENTS + "ID"


def test_names_that_are_there_twice_make_any_document_invalid() -> None:
    for document in ({JOB: {ID: "1"}}, {}):
        judgement = judge(document)
        assert refuse_repeated(judgement, ()) is judgement
        refused = refuse_repeated(judgement, [(JOB, ID), ()])
        assert refused.verdict is Verdict.INVALID
        assert refused.findings[2:] == judgement.findings
        assert [str(it) for it in refused.findings[:2]] == [
            "segmentExportJob.ID: is there twice in one object; keep one of them [unique]",
            "(document): has a name twice in one object, deep inside [unique]",
        ]
