"""The model of contexts: its tree, its counters and its mixers against numbers worked out here."""

import math
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest
import torch

from charlm.config import BOUNDARY
from charlm.models.contexts import Contexts, ContextsConfig, ablation, mixing, reader
from charlm.models.contexts.ablation import KINDS_OF_CONTEXT, nats_by_kind
from charlm.models.contexts.packing import packed, unpacked
from charlm.models.contexts.spelling import DIGIT, LOWER, NEWLINE, PUNCTUATION, SPACE, UPPER, spelling
from charlm.models.contexts.tables import CONTEXTS, EMPTY_SLOT, LEVEL_OF, Counts, new_counts, new_trust
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
    updated = from_python(mixing.updated)
    slot, expected = EMPTY_SLOT, 0.5
    for n, turn in enumerate([1, 0, 0, 1, 1, 1, 0]):
        slot = updated(np.uint32(slot), turn, 1000)
        expected += (turn - expected) / (n + 1.5)
        assert slot & 1023 == n + 1
        assert (slot >> 10) / 2**22 == pytest.approx(expected, abs=1e-5)


def test_what_is_hashed_is_found_again_and_the_rarest_makes_room():
    find_run, find_slot = from_python(mixing.find_run), from_python(mixing.find_slot)
    put_run, put_slot = from_python(mixing.put_run), from_python(mixing.put_slot)
    x = [np.uint64(n << 20 << 10 | n + 1) for n in range(5)]  # one entry of the four near it for all of them
    runs, slots, checks, *_ = new_counts(1)
    for often, hashed in zip((2, 2, 1, 2), x, strict=False):
        assert find_run(runs, hashed) == find_slot(checks, hashed) == -1
        put_run(runs, -1, hashed, 7, often)
        put_slot(slots, checks, -1, hashed, EMPTY_SLOT + np.uint32(often))
    found = [find_run(runs, hashed) for hashed in x[:4]]
    assert sorted(found) == [0, 1, 2, 3]
    assert [find_slot(checks, hashed) for hashed in x[:4]] == found
    put_run(runs, -1, x[4], 9, 1)
    put_slot(slots, checks, -1, x[4], EMPTY_SLOT)
    assert find_run(runs, x[2]) == find_slot(checks, x[2]) == -1
    assert find_run(runs, x[4]) == find_slot(checks, x[4]) == found[2]
    put_run(runs, found[2], x[4], 9, 2)
    assert (runs[found[2]] >> 8 & 255, runs[found[2]] >> 16) == (2, 9)


def test_packing_keeps_what_predictions_use():
    counts, trust, numbers = new_counts(50), new_trust(3, 50), np.random.default_rng(0)
    counts.slots[:] = numbers.integers(0, 1 << 32, len(counts.slots), dtype=np.uint32)
    tensors = packed(counts, trust)
    again = unpacked(tensors)
    assert (counts.slots >> 20 == again.slots >> 20).all()
    assert (LEVEL_OF[counts.slots & 1023] == LEVEL_OF[again.slots & 1023]).all()
    assert all((a == b).all() for a, b, name in zip(counts, again, Counts._fields, strict=True) if name != "slots")
    assert all((tensors[name].numpy() == array).all() for name, array in trust._asdict().items())


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
    tokens = torch.randint(98, 110, (12, 9), generator=torch.Generator().manual_seed(0))
    alone = torch.cat([model(row[None], model.initial_state(1))[0] for row in tokens])
    state, steps = model.initial_state(12), []
    for column in tokens.split(1, 1):
        log_probs, state = model(column, state)
        steps.append(log_probs)
    assert torch.equal(torch.cat(steps, 1), alone)


def test_what_is_learned_of_a_text_depends_neither_on_how_it_is_cut_nor_on_who_else_has_begun_as_it_does(monkeypatch):
    model = fitted("the cat sat on the mat. " * 40, delay=3)
    monkeypatch.setattr(reader, "FIRST_CAPACITY", 8)
    monkeypatch.setattr(reader, "GROWTH", 2)
    tokens = torch.randint(98, 110, (1, 70), generator=torch.Generator().manual_seed(0))
    whole = model(tokens, model.initial_state(1))[0]
    for sizes in ([1] * 70, [3, 5, 8, 1, 16, 20, 17], [8, 8, 16, 38]):
        state, parts = model.initial_state(1), []
        for part in tokens.split(sizes, 1):
            log_probs, state = model(part, state)
            parts.append(log_probs)
        assert torch.equal(torch.cat(parts, 1), whole), sizes
    _, state = model(tokens[:, :30], model.initial_state(1))
    twice = tuple(leaf.repeat(2, 1) for leaf in state)
    other = tokens[:, 30:].flip(1)
    together, _ = model(torch.cat([tokens[:, 30:], other]), twice)
    assert torch.equal(together[:1], whole[:, 30:])
    assert torch.equal(together[1:], model(other, state)[0])


def test_many_learners_take_bounded_memory(monkeypatch):
    model = fitted("the cat sat on the mat. " * 40, delay=3)
    model(torch.full((1, 9), 98), model.initial_state(1))
    (learner,) = model.reader._learners.values()
    monkeypatch.setattr(reader, "MAX_KEPT_BYTES", 3 * learner.size)
    for tokens in torch.randint(98, 110, (12, 1, 9)):
        model(tokens, model.initial_state(1))
    assert len(model.reader._learners) == 3
    model(torch.randint(98, 110, (12, 9)), model.initial_state(12))
    assert len(model.reader._learners) == 12  # whose next step is to be one step


def test_several_threads_read_at_once():
    model = fitted("the cat sat on the mat. " * 40, adapt="none")
    tokens = torch.randint(98, 110, (16, 1, 300), generator=torch.Generator().manual_seed(0))
    alone = [model(row, model.initial_state(1))[0] for row in tokens]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda row: model(row, model.initial_state(1))[0], tokens))
    assert all(map(torch.equal, together, alone))


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


@pytest.mark.parametrize("settings", [{}, {"adapt": "none"}])
def test_a_kind_of_context_saves_what_its_inputs_do(settings):
    generator = np.random.default_rng(5)
    text = "".join(f"{'xyz'[n % 3]}{'abcdefgh'[generator.integers(8)]}\n" for n in range(900))  # as the line above says
    model = fitted(text, text[:200], **settings)
    tokens = np.array([BOUNDARY, *(byte + 1 for byte in b"xa\nyh\nzd\nxb\n")])
    saved = nats_by_kind(model, tokens, ord("y") + 1)
    assert list(saved) == list(KINDS_OF_CONTEXT)
    assert max(saved, key=saved.get) == "the lines above"
    assert saved["the lines above"] > 0
    used = sorted(context for contexts in KINDS_OF_CONTEXT.values() for context in contexts)
    assert used == list(range(1, CONTEXTS + 1))  # 0, no context at all, is never left out
    assert np.isfinite(list(nats_by_kind(model, tokens, 200).values())).all()  # what was never seen
    assert np.isfinite(list(nats_by_kind(model, tokens[:1], 100).values())).all()  # at the beginning


def test_without_all_kinds_of_context_their_inputs_are_gone():
    model = fitted("abcabcabc" * 30)
    everything = tuple(range(CONTEXTS + 1))
    weights = ablation._without(ablation._static(model), everything).trust.weights
    assert not weights[:, : 2 * CONTEXTS].any()
    assert weights[:, 2 * CONTEXTS].any()  # the constant
    assert not weights[:, 2 * CONTEXTS + 1 :].any()
