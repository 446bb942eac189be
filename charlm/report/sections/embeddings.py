"""Embeddings: a map where two axes show enough of them, otherwise each character's nearest neighbours."""

from charlm.analysis import EmbeddingMap
from charlm.comparison import listed
from charlm.report import figures, parts
from charlm.report.findings import Findings
from charlm.report.html import Html, tag, together, visible
from charlm.report.parts import words

MAP_VARIANCE = 0.3  # of the variance that the two axes of a map must show
TOO_BRIEF = "training was too short to change the random embeddings much."
ROWS = 16  # characters whose neighbours are listed, the most frequent of those that have any


def embeddings(found: Findings) -> Html | None:
    """A map or a list for each network."""
    every = [(n, f.name, f.embedding) for n, f in enumerate(found.contenders) if f.embedding is not None]
    if not every:
        return None
    text = found.read.slice(0, 100_000).read()
    drawn = [(name, figures.embedding(e, n, name, text)) for n, name, e in every if sum(e.explained) >= MAP_VARIANCE]
    lists = {name: _neighbours(e, text) for _, name, e in every if sum(e.explained) < MAP_VARIANCE}
    without = [name for name, shown in lists.items() if shown is None]
    return together(
        [
            words(
                "A network turns each character into a vector, its embedding, which is random at the start. During "
                "training, characters that are used alike (vowels, capitals, digits, brackets) move closer together.",
                "Listed are the nearest neighbours by the angle between whole vectors, and only pairs that are closer "
                "than random vectors would be. A map is drawn only where two axes show at least "
                f"{100 * MAP_VARIANCE:.0f} % of the variance; otherwise it would mostly show noise.",
            ),
            parts.side_by_side(*drawn) if drawn else None,
            tag(
                "div",
                *(tag("article", tag("h3", n), shown) for n, shown in lists.items() if shown),
                class_="neighbours",
            ),
            tag("p", f"In {listed(without)} no two characters are closer than random vectors would be: {TOO_BRIEF}")
            if without
            else None,
            parts.without_mixtures(found, "embeddings"),
        ]
    )


def _neighbours(found: EmbeddingMap, text: str) -> Html | None:
    """The most frequent characters with their nearest neighbours, nearest first; None if there are none."""
    order = sorted(range(len(found.tokens)), key=lambda n: -text.count(found.tokens[n]))
    near = [(found.tokens[n], neighbours) for n in order if (neighbours := found.neighbours(n))][:ROWS]
    if not near:
        return None
    rows = []
    for token, neighbours in near:
        cells = (tag("span", visible(other), title=f"cosine {cosine:.2f}") for other, cosine in neighbours)
        rows.append(tag("tr", tag("th", visible(token), scope="row"), tag("td", *cells)))
    head = tag("thead", tag("tr", tag("th", "character", scope="col"), tag("th", "nearest", scope="col")))
    return tag("table", head, tag("tbody", *rows))
