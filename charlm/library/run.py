"""A trained model with its tokenizer: what `train` and `load` return."""

from dataclasses import dataclass
from pathlib import Path

import torch

from charlm import checkpoint
from charlm.analysis import Character, lens
from charlm.corpus import Text, open_corpus, reopen
from charlm.decoding import Sampling, sample
from charlm.evaluation import Evaluation, evaluate, record
from charlm.models import adapted


@dataclass(frozen=True, repr=False)
class Run(checkpoint.Run):
    """A trained run: `model` and `tokenizer`, its folder `path`, and the `history` of how it came to be.

    >>> run = charlm.train("corpus.txt", "lstm", budget="50steps")
    >>> run.architecture
    'lstm'
    """

    def sample(
        self,
        prompt: str | None = None,
        *,
        length: int = 200,
        temperature: float = Sampling.temperature,
        top_k: int = Sampling.top_k,
        top_p: float = Sampling.top_p,
        min_p: float = Sampling.min_p,
        seed: int | None = None,
    ) -> str:
        """What the model writes after `prompt` (None: at the beginning of a line), `length` characters, without it.

        The settings are those of `Sampling`. The same `seed` gives the same text on the same machine; None draws anew.

        >>> run = charlm.load("checkpoints/corpus-lstm")
        >>> len(run.sample("hello", length=20))
        20
        >>> run.sample("hello", length=20, seed=1) == run.sample("hello", length=20, seed=1)
        True
        """
        settings = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return sample(self.model, self.tokenizer, prompt, length=length, settings=settings, generator=generator)[0]

    def evaluate(
        self, text: str | Path | Text | None = None, *, context: int | None = None, adapt: str | None = None
    ) -> Evaluation:
        """How well the model predicts a text, which may be whatever `open_corpus` opens: in bits per character.

        Without one it is the text that the run held out, and the figure is noted in the run. With a `context` the
        model sees no more than so many characters before each. `adapt` says what learns from the text as it is read:
        "none", "counts" (what the model counts) or "all" (the weights of networks too); by default counts, if it has
        them.

        >>> evaluation = charlm.load("checkpoints/corpus-lstm").evaluate()
        >>> 0 < evaluation.bits_per_character < 8
        True
        """
        if text is None:
            opened = reopen(self.history.corpus, "name another text").held_out
        else:
            opened = text if isinstance(text, Text) else open_corpus(text)
        evaluation = evaluate(self.model, self.tokenizer, opened, context=context, adapt=adapt)
        if text is None and evaluation.adapt == self.model.adaptation:
            record(self.path, self.weights, evaluation)
        return evaluation

    def score(self, text: str, *, top: int = 5, adapt: str | None = None) -> list[Character]:
        """The characters of `text`, each with its bits, its rank and the `top` predictions in its place.

        `adapt` as for `evaluate`.

        >>> characters = charlm.load("checkpoints/corpus-lstm").score("the")
        >>> [character.text for character in characters]
        ['t', 'h', 'e']
        >>> sum(character.bits for character in characters) > 0
        True
        """
        return list(lens(adapted(self.model, adapt), self.tokenizer, Text.from_string(text, "text"), top=top))


def load(path: str | Path) -> Run:
    """The run in a folder, or of that name in checkpoints/, every file checked.

    Raises CheckpointError that names the file for anything missing, damaged, or from a newer version.

    >>> charlm.load("checkpoints/corpus-lstm").name
    'corpus-lstm'
    """
    return Run(**vars(checkpoint.load(checkpoint.find_run(path))))
