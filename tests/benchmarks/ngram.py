"""How fast the n-gram counts, estimates, saves, loads, scores and samples, and how that grows with the text.

    python tests/benchmarks/ngram.py TEXT [--order 8] [--smoothing kneser-ney] [--sizes 1e6 1e7] [--golden FILE.json]

The last 5 % of each size is held out. `--golden` compares orders with KenLM's numbers for TEXT instead: a JSON of
{"orders": {"5": {"discounts": [{"ngrams": ..}, ..], "sum_log10": .., "first_300_log10": [..]}}}, last 10 % held out.
"""

import argparse
import json
import math
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from charlm.config import BOUNDARY
from charlm.models.ngram import NGram
from charlm.models.ngram.counting import count_ngrams
from charlm.models.ngram.smoothing import FALLBACK_DISCOUNTS, adjusted_counts, closed_form_discounts
from charlm.models.ngram.windows import alphabet_of


@contextmanager
def stage(name: str, characters: int) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"  {name:<12}{seconds:8.2f} s {characters / seconds / 1e6:8.2f} M/s   peak {peak:.2f} GiB", flush=True)


def score(model: NGram, ids: np.ndarray) -> torch.Tensor:
    targets = torch.from_numpy(ids.astype(np.int64))[None]
    read = torch.cat((torch.tensor([[BOUNDARY]]), targets[:, :-1]), 1)
    scores, state = [], model.initial_state(1)
    for begin in range(0, len(ids), model.chunk):
        piece = slice(begin, begin + model.chunk)
        nats, state = model.score(read[:, piece], targets[:, piece], state)
        scores.append(nats[0].double())
    return torch.cat(scores)


def run(ids: np.ndarray, vocab_size: int, config: NGram.Config) -> None:
    cut = len(ids) * 95 // 100
    train, held_out = ids[:cut], ids[cut:]
    print(f"{len(ids):,} characters, {config}")
    start = time.perf_counter()
    model = NGram(config, vocab_size)
    with stage("fit", len(train)):
        model.fit(train[: cut * 19 // 20], train[cut * 19 // 20 :])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights.safetensors"
        with stage("save", len(train)):
            save_file(model.state_dict(), file)
        with stage("load", len(train)):
            model = NGram.from_tensors(config, vocab_size, load_file(file))
    with stage("score", len(held_out)):
        nats = -score(model, held_out).mean().item()
    print(
        f"  all {time.perf_counter() - start:14.2f} s; order {model.order}, {model.parameters_count:,} n-grams,",
        end=" ",
    )
    print(f"{nats:.4f} nats, {nats / math.log(2):.4f} bits per character")
    for streams in (1, 64):
        state, tokens = model.initial_state(streams), torch.zeros(streams, 1, dtype=torch.int64)
        generator = torch.Generator().manual_seed(0)
        seconds = 0.0
        for _ in range(300):
            begin = time.perf_counter()
            log_probs, state = model(tokens, state)
            seconds += time.perf_counter() - begin
            tokens = torch.multinomial(log_probs[:, -1].exp(), 1, generator=generator)
        print(f"  one-token steps of {streams:>2} streams: {300 * streams / seconds:,.0f} characters/s")


def compare(ids: np.ndarray, vocab_size: int, golden: Path) -> None:
    cut = len(ids) * 9 // 10
    for order, expected in json.loads(golden.read_text())["orders"].items():
        model = NGram(NGram.Config(order=int(order), smoothing="kenlm"), vocab_size)
        model.fit(ids[:cut], ids[cut:cut])
        log10 = score(model, ids[cut:]) / math.log(10)
        counts = model.levels.diff().tolist()
        counts[0] += 2  # <s> and <unk>
        same = counts == [entry["ngrams"] for entry in expected["discounts"]]
        worst = (log10[:300] - torch.tensor(expected["first_300_log10"])).abs().max().item()
        print(f"order {order}: n-gram counts {'equal' if same else 'DIFFER'};", end=" ")
        print(f"discounts within {discounts_off(ids[:cut], int(order), expected['discounts']):.1e};", end=" ")
        print(f"scores within {worst:.1e};", end=" ")
        print(f"sum off by {log10.sum().item() / expected['sum_log10'] - 1:.1e}")


def discounts_off(ids: np.ndarray, order: int, expected: list[dict[str, float]]) -> float:
    stream = np.concatenate(([BOUNDARY], ids, [BOUNDARY]))
    occurring = alphabet_of(np.bincount(stream))
    codes = np.zeros(int(stream.max()) + 1, np.int64)
    codes[occurring] = np.arange(len(occurring))
    levels = count_ngrams(codes[stream], len(occurring), order)
    ours = [closed_form_discounts(counts) or FALLBACK_DISCOUNTS for counts in adjusted_counts(levels)]
    theirs = [[entry[name] for name in ("D1", "D2", "D3+")] for entry in expected]
    return float(np.abs(np.array(ours) - theirs).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--order", type=int)
    parser.add_argument("--smoothing", default="gated")
    parser.add_argument("--memory", type=float, default=2.0)
    parser.add_argument("--sizes", type=float, nargs="*", default=[])
    parser.add_argument("--golden", type=Path)
    arguments = parser.parse_args()
    letters = np.frombuffer(arguments.text.read_text(encoding="utf-8").encode("utf-32-le"), np.uint32)
    known = np.zeros(letters.max() + 1, np.int32)
    known[letters] = 1
    vocab_size = 257 + int(known.sum())  # of up to 65,536
    ids = (256 + known.cumsum(dtype=np.int32)).astype(np.uint16)[letters]
    del letters
    if arguments.golden:
        compare(ids, vocab_size, arguments.golden)
        return
    for size in arguments.sizes or [len(ids)]:
        config = NGram.Config(order=arguments.order, smoothing=arguments.smoothing, memory=arguments.memory)
        run(ids[: int(size)], vocab_size, config)


if __name__ == "__main__":
    main()
