"""A new architecture is a file with a Config and a class, and a line in ARCHITECTURES: every command works with that.

Three are written into a temporary module: a `Network` with a state, a `LanguageModel` that is none and has no state,
and a `CountingModel`. None has sizes, a policy or a setting called width.
"""

import importlib
import json
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import test_models
import torch
from conftest import TEXT, Charlm
from test_resuming import interrupted
from test_training import same, trained

from charlm import checkpoint, cli, models
from charlm.inference import open_engine
from charlm.models import ARCHITECTURES
from charlm.training import TrainingConfig, complete
from charlm.training.policy import POLICIES, Policy

SOURCE = '''
"""Three small architectures, as somebody else would add them."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from charlm.config import Settings, setting
from charlm.models.base import CountingModel, LanguageModel, Network


@dataclass(frozen=True)
class EchoConfig(Settings):
    cells: int = setting(12, "numbers that are remembered", min=1, max=500)
    depth: int = setting(1, "layers above them", min=1)
    kept: float = setting(0.8, "share of them that each step keeps", min=0.0, max=1.0)


class Echo(Network):
    """Remembers what it has read as a running mean."""

    Config = EchoConfig

    def __init__(self, config, vocab_size):
        super().__init__(vocab_size)
        self.config = config
        self.table = nn.Embedding(vocab_size, config.cells)
        self.above = nn.ModuleList(nn.Linear(config.cells, config.cells) for _ in range(config.depth))
        self.output = nn.Linear(config.cells, vocab_size)

    def initial_state(self, streams):
        return (self.table.weight.new_zeros(streams, self.config.cells),)

    def features(self, tokens, state):
        rows, (mean,) = [], state
        for row in self.table(tokens).unbind(1):
            mean = self.config.kept * mean + (1 - self.config.kept) * row
            rows.append(mean + row)
        features = torch.stack(rows, 1)
        for layer in self.above:
            features = features + torch.tanh(layer(features))
        return features, (mean,)


@dataclass(frozen=True)
class PairsConfig(Settings):
    flat: bool = setting(True, "begin with all equally likely")


class Pairs(LanguageModel):
    """A score for every two characters, and no state."""

    Config = PairsConfig

    def __init__(self, config, vocab_size):
        super().__init__()
        self.config, self.vocab_size = config, vocab_size
        self.scores = nn.Parameter(torch.randn(vocab_size, vocab_size) * (0.0 if config.flat else 1.0))

    def initial_state(self, streams):
        return ()

    def forward(self, tokens, state):
        return self.scores[tokens].float().log_softmax(-1), ()


@dataclass(frozen=True)
class TallyConfig(Settings):
    added: float = setting(1.0, "what is added to each count", above=0.0)


class Tally(CountingModel):
    """Counts which character follows which."""

    Config = TallyConfig

    def __init__(self, config, vocab_size):
        super().__init__()
        self.config, self.vocab_size = config, vocab_size
        self.register_buffer("counts", torch.zeros(vocab_size, vocab_size))

    def fit(self, tokens, validation, progress=lambda what, done: None, before=None):
        for part in (tokens, validation):
            ids = torch.from_numpy(part).long()
            self.counts.view(-1).index_add_(0, ids[:-1] * self.vocab_size + ids[1:], torch.ones(len(ids) - 1))
            if before is not None and part is tokens:
                before(self)

    @classmethod
    def from_tensors(cls, config, vocab_size, tensors):
        model = cls(config, vocab_size)
        if tensors.keys() != {"counts"} or tensors["counts"].shape != model.counts.shape:
            raise ValueError("these are not counts of pairs")
        model.counts = tensors["counts"]
        return model

    def seen_ids(self):
        return self.counts.any(0)

    def initial_state(self, streams):
        return ()

    def forward(self, tokens, state):
        counts = self.counts[tokens] + self.config.added
        return (counts / counts.sum(-1, keepdim=True)).log(), ()
'''

LEARNING, NAMES = ("echo", "pairs"), ("echo", "pairs", "tally")
LAWS = [
    test_models.test_normalised,
    test_models.test_causal,
    test_models.test_chunk_invariant,
    test_models.test_pure,
    test_models.test_select_commutes,
    test_models.test_score_is_forward_gathered,
    test_models.test_a_frozen_model_is_one_that_does_not_adapt,
]
every = pytest.mark.parametrize("name", NAMES)
learning = pytest.mark.parametrize("name", LEARNING)


