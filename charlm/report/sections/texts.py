"""What each character cost, the cost by kind of character, and what each model writes."""

from charlm.report import figures, parts
from charlm.report.findings import SAMPLE_CHARACTERS, Findings
from charlm.report.html import Html, tag, together
from charlm.report.parts import words


def surprisal(findings: Findings) -> Html:
    """An excerpt, every character coloured by its bits under each model."""
    panels = [
        (finding.name, tag("div", parts.reading(finding.excerpt), class_="text", dir="auto"))
        for finding in findings.contenders
    ]
    return together(
        [
            words(
                "The darker a character, the more bits it cost: the less the model expected it. Each model has read "
                "everything before it. The first letters of words and names are dark, their endings are light.",
                "Point at a character, or press Tab and use the arrow keys, to see what every model predicted there. "
                "A click keeps the list open; Escape closes it.",
            ),
            parts.scale(),
            parts.tabs("excerpt", panels),
        ]
    )


def kinds(findings: Findings) -> Html:
    """Bits by kind of character."""
    contenders = list(enumerate(findings.contenders))
    return parts.beside(
        [
            parts.paragraph(
                "The first letter of a word is the hardest: every word that fits the sentence is still possible. "
                "Inside a word, spelling leaves less and less choice. A model that is good inside words but poor at "
                "their beginnings has learned spelling, but not which words go together."
            ),
            parts.key((number, finding.name) for number, finding in contenders),
        ],
        tag("figure", figures.kinds(contenders)),
    )


def samples(findings: Findings) -> Html:
    """What each model writes, and the longest quotation in it."""
    articles = []
    for number, finding in enumerate(findings.contenders):
        quote = finding.quote
        note = parts.note(f"longest quotation: {len(quote.text)} characters")
        written = parts.marked(finding.sample, quote.place, len(quote.text))
        text = tag("div", written, class_=f"text c{number % 8}", dir="auto")
        articles.append(tag("article", tag("h3", finding.name), note, text))
    return together(
        [
            words(
                f"{SAMPLE_CHARACTERS} characters drawn from each model, all with temperature 0.8 and the same seed. "
                "Marked is the longest passage that also occurs, word for word, in the training text. For comparison: "
                f"{len(findings.yardstick.text)} characters is the longest such passage in held-out text of the same "
                "length. A model whose passage is much longer quotes its training text."
            ),
            tag("div", *articles, class_="samples"),
        ]
    )
