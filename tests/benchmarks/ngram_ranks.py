"""An n-gram model fitted by several processes: processor time and peak memory (Linux) of each, and a model's digest.

    python tests/benchmarks/ngram_ranks.py FILE [--ranks 1,2,4] [--characters 30000000] [--order 8] [--memory 16]

Each process has one thread. All read the ids from one mapped file; the time of encoding the text is not counted. "All"
is the time that the processes would take on cores of their own: between one exchange and the next, that of the slowest.
"""

import argparse
import hashlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from charlm.models import NGram
from charlm.ranks import Array
from charlm.training import World, joined

VALIDATION_SHARE = 0.05
MAX_LETTERS = 4000  # rarer ones become one


def encoded(path: Path, characters: int) -> np.ndarray:
    """The beginning of the file, as ids by frequency from 1 on."""
    text = np.frombuffer(path.read_text(encoding="utf-8")[:characters].encode("utf-32-le"), np.uint32)
    frequencies = np.bincount(text)
    ids = np.full(len(frequencies), MAX_LETTERS, np.uint16)
    frequent = np.argsort(-frequencies, kind="stable")[: MAX_LETTERS - 1]
    ids[frequent] = np.arange(1, len(frequent) + 1)
    return ids[text]


def work(arguments: argparse.Namespace) -> None:
    """What one process does; it prints its part of a table."""
    ids = np.load(arguments.file, mmap_mode="r")
    split = int(len(ids) * (1 - VALIDATION_SHARE))
    torch.set_num_threads(1)
    exchange, times = World.exchange, list[float]()

    def timed(world: World, parts: Sequence[Array]) -> list[Array]:
        times.append(time.process_time())
        return exchange(world, parts)

    World.exchange = timed  # type: ignore[method-assign]
    with joined(torch.device("cpu")) as world:
        model = NGram(NGram.Config(order=arguments.order, memory=arguments.memory), MAX_LETTERS + 1)
        times[:] = [time.process_time()]
        model.fit_together(world, ids[:split], ids[split:])
        steps = np.diff([*times, time.process_time()])
        peak = int(re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1e6  # type: ignore[index]
        sha256 = hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in model.state_dict().values()))
        digest = sha256.hexdigest()[:12] if world.is_main else ""
        together = np.max(exchange(world, [steps] * world.size), 0).sum()
        print(f"| {world.size} | {world.rank} | {steps.sum():.1f} s | {peak:.2f} GB | {digest} |", flush=True)
        if world.is_main:
            print(f"| {world.size} | all | {together:.1f} s | | |", flush=True)


def launch(command: list[str], size: int) -> None:
    """Run the command in so many processes, as torchrun would, and print how long all took."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
    ranks = [
        subprocess.Popen(command, env=os.environ | {k: str(v) for k, v in (common | {"RANK": rank}).items()})
        for rank in range(size)
    ]
    codes = [process.wait(1200) for process in ranks]
    if any(codes):
        sys.exit("a process failed")


def main() -> None:
    """Print a table for NOTES.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--ranks", default="1,2,4")
    parser.add_argument("--characters", type=int, default=30_000_000)
    parser.add_argument("--order", type=int, default=8)
    parser.add_argument("--memory", type=float, default=16.0)
    arguments = parser.parse_args()
    if "RANK" in os.environ:
        work(arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        ids = Path(folder, "ids.npy")
        np.save(ids, encoded(arguments.file, arguments.characters))
        print("| processes | rank | processor time | peak memory | model |\n|---|---|---|---|---|", flush=True)
        for size in map(int, arguments.ranks.split(",")):
            launch([sys.executable, __file__, str(ids), *sys.argv[2:]], size)


if __name__ == "__main__":
    main()
