import gzip
import lzma
import math

import numpy as np
import pytest
import torch
from benchmarks.bootstrap import coverage
from handmade import History, Table, Words, characters, varied

from charlm.config import BOUNDARY
from charlm.corpus import Text
from charlm.errors import CheckpointError, DataError, TrainingFault, UsageError
from charlm.evaluation import (
    baselines,
    evaluate,
    paired_difference,
    scoring,
    token_bits,
    windowed_token_bits,
    with_seeds,
)
from charlm.evaluation.bootstrap import ratio_interval, student_quantile
from charlm.evaluation.reference import COMPRESSORS, _tail
from charlm.evaluation.result import Evaluation
from charlm.tokenizers import Bytes
from charlm.tokenizers.base import FIRST_PIECE


def test_the_perplexity_of_a_uniform_model_is_v():
    text = Text.from_string(varied(5000, "abc"), "text")
    tokenizer = characters("abc")
    V = tokenizer.vocab_size
    found = evaluate(Table(np.full((V, V), 1 / V)), tokenizer, text)
    assert found.perplexity == pytest.approx(V, rel=1e-6)
    assert found.perplexity_per_token == pytest.approx(V, rel=1e-6)


def test_figures_of_a_hand_made_model():
    tokenizer = characters("aé")
    a, e = FIRST_PIECE, FIRST_PIECE + 1
    table = np.full((tokenizer.vocab_size,) * 2, 1e-3)
    table[BOUNDARY, a], table[a, e], table[e, a] = 1 / 2, 1 / 4, 1 / 8
    found = evaluate(Table(table), tokenizer, Text.from_string("aéaé", "four"))
    assert (found.tokens, found.characters, found.bytes) == (4, 4, 6)
    assert found.bits == pytest.approx(1 + 2 + 3 + 2)
    assert found.bits_per_character == pytest.approx(2)
    assert found.bits_per_byte == pytest.approx(8 / 6)
    assert found.nats_per_character == pytest.approx(2 * math.log(2))
    assert found.perplexity == pytest.approx(4)
    data = found.to_json()
    assert data["interval"] == [None, None]
    assert {"bits_per_character", "bits_per_byte", "nats_per_character", "perplexity", "unseen_bits"} <= set(data)
    assert (data["text_sha256"], data["context"]) == (Text.from_string("aéaé", "").sha256, None)


def test_the_chunk_changes_nothing():
    tokenizer = characters("abc")
    ids, model = tokenizer.encode(varied(500)), History(tokenizer.vocab_size)
    whole = np.concatenate(list(token_bits(model, ids)))
    state, last, expected = model.initial_state(1), BOUNDARY, []
    for token in ids.tolist():
        log_probs, state = model(torch.tensor([[last]]), state)
        expected.append(-log_probs[0, 0, token].item() / math.log(2))
        last = token
    np.testing.assert_allclose(whole, expected, rtol=1e-6)
    for chunk in (1, 7, len(ids)):
        np.testing.assert_allclose(np.concatenate(list(token_bits(model, ids, chunk=chunk))), whole, rtol=1e-6)