@pytest.fixture(scope="module", autouse=True)
def registered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a text, the current one while the architectures are known.

    The commands are imported anew, since their options are made from ARCHITECTURES when they are imported.
    """
    folder = tmp_path_factory.mktemp("made")
    (folder / "somebodys.py").write_text(SOURCE, encoding="utf-8")
    (folder / "corpus.txt").write_text(TEXT, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.chdir(folder)
        module = importlib.import_module("somebodys")
        patch.delitem(sys.modules, "somebodys")
        for name in NAMES:
            patch.setitem(ARCHITECTURES, name, getattr(module, name.capitalize()))
            patch.setitem(test_models.VARIANTS, name, (name, {}))
        patch.setattr(models, "SINGLE", (*models.SINGLE, *NAMES))
        for command in [name for name in sys.modules if name.startswith("charlm.cli.")]:
            patch.setattr(cli, command.rpartition(".")[2], sys.modules[command])
            patch.delitem(sys.modules, command)
        yield folder
    for law in (test_models.built, test_models.loaded):
        law.cache_clear()


@pytest.fixture(autouse=True)
def within(registered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(registered)


def run_of(name: str, charlm: Charlm) -> str:
    """The run of an architecture, trained unless it has been."""
    path = Path("checkpoints") / name
    if not path.exists():
        steps = ("--budget", "8steps", "--no-join") if name in LEARNING else ()
        outcome = charlm("train", "corpus.txt", "--arch", name, *steps, "-o", path)
        assert outcome.code == 0, outcome.err
    return str(path)


@pytest.fixture
def made(name: str, charlm: Charlm) -> str:
    """The name of an architecture of which there is a run."""
    run_of(name, charlm)
    return name


@every
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("stage", [test_models.built, test_models.loaded])
def test_the_laws(name: str, law: Callable[..., None], stage: object) -> None:
    law(name, stage)


@every
def test_saved_and_loaded_to_the_bit(name: str) -> None:
    test_models.test_saved_and_loaded_to_the_bit(name)


@every
@torch.no_grad()
def test_an_engine_says_what_forward_says(name: str) -> None:
    model, tokens = test_models.built(name), test_models.drawn(3, 7)
    expected, _ = model(tokens, model.initial_state(3))
    engine = open_engine(model)
    state = engine.start(3)
    for t in range(7):
        log_probs, state = engine.step(tokens[:, t].numpy(), state)
        np.testing.assert_allclose(log_probs, expected[:, t], atol=1e-4)


TAKEN = [  # by all three
    "evaluate {run}",
    "evaluate {run} --context 3 --json",
    "score {run} 'What pale ghost'",
    "sample {run} --length 20 -n 2",
    "sample {run} --length 20 --prompt HAMLET --temperature 0.5 --top-k 5",
    "sample {run} --length 20 --stream",
    "sample {run} --length 5 --beams 3",
    "inspect predict {run} --text What",
    "info {run}",
    "info {run} --json",
    "info",
    "report {run} -o page.html",
    "bench --arch {name} --seconds 0.1",
]
TAKEN_BY_LEARNERS = [
    "evaluate {run} --adapt all",
    "train corpus.txt --from {run} --budget 2steps -o checkpoints/{name}-tuned",
    "train corpus.txt --arch {name} --budget 3steps -o checkpoints/{name}-sgd --optimizer sgd --learning-rate 0.1",
    "train corpus.txt --arch {name} --budget 3steps -o checkpoints/{name}-muon --optimizer muon --batch 4",
    "train corpus.txt --arch {name} --budget 0.3s -o checkpoints/{name}-timed",
    "train --resume checkpoints/{name}-sgd --budget 5steps",
]
REFUSED = [
    (NAMES, "inspect attention {run} --text What", "has no attention"),
    (NAMES, "export {run} -o x.arpa", "no format has a place for"),
    (NAMES, "train corpus.txt --arch {name} --size small", "--size has no effect on {name} models, which"),
    (("echo", "tally"), "compare corpus.txt --arch {name},pairs --size small", "no effect on {name} and pairs models"),
    (NAMES, "bench --arch {name} --size small", "--size has no effect on {name} models, which have one size"),
    (NAMES, "train corpus.txt --arch {name} --width 8", "--width is not an option of {name}; it has --"),
    (("pairs",), "inspect gradients {run}", "Pairs has no embeddings; inspect"),
    (("tally",), "inspect embeddings {run}", "Tally has no embeddings and no gradients of its own"),
    (("tally",), "evaluate {run} --adapt all", "Tally has no gradients of its own"),
    (("tally",), "train corpus.txt --arch {name} --optimizer sgd", "--optimizer has no effect on tally models"),
    (("tally",), "train corpus.txt --from {run}", "tally models are counted"),
]


@pytest.mark.parametrize(
    ("name", "command"),
    [
        *((name, command) for name in NAMES for command in TAKEN),
        *((name, command) for name in LEARNING for command in TAKEN_BY_LEARNERS),
        ("echo", "inspect embeddings {run}"),
        ("echo", "inspect gradients {run} --reach 5"),
    ],
)
def test_every_command_takes_it(made: str, command: str, charlm: Charlm) -> None:
    outcome = charlm(*shlex.split(command.format(run=f"checkpoints/{made}", name=made)))
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize(("name", "command", "why"), [(name, *line) for names, *line in REFUSED for name in names])
def test_what_it_has_not_is_refused(made: str, command: str, why: str, charlm: Charlm) -> None:
    outcome = charlm(*shlex.split(command.format(run=f"checkpoints/{made}", name=made)))
    assert outcome.code == 2
    assert why.format(name=made) in outcome.err


def test_its_settings_are_options(charlm: Charlm) -> None:
    page, train = (
        " ".join(charlm("train", "--help-all").out.split()),
        ("train", "corpus.txt", "--arch", "echo", "--cells"),
    )
    assert "--cells INTEGER Numbers that are remembered. [default: 12] [echo]" in page
    assert charlm(*train, "7", "--budget", "2steps", "-o", "checkpoints/seven").code == 0
    assert checkpoint.load("checkpoints/seven").model.config.cells == 7
    wrong = charlm(*train, "501")
    assert (wrong.code, "--cells must be at most 500" in wrong.err) == (2, True)


@learning
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(name: str, tmp_path: Path) -> None:
    options = {"architecture": name, "config": ARCHITECTURES[name].Config()}
    whole = trained(tmp_path / "whole", **options)
    assert same(interrupted(tmp_path, 7, 9, **options).model, whole.model)


@pytest.mark.parametrize("optimizer", [None, "adamw", "sgd"])
def test_a_policy_may_leave_things_open(optimizer: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(POLICIES, "echo", Policy(optimizer="sgd", learning_rates={"sgd": 0.5}))
    training = complete(TrainingConfig(optimizer=optimizer), "echo")
    assert training.optimizer == (optimizer or "sgd")
    assert training.learning_rate == (5e-3 if optimizer == "adamw" else 0.5)
    assert None not in (training.batch, training.segment, training.weight_decay)


@pytest.mark.parametrize(
    ("match", "budget"),
    [(None, "0.3s"), ("seconds", "0.3s"), ("tokens", "3000tokens"), ("parameters", "2steps")],
)
def test_compare_takes_it(match: str | None, budget: str, charlm: Charlm) -> None:
    how = ["--match", match] if match else []
    names = (*NAMES, "lstm", "gru")
    outcome = charlm("compare", "corpus.txt", "--arch", ",".join(names), "--budget", budget, *how, "--json")
    assert outcome.code == 0, outcome.err
    rows = {row["architecture"]: row for row in json.loads(outcome.out)["rows"]}
    assert set(rows) == set(names)


def test_parameters_are_matched_by_what_scales_it(charlm: Charlm) -> None:
    how = ("compare", "corpus.txt", "--match", "parameters", "--budget", "2steps", "--seed", "1", "--arch")
    table = charlm(*how, "echo,pairs,gru,lstm").out
    assert "echo has no width: its cells was chosen instead." in table
    assert "No setting of pairs scales it, so it has its own number of parameters." in table
    found = json.loads(charlm(*how, "echo,pairs,gru,lstm", "--json").out)
    assert found["scaled"] == {"echo": "cells", "pairs": None, "gru": "width", "lstm": "width"}
    sizes = {row["architecture"]: row["parameters"] for row in found["rows"]}
    assert sizes["echo"] == pytest.approx(sizes["pairs"], rel=0.01)
    deeper = json.loads(charlm(*how, "echo,lstm", "--cells", "12", "--json").out)
    assert deeper["scaled"]["echo"] == "depth"  # what the user has set stays


@pytest.mark.parametrize("combine", ["gate", "linear", "log-linear"])
def test_mix_takes_it(combine: str, charlm: Charlm) -> None:
    runs = [run_of(name, charlm) for name in NAMES]
    mixed = f"checkpoints/mixed-{combine}"
    assert charlm("mix", *runs, "--combine", combine, "-o", mixed).code == 0
    for command in ("evaluate", "sample --length 10", "sample --length 5 --beams 2", "info"):
        assert charlm(*command.split(), mixed).code == 0
