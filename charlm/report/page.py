"""The page: its sections, and what each of them teaches."""

import base64
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from charlm import __version__
from charlm.analysis import Passage, gains
from charlm.comparison import differing, notes, table
from charlm.report import figures, parts
from charlm.report.findings import SAMPLE, Finding, Findings
from charlm.report.html import Html, tag, together

STYLE, SCRIPT = (Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("style.css", "script.js"))
MARK = "<!-- a report of charlm -->"
"""By which a page is known."""
PASSAGE = 100  # characters of a passage where two models differ
PASSAGES = 2  # of each pair, either way round


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
    best, *others = found.contenders
    bits = best.row.evaluation.bits_per_character
    told = (
        f"{best.name} does, at {bits:.3f} bits per character: at each one it is as unsure as if it chose among "
        f"{2**bits:.1f} that are equally likely, and a coder that asks it brings this text to "
        f"{100 * best.row.evaluation.bits_per_byte / 8:.0f} % of its size."
    )
    if not others:
        return told
    second, d = others[0], others[0].row.difference
    sure = "a clear lead" if d.low > 0 else "too close to be sure of the order"
    return f"{told} {second.name} follows {d.mean:.3f} bits behind, {sure}."


def _result(found: Findings) -> Html:
    return together(
        [
            _teach(
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
    yield "Context", _context_policy(found)
    if found.result.match == "parameters":
        yield "Parameters", "as equal as whole widths allow, but for what is counted"
    yield (
        "Tuning",
        "on the validation slice, the end of the training text; never on the held-out text",
    )


def _context_policy(found: Findings) -> str:
    seen = found.contenders[0].row.evaluation.context
    if seen is not None:
        return f"every model sees the last {seen:,} characters and no more"
    adapting = [finding.name for finding in found.contenders if finding.row.adapts]
    cache = f"; {', '.join(adapting)} counts what it reads as well, which the others do not" if adapting else ""
    return f"each model uses all of the text before a character that it can{cache}"


def _learning(found: Findings) -> Html | None:
    if not (learned := [(n, f) for n, f in enumerate(found.contenders) if f.curve]):
        return None
    return together(
        [
            _teach(
                "Lines are the loss on the text being learned from (a running mean, which lags behind at first), "
                "points the loss on the validation slice. Against characters one sees which model learns most from "
                "each of them, against seconds which learns most on this machine. What is counted has no curve: it "
                "reads its text once. Where points turn up while the line goes down, a model learns its text by heart."
            ),
            _key(learned),
            _figures(
                ("against characters read", figures.learning(learned, "characters", "characters read in training")),
                ("against time", figures.learning(learned, "seconds", "seconds of training")),
            ),
        ]
    )


def _cost(found: Findings) -> Html:
    every = list(enumerate(found.contenders))
    return together(
        [
            _teach(
                "Nobody is below and to the left of the dotted line, the Pareto front: whoever is on it can be beaten "
                "only at a higher price. What is counted has one number for each n-gram that it met."
            ),
            _key(every),
            _figures(
                (
                    "quality and size",
                    figures.front(every, lambda f: f.row.parameters, "parameters (n-grams counted)", log=True),
                ),
                (
                    "quality and training time",
                    figures.front(every, lambda f: f.row.training_seconds, "seconds of training", log=False),
                ),
            ),
        ]
    )


def _context(found: Findings) -> Html:
    every = list(enumerate(found.contenders))
    adapting = [finding.name for finding in found.contenders if finding.row.adapts]
    return _beside(
        [
            _teach(
                "The same models, allowed to see only the last 1, 2, 4, … characters. An n-gram and a feed-forward "
                "network have a fixed window, behind which more text changes nothing; a recurrent network carries on "
                "what it keeps in its state, a Transformer looks back as far as its window and layers reach. With very "
                "little text a network also pays for a situation that it seldom met in training."
            ),
            *(_teach(f"{name} looks for repetitions in all that it sees: its curve goes on.") for name in adapting),
            _teach("The bands are 95 % intervals: at each length a sample of the text is read.", "told"),
            _key(every),
        ],
        tag("figure", figures.context(every)),
    )


def _surprisal(found: Findings) -> Html:
    panels = [
        (finding.name, tag("div", parts.reading(finding.excerpt), class_="text", dir="auto"))
        for finding in found.contenders
    ]
    return together(
        [
            _teach(
                "The stronger its colour, the more bits a character cost: the more it surprised the model, which had "
                "read everything before it. Beginnings of words and names are strong, their ends faint. Point at a "
                "character, or touch it, to see what each model expected there, likeliest first."
            ),
            parts.scale(),
            parts.tabs("excerpt", panels),
        ]
    )


def _differences(found: Findings) -> Html | None:
    best, *others = found.contenders
    if not others:
        return None
    panels = [(f"{best.name} – {other.name}", _pairs(found, best, other)) for other in others]
    return together(
        [
            _teach(
                "The passages where one model saves most against the other, and the other way round. Names and phrases "
                "that occurred before are cheap for whoever remembers them; grammar over long distances for whoever "
                "keeps it in mind."
            ),
            parts.tabs("pair", panels, first=1),
        ]
    )


def _pairs(found: Findings, a: Finding, b: Finding) -> Html:
    shown = []
    for one, other in ((a, b), (b, a)):
        bits, other_bits = one.reading.character_bits, other.reading.character_bits
        for passage in gains(bits, other_bits, length=PASSAGE, count=PASSAGES):
            saved = tag("p", f"{one.name} saves {passage.other_bits - passage.bits:.0f} bits", class_="who")
            shown.append(tag("div", saved, *(_passage(found, f, passage) for f in (one, other)), class_="pair"))
    return together(shown) if shown else tag("p", "Neither is better anywhere.")


def _passage(found: Findings, finding: Finding, passage: Passage) -> Html:
    stretch = slice(passage.begin, passage.end)
    characters = found.read.slice(passage.begin, passage.end).read()
    coloured = together(map(parts.surprise, characters, finding.reading.character_bits[stretch].tolist()))
    total = finding.reading.character_bits[stretch].sum()
    told = tag("p", f"{finding.name}: {total:.0f} bits", class_="told")
    return tag("div", told, tag("p", coloured, class_="text", dir="auto"))


def _kinds(found: Findings) -> Html:
    every = list(enumerate(found.contenders))
    return _beside(
        [
            _teach(
                "Where the bits go. The first letter of a word is the choice among all words that fit; inside a word "
                "spelling leaves less and less open. A model that knows words but not what goes together is far better "
                "inside words than at their beginning."
            ),
            _key(every),
        ],
        tag("figure", figures.kinds(every)),
    )


def _samples(found: Findings) -> Html:
    shown = []
    for number, finding in enumerate(found.contenders):
        quote = finding.quote
        told = f"longest verbatim quote: {len(quote.text)} characters"
        written = parts.marked(finding.sample, quote.place, len(quote.text))
        text = tag("div", written, class_=f"text c{number % 8}", dir="auto")
        shown.append(tag("article", tag("h3", finding.name), tag("p", told, class_="told"), text))
    return together(
        [
            _teach(
                f"What each writes after the end of a line: {SAMPLE} characters at temperature 0.8, the same seed. "
                "Marked is the longest stretch that stands word for word in the training text. For scale: of real text "
                f"as long, never seen in training, {len(found.yardstick.text)} characters in a row stand there too; "
                "much longer ones are quoted, not written."
            ),
            tag("div", *shown, class_="samples"),
        ]
    )


def _gradients(found: Findings) -> Html | None:
    if not (deep := [(n, f) for n, f in enumerate(found.contenders) if f.gradients is not None]):
        return None
    return _beside(
        [
            _teach(
                "A network learns from an input long ago only as far as a gradient reaches back to it. In a plain "
                "recurrent network it is multiplied by the same matrix and squashed at every step, and vanishes "
                "exponentially: a straight line here. The gates of GRU and LSTM can hold a way open along which it "
                "passes almost unchanged; whether they do is learned, and takes time. Attention reaches every place "
                "in its window in one step."
            ),
            _teach("The scale is logarithmic; a line that ends has fallen below a ten-millionth.", "told"),
            _key(deep),
        ],
        tag("figure", figures.gradients(deep)),
    )


def _attention(found: Findings) -> Html | None:
    if not (looking := [(f.name, f.attention) for f in found.contenders if f.attention is not None]):
        return None
    maps = (tag("figure", tag("figcaption", n), figures.attention(m, n), class_="maps") for n, m in looking)
    return together(
        [
            _teach(
                "Each row of a map is a character that looks back, each column one that it looks at; the stronger the "
                "colour, the more. Nobody can look ahead, so the upper right is empty. A diagonal looks at the "
                "character itself or one shortly before; columns are places that all later ones come back to."
            ),
            tag("p", "".join(looking[0][1].tokens), class_="text", dir="auto"),
            *maps,
        ]
    )


def _embeddings(found: Findings) -> Html | None:
    every = [(n, f) for n, f in enumerate(found.contenders) if f.embedding is not None]
    if not every:
        return None
    text = found.read.slice(0, 100_000).read()
    shown = ((f.name, figures.embedding(f.embedding, n, f.name, text)) for n, f in every if f.embedding is not None)
    return together(
        [
            _teach(
                "Each network turns characters into vectors of its own making, which begin at random. Nobody tells it "
                "what a vowel is (coloured), a capital or a comma: the more it has learned, the nearer those lie that "
                "are used alike. Drawn are the two directions of greatest variance; the axes say how much they show."
            ),
            _figures(*shown),
        ]
    )


def _beside(words: Sequence[Html | None], picture: Html) -> Html:
    """Words and, where there is room, a figure at their side."""
    return tag("div", tag("div", *words), picture, class_="side")


def _teach(words: str, kind: str | None = None) -> Html:
    return tag("p", words, class_=kind)


_key = parts.key


def _figures(*named: tuple[str, Html]) -> Html:
    return tag("div", *(tag("figure", tag("figcaption", name), svg) for name, svg in named), class_="figures")


SECTIONS: Sequence[Section] = (
    Section("result", "Result", "The result", _result),
    Section("learning", "Learning", "How they learned", _learning),
    Section("cost", "Size and time", "What quality costs", _cost),
    Section("context", "Context", "How far back they look", _context),
    Section("surprisal", "Surprise", "What surprises them", _surprisal),
    Section("differences", "Differences", "Where two differ most", _differences),
    Section("kinds", "Kinds", "Which characters cost most", _kinds),
    Section("samples", "Samples", "What they write, and whether they quote", _samples),
    Section("gradients", "Through time", "How far back they learn", _gradients),
    Section("attention", "Attention", "Where a Transformer looks", _attention),
    Section("embeddings", "Embeddings", "Where they put the characters", _embeddings),
)