@pytest.mark.parametrize(
    "tokenizer", [characters("abcd é\n"), Words("ab", "cd é", "\na", "漢"), Bytes((), np.array([97]))]
)
def test_blocks_hold_all_the_bits_each_token_in_that_of_its_last_byte(tokenizer):
    text = Text.from_string(varied(4000), "text")
    model = History(tokenizer.vocab_size)
    found = evaluate(model, tokenizer, text)
    ids, pieces = tokenizer.encode(text.read()), tokenizer.pieces()
    bits = np.concatenate(list(token_bits(model, ids)))
    count = text.bytes // 1024
    expected, end = np.zeros(count), 0
    for token, cost in zip(ids.tolist(), bits, strict=True):
        end += len(pieces[token])
        expected[min((end - 1) // 1024, count - 1)] += cost
    np.testing.assert_allclose(found.block_bits, expected)
    assert found.bits == found.block_bits.sum() == pytest.approx(math.fsum(bits), rel=1e-12)
    assert found.block_characters.sum() == text.characters
    low, high = found.interval
    assert low < found.bits_per_character < high


def test_a_long_text_has_longer_blocks_not_more():
    text = Text.from_string("ab" * 1_200_000, "long")
    tokenizer = characters("ab")
    found = evaluate(Table(np.full((tokenizer.vocab_size,) * 2, 1 / 2)), tokenizer, text)
    assert len(found.block_bits) == 32
    assert found.bits == pytest.approx(2_400_000, rel=1e-6)


@pytest.mark.parametrize("segment", [scoring.TARGETS_PER_SEGMENT, 13])
@pytest.mark.parametrize("context", [1, 2, 5, 1000])
@pytest.mark.parametrize("tokenizer", [characters("abcd "), Words("ab", "cd é", "\na", "漢")])
def test_context_windows_equal_brute_force(tokenizer, context, segment, monkeypatch):
    monkeypatch.setattr(scoring, "TARGETS_PER_SEGMENT", segment)
    text = varied(150)
    ids, pieces, model = tokenizer.encode(text), tokenizer.pieces(), History(tokenizer.vocab_size)
    first, byte = [], 0  # the character that each token begins in
    for token in ids.tolist():
        first.append(len(text.encode()[: byte + 1].decode(errors="replace")) - 1)
        byte += len(pieces[token])
    expected = []
    for target, token in enumerate(ids.tolist()):
        window = [ids[j] for j in range(target) if first[j] >= first[target] - context]
        if first[target] <= context or not window:
            window.insert(0, BOUNDARY)
        log_probs, _ = model(torch.tensor([window]), model.initial_state(1))
        expected.append(-log_probs[0, -1, token].item() / math.log(2))
    bits = np.concatenate(list(windowed_token_bits(model, tokenizer, ids, context)))
    np.testing.assert_allclose(bits, expected, rtol=1e-6)
    if context == 1000:
        np.testing.assert_allclose(bits, np.concatenate(list(token_bits(model, ids))), rtol=1e-6)


def test_a_first_order_model_needs_one_character_of_context():
    tokenizer = characters("abc")
    V = tokenizer.vocab_size
    model, text = (
        Table(np.random.default_rng(0).dirichlet(np.ones(V), V)),
        Text.from_string(varied(3000, "abc"), "text"),
    )
    found = evaluate(model, tokenizer, text, context=1)
    assert (found.context, found.bits) == (1, pytest.approx(evaluate(model, tokenizer, text).bits, rel=1e-9))


def test_unseen_characters_are_counted_and_paid_in_full():
    tokenizer = characters("aab")  # b is seen; x, é and 漢 are not
    model = History(tokenizer.vocab_size)
    text = Text.from_string("abxaéé漢ab", "text")
    found = evaluate(model, tokenizer, text)
    ids = tokenizer.encode(text.read())
    bits = np.concatenate(list(token_bits(model, ids)))
    assert found.unseen_characters == 4
    assert found.unseen_bits == pytest.approx(bits[[2, 4, 5, 6, 7, 8, 9, 10]].sum())
    assert found.bits == pytest.approx(bits.sum())


def test_the_walk_leaves_the_model_as_it_was_and_tells_how_far_it_is():
    tokenizer = characters("ab")
    model, told = History(tokenizer.vocab_size), []
    model.train()
    evaluate(model, tokenizer, Text.from_string("ab" * 2000, "text"), progress=lambda *what: told.append(what))
    assert model.training
    assert [fraction for what, fraction in told if what == "evaluating"] == sorted(
        fraction for what, fraction in told if what == "evaluating"
    )
    assert told[-1] == ("evaluating", 1.0)


@pytest.mark.parametrize("value", [0.0, math.nan])
@pytest.mark.parametrize("context", [None, 3])
def test_a_probability_that_is_none_is_an_error(value, context):
    tokenizer = characters("ab")
    table = np.full((tokenizer.vocab_size,) * 2, 0.5)
    table[FIRST_PIECE, FIRST_PIECE + 1] = value
    with pytest.raises(TrainingFault, match="token 3 is zero or not a number"):
        evaluate(Table(table), tokenizer, Text.from_string("aaab", "text"), context=context)


def test_what_cannot_be_evaluated_is_refused():
    tokenizer = characters("ab")
    model, text = History(tokenizer.vocab_size), Text.from_string("ab", "text")
    with pytest.raises(DataError, match="nothing: an empty text"):
        evaluate(model, tokenizer, Text.from_string("", "nothing"))
    with pytest.raises(CheckpointError, match="259 ids and the model 300"):
        evaluate(History(300), tokenizer, text)
    with pytest.raises(UsageError, match="`context` must be at least 1"):
        evaluate(model, tokenizer, text, context=0)


def evaluation(bits, sha256="same"):
    counts = np.full(len(bits), 1024)
    return Evaluation(1, int(counts.sum()), 1, np.asarray(bits, float), counts, 0, 0.0, 0.0, "text", sha256, None)


def test_paired_difference_is_about_the_difference():
    rng = np.random.default_rng(0)
    hard = rng.normal(2000, 500, 200)
    a, b = evaluation(hard + rng.normal(10.24, 5, 200)), evaluation(hard)
    found = paired_difference(a, b)
    assert found.mean == pytest.approx(a.bits_per_character - b.bits_per_character)
    assert 0.008 < found.low < found.mean < found.high < 0.012
    assert found == paired_difference(a, b)
    low, high = a.interval
    assert high - low > 20 * (found.high - found.low)
    assert paired_difference(a, a) == paired_difference(b, b)
    assert (paired_difference(a, a).low, paired_difference(a, a).high) == (0, 0)


def test_different_texts_are_not_compared_and_short_ones_tell_nothing():
    with pytest.raises(UsageError, match="different texts"):
        paired_difference(evaluation([1.0] * 9), evaluation([1.0] * 9, "other"))
    assert paired_difference(evaluation([3.0]), evaluation([1.0])).low == -math.inf


def test_student_quantiles_of_the_table():
    for degrees, value in ((1, 12.7062), (2, 4.30265), (3, 3.18245), (4, 2.77645), (9, 2.26216), (99, 1.98422)):
        assert student_quantile(0.975, degrees) == pytest.approx(value, rel=1e-4)
    assert student_quantile(0.9, 5) == pytest.approx(1.47588, rel=1e-4)


def test_with_no_error_of_the_text_the_interval_over_seeds_is_welchs():
    """By hand: means 5 and 3, variances 1/3 and 4/3 of them, 2.9412 degrees, t = 3.2188 (as SciPy's Welch test)."""
    low, high = with_seeds(2.0, (2.0, 2.0), 20, [4.0, 5.0, 6.0], [1.0, 3.0, 5.0])
    assert pytest.approx(2.9412, abs=1e-4) == (5 / 3) ** 2 / ((1 / 3) ** 2 / 2 + (4 / 3) ** 2 / 2)
    assert (low, high) == pytest.approx((-2.15540, 6.15540), abs=1e-3)


def test_where_seeds_do_not_differ_the_interval_is_that_of_the_text():
    assert with_seeds(1.0, (0.8, 1.3), 20, [0.5], ()) == (0.8, 1.3)
    assert with_seeds(1.0, (0.8, 1.3), 20, [0.5] * 3, [2.0] * 9) == pytest.approx((0.8, 1.3))
    assert with_seeds(1.0, (-math.inf, math.inf), 2, [0.4, 0.6]) == (-math.inf, math.inf)
    a, b = evaluation(np.arange(20.0)), evaluation(np.zeros(20))
    alone, several = paired_difference(a, b), paired_difference(a, b, seeds=([0.0, 0.1, 0.2], [1.0]))
    assert several.mean == alone.mean
    assert several.low < alone.low < alone.high < several.high


@pytest.mark.parametrize(
    ("text", "seed", "both", "seeds"),
    [(1.0, 0.2, 0.3, (3, 3)), (0.1, 0.2, 0.3, (3, 3)), (0.5, 0.2, 0.1, (5, 1)), (0.01, 0.3, 0.0, (2, 4))],
)
def test_the_interval_over_texts_and_seeds_covers_what_it_says(text, seed, both, seeds):
    """Two equally good models: bits = what a block costs one of them more + what a seed does + what it does there."""
    rng, blocks, covered, alone = np.random.default_rng(0), 20, 0, 0
    sizes = np.full(blocks, 1000)
    for draw in range(300):
        a, b = (
            (count > 1) * (rng.normal(0, seed, (count, 1)) + rng.normal(0, both, (count, blocks))) for count in seeds
        )
        a = a + rng.normal(0, text, blocks)
        bits = a.mean(0) - b.mean(0)
        interval = ratio_interval(1000 * bits, sizes, resamples=500, seed=draw)
        low, high = with_seeds(bits.mean(), interval, blocks, a.mean(1).tolist(), b.mean(1).tolist())
        covered += low <= 0 <= high
        alone += interval[0] <= 0 <= interval[1]
    assert 0.925 <= covered / 300 <= 0.985  # 0.95, of 300 draws within 0.025, or more: see `with_seeds`
    assert alone < covered


@pytest.mark.slow
@pytest.mark.parametrize("blocks", [10, 100])
def test_the_interval_of_two_equal_models_covers_0_as_often_as_it_says(blocks):
    rng, covered = np.random.default_rng(1), 0
    for draw in range(1000):
        sizes, bits = rng.integers(980, 1025, blocks), 20 * rng.standard_t(5, blocks)
        low, high = ratio_interval(bits, sizes, resamples=1000, seed=draw)
        covered += low <= 0 <= high
    assert 930 <= covered <= 970


def test_baselines_are_what_the_programs_make_of_it():
    source = varied(60_000, "etaoin shrdlu\n")
    training, held_out = Text.from_string(source[:50_000], "a"), Text.from_string(source[50_000:], "b")
    before, both = source[:50_000].encode(), source.encode()
    found = baselines(training, held_out)
    assert found["uniform"] == pytest.approx(math.log2(14))
    assert found["gzip -9"] == 8 * (len(gzip.compress(both, 9)) - len(gzip.compress(before, 9))) / 10_000
    assert found["xz -9"] == 8 * (len(lzma.compress(both, preset=9)) - len(lzma.compress(before, preset=9))) / 10_000


def test_uniform_pays_for_characters_outside_the_alphabet():
    found = baselines(Text.from_string("abc", "a"), Text.from_string("abcx", "b"))
    assert found["uniform"] == pytest.approx((4 * 2 + math.log2(0x110000 - 0x800 - 3)) / 4)


def test_of_a_long_training_text_the_compressors_get_the_end(monkeypatch):
    start, _ = COMPRESSORS["gzip -9"]
    monkeypatch.setitem(COMPRESSORS, "gzip -9", (start, 1000))
    monkeypatch.setattr("charlm.corpus.text.MAX_CHUNK_BYTES", 64)
    source = varied(5000)
    assert _tail(Text.from_string(source, "a"), 1000) == source.encode()[-1000:]
    assert _tail(Text.from_string(source, "a"), 10**6) == source.encode()
    assert baselines(Text.from_string(source, "a"), Text.from_string(source[-400:], "b"))["gzip -9"] < 1


@pytest.mark.parametrize(("blocks", "lasting"), [(20, 1), (109, 1), (109, 4)])
def test_of_two_equal_models_the_interval_holds_zero(blocks, lasting):
    assert 0.93 <= coverage(1000, blocks, lasting) <= 0.97  # of all draws 95 in 100; of 1,000 within 1.4
