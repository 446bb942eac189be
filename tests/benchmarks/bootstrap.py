"""Does the paired interval keep its word? Two models that are equally good, drawn again and again.

    python tests/benchmarks/bootstrap.py [--draws 10000]

Passages of 64 characters are hard or easy for both models alike; what each model then pays for one is its own luck,
skewed as bits are, and lasts over `lasting` passages. Blocks are those of a text of so many kilobytes. The true
difference is 0, so the 95 % interval of the difference should hold 0 in 95 of 100 draws.
"""

import argparse

import numpy as np

from charlm.evaluation.bootstrap import ratio_intervals
from charlm.evaluation.walk import MAX_BOOTSTRAP_BLOCKS, MIN_BLOCK_BYTES

PASSAGE = 64  # characters


def differences(draws: int, blocks: int, size: int, lasting: int, seed: int) -> np.ndarray:
    """(draws, blocks): bits of one model minus those of the other, which is as good; a block is `size` passages."""
    generator = np.random.default_rng(seed)
    passages = blocks * size
    hard = generator.gamma(8.0, 2.0 / 8.0, (draws, passages))  # bits per character of either
    luck = generator.gamma(2.0, 0.5, (2, draws, passages + lasting - 1))
    sums = np.concatenate([np.zeros((2, draws, 1)), luck.cumsum(2)], 2)
    luck = (sums[:, :, lasting:] - sums[:, :, :-lasting]) / lasting
    bits = PASSAGE * hard * luck
    return (bits[0] - bits[1]).reshape(draws, blocks, size).sum(2)


def coverage(draws: int, kilobytes: int, lasting: int, seed: int = 1) -> float:
    """The share of draws whose interval holds 0."""
    block = max(MIN_BLOCK_BYTES, -(-1024 * kilobytes // MAX_BOOTSTRAP_BLOCKS))  # bytes
    blocks, size = 1024 * kilobytes // block, block // PASSAGE
    ends = ratio_intervals(differences(draws, blocks, size, lasting, seed), np.full(blocks, PASSAGE * size))
    return float(((ends[:, 0] <= 0) & (ends[:, 1] >= 0)).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1000)
    draws = parser.parse_args().draws
    print("    KB  lasting  holds 0")
    for kilobytes in (5, 10, 20, 50, 109, 500):
        for lasting in (1, 4, 16, 64):
            print(f"{kilobytes:6}  {lasting:7}  {coverage(draws, kilobytes, lasting):7.1%}", flush=True)


if __name__ == "__main__":
    main()
