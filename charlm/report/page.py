"""The page: its sections, and what each of them teaches."""

import base64
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from charlm import __version__
from charlm.comparison import differing, lead, listed, notes, table
from charlm.report import parts, sections
from charlm.report.findings import Findings
from charlm.report.html import Html, tag, together
from charlm.report.parts import teach

STYLE, SCRIPT = (Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("style.css", "script.js"))
MARK = "<!-- a report of charlm -->"
"""By which a page is known."""


class Section(NamedTuple):
    """A part of the page: where links lead, what they say, its heading, and its content; none: it is left out."""

    anchor: str
    short: str
    heading: str
    content: Callable[[Findings], Html | None]


def as_page(found: Findings) -> str:
    """The whole page, as HTML that is well-formed XML too; it loads nothing and forbids itself to."""
    told = [(section, content) for section in SECTIONS if (content := section.content(found)) is not None]
    script = f"//<![CDATA[\n{SCRIPT}//]]>"
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"
    title = f"Which model predicts {found.result.split.held_out.name} best?"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Html(f"/*<![CDATA[*/\n{STYLE}/*]]>*/")),
    )
    links = tag("nav", *(tag("a", section.short, href=f"#{section.anchor}") for section, _ in told))
    body = tag(
        "body",
        tag("header", tag("h1", title), tag("p", _lead(found), class_="lead"), links),
        tag("main", *(tag("section", tag("h2", s.heading), content, id=s.anchor) for s, content in told)),
        tag("footer", tag("p", f"Made by charlm {__version__}. This file needs nothing else and loads nothing.")),
        tag("div", id="sheet", hidden=True),
        tag("script", Html(script)),
    )
    return f"<!DOCTYPE html>\n{MARK}\n{tag('html', head, body, lang='en')}\n"


def _lead(found: Findings) -> str:
    best, *others = found.result.rows
    bits = best.evaluation.bits_per_character
    told = (
        f"{' '.join(lead(found.result))} {found.result.names[0]} is as unsure at each character as if it chose among "
        f"{2**bits:.1f} that are equally likely, and a coder that asks it brings this text to "
        f"{100 * best.evaluation.bits_per_byte / 8:.0f} % of its size."
    )
    named = zip(found.result.names[1:], others, strict=True)
    rival = next(((name, row.difference) for name, row in named if row.run != best.run), None)
    if rival is None:
        return told
    name, d = rival
    doubt = "too close" if math.isfinite(d.low) else "on too short a text"
    sure = "a clear lead" if d.low > 0 else f"{doubt} to be sure of the order"
    return f"{told} {name} follows {d.mean:.3f} bits behind, {sure}."


def _result(found: Findings) -> Html:
    return together(
        [
            teach(
                "A model of language says, at each character, how probable every possible next one is. Bits per "
                "character is what it pays for the one that came, − log₂ of its probability, on average over text "
                "that it has not learned from. Lower is better; the headings sort."
            ),
            parts.table(*table(found.result)),
            tag("ul", *(tag("li", note) for note in notes(found.result)), class_="notes"),
            tag("h3", "What was equal, and what was not"),
            tag("dl", *(part for what, value in _conditions(found) for part in (tag("dt", what), tag("dd", value)))),
        ]
    )


def _conditions(found: Findings) -> Iterator[tuple[str, str]]:
    text, training = found.result.split.held_out, found.result.split.training
    yield "Held-out text", f"{text.name}: {text.characters:,} characters, {text.bytes:,} bytes, SHA-256 {text.sha256}"
    validation = found.result.split.validation.characters
    yield "Split", f"{training.characters:,} characters to learn from, the last {validation:,} of them to tune on"
    for what, values in found.result.conditions().items():
        if len(values) == 1:
            yield what.capitalize(), f"the same for all: {next(iter(values))}"
        elif values:
            yield what.capitalize(), f"not the same: {differing(values)}"
    for finding in found.contenders:
        if finding.made:
            members, how = finding.made
            runs = "" if finding.row.conditions.budget else " (trained before; their times are added up)"
            yield finding.name, f"made of {members}{runs}, which {how} brings together at every character"
    yield "Context", _context_policy(found)
    if any(len(row.runs) > 1 for row in found.result.rows):
        yield "Seeds", "the table has means over several; all else on this page is the run of the first"
    if found.result.match == "parameters":
        yield "Parameters", "as equal as whole widths allow, but for what is counted and for mixtures"
    yield (
        "Tuning",
        "on the validation slice, the end of the training text; never on the held-out text",
    )


def _context_policy(found: Findings) -> str:
    seen = found.contenders[0].row.evaluation.context
    if seen is not None:
        return f"every model sees the last {seen:,} characters and no more"
    adapting = [finding.name for finding in found.contenders if finding.row.adapts]
    cache = f"; what is read is counted too by {listed(adapting)}, not by the others" if adapting else ""
    return f"each model uses all of the text before a character that it can{cache}"


SECTIONS: Sequence[Section] = (
    Section("result", "Result", "The result", _result),
    Section("learning", "Learning", "How they learned", sections.learning),
    Section("cost", "Size and time", "What quality costs", sections.cost),
    Section("context", "Context", "How far back they look", sections.context),
    Section("surprisal", "Surprise", "What surprises them", sections.surprisal),
    Section("differences", "Differences", "Where two differ most", sections.differences),
    Section("kinds", "Kinds", "Which characters cost most", sections.kinds),
    Section("samples", "Samples", "What they write, and whether they quote", sections.samples),
    Section("gradients", "Through time", "How far back they learn", sections.gradients),
    Section("attention", "Attention", "Where a Transformer looks", sections.attention),
    Section("embeddings", "Embeddings", "Where they put the characters", sections.embeddings),
)
