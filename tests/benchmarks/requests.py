"""64 requests of unequal lengths beside 64 equal ones: tokens a second of one engine, prompts read and tokens drawn.

    python tests/benchmarks/requests.py [--arch lstm,transformer,ngram] [--streams 64] [--rounds 3]

Unequal: prompts of 1 to 2,000 tokens, 10 to 500 to come, another request for each that ends. Equal: as many tokens, the
mean of both for every request. Untrained models of size small; the better of the rounds, in turns.
"""

import argparse
import random
import time
from collections.abc import Sequence

import numpy as np
import torch

from charlm.config import BOUNDARY
from charlm.decoding import Sampling, draw
from charlm.inference import Engine, open_engine
from charlm.models import ARCHITECTURES, CountingModel, Network
from charlm.training import policy_of

VOCABULARY = 323
TEXT = np.random.default_rng(0).integers(257, VOCABULARY, 60_000)


def model_of(name: str) -> Engine:
    """An engine of size small."""
    kind = ARCHITECTURES[name]
    model = kind(kind.Config(**policy_of(name).sizes.get("small", {})), VOCABULARY).eval()
    if isinstance(model, CountingModel):
        model.fit(TEXT[:50_000], TEXT[50_000:])
    elif isinstance(model, Network):
        model.expect(torch.from_numpy(np.bincount(TEXT, minlength=VOCABULARY)).float())
    return open_engine(model)


def serve(engine: Engine, requests: Sequence[tuple[int, int]], streams: int) -> float:
    """Seconds for all requests (tokens of the prompt, tokens to come), at most so many at a time."""
    numbers, waiting = np.random.default_rng(0), list(requests)[::-1]
    left: list[int] = []
    tokens, state, begin = np.zeros(0, np.int64), None, time.perf_counter()
    while waiting or left:
        states, firsts = [] if state is None or not left else [state], []
        while waiting and len(left) < streams:
            prompt, length = waiting.pop()
            log_probs, one = engine.read([BOUNDARY, *TEXT[:prompt]], engine.start(1))
            firsts.append(draw(log_probs, Sampling(), numbers.random(1)))
            states.append(one)
            left.append(length - 1)
        if firsts:
            tokens, state = np.concatenate([tokens, *firsts]), engine.join(states)
        log_probs, state = engine.step(tokens, state)
        tokens = draw(log_probs, Sampling(), numbers.random(len(tokens)))
        left = [count - 1 for count in left]
        going = [row for row, count in enumerate(left) if count > 0]
        if len(going) < len(left):
            tokens, state, left = tokens[going], engine.select(state, going), [left[row] for row in going]
    return time.perf_counter() - begin


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="lstm,transformer,ngram")
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    lengths = random.Random(0)
    count = 4 * asked.streams
    unequal = [(lengths.randint(1, 2000), lengths.randint(10, 500)) for _ in range(count)]
    prompt, length = (sum(numbers) // count for numbers in zip(*unequal, strict=True))
    equal = [(prompt, length)] * count
    for name in asked.arch.split(","):
        engine, rates = model_of(name), {"equal": 0.0, "unequal": 0.0}
        for _ in range(asked.rounds):
            for kind, requests in (("equal", equal), ("unequal", unequal)):
                tokens = sum(length for _, length in requests)
                rates[kind] = max(rates[kind], tokens / serve(engine, requests, asked.streams))
        ratio = rates["unequal"] / rates["equal"]
        print(f"{name}: {rates['equal']:,.0f} equal, {rates['unequal']:,.0f} unequal tokens/s: {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
