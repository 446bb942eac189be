"""What each architecture is: one sentence and a small drawing."""

from collections.abc import Callable, Iterable
from inspect import getdoc

from charlm.models import ALL_ARCHITECTURES
from charlm.report.html import Html, tag

SENTENCES = {
    "ngram": "Counts which character followed each short context in the training text; contexts of several lengths "
    "are combined, so that one seen rarely falls back on a shorter one.",
    "contexts": "Counts what followed many kinds of context: last characters, words, lines, columns, shapes; small "
    "networks mix them and learn from every character (Mahoney's paq8).",
    "feedforward": "Looks at a fixed number of characters, turns each into a vector, and passes these vectors through "
    "ordinary layers (Bengio et al. 2003).",
    "rnn": "Reads one character at a time and keeps a single hidden vector h, computed anew at each step from the "
    "character and the last h (Elman 1990).",
    "gru": "A recurrent network with gates: they decide how much of the hidden vector is kept and how much is replaced "
    "at each step (Cho et al. 2014).",
    "lstm": "A recurrent network with a memory cell c: gates decide what is erased, added and read, so that "
    "information can survive many steps (Hochreiter & Schmidhuber 1997).",
    "transformer": "Lets every position look back at all others in its window and take a weighted mean of what it "
    "finds there: attention, in several heads and layers (Vaswani et al. 2017).",
    "mixture": "Combines the predictions of several models, such as an n-gram and a network: a gate decides at "
    "every character how much weight each of them gets.",
}


def sentence(architecture: str) -> str:
    """What a model of this architecture is; by default the first line of its class's docstring."""
    summary = (getdoc(ALL_ARCHITECTURES[architecture]) or architecture).splitlines()[0]
    return SENTENCES.get(architecture, summary)


def drawing(architecture: str, number: int) -> Html:
    """A small drawing of an architecture, in the colour of a contender."""
    shapes = DRAWINGS.get(architecture, _network)()
    return tag(
        "svg", *shapes, viewBox="0 0 220 100", class_=f"drawing c{number % 8}", role="img", aria_label=architecture
    )


LETTERS = "the ca"
LETTER_CENTRES = tuple(20 + 32 * n for n in range(len(LETTERS)))
"""The x coordinates of the letters that a drawing reads."""


def _letters(count: int = len(LETTERS), own: int = 0) -> Iterable[Html]:
    """The first letters at the bottom of a drawing, the last `own` of them in the contender's colour."""
    for n, x in enumerate(LETTER_CENTRES[:count]):
        letter = LETTERS[n].replace(" ", "\u2423")
        yield _box(x - 10, 76, 20, 20, "own" if n >= count - own else "")
        yield _label(x, 90, letter)


def _box(x: float, y: float, width: float, height: float, kind: str = "") -> Html:
    return tag("rect", x=f"{x}", y=f"{y}", width=f"{width}", height=f"{height}", rx="4", class_=f"box {kind}".strip())


def _label(x: float, y: float, words: str) -> Html:
    return tag("text", words, x=f"{x}", y=f"{y}", text_anchor="middle")


def _path(d: str, kind: str = "") -> Html:
    return tag("path", d=d, class_=f"path {kind}".strip())


def _arrow(x: float, y: float, to_x: float, to_y: float, kind: str = "") -> Html:
    """A straight arrow, to the right or upwards."""
    head = "m-4 -3l4 3l-4 3" if to_y == y else "m-3 4l3 -4l3 4"
    return _path(f"M{x} {y}L{to_x} {to_y}{head}", kind)


def _prediction(x: float = 204, y: float = 18) -> Iterable[Html]:
    """The next letter."""
    yield _box(x - 10, y - 10, 20, 20, "next")
    yield _label(x, y + 4, "t")


def _ngram() -> Iterable[Html]:
    yield from _letters(own=3)
    yield _path("M104 70v-6h76v6")
    yield _arrow(142, 64, 142, 54)
    for n, (letter, width) in enumerate((("t", 62), ("r", 34), ("n", 16))):
        yield _label(92, 20 + 15 * n, letter)
        yield _box(100, 10 + 15 * n, width, 11, "own" if n == 0 else "")
    yield _label(44, 34, "counts")
    yield _arrow(166, 18, 192, 18)
    yield from _prediction()


