"""One step of a network as an ONNX graph: a token of each stream and the state before it in, log-probabilities and the
state after it out.

    tokens (B, 1) int64, state_0 ... state_n  ->  log_probs (B, V), next_0 ... next_n

Every state begins as zeros, that of a Transformer's caches with no position at all (axis `cached` 0), and a text with
token 0. Metadata under "charlm" tell what a program needs to spell text: see `metadata`.
"""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import torch
from torch import Tensor, nn

from charlm import __version__
from charlm.config import BOUNDARY
from charlm.errors import UsageError
from charlm.export.fit import Fit
from charlm.export.huggingface.with_code import NETWORK_NAMES, name_of
from charlm.models import LanguageModel, State
from charlm.progress import Listener, silent
from charlm.tokenizers import Tokenizer

MAX_STREAMS = 4096
TOKENS, LOG_PROBS = "tokens", "log_probs"


class Step(nn.Module):
    """A model that reads one token of each stream."""

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, *state: Tensor) -> State:
        """(B, 1) and the state before -> (B, V) and the state after."""
        log_probs, after = self.model(tokens, state)
        return (log_probs[:, -1], *after)


def fit(model: LanguageModel) -> Fit:
    """The network as it is, its floor included. Raises UsageError for a model that is no network of charlm's."""
    if name_of(model) is None:
        raise UsageError(f"{type(model).__name__}: no graph of one step; there is one for {', '.join(NETWORK_NAMES)}")
    return Fit("a graph of one step", (), model)


def write_onnx(model: LanguageModel, tokenizer: Tokenizer, file: IO[bytes], progress: Listener = silent) -> None:
    """Write a network as an ONNX file. Raises UsageError where the packages that make one are missing."""
    fit(model)
    try:
        import onnxscript  # type: ignore[import-not-found, unused-ignore]  # noqa: F401 - what torch.onnx asks for
    except ImportError:
        raise UsageError("an ONNX file needs onnxscript: pip install 'charlm[onnx]'") from None
    progress("tracing", 0.0)
    with _quiet(), torch.no_grad():
        proto = _program(model.cpu().eval()).model_proto
    entry = proto.metadata_props.add()
    entry.key, entry.value = "charlm", json.dumps(metadata(model, tokenizer))
    file.write(proto.SerializeToString())


def metadata(model: LanguageModel, tokenizer: Tokenizer) -> dict[str, Any]:
    """What stands in the file: version, kind of tokenizer, the bytes of each id, and which ids training has shown.

    `pieces` has a character below U+0100 for each byte. To encode: the longest piece first is right for characters and
    bytes only; SentencePiece takes the pieces of the best total score.
    """
    seen = model.seen_ids().tolist()
    seen[BOUNDARY] = False
    pieces = [piece.decode("latin-1") for piece in tokenizer.pieces()]
    return {"version": __version__, "tokenizer": tokenizer.kind, "pieces": pieces, "seen": list(map(int, seen))}


def _program(model: LanguageModel) -> Any:
    """The traced step, for any number of streams and of cached positions."""
    state = model.initial_state(2)
    for token in (1, 2, 3):  # two of anything but 1: sizes 0 and 1 would be taken for constants
        _, state = model(torch.full((2, 1), token), state)
    streams = torch.export.Dim("streams", min=1, max=MAX_STREAMS)
    cached = torch.export.Dim("cached", min=0, max=1 << 20)
    changing = tuple({0: streams, 1: cached} if leaf.dim() == 3 else {0: streams} for leaf in state)
    return torch.onnx.export(
        Step(model).eval(),
        (torch.zeros(2, 1, dtype=torch.int64), *state),
        dynamo=True,
        dynamic_shapes=({0: streams}, changing),
        input_names=[TOKENS, *(f"state_{number}" for number in range(len(state)))],
        output_names=[LOG_PROBS, *(f"next_{number}" for number in range(len(state)))],
        verbose=False,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch.onnx says of packages and axes that do not matter here."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
