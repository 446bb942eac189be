"""Runs as models of lm-evaluation-harness, in its own process; `charlm serve` does the same over HTTP.

The harness finds a model by its name once its module is imported, so three lines start it:

    import charlm.lm_eval
    from lm_eval.__main__ import cli_evaluate
    cli_evaluate()  # --model charlm --model_args run=checkpoints/lstm --tasks …

A document is read as one stream, whatever its length: its log-likelihood is what `charlm evaluate` adds up.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model

from charlm import checkpoint
from charlm.config import BOUNDARY
from charlm.corpus import Text
from charlm.decoding import Sampling, sample
from charlm.evaluation.scoring import token_bits
from charlm.evaluation.walk import ids_of
from charlm.inference import open_engine
from charlm.training import choose_device

MAX_GENERATED = 256
"""Characters of a text where a task does not say."""


@register_model("charlm")
class CharlmLM(LM):  # type: ignore[misc]
    """A run, read token by token."""

    def __init__(self, run: str, device: str = "auto", **_: Any) -> None:
        """The run in this folder, or of this name in checkpoints/; what else the harness passes on is not needed."""
        super().__init__()
        self.run = checkpoint.load(checkpoint.find_run(run))
        self.model = self.run.model.to(choose_device("auto" if device in (None, "") else device))
        self.engine, self.tokenizer = open_engine(self.model), self.run.tokenizer

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Of each (context, continuation): ln P(continuation | context), and whether greedy decoding would write it."""
        return [self._continuation(*request.args) for request in requests]

    def _continuation(self, context: str, continuation: str) -> tuple[float, bool]:
        ids = self.tokenizer.encode(context + continuation).astype(np.int64)
        begin = len(self.tokenizer.encode(context))
        log_probs, state = self.engine.read([BOUNDARY, *ids[:begin]], self.engine.start(1))
        total, greedy = 0.0, True
        for place in range(begin, len(ids)):
            expected = log_probs[0, BOUNDARY + 1 :]
            total += float(log_probs[0, ids[place]])
            greedy = greedy and bool(log_probs[0, ids[place]] == expected.max())
            if place + 1 < len(ids):
                log_probs, state = self.engine.step(ids[place : place + 1], state)
        return total, greedy

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        """ln P of each whole text, every token with all that comes before it."""
        return [self._document(*request.args) for request in requests]

    def _document(self, document: str) -> float:
        if not document:
            return 0.0
        ids = ids_of(self.model, self.tokenizer, Text.from_string(document, "a document"))
        return -math.log(2) * sum(float(bits.sum()) for bits in token_bits(self.model, ids))

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Each context continued, greedily unless its task gives a temperature, up to a stop string of the task."""
        return [self._generated(*request.args) for request in requests]

    def _generated(self, context: str, options: Mapping[str, Any]) -> str:
        until = options.get("until") or []
        stop = [until] if isinstance(until, str) else list(until)
        settings = Sampling(
            temperature=float(options.get("temperature", 0.0)),
            top_p=float(options.get("top_p", 1.0)),
            top_k=int(options.get("top_k", 0)),
        )
        length = int(options.get("max_gen_toks", MAX_GENERATED))
        (text,) = sample(self.engine, self.tokenizer, context, length=length, settings=settings, stop=stop)
        return text
