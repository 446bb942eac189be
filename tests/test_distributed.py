"""Several processes train one model: as one would, whoever stops or dies, and whoever goes on."""

import json
import math
import multiprocessing
import os
import signal
import socket
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import few_steps
from safetensors.torch import load_file

from charlm import checkpoint, cli, training
from charlm.training import World
from charlm.training.loop import Trainer

CONTEXT = multiprocessing.get_context("forkserver")  # a process that has computed gradients cannot be forked
CONTEXT.set_forkserver_preload(["charlm.cli.train", "charlm.inference.opening"])
SMALL = ("--precision", "float32", "--batch", "7", "--dropout", "0.2", "-q")
CLOSE = 1e-5  # of weights after some steps, of losses in bits; sums of gradients are rounded in another order


def _enter(rank: int, size: int, port: int) -> None:
    """Sets what torchrun sets for one process of several."""
    torch.set_num_threads(1)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank}
    os.environ.update({name: str(value) for name, value in address.items()} | {"TORCHELASTIC_RUN_ID": "test"})


def _rank(rank: int, size: int, port: int, arguments: list[str], at_step: tuple[int, int, int] | None) -> None:
    """One process of several; at_step is (rank, step, signal) of the one that gets a signal."""
    _enter(rank, size, port)
    error = Path(f"error-{rank}").open("w", encoding="utf-8")  # noqa: SIM115
    os.dup2(error.fileno(), 2)
    if at_step and at_step[0] == rank:
        take = Trainer._step

        def step_with_signal(trainer: Trainer) -> None:
            take(trainer)
            if trainer.counters.step == at_step[1]:
                os.kill(os.getpid(), at_step[2])

        Trainer._step = step_with_signal  # type: ignore[method-assign]
    with few_steps():
        os._exit(cli.run(arguments))


def together(size: int, *arguments: str, at_step: tuple[int, int, int] | None = None) -> list[int | None]:
    """Run a command in `size` processes, as torchrun would; their exit codes."""
    return exit_codes(size, _rank, list(arguments), at_step)


