"""What each model is, in a sentence and a small drawing."""

from charlm.report.drawings import drawing, sentence
from charlm.report.findings import Findings
from charlm.report.html import Html, tag


def models(findings: Findings) -> Html:
    """A card for each contender, in the colour that it has everywhere on the page."""
    cards = []
    for number, finding in enumerate(findings.contenders):
        architecture = finding.row.architecture
        cards.append(
            tag(
                "article",
                tag("h3", finding.name),
                drawing(architecture, number),
                tag("p", sentence(architecture)),
                class_=f"c{number % 8}",
            )
        )
    return tag("div", *cards, class_="models")
