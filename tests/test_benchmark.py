"""The benchmark measures what it says, whatever the figures are."""

import json
from dataclasses import asdict

import pytest
import torch

from charlm import benchmark
from charlm.models import ARCHITECTURES


@pytest.fixture(autouse=True)
def quick(folder, monkeypatch):
    monkeypatch.setattr(benchmark, "CORPUS", str(folder / "corpus.txt"))
    monkeypatch.setattr(benchmark, "SAMPLE_CHARACTERS", 5)
    monkeypatch.setattr(benchmark, "MANY_SAMPLE_CHARACTERS", 2)
    monkeypatch.setattr(benchmark, "BEAM_CHARACTERS", 3)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_has_five_speeds(architecture):
    told = []
    (found,) = benchmark.benchmark(
        [architecture],
        size="tiny",
        seconds=0.01,
        device=torch.device("cpu"),
        progress=lambda *what: told.append(what),
    )
    figures = asdict(found)
    assert figures.pop("architecture") == architecture
    assert all(figure > 0 for figure in figures.values())
    assert [what for what, _ in told] == [
        f"{architecture}: {name}" for name in ("training", "scoring", "sampling", "sampling many", "beam")
    ]
    assert all(0 <= done < 1 for _, done in told)


def test_the_command_prints_rows_and_the_machine(charlm, monkeypatch):
    monkeypatch.setattr(benchmark, "numba_version", lambda: "pip install 'charlm[fast]'")
    done = charlm("bench", "--arch", "rnn,gru", "--size", "tiny", "--seconds", 0.1, "--json")
    assert done.code == 0
    content = json.loads(done.out)
    assert [row["architecture"] for row in content["rows"]] == ["rnn", "gru"]
    assert content["machine"]["threads"] == torch.get_num_threads()
    table = charlm("bench", "--arch", "rnn", "--size", "tiny", "--seconds", 0.1).out
    assert "64 samples" in table
    assert "bfloat16" in table
    assert "charlm[fast]" in table  # is no markup


def test_a_mistyped_architecture_is_refused(charlm):
    assert "did you mean lstm?" in charlm("bench", "--arch", "lsmt").err
