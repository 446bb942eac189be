"""How well training on several machines should scale, on paper: measured steps, counted bytes, assumed links.

    python tests/benchmarks/scaling.py [--threads 1]

One step of each size is timed here by one process; of N ranks each takes the same time for its own batch of the same
number of rows (so the whole batch grows with N), then all gradients are summed by a ring, which sends 2 (N - 1) / N of
their bytes through every link and waits 2 (N - 1) times for a message. The efficiency is the share of the time in which
a rank computes. With a whole batch that stays as it is, a rank computes only 1 / N of the step: see the last columns.
"""

import argparse
import time

import torch

from charlm.models import ARCHITECTURES
from charlm.training import Budget, TrainingConfig, complete, model_config
from charlm.training.distributed import World
from charlm.training.step import OptimizerStep

LINKS = {"1 Gbit/s": 1e9, "10": 1e10, "100": 1e11, "400": 4e11}  # bits per second
MESSAGE_SECONDS = 20e-6
RANKS = (2, 8, 64, 1024)
CHARACTERS, VOCABULARY = 100_000_000, 100  # of the text that sizes are chosen for
STEPS = 4


def step_seconds(architecture: str, size: str) -> tuple[float, int]:
    """Processor seconds of the quickest of a few steps, and the bytes of the gradients."""
    config = model_config(architecture, size, {}, CHARACTERS, Budget.parse("10m"), 1.0)
    training = complete(TrainingConfig(), architecture)
    assert training.batch is not None
    assert training.segment is not None
    model = ARCHITECTURES[architecture](config, VOCABULARY)
    step = OptimizerStep(model, training, training.batch, World())
    tokens = torch.randint(VOCABULARY, (training.batch, max(training.segment, model.min_segment)))
    seconds = []
    for number in range(STEPS):
        begin = time.process_time()
        step.take(number, tokens, tokens, step.network.initial_state(training.batch))
        seconds.append((time.process_time() - begin) / torch.get_num_threads())
    return min(seconds), 4 * sum(p.numel() for p in model.parameters())


def communication_seconds(ranks: int, size: int, bits_per_second: float) -> float:
    """A ring all-reduce of so many bytes."""
    return 2 * (ranks - 1) * (8 * size / ranks / bits_per_second + MESSAGE_SECONDS)


def main() -> None:
    """Print a table for NOTES.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    print("| model | step | gradients | link | " + " | ".join(map(str, RANKS)) + " | 8, batch as it is |")
    print("|" + "---|" * (5 + len(RANKS)))
    for architecture in ("lstm", "transformer"):
        for size in ("tiny", "small", "medium", "large"):
            seconds, gradients = step_seconds(architecture, size)
            for link, speed in LINKS.items():
                cells = [seconds / (seconds + communication_seconds(n, gradients, speed)) for n in RANKS]
                cells.append(1 / (1 + 8 * communication_seconds(8, gradients, speed) / seconds))
                head = f"| {architecture} {size} | {seconds:.2f} s | {gradients / 1e6:.1f} MB | {link} | "
                print(head + " | ".join(f"{cell:.0%}" for cell in cells) + " |", flush=True)


if __name__ == "__main__":
    main()
