"""How much of a text occurs in the training text of a run: a high share means that its figure measures memory."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from charlm.checkpoint import History
from charlm.corpus import Reopened, Text, reopen, share_in
from charlm.errors import DataError
from charlm.progress import Listener, silent


class LearnedShare(NamedTuple):
    """The share of a text that occurs in the training texts of a run; a lower bound unless all could be read."""

    share: float
    complete: bool

    @property
    def known(self) -> float | None:
        """The share; None if nothing is known."""
        return self.share if self.complete or self.share else None


def learned_share(
    text: Text, history: History, own: Reopened | None = None, progress: Listener = silent
) -> LearnedShare:
    """The share of a text that occurs literally (see `share_in`) in the training text of a run or of its parents.

    `own` is the run's corpus, if it is open already. A training text that no longer exists is recognised by its SHA-256
    if the text begins with the whole of it.
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
    """The length in characters and the SHA-256 of each training text, if the card has them."""
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
