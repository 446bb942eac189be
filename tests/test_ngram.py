"""The n-gram: against a slow second implementation, against KenLM's own numbers, and the laws of every model."""

import dataclasses
import math
import threading
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import few_steps
from safetensors.torch import load, save

from charlm.errors import UsageError
from charlm.inference import open_engine
from charlm.models.base import select
from charlm.models.ngram import NGram, gate, windows
from charlm.models.ngram.cache import MATCH_LENGTHS, Cache
from charlm.models.ngram.counting import Level, count_ngrams
from charlm.models.ngram.estimation import SMOOTHERS
from charlm.models.ngram.smoothing import (
    FALLBACK_DISCOUNTS,
    adjusted_counts,
    closed_form_discounts,
    modified_kneser_ney,
)
from charlm.models.ngram.windows import alphabet_of, code
from charlm.threads import workers

V = 12


@cache
def fitted(text: str = "abracadabra abracadabra", **settings: Any) -> NGram:
    model = NGram(NGram.Config(**settings), V)
    ids = encoded(text)
    model.fit(ids[:-5], ids[-5:])
    return model


def encoded(text: str) -> np.ndarray:
    return np.array([" abcdr".index(c) + 2 for c in text], np.int32)


def random_ids(seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randint(0, V, shape, generator=torch.Generator().manual_seed(seed))


def drawn(size: int, alphabet: int) -> np.ndarray:
    return np.append(0, np.random.default_rng(size).integers(1, alphabet, size))


@pytest.mark.parametrize(("size", "alphabet"), [(300, 3), (300, 40), (40, 2), (3, 2), (2000, 900), (20_000, 60_000)])
@pytest.mark.parametrize("order", [1, 2, 7, 16])
def test_every_ngram_is_counted(size: int, alphabet: int, order: int) -> None:
    symbols = drawn(size, alphabet)
    levels = count_ngrams(symbols, alphabet, order)
    assert len(levels) == min(order, len(symbols))
    grams: list[list[tuple[int, ...]]] = [[()]]
    for n, level in enumerate(levels, 1):
        grams.append([(*grams[-1][p], int(s)) for p, s in zip(level.parent, level.symbol, strict=True)])
        slow = Counter(tuple(map(int, symbols[i : i + n])) for i in range(len(symbols) - n + 1))
        assert grams[n] == sorted(slow)
        assert level.count.tolist() == [slow[g] for g in grams[n]]
        if n > 1:
            assert [grams[n - 1][s] for s in level.suffix] == [g[1:] for g in grams[n]]


@pytest.mark.parametrize(("size", "alphabet"), [(300, 3), (2000, 900)])
def test_counting_range_by_range_changes_nothing(size: int, alphabet: int) -> None:
    symbols = drawn(size, alphabet)
    whole = count_ngrams(symbols, alphabet, 9)
    for max_windows in (100, 1000):
        parted = count_ngrams(symbols, alphabet, 9, max_windows=max_windows)
        assert all(
            np.array_equal(a, b)
            for pair in zip(whole, parted, strict=True)
            for a, b in zip(*map(fields, pair), strict=True)
        )


@pytest.fixture(scope="module", autouse=True)
def hasty_gates() -> None:
    """Here gates learn."""


@pytest.fixture(params=[2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    assert torch.get_num_threads() == request.param  # fitting gives back what it took
    torch.set_num_threads(before)


@pytest.mark.parametrize(("size", "alphabet", "most"), [(5000, 3, 1 << 62), (5000, 400, 20_000), (1, 2, 9), (9, 2, 9)])
@pytest.mark.parametrize("max_windows", [1 << 62, 700])
def test_threads_count_what_one_counts(
    threads: int, size: int, alphabet: int, most: int, max_windows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    symbols = drawn(size, alphabet)
    whole = count_ngrams(symbols, alphabet, 9, most)
    monkeypatch.setattr(windows, "MIN_WINDOWS_PER_THREAD", 100)
    with workers() as pool:
        assert pool.threads == threads
        shared = count_ngrams(symbols, alphabet, 9, most, max_windows, pool)
    assert len(whole) == len(shared)
    for one, other in zip(whole, shared, strict=True):
        assert all(map(np.array_equal, fields(one), fields(other)))


@pytest.mark.parametrize("smoothing", SMOOTHERS)
def test_threads_fit_the_same_bits(threads: int, smoothing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "MIN_WINDOWS_PER_THREAD", 100)
    monkeypatch.setattr(gate, "CONTEXTS_PER_CHUNK", 64)
    ids = drawn(6000, 40)
    shared, alone = (NGram(NGram.Config(smoothing=smoothing), 50) for _ in range(2))
    with few_steps():
        shared.fit(ids[:5000], ids[5000:])
        torch.set_num_threads(1)
        alone.fit(ids[:5000], ids[5000:])
    torch.set_num_threads(threads)
    assert alone.fit_results == shared.fit_results
    assert alone.validation_nats == shared.validation_nats
    assert all(map(torch.equal, alone.state_dict().values(), shared.state_dict().values()))


def test_a_stopped_fit_leaves_no_thread_at_work(threads: int) -> None:
    def stop(what: str, done: float) -> None:
        if done > 0:
            raise KeyboardInterrupt

    running = threading.active_count()
    ids = drawn(300_000, 40)
    with pytest.raises(KeyboardInterrupt):
        NGram(NGram.Config(), 50).fit(ids, ids[:0], stop)
    assert threading.active_count() == running


def fields(level: Level) -> list[np.ndarray]:
    return [level.parent, level.symbol, level.count, level.suffix]


@pytest.mark.parametrize("max_windows", [1 << 62, 100])
def test_no_more_ngrams_than_allowed(max_windows: int) -> None:
    symbols = drawn(500, 5)
    sizes = np.cumsum([len(level) for level in count_ngrams(symbols, 5, 12)])
    for longest in (3, 7, 9):
        levels = count_ngrams(symbols, 5, 12, int(sizes[longest]) - 1, max_windows)
        assert [len(level) for level in levels] == np.diff(sizes[:longest], prepend=0).tolist()


def test_an_order_that_does_not_fit_the_memory_is_refused() -> None:
    ids = np.random.default_rng(0).integers(1, V, 600_000)
    with pytest.raises(UsageError, match=r"`order` 16 .*`memory=0\.1` .*`order=7`$"):
        NGram(NGram.Config(order=16, smoothing="kenlm", memory=0.1), V).fit(ids, ids[:0])
    model = NGram(NGram.Config(smoothing="witten-bell", memory=0.1), V)
    model.fit(ids, ids[:100])
    assert model.order <= 7


def test_frequent_symbols_have_short_words() -> None:
    frequencies = np.random.default_rng(0).integers(0, 1000, 300)
    ids = alphabet_of(frequencies)
    assert sorted(ids.tolist()) == np.flatnonzero(frequencies).tolist()
    book = code(len(ids) + 1)
    assert np.all(np.diff(book.words.astype(float)) > 0)
    by_length = [frequencies[ids][book.bits[:-1] == length] for length in (4, 8, 12)]
    assert [len(group) for group in by_length] == [
        8,
        63,
        len(ids) - 71,
    ]  # one of the 64 is kept for the end of the text
    assert all(longer.max() <= shorter.min() for shorter, longer in pairwise(by_length))


def test_adjusted_counts_are_what_precedes() -> None:
    symbols = np.append(0, encoded("abracadabra") - 2)
    levels = count_ngrams(np.unique(symbols, return_inverse=True)[1], len(set(symbols)), 3)
    triples = {tuple(symbols[i : i + 3]) for i in range(len(symbols) - 2)}
    pairs = sorted(set(pairwise(symbols)))
    expected = [1 if p == tuple(symbols[:2]) else sum(t[1:] == p for t in triples) for p in pairs]
    assert adjusted_counts(levels)[1].tolist() == expected


def slow_kneser_ney(text: np.ndarray, order: int, discounts: list) -> object:
    """P(token | history), by dictionaries and recursion, straight from Chen & Goodman 1999 (equations 24 to 26)."""
    stream = [0, *text.tolist(), 0]
    grams = [Counter(tuple(stream[i : i + n]) for i in range(len(stream) - n + 1)) for n in range(1, order + 1)]
    for n in range(1, order):
        preceded = Counter(gram[1:] for gram in grams[n])
        grams[n - 1] = Counter({g: 1 if n > 1 and g[0] == 0 else preceded[g] for g in grams[n - 1]})
    alphabet = len(set(stream))

    def probability(history: tuple[int, ...], token: int) -> float:
        n = len(history)
        lower = probability(history[1:], token) if n else 1 / (alphabet + 1) / (1 if token in stream else V - alphabet)
        following = {g: c for g, c in grams[n].items() if g[:-1] == history}
        total = sum(following.values())
        if not total:
            return lower
        off = {g: discounts[n][min(c, 3) - 1] for g, c in following.items()}
        own = following.get((*history, token), 0)
        return (own - off.get((*history, token), 0)) / total + sum(off.values()) / total * lower

    return probability


def test_kneser_ney_is_the_textbook() -> None:
    ids = encoded("abracadabra abracadabra bar a cad")
    model = NGram(NGram.Config(order=3, smoothing="kenlm"), V)
    model.fit(ids[:20], ids[20:])
    levels = count_ngrams(np.unique(np.concatenate(([0], ids, [0])), return_inverse=True)[1], 7, 3)
    discounts = [closed_form_discounts(counts) or FALLBACK_DISCOUNTS for counts in adjusted_counts(levels)]
    slow = slow_kneser_ney(ids, 3, discounts)
    read = torch.from_numpy(np.append(0, ids)).long()[None]
    log_probs, _ = model(read, model.initial_state(1))
    for place in (0, 1, 2, 5, 12, 30):
        history = tuple(read[0, max(0, place - 1) : place + 1].tolist())
        assert log_probs[0, place].exp().tolist() == pytest.approx([slow(history, w) for w in range(V)], rel=1e-5)


def test_closed_form_discounts() -> None:
    counts = np.repeat([1, 2, 3, 4, 9], [40, 15, 8, 5, 3])
    y = 40 / 70
    expected = (1 - 2 * y * 15 / 40, 2 - 3 * y * 8 / 15, 3 - 4 * y * 5 / 8)
    assert closed_form_discounts(counts) == pytest.approx(expected)
    assert closed_form_discounts(np.array([1, 1, 2, 4])) is None  # no count of 3
    assert closed_form_discounts(np.repeat([1, 2, 3, 4], [1, 1, 9, 1])) is None  # D2 below 0


BEGINNING = (Path(__file__).parent / "coriolanus.txt").read_text(encoding="utf-8")
"""The first 20,000 characters of Karpathy's Tiny Shakespeare (Coriolanus, act 1; public domain)."""

LMPLZ = """
61 754 3511 7853
-2.725593 %
-2.5121956 $
-1.3330759 i -0.78137356
-2.0978951 R -0.29318595
-0.27026755 ^F -0.22044556
-1.9134251 nf -0.23238969
-0.89362705 f_ -0.29158738
-1.4972382 r, -0.36623806
-1.6323749 d; -0.23238969
-1.9765564 inf -0.19549526
-0.33544704 r?_ -0.23612529
-1.0463034 idi -0.5433362
-1.4709718 ,_d -0.254794
-1.649004 s./I
-0.2445763 pful
-0.1001875 p?//
-0.99400365 _had
-0.5557108 way,
-0.28181025 ^Fir
-0.026946949 VIRG
"""
"""KenLM's `lmplz --order 4 --discount_fallback` on BEGINNING as one sentence, one token a character: how many n-grams,
then log10 probability, n-gram, log10 backoff. Space is _, line feed /, <s> ^, </s> $, <unk> %."""

LMPLZ_DISCOUNTS = [
    (0.1, 2 - 0.3 / 9, 1.4),
    (0.46640316, 1.27448397, 1.58746471),
    (0.60194175, 1.15489582, 1.63533728),
    (0.63753601, 1.04731560, 1.71717678),
]
"""lmplz left one n-gram of each shorter length out of its counts of counts here; with those discounts given, all else
must agree. Where it did not (the whole of Tiny Shakespeare, benchmarks/ngram.py), the discounts agree as well."""


def test_kenlm_numbers() -> None:
    letters = sorted(set(BEGINNING))
    symbols = np.array([0, *(letters.index(c) + 1 for c in BEGINNING), 0])
    levels = count_ngrams(symbols, len(letters) + 1, 4)
    sizes, *lines = LMPLZ.strip().split("\n")
    assert [len(level) for level in levels] == [int(sizes.split()[0]) - 2, *map(int, sizes.split()[1:])]
    base = np.full(len(letters) + 1, 1 / (len(letters) + 2))
    estimates = modified_kneser_ney(levels, LMPLZ_DISCOUNTS)
    lower, table, rows = base, {"%": (estimates[0].backoff[0] * base[0], None)}, [""]
    for n, (level, estimate) in enumerate(zip(levels, estimates, strict=True)):
        lower = estimate.mass + estimate.backoff[level.parent] * lower[level.suffix]
        names = "^$"[n == 0] + "".join(letters).replace(" ", "_").replace("\n", "/")
        ends = "$" + names[1:]
        rows = [rows[p] + (names if n == 0 else ends)[s] for p, s in zip(level.parent, level.symbol, strict=True)]
        backoff = estimates[n + 1].backoff if n < 3 else [None] * len(rows)
        table |= dict(zip(rows, zip(lower, backoff, strict=True), strict=True))
        if n == 0:
            rows[0] = "^"
    for line in lines:
        log10, gram, *backoff = line.split()
        assert math.log10(table[gram][0]) == pytest.approx(float(log10), abs=1e-5), gram
        if backoff:
            assert math.log10(table[gram][1]) == pytest.approx(float(backoff[0]), abs=1e-5), gram


def after_a(smoothing: str) -> tuple[float, float]:
    """P(b | a) and P(r | a) in abracadabra, where a is followed by b twice, by c and d once, never by r."""
    model = NGram(NGram.Config(order=2, smoothing=smoothing), V)
    model.fit(encoded("abracadabr"), encoded("a"))
    log_probs, _ = model(torch.tensor([[int(encoded("a")[0])]]), model.initial_state(1))
    b, r = encoded("br")
    return log_probs[0, 0, b].exp().item(), log_probs[0, 0, r].exp().item()


def test_witten_bell_by_hand() -> None:
    either = (2 + 6 / 7) / 18  # b or r alone: 2 of 12 symbols, 6 different ones, 1/7 for each before any was seen
    assert after_a("witten-bell") == pytest.approx(((2 + 3 * either) / 7, 3 * either / 7))


def test_add_k_by_hand() -> None:
    assert after_a("add-k") == pytest.approx((2.1 / 4.7, 0.1 / 4.7))


def test_absolute_discounting_by_hand() -> None:
    single = 3 / (3 + 2 * 2)  # three symbols occur once (the boundary, c, d), two twice (b, r)
    pairs = Counter(pairwise("^abracadabra"))
    ones, twos = (sum(c == n for c in pairs.values()) for n in (1, 2))
    double = ones / (ones + 2 * twos)
    either = (2 - single) / 12 + 6 * single / 12 / 7
    assert after_a("absolute") == pytest.approx(((2 - double + 3 * double * either) / 4, 3 * double * either / 4))


def test_stupid_backoff_by_hand() -> None:
    alone = (2 / 12) / (1 + 0.4 / 7)  # b or r: what is left to unseen symbols, 1/7, is weighed 0.4
    others = 1 - (2 + 1 + 1) / 12 / (1 + 0.4 / 7)  # beyond b, c and d
    scale = 1 / (1 + 0.4 * others)
    assert after_a("stupid-backoff") == pytest.approx((2 / 4 * scale, 0.4 * alone * scale))


@pytest.fixture(scope="module", params=[*SMOOTHERS, "unfitted", "unigrams"])
def model(request: pytest.FixtureRequest) -> NGram:
    if request.param == "unfitted":
        return NGram(NGram.Config(), V)
    if request.param == "unigrams":
        return fitted(order=1)
    return fitted(order=4, smoothing=request.param)


def test_laws(model: NGram) -> None:
    tokens = random_ids(1, (3, 11))
    start = model.initial_state(3)
    before = start[0].clone()
    log_probs, end = model(tokens, start)
    assert log_probs.dtype == torch.float32
    assert torch.equal(start[0], before)
    assert torch.isfinite(log_probs).all()
    assert log_probs.logsumexp(-1).abs().max() < 1e-5
    changed = tokens.clone()
    changed[:, 6] = (changed[:, 6] + 1) % V
    assert torch.equal(model(changed, start)[0][:, :6], log_probs[:, :6])
    pieces, state = [], start
    for begin, stop in pairwise([0, 1, 2, 9, 11]):
        piece, state = model(tokens[:, begin:stop], state)
        pieces.append(piece)
    torch.testing.assert_close(torch.cat(pieces, 1), log_probs, atol=1e-5, rtol=0)
    assert torch.equal(state[0], end[0])
    order = torch.tensor([2, 0, 0, 1])
    picked, _ = model(tokens[order], select(start, order))
    torch.testing.assert_close(picked, log_probs[order], atol=1e-6, rtol=0)
    scores, scored_end = model.score(tokens, changed, start)
    torch.testing.assert_close(scores, log_probs.gather(-1, changed[..., None]).squeeze(-1), atol=1e-5, rtol=0)
    assert torch.equal(scored_end[0], end[0])
    loaded = NGram.from_tensors(model.config, V, load(save(model.state_dict())))
    assert torch.equal(loaded(tokens, start)[0], log_probs)
    assert loaded.parameters_count == model.parameters_count


def slow_echoes(read: list[int], window: int) -> list[tuple[int, int]]:
    """(what followed, how many tokens match) of each place among the last `window` where the last two tokens stood."""
    found = []
    for place in range(max(1, len(read) - window), len(read)):  # where something follows on the same
        length = 0
        while length < min(place, 16) and read[place - 1 - length] == read[-1 - length]:
            length += 1
        if length > 1:
            found.append((read[place], length))
    return found


@pytest.mark.parametrize("window", [3, 40, 300])
def test_the_cache_is_what_it_says(window: int) -> None:
    """Every distribution: the counts, then for each length, from the shortest, a share for what followed its echoes."""
    model = fitted("abracadabra bard" * 20, order=4, cache=window)
    cache, static = model.cache, fitted("abracadabra bard" * 20, order=4, cache=0)
    assert cache is not None
    read = [0, *encoded("cadabra abracadabra rab abracadabra abracadabra ").tolist()]
    log_probs, _ = model(torch.tensor([read]), model.initial_state(1))
    plain, state = static(torch.tensor([read]), static.initial_state(1))
    for place in range(len(read)):
        expected = plain[0, place].double().exp().numpy()
        state = static(torch.tensor([read[: place + 1]]), static.initial_state(1))[1]
        nodes = [node for node in state[0][0].tolist() if node >= 0]
        left = static.backoff[nodes[-1] if nodes else 0].item()
        sizes = [(0, 0)]
        shares = []
        for row, length in enumerate(MATCH_LENGTHS):
            followers = [token for token, matched in slow_echoes(read[: place + 1], window) if matched >= length]
            sizes.append((len(followers) - len(set(followers)), len(set(followers))))
            features = np.log1p(np.array([*sizes[-2], *sizes[-1]]))
            hidden = features @ cache.inward + left * cache.left + cache.length[row] + cache.matched[len(nodes)]
            trust = 0.999 / (1 + math.exp(-2 * (np.tanh(hidden) @ cache.outward + cache.bias[row])))
            shares.append((trust, Counter(followers)))
        for trust, followers in reversed(shares):
            if followers:
                heard = np.array([followers[token] for token in range(V)]) / followers.total()
                expected += trust * (heard - expected)
        assert log_probs[0, place].exp().numpy() == pytest.approx(expected, rel=1e-4, abs=1e-7), place


@pytest.mark.parametrize("prompt", [1, 15, 45, 200])
def test_steps_find_the_matches_that_forward_finds(prompt: int) -> None:
    """Whatever was read before, less than the window or more; and runs of one token longer than a byte can count."""
    model = fitted("abracadabra bard" * 20, order=4, cache=40)
    read = torch.from_numpy(encoded("cadabra abra " * 15 + "a" * 300 + "abracadabra bard")).long()[None]
    expected, _ = model(read, model.initial_state(1))
    engine = open_engine(model, "compiled")
    _, state = engine.read(read[0, :prompt].numpy(), engine.start(1))
    for place in range(prompt, read.shape[1]):
        log_probs, state = engine.step(read[:, place].numpy(), state)
        np.testing.assert_allclose(log_probs, expected[:, place], rtol=0, atol=1e-5)


def test_a_cache_learns_to_predict_a_text_that_repeats_itself() -> None:
    letters = np.random.default_rng(1).integers(2, 7, (30, 40))
    ids = np.concatenate([np.tile(line, 2) for line in letters])  # each line of noise is said twice
    nats = {}
    for window in (0, 100):
        model = NGram(NGram.Config(order=3, cache=window), V)
        model.fit(ids[:1200], ids[1200:1600])
        read, targets = torch.from_numpy(ids[1599:-1])[None], torch.from_numpy(ids[1600:])[None]
        nats[window] = -model.score(read, targets, model.initial_state(1))[0].mean().item()
    assert nats[100] < 0.7 * nats[0]


def test_frozen_it_is_what_would_have_been_counted_without_a_cache() -> None:
    text = "abracadabra bard" * 20
    model, plain = fitted(text, order=4, cache=40), fitted(text, order=4, cache=0)
    frozen, read = model.frozen(), torch.from_numpy(encoded(text + text)).long()[None]
    assert (model.adapts, frozen.adapts, plain.adapts) == (True, False, False)
    assert frozen.config == plain.config
    assert torch.equal(frozen(read, frozen.initial_state(1))[0], plain(read, plain.initial_state(1))[0])
    assert frozen.mass.data_ptr() == model.mass.data_ptr()  # one memory
    assert frozen.state_dict().keys() == plain.state_dict().keys()


def test_classical_smoothers_remember_nothing() -> None:
    for smoothing in SMOOTHERS:
        model = fitted(order=2, smoothing=smoothing)
        assert (model.cache is None) == (smoothing != "gated")
        assert len(model.initial_state(1)) == 1 + (smoothing == "gated")


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Cache)])
def test_a_damaged_cache_is_refused(name: str) -> None:
    model = fitted(order=3)
    tensors, name = dict(model.state_dict()), f"cache_{name}"
    whole = tensors[name]
    for damage in (
        whole[:-1],
        torch.zeros_like(whole) - 10**6,
        whole.half(),
        whole[None],
        torch.full_like(whole, 10**9),
    ):
        with pytest.raises(ValueError, match="n-gram's cache"):
            NGram.from_tensors(model.config, V, tensors | {name: damage})
    with pytest.raises(ValueError, match="n-gram's cache"):
        NGram.from_tensors(model.config, V, {k: v for k, v in tensors.items() if k != name})
    table = {k: v for k, v in tensors.items() if not k.startswith("cache_")}
    assert NGram.from_tensors(model.config, V, table).cache is None


def test_score_of_a_long_text_is_that_of_forward() -> None:
    model = fitted("abracadabra bard" * 20, order=5)
    tokens = random_ids(3, (1, 700))
    targets = torch.cat((tokens[:, 1:], tokens[:, :1]), 1)
    log_probs, _ = model(tokens, model.initial_state(1))
    scores, _ = model.score(tokens, targets, model.initial_state(1))
    torch.testing.assert_close(scores, log_probs.gather(-1, targets[..., None]).squeeze(-1), atol=1e-5, rtol=0)


def test_the_gate_beats_kneser_ney() -> None:
    letters = sorted(set(BEGINNING))
    ids = np.array([letters.index(c) + 1 for c in BEGINNING])
    nats = {}
    for smoothing in ("gated", "kenlm", "kneser-ney"):
        model = NGram(NGram.Config(smoothing=smoothing), len(letters) + 1)
        model.fit(ids[:16500], ids[16500:18000])
        read = torch.from_numpy(ids[17999:-1])[None]
        nats[smoothing] = (
            -model.score(read, torch.from_numpy(ids[18000:])[None], model.initial_state(1))[0].mean().item()
        )
    assert nats["gated"] < nats["kneser-ney"] - 0.02
    assert nats["kneser-ney"] < nats["kenlm"] + 0.01


def test_fitting_repeats_to_the_bit() -> None:
    first, second = (fitted.__wrapped__("abracadabra " * 30).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("tokens", "validation"), [(0, 0), (1, 0), (0, 1), (1, 1), (2, 3), (30, 0)])
@pytest.mark.parametrize("smoothing", SMOOTHERS)
def test_tiny_texts(smoothing: str, tokens: int, validation: int) -> None:
    ids = encoded(("abracadabra " * 3)[: tokens + validation])
    model = NGram(NGram.Config(smoothing=smoothing), V)
    model.fit(ids[:tokens], ids[tokens:])
    log_probs, _ = model(random_ids(2, (2, 4)), model.initial_state(2))
    assert log_probs.logsumexp(-1).abs().max() < 1e-5


def test_progress_is_told() -> None:
    told: list[tuple[str, float]] = []
    NGram(NGram.Config(order=3), V).fit(encoded("abracadabra"), encoded("abra"), lambda *event: told.append(event))
    assert all(0 <= fraction <= 1 for _, fraction in told)
    assert told[-1] == ("estimating", 1.0)


@pytest.mark.parametrize("name", ["ids", "levels", "first", "symbol", "mass", "backoff", "unigram"])
def test_damaged_tensors_are_refused(name: str) -> None:
    model = fitted(order=3)
    tensors = dict(model.state_dict())
    for damage in (tensors[name][:-1], tensors[name].new_full(tensors[name].shape, 99), tensors[name].double()):
        if name == "mass" and damage.dtype == torch.float32 and len(damage) == len(tensors[name]):
            continue  # any number is a mass
        with pytest.raises(ValueError, match="n-gram"):
            NGram.from_tensors(model.config, V, tensors | {name: damage})
    with pytest.raises(ValueError, match="n-gram"):
        NGram.from_tensors(model.config, V, {k: v for k, v in tensors.items() if k != name})
