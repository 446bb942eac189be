"""How far training by several processes strays from training by one: losses of each step, and the final bits.

    OMP_NUM_THREADS=1 python tests/benchmarks/rank_losses.py [--ranks 2,3,4] [--steps 200] [--arch lstm,rnn] [--double]

Trains tiny models in float32 with dropout 0.2 by one process, by one under torchrun, by one with two threads (how far
rounding alone goes on one machine), and by several under torchrun. Prints for each the greatest difference from the
first in the losses (nats per token) of all steps, and the difference of the bits per character of the held-out text.
With --double the weights are float64: a difference by rounding must then vanish, one by a fault stays.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from charlm.corpus import Origin
from charlm.corpus.builtin import builtin_pieces
from charlm.evaluation import evaluate
from charlm.models import ARCHITECTURES, State
from charlm.tokenizers import TOKENIZERS
from charlm.training import Budget, TrainingConfig, World, joined, model_config, train
from charlm.training.step import OptimizerStep

NETWORKS = ("feedforward", "rnn", "gru", "lstm", "transformer", "mixture")
CHARACTERS = 60_000
SIZES = {"width": 16, "dropout": 0.2}


def trained(name: str, steps: int, world: World, folder: Path) -> dict[str, Any]:
    """Losses of all steps, and on rank 0 the final bits per character, of a case `architecture optimizer`."""
    architecture, optimizer = name.split()
    losses, take = [], OptimizerStep.take

    def recording(step: OptimizerStep, number: int, tokens: Tensor, targets: Tensor, state: State) -> Any:
        nats, state = take(step, number, tokens, targets, state)
        losses.append(nats)
        return nats, state

    split = Origin((str(folder / "text.txt"),)).open()
    kind = TOKENIZERS["characters"]
    tokenizer = kind.train(split.training.chunks(), kind.Config())
    budget = f"{steps}steps"
    options = {key: value for key, value in SIZES.items() if key in ARCHITECTURES[architecture].Config.names()}
    config = model_config(architecture, "tiny", options, CHARACTERS, Budget.parse(budget))
    settings = TrainingConfig(budget=budget, batch=12, segment=32, optimizer=optimizer, precision="float32")
    path = folder / name.replace(" ", "-")
    path.mkdir(exist_ok=True)
    OptimizerStep.take = recording  # type: ignore[method-assign]
    try:
        run = train(path, split, tokenizer, architecture, config, settings, world=world)
    finally:
        OptimizerStep.take = take  # type: ignore[method-assign]
    bits = evaluate(run.model, tokenizer, split.held_out).bits_per_character if world.is_main else None
    return {"losses": losses, "bits": bits}


def work(arguments: argparse.Namespace) -> None:
    """What one process does: all cases, one after the other; rank 0 leaves the results in the folder."""
    torch.set_num_threads(arguments.threads)
    if arguments.double:
        torch.set_default_dtype(torch.float64)
    folder = Path(arguments.folder)
    with joined(torch.device("cpu")) as world:
        cases = [f"{architecture} {kind}" for architecture in arguments.arch.split(",") for kind in ("adamw", "muon")]
        results = {name: trained(name, arguments.steps, world, folder) for name in cases}
        if world.is_main:
            (folder / "results.json").write_text(json.dumps(results))


def results(given: list[str], ranks: int | None = None, threads: int = 1) -> dict[str, dict[str, Any]]:
    """The results of all cases by so many ranks under torchrun, or without it."""
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks), "--rdzv-backend", "c10d"]
    torchrun += ["--rdzv-endpoint", "localhost:0"]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "text.txt").write_text("".join(builtin_pieces("python-reference"))[:CHARACTERS], encoding="utf-8")
        command = [sys.executable, *(torchrun if ranks else []), __file__, *given]
        command += ["--folder", folder, "--threads", str(threads)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        subprocess.run(command, check=True, timeout=1200, env=environment)
        answer: dict[str, dict[str, Any]] = json.loads(Path(folder, "results.json").read_text())
        return answer


def difference(one: dict[str, Any], other: dict[str, Any]) -> str:
    """The greatest difference of the losses and the difference of the final bits; or that there is none at all."""
    if one == other:
        return "equal | equal"
    losses = max(abs(a - b) for a, b in zip(one["losses"], other["losses"], strict=True))
    return f"{losses:.1e} | {abs(one['bits'] - other['bits']):.1e}"


def main() -> None:
    """Print a table for NOTES.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", default="2,3,4")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--arch", default=",".join(NETWORKS))
    parser.add_argument("--double", action="store_true")
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.folder:
        work(arguments)
        return
    ways: dict[str, dict[str, int]] = {"1 under torchrun": {"ranks": 1}}
    ways |= {f"{ranks} ranks": {"ranks": int(ranks)} for ranks in arguments.ranks.split(",")}
    ways["1 with 2 threads"] = {"threads": 2}
    one = results(sys.argv[1:])
    print("| processes | model | losses | bits |\n|---|---|---|---|", flush=True)
    for way, keywords in ways.items():
        for name, other in results(sys.argv[1:], **keywords).items():
            print(f"| {way} | {name} | {difference(one[name], other)} |", flush=True)


if __name__ == "__main__":
    main()