def exit_codes(size: int, work: Callable[..., None], *arguments: object) -> list[int | None]:
    """Of `size` processes that each call work(rank, size, port, *arguments)."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [CONTEXT.Process(target=work, args=(rank, size, port, *arguments)) for rank in range(size)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(100)
        assert process.exitcode is not None, "a process hangs"
    return [process.exitcode for process in ranks]


def weights(run: str) -> dict[str, torch.Tensor]:
    (path,) = Path(run).glob("weights-*.safetensors")
    return load_file(path)


def validations(run: str) -> dict[int, float]:
    """Bits per character of the validation slice, by step."""
    lines = [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["validation"] for line in lines if line["validation"] is not None}


def assert_close(run: str, other: str) -> None:
    found, expected = weights(run), weights(other)
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        within = 1e-3 if name.startswith("combination") else CLOSE  # hundreds of Adam's steps make more of rounding
        assert (found[name].double() - tensor.double()).abs().max() < within, name


@pytest.mark.parametrize(
    ("size", "architecture", "optimizer"),
    [
        (2, "lstm", "muon"),
        (3, "gru", "adamw"),
        (2, "rnn", "sgd"),
        (2, "feedforward", "muon"),
        (4, "transformer", "adamw"),
        (2, "mixture", "adamw"),
    ],
)
def test_several_processes_train_what_one_does(size, architecture, optimizer, folder, charlm) -> None:
    options = ["--arch", architecture, "--optimizer", optimizer, "--budget", "12steps", "--width", "8", *SMALL]
    one = charlm("train", "corpus.txt", *options, "-o", "one")
    assert one.code == 0, one.err
    assert together(size, "train", "corpus.txt", *options, "-o", "many") == [0] * size
    assert Path("error-1").read_text() == ""
    assert_close("many", "one")
    lines = [
        [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()] for run in ("one", "many")
    ]
    losses = [{line["step"]: line["validation"] for line in run if line["validation"] is not None} for run in lines]
    assert losses[0].keys() == losses[1].keys() != set()
    for step, loss in losses[0].items():
        assert math.isclose(losses[1][step], loss, abs_tol=CLOSE)


@pytest.mark.parametrize("size", [1, 3])
def test_a_signal_to_any_process_stops_all_and_any_number_of_them_goes_on(size, folder, charlm) -> None:
    options = ["--arch", "gru", "--width", "8", "--budget", "10steps", *SMALL]
    assert charlm("train", "corpus.txt", *options, "-o", "one").code == 0
    codes = together(2, "train", "corpus.txt", *options, "-o", "many", at_step=(1, 4, signal.SIGTERM))
    assert all(codes)
    assert json.loads(Path("many", checkpoint.CARD).read_text())["progress"]["step"] == 4
    assert together(size, "train", "--resume", "many", "-q") == [0] * size
    assert_close("many", "one")


@pytest.mark.parametrize("lost", [0, 1])
def test_a_process_that_dies_ends_the_others_with_a_line_and_a_save_to_go_on_from(lost, folder, charlm) -> None:
    options = ["--arch", "gru", "--width", "8", "--budget", "10steps", "--save-every", "0.001s", *SMALL]
    assert charlm("train", "corpus.txt", *options, "-o", "one").code == 0
    begun = time.monotonic()
    codes = together(2, "train", "corpus.txt", *options, "-o", "many", at_step=(lost, 6, signal.SIGKILL))
    assert time.monotonic() - begun < 60
    assert codes[lost] == -signal.SIGKILL
    assert codes[1 - lost] == 1
    told = Path(f"error-{1 - lost}").read_text()
    assert (
        told
        == "error: another rank has ended or does not answer; charlm train --resume many goes on from the last save\n"
    )
    assert together(2, "train", "--resume", "many", "-q") == [0, 0]
    assert_close("many", "one")


def test_a_budget_of_time_is_kept_by_one_clock(folder) -> None:
    options = ["--arch", "rnn", "--width", "8", "--budget", "2s", *SMALL]
    assert together(2, "train", "corpus.txt", *options, "-o", "run") == [0, 0]
    progress = json.loads(Path("run", checkpoint.CARD).read_text())["progress"]
    assert progress["finished"]
    assert progress["step"] > 5


def test_what_cannot_be_shared_is_said_once(folder) -> None:
    assert together(2, "train", "corpus.txt", "--arch", "rnn", "--batch", "1", "-q", "-o", "run") == [2, 2]
    assert Path("error-0").read_text().strip() == "error: --batch 1 streams of text cannot be shared among 2 processes"
    assert Path("error-1").read_text() == ""
    assert together(2, "info") == [2, 2]
    assert "no other command" in Path("error-0").read_text()
    assert Path("error-1").read_text() == ""


@pytest.mark.parametrize(
    ("size", "options"), [(2, ("--order", "4")), (4, ()), (2, ("--smoothing", "kneser-ney")), (3, ("--order", "2"))]
)
def test_several_processes_count_what_one_does(size, options, folder, charlm) -> None:
    arguments = ["train", "corpus.txt", "--arch", "ngram", *options, "-q"]
    assert charlm(*arguments, "-o", "one").code == 0
    assert together(size, *arguments, "-o", "many") == [0] * size
    assert Path("error-1").read_text() == ""
    one, many = (checkpoint.read_card(Path(run)).history for run in ("one", "many"))
    assert (many.extra, many.result) == (one.extra, one.result)
    (one_weights,), (many_weights,) = (list(Path(run).glob("weights-*")) for run in ("one", "many"))
    assert one_weights.name == many_weights.name
    assert one_weights.read_bytes() == many_weights.read_bytes()


def _leave(rank: int, size: int, port: int) -> None:
    """Exits with 1 if the process group outlives the world."""
    _enter(rank, size, port)
    with training.joined(torch.device("cpu")) as world:
        group = weakref.ref(torch.distributed.group.WORLD)
        torch.optim.SGD([torch.zeros(1)])  # imports torch._dynamo, and that torch.distributed.nn
        world.total(1)
    os._exit(group() is not None)


def test_no_thread_of_the_process_group_is_left_to_abort_a_process_that_ends() -> None:
    assert exit_codes(2, _leave) == [0, 0]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_all_rows_are_somebodys(size) -> None:
    for count in (1, 2, 7, 64):
        rows = [row for rank in range(size) for row in range(count)[World(rank, size).rows(count)]]
        assert rows == list(range(count))


def test_a_world_of_one_exchanges_nothing() -> None:
    world, tensors = World(), [torch.ones(2)]
    world.add_up(tensors)
    assert world.total(2, 3) == [2, 3]
    assert world.text_of_main("é") == "é"
    assert world.gather((tensors[0],), 2)[0] is tensors[0]
    with world.main_first():
        assert tensors[0].tolist() == [1, 1]
    with training.joined(torch.device("cpu")) as joined:
        assert joined == world
