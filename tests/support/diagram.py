"""The lifecycle table as a diagram and as a table of statuses: what the documentation has of it."""

from segexport.jobs.lifecycle import EDGES, STATES, JobState, is_terminal


def lifecycle_diagram() -> str:
    """A Mermaid state diagram of every edge of the table, triggers as labels."""
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> CREATED: submit"]
    lines += [
        f"    {source} --> {target}: {trigger}" for (source, trigger), target in EDGES.items()
    ]
    lines += [f"    {state} --> [*]" for state in JobState if is_terminal(state)]
    return "\n".join([*lines, "```"])


def status_table() -> str:
    """What each state is called by the two APIs, and which event tells of it, in Markdown."""
    lines = ["| state | Experience Platform | Pinpoint | event |", "|---|---|---|---|"]
    lines += [
        f"| {state} | {facts.experience_platform} | {facts.pinpoint} | {facts.announces or ''} |"
        for state, facts in STATES.items()
    ]
    return "\n".join(lines)
