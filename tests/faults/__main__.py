"""`python -m tests.faults`: see the package."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from conftest import few_steps

from faults.containers import containers
from faults.disk import full, operations
from faults.inputs import corpora, texts
from faults.kills import kills, kills_in_one_run, signals
from faults.mutations import bits, folders, tokenizers
from faults.processes import warm_up, write_corpus
from faults.roundtrips import round_trips

PARTS = {
    "kills": (200, kills, "SIGKILL at random moments, over all architectures"),
    "kills-in-one-run": (50, kills_in_one_run, "SIGKILL again and again in one run"),
    "operations": (1, operations, "every call of a save fails, is the last, or loses the power; any number does all"),
    "disk-full": (1, full, "the disk is full at each 64 KiB of a save; any number does all"),
    "folders": (10_000, folders, "changed checkpoint folders"),
    "tokenizers": (2_000, tokenizers, "changed tokenizer files"),
    "containers": (5_000, containers, "changed compressed files"),
    "round-trips": (1_000, round_trips, "files compressed and decompressed, each by all architectures and tokenizers"),
    "bits": (10**9, bits, "single bits of the weights flipped, evenly spread"),
    "corpora": (2_000, corpora, "generated corpora"),
    "strings": (10_000, texts, "generated strings"),
    "signals": (100, signals, "SIGINT and SIGTERM at random moments"),
}


def main() -> int:
    """Run the parts asked for; the number of failures."""
    parser = argparse.ArgumentParser("python -m tests.faults", description="Faults, made on purpose.")
    for name, (most, _, what) in PARTS.items():
        parser.add_argument(f"--{name}", type=int, default=0, metavar="N", help=f"{what}; {most} in all")
    parser.add_argument("--tenth", action="store_true", help="a tenth of everything")
    parser.add_argument("--all", action="store_true", help="everything as often as before a release")
    parser.add_argument("--seed", type=int, default=0)
    given = vars(parser.parse_args())
    failures = 0
    for name, (most, part, _) in PARTS.items():
        count = most if given["all"] else -(-most // 10) if given["tenth"] else given[name.replace("-", "_")]
        if not count:
            continue
        with tempfile.TemporaryDirectory() as folder, few_steps():
            write_corpus(Path(folder))
            warm_up(Path(folder))
            began = time.monotonic()
            tally = part(count, Path(folder), given["seed"])
            print(f"{tally}\n  {time.monotonic() - began:.0f} s", flush=True)
            failures += len(tally.failures)
    return min(failures, 99)


sys.exit(main())
