"""Sampling and beam search beside Hugging Face's `generate`, in one run: untrained Transformers of the same shape.

    python tests/benchmarks/generate.py [--layers 4] [--width 128] [--heads 4] [--kv-heads 1] [--length 250]

Wants `pip install transformers`. Its model is GPT-2 with a cache, no end of text, over as many ids as charlm's. It has
as many heads of keys and values as of queries; charlm's Transformers of the usual sizes have one (`--kv-heads 0`: as
many). Both draw from the whole distribution, write `length` characters (the longest context of both is twice as long)
and take the better of two tries.
"""

import argparse
import string
import time
from collections.abc import Callable

import torch
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

from charlm.decoding import beam_search, sample
from charlm.inference import open_engine
from charlm.models import ARCHITECTURES
from charlm.tokenizers import TOKENIZERS

BEAMS = 5


def rate(characters: int, work: Callable[[], object]) -> float:
    """Characters a second of the better of two tries, after one to warm up."""
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return characters / min(seconds[1:])


def tell(what: str, ours: float, theirs: float) -> None:
    print(f"{what}: charlm {ours:,.0f} characters/s, generate {theirs:,.0f}: {ours / theirs:.1f} times")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("layers", 4), ("width", 128), ("heads", 4), ("kv-heads", 1), ("length", 250)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()

    kind = TOKENIZERS["characters"]
    text = string.printable * 2
    tokenizer = kind.train([text], kind.Config())
    V, length = tokenizer.vocab_size, asked.length
    transformer = ARCHITECTURES["transformer"]
    heads = {"heads": asked.heads, "kv_heads": asked.kv_heads}
    ours = transformer(transformer.Config(layers=asked.layers, width=asked.width, window=2 * length, **heads), V).eval()
    ours.expect(torch.from_numpy(tokenizer.encode(text)).long().bincount(minlength=V))  # so none is spelled in bytes
    shape = {"n_layer": asked.layers, "n_embd": asked.width, "n_head": asked.heads, "n_positions": 2 * length}
    theirs = GPT2LMHeadModel(GPT2Config(vocab_size=V, bos_token_id=0, eos_token_id=None, **shape)).eval()

    def generate(streams: int, **how: int | bool) -> None:
        settings = GenerationConfig(
            max_new_tokens=length, min_new_tokens=length, use_cache=True, eos_token_id=None, pad_token_id=0, **how
        )
        with torch.inference_mode():
            theirs.generate(torch.zeros(streams, 1, dtype=torch.int64), generation_config=settings)

    engine = open_engine(ours)
    for streams in (1, 64):
        ours_rate = rate(streams * length, lambda n=streams: sample(engine, tokenizer, "", length=length, streams=n))
        their_rate = rate(streams * length, lambda n=streams: generate(n, do_sample=True, top_k=0))
        tell(f"{streams:2} streams", ours_rate, their_rate)
    ours_rate = rate(length, lambda: beam_search(engine, tokenizer, "", length=length, beams=BEAMS))
    their_rate = rate(length, lambda: generate(1, do_sample=False, num_beams=BEAMS))
    tell(f"beam of {BEAMS}", ours_rate, their_rate)


if __name__ == "__main__":
    main()
