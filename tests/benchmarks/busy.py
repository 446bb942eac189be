"""How much a busy machine costs: train, evaluate and sample beside 0, 1 and 4 processes that never rest.

    python tests/benchmarks/busy.py TEXT name=CHARLM [name=CHARLM …] [--loads 0,1,4] [--seconds 8]

Each CHARLM is a `charlm` command, so that two versions can be timed in turns; VARIABLE=value before it, split by
commas, goes into its environment: `one=OMP_NUM_THREADS=1,charlm`. Prints steps done and seconds, a line each.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def environment(command: str) -> tuple[str, dict[str, str]]:
    """The command itself, and its environment."""
    *settings, charlm = command.split(",")
    return charlm, {**os.environ, **dict(setting.split("=", 1) for setting in settings)}


def timed(charlm: str, env: dict[str, str], *arguments: str) -> tuple[str, float]:
    """What a command prints, and its wall seconds."""
    begun = time.perf_counter()
    done = subprocess.run([charlm, *arguments], env=env, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return done.stdout, time.perf_counter() - begun


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text")
    parser.add_argument("commands", nargs="+")
    parser.add_argument("--loads", default="0,1,4")
    parser.add_argument("--seconds", default="8")
    parser.add_argument("--runs", default="", help="runs to evaluate and sample from, with commas")
    given = parser.parse_args()
    commands = dict(command.split("=", 1) for command in given.commands)
    runs = [run for run in given.runs.split(",") if run]
    with tempfile.TemporaryDirectory() as folder:
        for load in map(int, given.loads.split(",")):
            others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(load)]
            try:
                for name, command in commands.items():
                    charlm, env = environment(command)
                    budget = ["--size", "small", "--budget", f"{given.seconds}s", "-q", "--json"]
                    out, wall = timed(
                        charlm, env, "train", given.text, *budget, "-o", str(Path(folder, f"{name}{load}"))
                    )
                    progress = json.loads(out)["progress"]
                    print(
                        f"load {load} {name:10} train {progress['step']:4} steps {progress['seconds']:5.1f} s", end=""
                    )
                    for run in runs:
                        out, _ = timed(charlm, env, "evaluate", run, "--json")
                        print(f"  evaluate {Path(run).name} {json.loads(out)['seconds']:.1f} s", end="")
                        _, wall = timed(charlm, env, "sample", run, "-l", "1500", "--seed", "1")
                        print(f"  sample {wall:.1f} s", end="")
                    print(flush=True)
            finally:
                for other in others:
                    other.kill()


if __name__ == "__main__":
    main()
