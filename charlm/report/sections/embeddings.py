"""Embeddings: a map where two axes show enough of them, otherwise each character's nearest neighbours."""

from charlm.analysis import EmbeddingMap
from charlm.comparison import listed
from charlm.report import figures, parts
from charlm.report.findings import Findings
from charlm.report.html import Html, tag, together, visible
from charlm.report.parts import words

MIN_MAP_VARIANCE = 0.3  # share of the variance that the two axes of a map must show
TOO_BRIEF = "training was too short to change the random embeddings much."
MAX_ROWS = 16  # characters whose neighbours are listed, the most frequent of those that have any


def embeddings(findings: Findings) -> Html | None:
    """A map or a list for each network."""
    networks = [(n, f.name, f.embedding) for n, f in enumerate(findings.contenders) if f.embedding is not None]
    if not networks:
        return None
    text = findings.read.slice(0, 100_000).read()
    maps, lists = list[tuple[str, Html]](), dict[str, Html | None]()
    for n, name, embedding in networks:
        if sum(embedding.explained) >= MIN_MAP_VARIANCE:
            maps.append((name, figures.embedding(embedding, n, name, text)))
        else:
            lists[name] = _neighbours(embedding, text)
    without = [name for name, neighbours in lists.items() if neighbours is None]
    return together(
        [
            words(
                "A network turns each character into a vector, its embedding, which is random at the start. During "
                "training, characters that are used alike (vowels, capitals, digits, brackets) move closer together.",
                "Listed are the nearest neighbours by the angle between whole vectors, and only pairs that are closer "
                "than random vectors would be. A map is drawn only where two axes show at least "
                f"{100 * MIN_MAP_VARIANCE:.0f} % of the variance; otherwise it would mostly show noise.",
            ),
            parts.side_by_side(*maps) if maps else None,
            tag(
                "div",
                *(tag("article", tag("h3", name), neighbours) for name, neighbours in lists.items() if neighbours),
                class_="neighbours",
            ),
            tag("p", f"In {listed(without)} no two characters are closer than random vectors would be: {TOO_BRIEF}")
            if without
            else None,
            parts.without_mixtures(findings, "embeddings"),
        ]
    )


def _neighbours(embedding: EmbeddingMap, text: str) -> Html | None:
    """The most frequent characters with their nearest neighbours, nearest first; None if there are none."""
    tokens = embedding.tokens
    by_frequency = sorted(range(len(tokens)), key=lambda n: -text.count(tokens[n]))
    with_neighbours = [(tokens[n], near) for n in by_frequency if (near := embedding.neighbours(n))][:MAX_ROWS]
    if not with_neighbours:
        return None
    rows = []
    for token, neighbours in with_neighbours:
        cells = (tag("span", visible(other), title=f"cosine {cosine:.2f}") for other, cosine in neighbours)
        rows.append(tag("tr", tag("th", visible(token), scope="row"), tag("td", *cells)))
    head = tag("thead", tag("tr", tag("th", "character", scope="col"), tag("th", "nearest", scope="col")))
    return tag("table", head, tag("tbody", *rows))
