"""The table, and which conditions were equal for all models."""

from collections.abc import Iterator

from charlm.comparison import differing, listed, notes, table
from charlm.report import parts
from charlm.report.findings import Findings
from charlm.report.html import Html, tag, together
from charlm.report.parts import words


def result(findings: Findings) -> Html:
    """The table with its notes, and the conditions."""
    conditions = (part for name, value in _conditions(findings) for part in (tag("dt", name), tag("dd", value)))
    return together(
        [
            words(
                "A language model gives every possible next character a probability. The cost of the character that "
                "really came is −log₂ of its probability, in bits. The table shows the mean cost per character over "
                "held-out text, which no model was trained on. Lower is better. Press a heading to sort by it."
            ),
            parts.table(*table(findings.result)),
            tag("ul", *(tag("li", note) for note in notes(findings.result)), class_="notes"),
            tag("h3", "What was the same for all models, and what was not"),
            tag("dl", *conditions),
        ]
    )


def _conditions(findings: Findings) -> Iterator[tuple[str, str]]:
    text, training = findings.result.split.held_out, findings.result.split.training
    yield "Held-out text", f"{text.name}: {text.characters:,} characters, {text.bytes:,} bytes, SHA-256 {text.sha256}"
    validation = findings.result.split.validation.characters
    yield "Validation slice", f"the last {validation:,} of the {training.characters:,} characters of the training text"
    for name, values in findings.result.conditions().items():
        if len(values) == 1:
            yield name.capitalize(), f"the same for all: {next(iter(values))}"
        elif values:
            yield name.capitalize(), f"not the same: {differing(values)}"
    for finding in findings.contenders:
        if finding.made:
            members, how = finding.made
            runs = "" if finding.row.conditions.budget else "; they were trained before, and their times are added up"
            yield finding.name, f"made of {members}, combined at every character by {how}{runs}"
    yield "Context", _context_policy(findings)
    if any(len(row.runs) > 1 for row in findings.result.rows):
        yield "Seeds", "the table has means over several seeds; everything else on this page shows the run of the first"
    if findings.result.match == "parameters":
        yield "Parameters", "as equal as whole widths allow; n-grams and mixtures are excepted"
    yield "Tuning", "on the validation slice; never on the held-out text"


def _context_policy(findings: Findings) -> str:
    context = findings.contenders[0].row.evaluation.context
    if context is not None:
        return f"every model sees the last {context:,} characters and no more"
    adapting = [finding.name for finding in findings.contenders if finding.row.adapts]
    cache = (
        f"; {listed(adapting)} also learn from the held-out text as they read it, the others do not" if adapting else ""
    )
    return f"each model uses all of the preceding text that it can{cache}"
