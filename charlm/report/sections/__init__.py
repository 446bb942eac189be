"""The sections of the page.

result     the table, and what was equal       models      what each model is
learning   learning curves, size and time      context     how much context each uses
texts      surprise, kinds, samples            differences where two models differ
units      single units over a text            attention   attention maps
gradients  gradients through time              embeddings  maps or nearest neighbours
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from charlm.report.citation import citation
from charlm.report.findings import Findings
from charlm.report.html import Html
from charlm.report.sections.attention import attention
from charlm.report.sections.differences import differences
from charlm.report.sections.embeddings import embeddings
from charlm.report.sections.gradients import gradients
from charlm.report.sections.learning import context, cost, learning
from charlm.report.sections.models import models
from charlm.report.sections.result import result
from charlm.report.sections.texts import kinds, samples, surprisal
from charlm.report.sections.units import units

__all__ = ["SECTIONS", "Section", "differences", "embeddings", "gradients"]


class Section(NamedTuple):
    """A section of the page: its id, the text of links to it, its heading, and its content; None leaves it out."""

    anchor: str
    short: str
    heading: str
    content: Callable[[Findings], Html | None]


SECTIONS: Sequence[Section] = (
    Section("result", "Result", "Result", result),
    Section("models", "Models", "What each model is", models),
    Section("learning", "Learning", "Learning curves", learning),
    Section("cost", "Size and time", "Quality against size and training time", cost),
    Section("context", "Context", "How much context each model uses", context),
    Section("surprisal", "Surprise", "What each character cost", surprisal),
    Section("differences", "Differences", "Where two models differ", differences),
    Section("kinds", "Kinds", "Which kinds of characters cost most", kinds),
    Section("samples", "Samples", "What each model writes", samples),
    Section("units", "Units", "What single units respond to", units),
    Section("gradients", "Gradients", "How far back gradients reach", gradients),
    Section("attention", "Attention", "Where the Transformer looks", attention),
    Section("embeddings", "Embeddings", "Which characters are treated alike", embeddings),
    Section("cite", "Cite", "Settings, versions and how to cite", citation),
)
