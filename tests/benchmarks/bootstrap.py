"""Does the paired interval keep its word? Two models that are equally good, drawn again and again.

    python tests/benchmarks/bootstrap.py [--draws 10000]

Passages of 64 characters are hard or easy for both models alike; what each model then pays for one is its own luck,
skewed as bits are, and lasts over `lasting` passages. A block of the interval is 16 passages. The true difference is 0,
so the 95 % interval of the difference should hold 0 in 95 of 100 draws.
"""

import argparse

import numpy as np

from charlm.evaluation.bootstrap import ratio_intervals

PASSAGE = 64
PASSAGES = 16  # in a block


def differences(draws: int, blocks: int, lasting: int, seed: int) -> np.ndarray:
    """(draws, blocks): bits of one model minus those of the other, which is as good."""
    generator = np.random.default_rng(seed)
    passages = blocks * PASSAGES
    hard = generator.gamma(8.0, 2.0 / 8.0, (draws, passages))  # bits per character of either
    luck = generator.gamma(2.0, 0.5, (2, draws, passages + lasting - 1))
    sums = np.concatenate([np.zeros((2, draws, 1)), luck.cumsum(2)], 2)
    luck = (sums[:, :, lasting:] - sums[:, :, :-lasting]) / lasting
    bits = PASSAGE * hard * luck
    return (bits[0] - bits[1]).reshape(draws, blocks, PASSAGES).sum(2)


def coverage(draws: int, blocks: int, lasting: int, seed: int = 1) -> float:
    """The share of draws whose interval holds 0."""
    characters = np.full(blocks, PASSAGE * PASSAGES)
    ends = ratio_intervals(differences(draws, blocks, lasting, seed), characters)
    return float(((ends[:, 0] <= 0) & (ends[:, 1] >= 0)).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1000)
    draws = parser.parse_args().draws
    print("blocks  lasting  holds 0")
    for blocks in (5, 10, 20, 50, 109, 500, 1000):
        for lasting in (1, 4, 16):
            print(f"{blocks:6}  {lasting:7}  {coverage(draws, blocks, lasting):7.1%}")


if __name__ == "__main__":
    main()
