"""The page: head, lead, sections, script."""

import base64
import hashlib
import math
from pathlib import Path

from charlm import __version__
from charlm.comparison import lead
from charlm.own_files import REPORT_MARK
from charlm.report.findings import Findings
from charlm.report.html import Html, tag
from charlm.report.sections import SECTIONS

STYLE, SCRIPT = (Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("style.css", "script.js"))


def as_page(findings: Findings) -> str:
    """The whole page, as HTML that is well-formed XML, too. Its security policy forbids it to load anything."""
    sections = [(section, content) for section in SECTIONS if (content := section.content(findings)) is not None]
    script = f"//<![CDATA[\n{SCRIPT}//]]>"
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"
    title = f"Which model predicts {findings.result.split.held_out.name} best?"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Html(f"/*<![CDATA[*/\n{STYLE}/*]]>*/")),
    )
    links = tag("nav", *(tag("a", section.short, href=f"#{section.anchor}") for section, _ in sections))
    body = tag(
        "body",
        tag("header", tag("h1", title), tag("p", _lead(findings), class_="lead"), links),
        tag("main", *(tag("section", tag("h2", s.heading), content, id=s.anchor) for s, content in sections)),
        tag(
            "footer",
            tag("p", f"Made by charlm {__version__} on {findings.date}. This file loads nothing from elsewhere."),
        ),
        tag("aside", id="sheet", hidden=True, aria_label="what each model predicted", aria_live="polite"),
        tag("script", Html(script)),
    )
    return f"<!DOCTYPE html>\n{REPORT_MARK}\n{tag('html', head, body, lang='en')}\n"


def _lead(findings: Findings) -> str:
    best, *others = findings.result.rows
    bits, share = best.evaluation.bits_per_character, best.evaluation.bits_per_byte / 8
    summary = (
        f"{' '.join(lead(findings.result))} {findings.result.names[0]} is as uncertain as a choice among {2**bits:.1f} "
        "equally likely characters; an arithmetic coder that uses it would compress this text to "
        f"{100 * share:.0f} % of its size."
    )
    named = zip(findings.result.names[1:], others, strict=True)
    rival = next(((name, row.difference) for name, row in named if row.run != best.run), None)
    if rival is None:
        return summary
    name, d = rival
    if not math.isfinite(d.low):
        confidence = "The text is too short to say how certain the order is"
    elif d.low > 0:
        confidence = "The difference is larger than chance explains"
    else:
        confidence = "The difference is too small to be sure of the order"
    return f"{summary} {name} follows, {d.mean:.3f} bits behind. {confidence}."
