"""Whether several processes train what one does: losses over the steps and final figures, for every network.

    python tests/benchmarks/ranks.py TEXT [--steps 200] [--ranks 2] [--arch gru,lstm] [--optimizers adamw,muon]

Each run is trained twice in float32 with dropout 0.2 from the same seed, by one process and by several under torchrun.
Compared are the training loss (a running mean over all steps) and the validation loss, in bits per character, wherever
both runs noted them, and the bits per character of the held-out text.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

SIZES = {"feedforward": ("--width", "32", "--embedding", "8"), "mixture": ("--width", "32", "--order", "5")}
USUAL_SIZE = ("--width", "32")
NOTED = ("training", "validation")


def trained(text: str, run: Path, ranks: int, *options: str) -> dict[int, dict[str, float]]:
    """What a run noted, by step; the run is saved in the folder `run`."""
    launched = ("-m", "torch.distributed.run", "--nproc-per-node", str(ranks)) if ranks else ()
    command = [sys.executable, *launched, "-m", "charlm", "train", text, "-o", str(run), "-q", *options]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL if ranks else None)
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return {entry["step"]: entry for entry in map(json.loads, lines)}


def bits(run: Path) -> float:
    """Of the held-out text, per character."""
    command = [sys.executable, "-m", "charlm", "evaluate", str(run), "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout)["bits_per_character"])


def difference(one: dict[int, dict[str, float]], many: dict[int, dict[str, float]]) -> tuple[float, int]:
    """The greatest difference of a noted loss, and the number of losses that were compared."""
    pairs = [
        (one[step][name], many[step][name])
        for step in one.keys() & many.keys()
        for name in NOTED
        if one[step].get(name) is not None and many[step].get(name) is not None
    ]
    return max(abs(a - b) for a, b in pairs), len(pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--arch", default="feedforward,rnn,gru,lstm,transformer,mixture")
    parser.add_argument("--optimizers", default="adamw,muon")
    asked = parser.parse_args()
    print(f"| network | optimizer | greatest difference of {asked.steps} steps' losses (bits; compared) | final bits |")
    print("|---|---|---|---|")
    for architecture in asked.arch.split(","):
        for optimizer in asked.optimizers.split(","):
            options = ["--arch", architecture, "--optimizer", optimizer, *SIZES.get(architecture, USUAL_SIZE)]
            options += [
                "--budget",
                f"{asked.steps}steps",
                "--precision",
                "float32",
                "--dropout",
                "0.2",
                "--threads",
                "1",
            ]
            with TemporaryDirectory() as folder:
                runs = Path(folder, "one"), Path(folder, "many")
                losses = [trained(asked.text, run, n, *options) for run, n in zip(runs, (0, asked.ranks), strict=True)]
                greatest, compared = difference(*losses)
                one, many = map(bits, runs)
            shown = f"{greatest:.1e} ({compared}) | {one:.5f}, {many:.5f} ({abs(one - many):.1e})"
            print(f"| {architecture} | {optimizer} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
