"""Text -> compressed file, which is believed only once it has been decoded."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from charlm import __version__
from charlm.compression import coding
from charlm.compression.container import MAX_BLOCKS, MAX_THREADS, Container, Header, Part
from charlm.compression.content import Content
from charlm.compression.decompressing import decompress
from charlm.compression.fingerprint import machine, model_digest
from charlm.compression.opening import PREDICTORS, opened
from charlm.compression.predictors import Predictor
from charlm.compression.progress import OnProgress, silent, watched
from charlm.config import ADAPTATIONS, Settings, setting
from charlm.errors import CharlmError, DataError
from charlm.evaluation.walk import check_vocabulary
from charlm.models import LanguageModel, architecture_of
from charlm.tokenizers import Tokenizer

TOKENS_PER_STREAM = 1 << 16
MAX_USUAL_STREAMS = 64


@dataclass(frozen=True)
class CompressionConfig(Settings):
    """How a text is compressed. Whatever is chosen here, the file says it, and decompressing does the same."""

    streams: int | None = setting(
        None,
        "blocks of the text that step through the model together, faster and without the context before them",
        min=1,
        max=MAX_BLOCKS,
        unset=f"one for each {TOKENS_PER_STREAM:,} tokens, {MAX_USUAL_STREAMS} at most; 1 where more are no faster",
    )
    threads: int = setting(1, "threads to compute with", min=1, max=MAX_THREADS)
    backend: str = setting(
        "auto", "what computes; integer, for n-grams, gives the same file on every machine", choices=PREDICTORS
    )
    adapt: str | None = setting(
        None,
        "what goes on learning from the text: nothing, counts, or, slowly, the weights of networks too",
        choices=ADAPTATIONS,
        unset="counts, if the model has them",
    )
    verify: bool = setting(True, "decode what was compressed, and keep it only if it is the same")

    def streams_for(self, tokens: int, in_parallel: bool = True) -> int:
        """How many streams there are for a text of so many tokens, for a model that reads streams in parallel or not.

        There are no more than tokens.
        """
        usual = max(1, min(MAX_USUAL_STREAMS, tokens // TOKENS_PER_STREAM)) if in_parallel else 1
        return min(tokens, self.streams or usual)


@dataclass(frozen=True)
class Compressed:
    """A compressed file, and what it took. `bits`: minus log2 of the probabilities of all tokens, in these streams."""

    container: Container
    content: bytes
    bits: float
    seconds: float

    @property
    def stored_bits(self) -> int:
        """The bits of the blocks."""
        return 8 * sum(part.size for part in self.container.header.blocks)

    @property
    def embedded_bits(self) -> int:
        """The bits of the run inside, if there is one."""
        return 8 * sum(part.size for part in self.container.header.files)

    @property
    def header_bits(self) -> int:
        """The bits of all the rest: what the file says of itself."""
        return 8 * len(self.content) - self.stored_bits - self.embedded_bits


def compress(
    model: LanguageModel,
    tokenizer: Tokenizer,
    content: Content | bytes,
    config: CompressionConfig | None = None,
    *,
    run: str = "",
    weights: str = "",
    files: Mapping[str, bytes] | None = None,
    on_progress: OnProgress = silent,
) -> Compressed:
    """Compress some bytes, or what `tokenizer` made of them, and verify it unless `config` says not to.

    `run` and `weights` (the SHA-256 of its file) say how the model's run is found again, `files` embeds it. Raises
    CheckpointError for a tokenizer that is not the model's, TrainingFault for a probability that is zero or not a
    number, CharlmError for a text that does not come back.
    """
    config, begun = config or CompressionConfig(), time.monotonic()
    check_vocabulary(model, tokenizer)
    content = Content.of_bytes(content, tokenizer) if isinstance(content, bytes) else content
    with opened(model, config.backend, config.threads, config.adapt) as predictor:
        streams = config.streams_for(len(content.ids), predictor.in_parallel)
        report = watched(on_progress, "compressing", len(content.ids), content.characters, content.size)
        blocks, bits = coding.encode(predictor, content.ids, streams, report)
        about = _header(model, tokenizer, content, predictor, (run, weights), blocks, files or {})
    container, seconds = Container(about, blocks, files or {}), time.monotonic() - begun
    made = Compressed(container, container.to_bytes(), bits, seconds)
    if config.verify:
        _verify(made, model, tokenizer, on_progress)
    return made


def _header(
    model: LanguageModel,
    tokenizer: Tokenizer,
    content: Content,
    predictor: Predictor,
    source: tuple[str, str],
    blocks: list[bytes],
    files: Mapping[str, bytes],
) -> Header:
    return Header(
        charlm=__version__,
        run=source[0],
        architecture=architecture_of(model),
        adapt=predictor.adapt,
        model=model_digest(model),
        weights=source[1],
        tokenizer=tokenizer.fingerprint,
        machine=machine(predictor),
        tokens=len(content.ids),
        bytes=content.size,
        characters=content.characters,
        sha256=content.sha256,
        blocks=[Part.of(block) for block in blocks],
        files=[Part.of(data, name) for name, data in files.items()],
    )


def _verify(made: Compressed, model: LanguageModel, tokenizer: Tokenizer, on_progress: OnProgress) -> None:
    """Raises CharlmError unless the file, read anew, decodes to what was compressed."""
    try:
        container = Container.from_bytes(made.content, "the compressed text")
        decompress(container, model, tokenizer, what="verifying", on_progress=on_progress)
    except DataError as problem:
        raise CharlmError(f"does not decode again: {problem}; try another `backend`, or `threads=1`") from None
