"""schemathesis over an OpenAPI document that is served: every phase, with every check."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin

import requests
import schemathesis
from requests.auth import AuthBase
from schemathesis import Case, Response
from schemathesis.core.failures import Failure
from schemathesis.engine import StopReason, events, from_schema

Known = Mapping[str, list[Any]]
Excuse = Callable[[Failure, Response], bool]
"""Whether a failure is none."""


@dataclass
class Fuzzed:
    """What came of it: answers by operation and status, and what was wrong, each thing once."""

    answers: dict[str, Counter[int]] = field(default_factory=dict)
    excused: Counter[str] = field(default_factory=Counter)
    faults: dict[str, str] = field(default_factory=dict)

    @property
    def requests(self) -> int:
        """How many were sent."""
        return sum(counter.total() for counter in self.answers.values())

    def successes(self, operation: str) -> int:
        """Requests about an operation, such as `GET /jobs/{id}`, that did what it is for."""
        return sum(
            count for status, count in self.answers.get(operation, {}).items() if status < 300
        )

    def __str__(self) -> str:
        lines = [f"{self.requests} requests; excused: {dict(self.excused)}"]
        lines += [f"{name}: {dict(sorted(one.items()))}" for name, one in self.answers.items()]
        return "\n".join([*lines, *self.faults.values()])


def fuzz(
    url: str,
    *,
    seed: int,
    examples: int,
    auth: AuthBase,
    known: Known,
    excused: Excuse,
) -> Fuzzed:
    """Try each operation of the document at `url`: `examples` at random, besides the others.

    `known` are values for parameters and parts of bodies (`path.id`, `body.a[*].b`) that mean
    something: half of the time one of them is taken. Blocks until it is done.
    """
    document = requests.get(url, timeout=30).json()
    base = urljoin(url, document["servers"][0]["url"])
    config = schemathesis.Config.from_dict({**_config(seed, examples, known), "base-url": base})
    schema = schemathesis.openapi.from_dict(_with_examples(document, known), config=config)
    schema.auth.set_from_requests(auth)
    found = Fuzzed()

    @schema.hook
    def filter_failure(
        _context: schemathesis.HookContext, failure: Failure, _case: Case[Any], response: Response
    ) -> bool:
        if excused(failure, response):
            found.excused[failure.title] += 1
            return False
        return True

    for event in from_schema(schema).execute():
        _note(event, found)
    return found


def _with_examples(document: dict[str, Any], known: Known) -> dict[str, Any]:
    """The document, with the first of what is known as the example of each parameter."""
    for path in document["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", ()):
                values = known.get(f"{parameter['in']}.{parameter['name']}")
                if values:
                    parameter["example"] = values[0]
    return document


def _config(seed: int, examples: int, known: Known) -> dict[str, Any]:
    return {
        "seed": seed,
        "continue-on-failure": True,
        "request-timeout": 10,
        "max-stream-events": 1,
        "generation": {"max-examples": examples, "database": "none"},
        "dictionaries": {
            f"known-{place}": {"values": values} for place, (_, values) in enumerate(known.items())
        },
        "parameters": {
            name: {"dictionary": f"known-{place}", "probability": 0.5}
            for place, name in enumerate(known)
        },
    }


def _note(event: events.EngineEvent, found: Fuzzed) -> None:
    match event:
        case events.ScenarioFinished():
            _note_scenario(event.recorder, found)
        case events.NonFatalError():
            found.faults[f"{event.label} {event.value}"] = f"{event.label}: {event.value!r}"
        case events.FatalError():
            raise event.exception
        case events.EngineFinished() if event.stop_reason is not StopReason.COMPLETED:
            found.faults["stop"] = f"it stopped early: {event.stop_reason}"


def _note_scenario(recorder: Any, found: Fuzzed) -> None:
    for case_id, interaction in recorder.interactions.items():
        operation = f"{interaction.request.method} {recorder.cases[case_id].value.path}"
        status = interaction.response.status_code if interaction.response else 0
        found.answers.setdefault(operation, Counter())[status] += 1
    for case_id, checks in recorder.checks.items():
        operation = recorder.cases[case_id].value.operation.label
        for check in checks:
            if check.failure_info is not None:
                failure = check.failure_info.failure
                key = f"{operation} {check.name} {failure.title} {failure._unique_key}"
                answer = recorder.interactions[case_id].response
                found.faults.setdefault(
                    key,
                    f"\n{operation}: {check.name}: {failure.title}\n{failure.message}\n"
                    f"{check.failure_info.code_sample}\n{answer.status_code} {answer.text[:600]}",
                )
