"""Bits per character during training, against size and time, and against the length of the context."""

from charlm.comparison import listed
from charlm.report import figures, parts
from charlm.report.findings import Findings
from charlm.report.html import Html, tag, together
from charlm.report.parts import note, side_by_side, words


def learning(findings: Findings) -> Html | None:
    """Learning curves of the models that were trained by gradient descent."""
    if not (trained := [(n, f) for n, f in enumerate(findings.contenders) if f.curve]):
        return None
    mixtures = [finding.name for _, finding in trained if finding.made]
    return together(
        [
            words(
                "Lines: the loss on the training text, the mean over the last few steps. Points: the loss on the "
                "validation slice. The figure against characters read shows which model learns most from the same "
                "amount of text, the figure against time which learns most on this machine.",
                "If the points rise while the line falls, the model overfits. The points end half-way, where the "
                "validation slice is added to the training text. All axes are logarithmic. Models that count, in one "
                "pass, have no curve.",
            ),
            note(f"The curve of {listed(mixtures)} is that of the network in it.") if mixtures else None,
            side_by_side(
                ("against characters read", figures.learning(trained, "characters", "characters read in training")),
                ("against time", figures.learning(trained, "seconds", "seconds of training")),
            ),
        ]
    )


def cost(findings: Findings) -> Html:
    """Bits per character against size and against training time, with the Pareto front."""
    contenders = list(enumerate(findings.contenders))
    return together(
        [
            words(
                "Lower is better, and further to the left is cheaper. The dotted line is the Pareto front: no model "
                "below it and to the left of it was found. A model above the line is beaten by one that costs no more. "
                "For an n-gram, the parameters are its counts, one for each distinct n-gram of the training text."
            ),
            parts.key((number, finding.name) for number, finding in contenders),
            side_by_side(
                (
                    "quality and size",
                    figures.front(contenders, lambda f: f.row.parameters, "parameters (n-grams counted)", log=True),
                ),
                (
                    "quality and training time",
                    figures.front(contenders, lambda f: f.row.training_seconds, "seconds of training", log=False),
                ),
            ),
        ]
    )


def context(findings: Findings) -> Html:
    """Bits per character against the number of characters of context."""
    contenders = list(enumerate(findings.contenders))
    adapting = [finding.name for finding in findings.contenders if finding.row.adapts]
    further = f" Models that adapt ({listed(adapting)}) also learn from repetitions: their curves go on falling."
    return parts.beside(
        [
            parts.paragraph(
                "The same models, but each may see only the last 1, 2, 4, … characters. An n-gram and a feed-forward "
                "network have a fixed window; text beyond it changes nothing. A recurrent network keeps what it has "
                "read in its state. A Transformer looks back as far as its window and its layers reach."
                + (further if adapting else "")
            ),
            parts.paragraph(
                "With very short contexts a network does worse than it could: it rarely met the beginning of a text "
                "in training."
            ),
            note("Bands are 95 % intervals: for each length a sample of the text is read."),
        ],
        tag("figure", figures.context(contenders)),
    )
