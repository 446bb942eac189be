"""The model of contexts: its tree, its counters and its mixers against numbers worked out here."""

import math

import numba
import numpy as np
import pytest
import torch

from charlm.config import BOUNDARY
from charlm.models.contexts import Contexts, ContextsConfig, mixing
from charlm.models.contexts.packing import packed, unpacked
from charlm.models.contexts.spelling import DIGIT, LOWER, NEWLINE, PUNCTUATION, SPACE, UPPER, spelling
from charlm.models.contexts.tables import EMPTY_SLOT, LEVEL_OF, new_tables
from charlm.models.contexts.tree import huffman


def from_python(function):
    """A compiled function that only compiled ones can call, for Python."""
    return numba.njit(lambda *arguments: function(*arguments))


def fitted(text, validation="", **settings):
    """A model of a text whose ids are its bytes, plus 1."""
    model = Contexts(ContextsConfig(**settings), 257)
    model.read_vocabulary(["", *map(chr, range(256))])
    model.fit(*(np.frombuffer(part.encode(), np.uint8).astype(np.int32) + 1 for part in (text, validation)))
    return model


def nats(model, text):
    """Per character."""
    stream = torch.tensor([[BOUNDARY, *(byte + 1 for byte in text.encode())]])
    log_probs, _ = model.score(stream[:, :-1], stream[:, 1:], model.initial_state(1))
    return -float(log_probs.double().mean())


@pytest.mark.parametrize("counts", [[1], [1, 1], [5, 1, 1, 0], [8, 4, 2, 1, 1], list(range(40))])
def test_the_tree_has_the_shortest_paths(counts):
    tree = huffman(np.array(counts))
    assert sum(2.0**-depth for depth in tree.depth) == 1
    paths = {tuple(zip(tree.nodes[s, :d], tree.bits[s, :d], strict=True)) for s, d in enumerate(tree.depth)}
    assert len(paths) == len(counts)
    weights, cost = sorted(counts), 0
    while len(weights) > 1:  # what joining the two lightest costs, over and over
        first, second, *weights = weights
        cost += first + second
        weights = sorted([*weights, first + second])
    assert (tree.depth * np.array(counts)).sum() == cost


def test_a_slot_is_a_running_mean():
    update_slot = from_python(mixing.update_slot)
    slots, expected = np.array([EMPTY_SLOT]), 0.5
    for n, turn in enumerate([1, 0, 0, 1, 1, 1, 0]):
        update_slot(slots, 0, turn, 1000)
        expected += (turn - expected) / (n + 1.5)
        assert slots[0] & 1023 == n + 1
        assert (slots[0] >> 10) / 2**22 == pytest.approx(expected, abs=1e-5)


def test_what_is_hashed_is_found_again_and_the_rarest_makes_room():
    find_run, find_slot = from_python(mixing.find_run), from_python(mixing.find_slot)
    add_run, add_slot = from_python(mixing.add_run), from_python(mixing.add_slot)
    update_slot = from_python(mixing.update_slot)
    x = [np.uint64(n << 20 << 10 | n + 1) for n in range(5)]  # one entry of the four near it for all of them
    runs, slots, checks = (
        np.zeros(1 << 10, np.uint32),
        np.full(1 << 10, EMPTY_SLOT, np.uint32),
        np.zeros(1 << 10, np.uint8),
    )
    for hashed in x[:4]:
        assert find_run(runs, hashed) == find_slot(checks, hashed) == -1
        add_run(runs, hashed, 7)
        add_slot(slots, checks, hashed)
    found = [find_run(runs, hashed) for hashed in x[:4]]
    assert sorted(found) == [0, 1, 2, 3]
    assert [find_slot(checks, hashed) for hashed in x[:4]] == found
    for i in (found[0], found[1], found[3]):
        runs[i] += 256
        update_slot(slots, i, 1, 1000)
    add_run(runs, x[4], 9)
    add_slot(slots, checks, x[4])
    assert find_run(runs, x[2]) == find_slot(checks, x[2]) == -1
    assert find_run(runs, x[4]) == find_slot(checks, x[4]) == found[2]


