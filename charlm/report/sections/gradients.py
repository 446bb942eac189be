"""Gradients through time."""

from charlm.report import figures, parts
from charlm.report.findings import Findings
from charlm.report.html import Html, together
from charlm.report.parts import note, side_by_side, words


def gradients(found: Findings) -> Html | None:
    """How far back gradients reach, before training and after it."""
    if not (deep := [(n, f) for n, f in enumerate(found.contenders) if f.gradients is not None]):
        return None
    beginnings = {name: beginning for _, finding in deep for name, beginning in finding.beginnings.items()}
    numbers = {finding.name: number for number, finding in deep}
    for name in beginnings:  # those with another activation, in the colours that are left
        numbers.setdefault(name, len(found.contenders) + len(numbers) - len(deep))
    drawn = {
        "before": [(numbers[name], beginning) for name, beginning in beginnings.items()],
        "after": [(number, finding.gradients) for number, finding in deep if finding.gradients],
    }
    return together(
        [
            words(
                "A network can learn from an input many steps ago only if the gradient of the loss reaches it. In a "
                "plain recurrent network (rnn) the gradient passes through the same matrix and tanh at every step, so "
                "before training it vanishes exponentially: a straight line here. With relu and an identity matrix it "
                "stays almost unchanged.",
                "The gates of GRU and LSTM let part of the gradient through, and training adjusts how much. Attention "
                "reaches every position of its window in one step. A Transformer has no line before training, because "
                "its attention layers start with output zero.",
            ),
            parts.key((number, name) for name, number in numbers.items()),
            side_by_side(
                *((f"{when} training", figures.gradients(those, when)) for when, those in drawn.items() if those),
            ),
            note("The vertical axis is logarithmic. A line ends where it falls below one ten-millionth."),
            parts.without_mixtures(found, "gradients"),
        ]
    )
