"""A part of what the harness does before a release: see tests/faults."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PARTS = {  # how many of each
    "kills": 16,
    "kills-in-one-run": 5,
    "operations": 1,
    "disk-full": 1,
    "folders": 500,
    "tokenizers": 200,
    "containers": 200,
    "round-trips": 44,
    "bits": 6000,
    "corpora": 200,
    "strings": 1000,
    "signals": 8,
}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="the harness reads /proc")
@pytest.mark.parametrize("part", PARTS)
def test_a_part(part: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults", f"--{part}", str(PARTS[part])],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
