"""The figures of the page."""

import base64
import io
import math
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from charlm.analysis import KINDS, EmbeddingMap, Gradients
from charlm.report.findings import Finding, Learned, Measured
from charlm.report.html import Html, visible
from charlm.report.plots import INK, MARKERS, MUTED, SIZE, LineEnd, colour, figure, label_lines, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDE_SIZE = (5.6, 4.2)  # inches
MAX_CURVE_POINTS = 150  # of a learning curve, about
FRONT_STYLE: dict[str, Any] = {"color": MUTED, "linewidth": 1.3, "linestyle": (0, (2, 3)), "zorder": 0}
MIN_GRADIENT_SHARE = 1e-7  # below which a gradient is not drawn
ATTENTION_COLOUR = (0.85, 0.33, 0.1)  # visible on light and dark pages; its opacity is the weight
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
MAX_LABELLED_CHARACTERS = 90  # in a map of embeddings

Numbered = tuple[int, Finding]  # with the number that determines its colour
NumberedLearned = tuple[int, Learned]


def learning(contenders: Sequence[NumberedLearned], attribute: str, unit: str) -> Html:
    """Bits per character during training, against an attribute of each measurement; both axes are logarithmic."""
    with figure(f"Learning curves against {unit}") as (_, (axes,), done):
        ends = []
        for number, finding in contenders:
            points = _thinned(finding.curve)
            x = [getattr(point, attribute) for point in points]
            axes.plot(x, [point.training for point in points], **style(number))
            validated = [(getattr(m, attribute), m.validation) for m in finding.curve if m.validation is not None]
            axes.plot(*np.array(validated).reshape(-1, 2).T, **_marks(number), markersize=4)
            ends.append(LineEnd(x[-1], points[-1].training, finding.name, number))
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel(unit)
        axes.set_ylabel("bits per character")
        _thousands(axes)
        _plain(axes)
        label_lines(axes, ends)
        return done()


