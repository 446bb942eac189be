"""Drawing the next id of each stream of a batch from its allowed ids.

Shapes: B streams, V vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from charlm.decoding.allowed import AllowedIds
from charlm.decoding.continuation import LINE_FEED, Floats, Indices, broken
from charlm.decoding.sampling import Sampling, draw
from charlm.inference import Engine, LogProbs
from charlm.tokenizers.base import Tokenizer

Kernel = Callable[[LogProbs, Indices, Floats, float], Indices]


class Drawing:
    """Draws ids for several streams, and keeps track of characters that are spelled in bytes."""

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        settings: Sampling,
        streams: int,
        generator: torch.Generator | None,
    ) -> None:
        self.allowed, self.settings = AllowedIds(engine.model, tokenizer), settings
        self.uniforms, self.newline = uniform_rows(streams, generator), int(tokenizer.encode(LINE_FEED)[0])
        self.prefixes = np.zeros(streams, np.int64)  # (B,) see `AllowedIds`
        plain = (settings.top_k, settings.top_p, settings.min_p) == (0, 1, 0) and settings.temperature > 0
        self.kernel = _kernel() if plain and engine.backend == "compiled" else None

    def __call__(self, log_probs: LogProbs, alive: Sequence[int], line_due: Sequence[int]) -> Indices:
        """One id for each row of (B, V), whose streams are `alive`; a line feed for the rows in `line_due`."""
        allowed, prefixes, uniforms = self.allowed, self.prefixes, next(self.uniforms)
        if len(alive) < len(uniforms):
            uniforms = uniforms[alive]
        if not allowed.spells or not prefixes.any():
            ids = self._draw(log_probs, uniforms, allowed.ids[0])
        elif len(prefixes) == 1:
            ids = self._draw(log_probs, uniforms, allowed.ids[prefixes[0]])
        else:
            ids = self._draw(allowed.masked(log_probs, prefixes), uniforms, allowed.every_id)
        if line_due:
            ids[line_due] = self.newline
        if allowed.spells:
            self.prefixes = allowed.after(prefixes, ids)
        return ids

    def keep(self, rows: Sequence[int]) -> None:
        """Keep only these rows."""
        self.prefixes = self.prefixes[rows]

    def _draw(self, log_probs: LogProbs, uniforms: Floats, allowed: Indices) -> Indices:
        if self.kernel is None:
            return draw(log_probs, self.settings, uniforms, allowed)
        ids = self.kernel(log_probs, allowed, uniforms, self.settings.temperature)
        if ids.min() < 0:
            raise broken()
        return ids


def _kernel() -> Kernel:
    from charlm.inference.kernels import sampling
    from charlm.inference.kernels.arithmetic import load

    return load(sampling.draw)


def uniform_rows(streams: int, generator: torch.Generator | None) -> Iterator[Floats]:
    """Endless rows of one number in [0, 1) for each stream, generated many at a time, which is faster."""
    if generator is None:
        generator = torch.Generator()
        generator.seed()
    while True:
        yield from torch.rand(max(1, 4096 // streams), streams, dtype=torch.float64, generator=generator).numpy()
