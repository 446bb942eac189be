"""How far back gradients reach."""

from charlm.report import figures, parts
from charlm.report.findings import Findings
from charlm.report.html import Html, together
from charlm.report.parts import note, side_by_side, words


def gradients(findings: Findings) -> Html | None:
    """A figure before training and one after it."""
    if not (networks := [(n, f) for n, f in enumerate(findings.contenders) if f.gradients is not None]):
        return None
    beginnings = {name: beginning for _, finding in networks for name, beginning in finding.beginnings.items()}
    numbers = {finding.name: number for number, finding in networks}
    for name in beginnings:  # those with another activation get the next colours
        numbers.setdefault(name, len(findings.contenders) + len(numbers) - len(networks))
    gradients = {
        "before": [(numbers[name], beginning) for name, beginning in beginnings.items()],
        "after": [(number, finding.gradients) for number, finding in networks if finding.gradients],
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
                *((f"{when} training", figures.gradients(lines, when)) for when, lines in gradients.items() if lines),
            ),
            note("The vertical axis is logarithmic. A line ends where it falls below one ten-millionth."),
            parts.without_mixtures(findings, "gradients"),
        ]
    )
