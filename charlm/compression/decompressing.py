"""Compressed file -> the very bytes that were compressed, or an error."""

import hashlib

import numpy as np

from charlm.compression import coding
from charlm.compression.container import Container, Header
from charlm.compression.content import spelled
from charlm.compression.fingerprint import differences, machine, model_digest
from charlm.compression.opening import opened
from charlm.compression.progress import OnProgress, silent, watched
from charlm.errors import CharlmError, CheckpointError, DataError, UsageError
from charlm.models import LanguageModel
from charlm.tokenizers import Tokenizer


def decompress(
    file: Container | bytes,
    model: LanguageModel,
    tokenizer: Tokenizer,
    name: str = "the compressed text",
    *,
    force: bool = False,
    what: str = "decompressing",
    on_progress: OnProgress = silent,
) -> bytes:
    """The bytes that were compressed into a file with this model, on this machine, as their SHA-256 proves.

    Another model is a CheckpointError, another machine or version a CharlmError; with `force` both are tried
    nevertheless. Whatever does not decode to the bytes that were compressed is a DataError. `name` is the file's, for
    these errors.
    """
    container = Container.from_bytes(file, name) if isinstance(file, bytes) else file
    header = container.header
    different = _other_model(header, model, tokenizer)
    if different and not force:
        raise CheckpointError(f"{name}: compressed with another model: {different}; name its run with `run`")
    if not header.tokens:
        return _proved(b"", header, name, [])
    try:
        with opened(model, header.backend, header.threads, header.adapt) as predictor:
            others = differences(header.machine, machine(predictor))
            if others and not force:
                raise CharlmError(
                    f"{name}: made where probabilities are computed otherwise: {'; '.join(others)}\n"
                    "decompress it where it was made, or try with `force=True`: nothing wrong is ever written"
                )
            report = watched(on_progress, what, header.tokens, header.characters, header.bytes)
            blocks = coding.decode(predictor, container.blocks, header.tokens, report)
    except UsageError as problem:  # a backend or threads that are not to be had here
        raise CharlmError(f"{name}: {str(problem)[:200]}") from None
    except DataError as problem:
        raise _undecodable(name, str(problem), [different, *others]) from None
    return _proved(spelled(np.concatenate(blocks), tokenizer.pieces()), header, name, [different, *others])


def _other_model(header: Header, model: LanguageModel, tokenizer: Tokenizer) -> str:
    """What is not as it was, in words: the numbers of the model, or the tokenizer; nothing if both are the same."""
    if (digest := model_digest(model)) != header.model:
        return f"{header.run[:80]} ({header.architecture[:40]}, SHA-256 {header.model[:12]}…), not {digest[:12]}…"
    if tokenizer.fingerprint != header.tokenizer:
        return f"its tokenizer has SHA-256 {header.tokenizer[:12]}…, not {tokenizer.fingerprint[:12]}…"
    return ""


def _proved(data: bytes, header: Header, name: str, different: list[str]) -> bytes:
    """The bytes, if they are those that were compressed."""
    if len(data) == header.bytes and hashlib.sha256(data).hexdigest() == header.sha256:
        return data
    raise _undecodable(name, "what it decodes to is not what was compressed", different)


def _undecodable(name: str, problem: str, different: list[str]) -> DataError:
    known = "; ".join(filter(None, different))
    why = f"because of {known}" if known else "either the file was tampered with, or this machine computes otherwise"
    return DataError(f"{name}: {problem}: {why}\nnothing was written")