def test_packing_keeps_what_predictions_use():
    tables, numbers = new_tables(3, 50), np.random.default_rng(0)
    tables.slots[:] = numbers.integers(0, 1 << 32, len(tables.slots), dtype=np.uint32)
    again = unpacked(packed(tables))
    assert (tables.slots >> 20 == again.slots >> 20).all()
    assert (LEVEL_OF[tables.slots & 1023] == LEVEL_OF[again.slots & 1023]).all()
    assert all((a == b).all() for a, b, name in zip(tables, again, tables._fields, strict=True) if name != "slots")


def test_the_stretched_probabilities():
    middle = (np.arange(4096) + 0.5) / 4096
    np.testing.assert_allclose(mixing.STRETCHED, np.log(middle / (1 - middle)), rtol=1e-5, atol=1e-6)


def test_kinds_of_characters():
    kinds, folded = spelling(["", "", "a", "A", "Z", "7", " ", "\n", "-", "th"])
    assert kinds.tolist() == [LOWER, LOWER, LOWER, UPPER, UPPER, DIGIT, SPACE, NEWLINE, PUNCTUATION, LOWER]
    assert folded.tolist() == [0, 1, 2, 2, 4, 5, 6, 7, 8, 9]


def test_contexts_other_than_the_last_characters_are_learned():
    numbers = np.random.default_rng(1)

    def table(rows):
        return "".join(
            f"{n % 10}{''.join(map(chr, numbers.integers(97, 123, 5)))}{n % 10};" + "\n" for n in range(rows)
        )

    model = fitted(table(1500), adapt="none")
    text = table(300)
    stream = torch.tensor([[BOUNDARY, *(byte + 1 for byte in text.encode())]])
    log_probs, _ = model.score(stream[:, :-1], stream[:, 1:], model.initial_state(1))
    columns = -log_probs[0, 9:].view(-1, 9).mean(0)  # digit, five letters, digit, semicolon, end of line
    assert float(columns[1:6].mean()) == pytest.approx(math.log(26), abs=0.3)
    assert float(columns[7:].max()) < 0.02
    assert float(columns[0]) < 0.3


def test_it_learns_from_what_it_reads_after_a_while_and_its_counts_stay():
    model = fitted("abcde fghij klmno pqrst uvwxy " * 60, "abcde fghij " * 20, delay=30)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    text = "jaw box fez quiz vow hydra " * 40
    assert nats(model, text) < nats(model.frozen(), text) - 0.02
    assert nats(model, text[:30]) == nats(Contexts.from_tensors(model.config, 257, model.state_dict()), text[:30])
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_many_texts_read_by_turns_are_what_each_is_alone():
    model = fitted("the cat sat on the mat. " * 40, delay=3)
    tokens = torch.randint(98, 110, (12, 9), generator=torch.Generator().manual_seed(0))  # more than are kept
    alone = torch.cat([model(row[None], model.initial_state(1))[0] for row in tokens])
    state, steps = model.initial_state(12), []
    for column in tokens.split(1, 1):
        log_probs, state = model(column, state)
        steps.append(log_probs)
    assert torch.equal(torch.cat(steps, 1), alone)


@pytest.mark.parametrize("text", ["", "a", "aaaa"])
def test_hardly_any_text(text):
    model = fitted(text)
    log_probs, _ = model(torch.tensor([[BOUNDARY, 98, 99]]), model.initial_state(1))
    assert log_probs.double().logsumexp(-1).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("text", 1 << 20),
        ("places", -1),
        ("runs", -1),
        ("slot_map", 2.0),
        ("weights", math.nan),
        ("ids", 0),
        ("kinds", 9),
    ],
)
def test_tensors_that_lead_outside_are_refused(name, value):
    model = fitted("some text to learn, and then some. " * 5)
    tensors = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    tensors[name].view(-1)[0] = value
    with pytest.raises(ValueError, match=r"contradict|do not fit"):
        Contexts.from_tensors(model.config, 257, tensors)
