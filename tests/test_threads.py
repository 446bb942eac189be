"""How many threads compute: found by timing, given up where others need the cores, left alone where the user chose."""

import os

import pytest
import torch

from charlm import threads
from charlm.threads import MachineUse, ThreadTuner, fix_threads, wait_briefly

QUIET = {4: 0.03, 2: 0.05, 1: 0.09}  # seconds of a piece of work with so many threads
BUSY = {4: 0.9, 2: 0.3, 1: 0.12}


@pytest.fixture
def four(monkeypatch):
    """A machine on which torch has four threads, and the user has not said how many to use."""
    monkeypatch.delenv(threads.FIXED, raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def work(tuner, seconds_by_threads, seconds):
    """Work for about so long; how many pieces were done, and by how many threads the last."""
    done = spent = 0
    while spent < seconds:
        took = seconds_by_threads[torch.get_num_threads()]
        tuner.record(took)
        done, spent = done + 1, spent + took
    return done, torch.get_num_threads()


def test_a_quiet_machine_uses_all_threads_and_loses_next_to_nothing(four):
    done, last = work(ThreadTuner(), QUIET, 60)
    assert last == 4
    assert done > 0.99 * 60 / QUIET[4]


def test_a_busy_machine_gets_as_much_done_as_the_best_number_of_threads(four):
    done, last = work(ThreadTuner(), BUSY, 60)
    assert last == 1
    assert done > 0.9 * 60 / BUSY[1]


def test_when_the_machine_becomes_busy_or_quiet_again_the_threads_follow(four):
    tuner = ThreadTuner()
    work(tuner, QUIET, 20)
    assert work(tuner, BUSY, 20)[1] == 1
    assert work(tuner, QUIET, 40)[1] == 4


def test_threads_are_given_back(four):
    with ThreadTuner() as tuner:
        assert work(tuner, BUSY, 10)[1] == 1
    assert torch.get_num_threads() == 4


def test_what_the_user_chose_is_not_changed(four, monkeypatch):
    monkeypatch.setenv(threads.FIXED, "4")
    assert work(ThreadTuner(), BUSY, 10)[1] == 4
    fix_threads(2)
    assert work(ThreadTuner(), BUSY, 3)[1] == 2
    assert os.environ[threads.FIXED] == "2"


def test_how_long_threads_wait_is_set_only_where_nobody_has_said_it(monkeypatch):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    wait_briefly()
    assert os.environ["GOMP_SPINCOUNT"] == str(threads.SPIN_COUNT)
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    wait_briefly()
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    wait_briefly()
    assert "GOMP_SPINCOUNT" not in os.environ


@pytest.mark.parametrize(
    ("own", "others", "cores", "share"),
    [
        (2.0, 0.0, 2, 1.0),  # alone
        (0.8, 0.1, 2, 1.0),  # the others take what is idle
        (1.0, 1.0, 2, 0.5),  # one of two cores is another's
        (4.0, 2.0, 16, 1.0),
        (0.2, 1.8, 2, 0.1),
    ],
)
def test_what_a_busy_machine_costs(own, others, cores, share):
    use = MachineUse(own, others, cores)
    assert use.share == pytest.approx(share)
    assert use.disturbed == (share < 0.8)


def test_the_number_of_threads_is_an_option_of_whatever_computes(charlm, folder, four, monkeypatch):
    monkeypatch.setenv(threads.FIXED, "4")  # restored afterwards
    assert charlm("train", "corpus.txt", "--arch", "ngram", "--threads", "1", "-o", "run").code == 0
    assert (torch.get_num_threads(), os.environ[threads.FIXED]) == (1, "1")
    for command in (["evaluate", "run"], ["sample", "run"], ["score", "run", "What"], ["compare", "run"], ["bench"]):
        for wrong in ("0", "many", "-1", "1.5"):
            outcome = charlm(*command, "--threads", wrong)
            assert outcome.code == 2
            assert "auto or a number" in outcome.err
    outcome = charlm("train", "corpus.txt", "--deterministic", "--threads", "2")
    assert outcome.code == 2
    assert "--threads" in outcome.err