def _feedforward() -> Iterable[Html]:
    yield from _letters(own=4)
    for x in LETTER_CENTRES[2:]:
        yield _arrow(x, 76, x, 62)
    yield _box(74, 46, 116, 14, "own")
    yield _arrow(132, 46, 132, 36)
    yield _box(92, 20, 80, 14, "own")
    yield _label(36, 58, "vectors")
    yield _label(46, 32, "hidden layer")
    yield _arrow(172, 24, 192, 24)
    yield from _prediction(y=24)


def _chain(inside: str) -> Iterable[Html]:
    """Letters, a cell above each, and the state that goes from cell to cell."""
    yield from _letters()
    for n, x in enumerate(LETTER_CENTRES):
        yield _arrow(x, 76, x, 64)
        yield _box(x - 11, 42, 22, 20, "own")
        yield _label(x, 56, inside)
        if n:
            yield _arrow(x - 21, 52, x - 11, 52)
    yield _arrow(LETTER_CENTRES[-1], 42, LETTER_CENTRES[-1], 32)
    yield from _prediction(LETTER_CENTRES[-1], 20)


def _rnn() -> Iterable[Html]:
    yield from _chain("h")
    yield _label(72, 24, "one vector, rewritten")


def _gru() -> Iterable[Html]:
    yield from _chain("h")
    for x in LETTER_CENTRES[:-1]:
        yield tag("circle", cx=f"{x + 16}", cy="52", r="3.5", class_="gate")
    yield _label(78, 24, "gates: keep or replace")


def _lstm() -> Iterable[Html]:
    yield from _chain("h")
    yield _path(f"M{LETTER_CENTRES[0] - 12} 34H{LETTER_CENTRES[-1] - 14}", "thick own")
    for x in LETTER_CENTRES[:-1]:
        yield tag("circle", cx=f"{x + 16}", cy="34", r="3.5", class_="gate")
        yield _path(f"M{x} 42v-8")
    yield _label(82, 22, "memory cell c, with gates")


def _transformer() -> Iterable[Html]:
    yield from _letters()
    end = LETTER_CENTRES[-1]
    for n, x in enumerate(LETTER_CENTRES[:-1]):
        weight = ("", "", "strong", "", "strong")[n]
        yield _path(f"M{end} 72C{end} {30 + 5 * n} {x} {30 + 5 * n} {x} 72", f"own {weight}".strip())
    yield _path(f"M{end} 72V30")
    yield _label(86, 22, "attention: any position")
    yield from _prediction(end, 20)


def _mixture() -> Iterable[Html]:
    yield from _letters()
    for x, name in ((52, "n-gram"), (116, "network")):
        yield _arrow(x, 76, x, 64)
        yield _box(x - 30, 46, 60, 17)
        yield _label(x, 58, name)
        yield _path(f"M{x} 46V36H84V30")
    yield _box(54, 14, 60, 16, "own")
    yield _label(84, 26, "gate")
    yield _arrow(114, 22, 192, 22)
    yield from _prediction(y=22)


def _contexts() -> Iterable[Html]:
    yield from _letters()
    for number, (begin, end) in enumerate(((148, 180), (84, 116), (20, 180))):  # the last two, a gap, all
        y = 70 - 8 * number
        yield _path(f"M{begin} 76V{y}H{end}V76", "own")
        yield _path(f"M{(begin + end) / 2} {y}V40")
    yield _box(40, 22, 140, 18, "own")
    yield _label(110, 35, "mixing network")
    yield _arrow(180, 31, 192, 31)
    yield from _prediction(y=31)


def _network() -> Iterable[Html]:
    """The drawing of an architecture without one of its own."""
    yield from _letters()
    yield _arrow(100, 76, 100, 60)
    yield _box(20, 34, 160, 24, "own")
    yield _label(100, 50, "model")
    yield _arrow(180, 46, 192, 46)
    yield from _prediction(y=46)


DRAWINGS: dict[str, Callable[[], Iterable[Html]]] = {
    "ngram": _ngram,
    "contexts": _contexts,
    "feedforward": _feedforward,
    "rnn": _rnn,
    "gru": _gru,
    "lstm": _lstm,
    "transformer": _transformer,
    "mixture": _mixture,
}