def _thinned(curve: Sequence[Measured]) -> list[Measured]:
    """At most about MAX_CURVE_POINTS points, each the mean of its neighbours."""
    size = -(-len(curve) // MAX_CURVE_POINTS)
    groups = [curve[n : n + size] for n in range(0, len(curve), size)]

    def mean(group: Sequence[Measured], name: str) -> float:
        return fmean(getattr(measured, name) for measured in group)

    return [Measured(mean(g, "characters"), mean(g, "seconds"), mean(g, "training"), None) for g in groups]


def front(contenders: Sequence[NumberedLearned], value: Callable[[Learned], float], unit: str, *, log: bool) -> Html:
    """Bits per character against their cost, with the Pareto front."""
    with figure(f"Bits per character against {unit}") as (_, (axes,), done):
        for number, finding in contenders:
            axes.plot(value(finding), _bits(finding), **_marks(number), markersize=10)
        axes.step(*np.array(pareto([(value(f), _bits(f)) for _, f in contenders])).T, where="post", **FRONT_STYLE)
        axes.margins(0.12)
        if log:
            axes.set_xscale("log")
        else:
            axes.set_xlim(left=0)
        axes.set_xlabel(unit)
        axes.set_ylabel("bits per character")
        _thousands(axes)
        return done()


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other point matches or beats in both coordinates, from left to right; then the right edge."""
    best: list[tuple[float, float]] = []
    for point in sorted(points):
        if not best or point[1] < best[-1][1]:
            best.append(point)
    return [*best, (max(x for x, _ in points), best[-1][1])]


def context(contenders: Sequence[Numbered]) -> Html:
    """Bits per character by the number of characters of context, with the 95 % interval of the sampling."""
    with figure("Bits per character against the length of the context", size=WIDE_SIZE) as (_, (axes,), done):
        for number, finding in contenders:
            x = [point.context for point in finding.context]
            y = np.array([point.bits_per_character for point in finding.context])
            error = 1.96 * np.array([point.error for point in finding.context])
            axes.fill_between(x, y - error, y + error, color=colour(number), alpha=0.15, linewidth=0)
            axes.plot(x, y, **style(number), marker=_marks(number)["marker"], markersize=4)
        ticks = sorted({point.context for _, finding in contenders for point in finding.context})
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.set_xlabel("characters of context")
        axes.set_ylabel("bits per character")
        last = [(finding.context[-1], finding.name, number) for number, finding in contenders]
        label_lines(axes, [LineEnd(p.context, p.bits_per_character, name, n) for p, name, n in last], WIDE_SIZE[1])
        return done()


def kinds(contenders: Sequence[Numbered]) -> Html:
    """Bits per character of each kind of character that the text has."""
    counts = {kind: contenders[0][1].kinds[kind].characters for kind in KINDS}
    present = [kind for kind in KINDS if counts[kind]]
    with figure("Bits by kind of character", size=WIDE_SIZE) as (_, (axes,), done):
        for number, finding in contenders:
            figures = [finding.kinds[kind].bits_per_character for kind in present]
            axes.plot(figures, range(len(present)), **_marks(number), markersize=9, alpha=0.85)
        labels = [f"{kind}\n{100 * counts[kind] / sum(counts.values()):.1f} % of all" for kind in present]
        axes.set_yticks(range(len(present)), labels)
        axes.invert_yaxis()
        axes.set_xlim(left=0)
        axes.set_xlabel("bits per character")
        return done()


def gradients(gradients: Iterable[tuple[int, Gradients]], when: str) -> Html:
    """The share of the gradient that is left after so many tokens."""
    with figure(f"Gradients through time, {when}") as (_, (axes,), done):
        shares = [(number, one.norms / one.norms[0]) for number, one in gradients]
        for number, share in shares:
            axes.plot(np.where(share > MIN_GRADIENT_SHARE, share, np.nan), **style(number))
        axes.set_xlim(-2, max(len(share) for _, share in shares))  # the same before and after
        axes.set_yscale("log")
        axes.set_ylim(MIN_GRADIENT_SHARE, 3 * max(float(share.max()) for _, share in shares))
        axes.yaxis.set_major_formatter(lambda value, _: "10" + str(round(math.log10(value))).translate(SUPERSCRIPTS))
        axes.set_xlabel("tokens between an input and the loss")
        axes.set_ylabel("share of the newest input's gradient")
        return done()


def attention(weights: npt.NDArray[np.float32]) -> str:
    """The map of one head, (T, T), as the data URL of a PNG. Square roots make small weights visible."""
    from matplotlib.image import imsave

    file = io.BytesIO()
    shares = np.sqrt(weights.clip(0, 1))[..., None]
    imsave(
        file, np.concatenate([np.broadcast_to(ATTENTION_COLOUR, (*weights.shape, 3)), shares], axis=-1), format="png"
    )
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def embedding(embeddings: EmbeddingMap, number: int, name: str, text: str) -> Html:
    """The first two principal components of a network's embeddings; the most frequent tokens are drawn as text."""
    by_frequency = sorted(range(len(embeddings.tokens)), key=lambda n: -text.count(embeddings.tokens[n]))
    frequent = by_frequency[:MAX_LABELLED_CHARACTERS]
    with figure(f"Embeddings of {name}", size=(SIZE[0], 4.4)) as (_, (axes,), done):
        axes.plot(*embeddings.points[by_frequency[MAX_LABELLED_CHARACTERS:]].T, ".", color=MUTED, markersize=3)
        for n in frequent:
            token = embeddings.tokens[n]
            shade = colour(number) if token.strip()[:1].lower() in set("aeiou") else INK
            axes.annotate(visible(token), tuple(embeddings.points[n]), color=shade, ha="center", va="center")
        axes.plot(*embeddings.points[frequent].T, alpha=0, linestyle="none", marker=".")  # room for the letters
        axes.set_xlabel(f"first component ({100 * embeddings.explained[0]:.0f} % of the variance)")
        axes.set_ylabel(f"second ({100 * embeddings.explained[1]:.0f} %)")
        axes.tick_params(labelbottom=False, labelleft=False, length=0)
        return done()


def _bits(finding: Learned) -> float:
    return finding.row.evaluation.bits_per_character


def _marks(number: int) -> dict[str, Any]:
    """The style of a contender's points."""
    shade = colour(number)
    return {"marker": MARKERS[number % len(MARKERS)], "linestyle": "none", "color": shade, "markeredgecolor": shade}


def _thousands(axes: "Axes") -> None:
    """Label the x axis with ticks such as 200k and 1M."""
    if axes.get_xscale() == "log":
        from matplotlib.ticker import LogLocator, MaxNLocator

        low, high = axes.get_xlim()
        wide = LogLocator(subs=(1.0,) if high > 100 * low else (1.0, 2.0, 5.0), numticks=8)
        axes.xaxis.set_major_locator(wide if high > 5 * low else MaxNLocator(4))
        axes.minorticks_off()
    axes.xaxis.set_major_formatter(lambda value, _: _short(value))


def _plain(axes: "Axes") -> None:
    """Label a logarithmic axis of bits with a few ticks such as 2 and 2.5."""
    from matplotlib.ticker import MaxNLocator, NullLocator

    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")


def _short(value: float) -> str:
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"
