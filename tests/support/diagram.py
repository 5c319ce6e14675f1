"""The lifecycle table as a diagram, for the documentation and the test that guards it."""

from segexport.jobs.lifecycle import EDGES, JobState, is_terminal


def lifecycle_diagram() -> str:
    """A Mermaid state diagram of every edge of the table, triggers as labels."""
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> CREATED: submit"]
    lines += [
        f"    {source} --> {target}: {trigger}" for (source, trigger), target in EDGES.items()
    ]
    lines += [f"    {state} --> [*]" for state in JobState if is_terminal(state)]
    return "\n".join([*lines, "```"])
