"""Attention maps: one large map with characters on its axes, chosen among small ones."""

import numpy as np
import numpy.typing as npt

from charlm.analysis import AttentionMaps
from charlm.report import figures, parts
from charlm.report.findings import Findings
from charlm.report.html import Html, tag, together, visible
from charlm.report.parts import words

CELL_SIZE = 10  # units of the drawing
START = "⊢"  # stands for the boundary before the text


def attention(findings: Findings) -> Html | None:
    """The maps of each Transformer."""
    with_attention = [(n, f.name, f.attention) for n, f in enumerate(findings.contenders) if f.attention is not None]
    if not with_attention:
        return None
    return together(
        [
            words(
                "Each row is a character that has just been read. Along the row, the colour says how much the model "
                "looks at each character up to it; a row sums to 1. Nothing after the character can be seen, so the "
                "upper right is empty. A diagonal means that a head looks at a fixed distance back, a column that many "
                "characters look at the same place.",
                "Point at a cell, or press Tab and use the arrow keys, to read its value. The small maps choose the "
                "head. "
                f"{START} is the start of the text, ␣ a space, ⏎ a line end.",
            ),
            *(part for n, name, maps in with_attention for part in (tag("h3", name), _heads(n, name, maps))),
        ]
    )


def _heads(number: int, name: str, maps: AttentionMaps) -> Html:
    """A tab for each head, labelled by a small map."""
    layers, heads, *_ = maps.weights.shape
    tokens = [visible(token) or START for token in maps.tokens]
    panels = []
    for layer in range(layers):
        for head in range(heads):
            title = f"layer {layer + 1}, head {head + 1}"
            picture = figures.attention(maps.weights[layer, head])
            label = together([tag("img", src=picture, alt=""), tag("span", title)])
            panels.append((label, title, _map(tokens, maps.weights[layer, head], picture, f"{name}, {title}")))
    return parts.picture_tabs(f"attention-{number}", panels)


def _map(tokens: list[str], weights: npt.NDArray[np.float32], picture: str, name: str) -> Html:
    """One map, its weights as two hexadecimal digits each, row by row."""
    size, longest = CELL_SIZE * len(tokens), max(map(len, tokens))
    margin = 4 + 5.5 * longest
    middles = [margin + CELL_SIZE * (n + 0.5) for n in range(len(tokens))]
    rows = (
        tag("text", token, x=f"{margin - 3:g}", y=f"{y + 3:g}", class_="row")
        for token, y in zip(tokens, middles, strict=True)
    )
    columns = (
        tag("text", token, transform=f"translate({x:g} {margin - 3:g})" + (" rotate(-90)" if longest > 2 else ""),
            class_="column turned" if longest > 2 else "column")
        for token, x in zip(tokens, middles, strict=True)
    )  # fmt: skip
    image = tag(
        "image", href=picture, x=f"{margin:g}", y=f"{margin:g}", width=str(size), height=str(size),
        preserveAspectRatio="none",
    )  # fmt: skip
    digits = (255 * weights.clip(0, 1)).round().astype(np.uint8).tobytes().hex()
    total = f"{margin + size:g}"
    drawn = tag(
        "svg", image, *rows, *columns, viewBox=f"0 0 {total} {total}", class_="attention", role="img", tabindex="0",
        aria_label=f"Attention map of {name}; arrow keys move from cell to cell",
        data_weights=digits, data_margin=f"{margin:g}",
    )  # fmt: skip
    return tag("div", drawn, tag("output", "", class_="readout"), class_="map")
