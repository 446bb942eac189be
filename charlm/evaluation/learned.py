"""How much of a text a run has learned from: what tells a figure of prediction from one of memory."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from charlm.checkpoint import History
from charlm.corpus import Reopened, Text, reopen, share_in
from charlm.errors import DataError
from charlm.progress import Listener, silent


class LearnedShare(NamedTuple):
    """The share of a text that stands in what a run learned from; a lower bound where that cannot all be read again."""

    share: float
    complete: bool

    @property
    def known(self) -> float | None:
        """The share, or None where nothing can be said."""
        return self.share if self.complete or self.share else None


def learned_share(
    text: Text, history: History, own: Reopened | None = None, progress: Listener = silent
) -> LearnedShare:
    """How much of a text stands word for word (see `share_in`) in the training text of a run and of its parents.

    `own` is the run's corpus where it has been opened already. A text that a run learned from and that
    is not there any more is known by its SHA-256 where the whole of it stands at the beginning.
    """
    corpora = [history.corpus, *(parent.get("corpus") for parent in history.parents)]
    texts, complete = [], True
    for number, described in enumerate(corpora):
        try:
            corpus = own if own is not None and number == 0 else reopen(described)
            texts.append(corpus.learned.training)
        except DataError:
            complete = False
    shares = [share_in(text, texts, progress)]
    shares += [size / text.characters for size, sha256 in _sizes(history, corpora) if _begins(text, size, sha256)]
    return LearnedShare(max(shares), complete)


def _sizes(history: History, corpora: list[Any]) -> Iterator[tuple[int, str]]:
    """Characters and SHA-256 of each text that was learned from, as far as the card has them."""
    for described in corpora:
        try:
            yield int(described["characters"]["training"]), str(described["sha256"]["training"])
        except (KeyError, TypeError, ValueError):
            continue
    tuned_on = history.weighed_on or {}
    if isinstance(tuned_on.get("characters"), int):
        yield tuned_on["characters"], str(tuned_on.get("sha256"))


def _begins(text: Text, size: int, sha256: str) -> bool:
    return 0 < size <= text.characters and text.slice(0, size).sha256 == sha256
