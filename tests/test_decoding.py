import math
from contextlib import suppress
from functools import partial

import numpy as np
import pytest
import torch
from handmade import History, Words

from charlm.config import BOUNDARY
from charlm.corpus import Text
from charlm.decoding import Hypothesis, Sampling, beam_search, draw, filter_log_probs, generate, sample
from charlm.errors import TrainingFault, UsageError
from charlm.evaluation import evaluate
from charlm.inference import open_engine
from charlm.inference.kernels import sampling as sampling_kernels
from charlm.inference.kernels.arithmetic import load
from charlm.models import ARCHITECTURES, SINGLE, CountingModel
from charlm.models.base import LanguageModel
from charlm.tokenizers import Characters, StreamDecoder
from charlm.tokenizers.base import FIRST_BYTE, FIRST_PIECE
from charlm.tokenizers.characters import CharactersConfig


class Bigram(LanguageModel):
    """P(next | last id), from weights {last id or None for any: {next id: weight}}; all else has probability 0."""

    def __init__(self, vocab_size, weights):
        super().__init__()
        self.vocab_size, self.batches = vocab_size, []
        table = torch.zeros(vocab_size, vocab_size)
        for last, row in sorted(weights.items(), key=lambda item: item[0] is not None):
            rows = slice(None) if last is None else last
            table[rows] = 0
            for token, weight in row.items():
                table[rows, token] = weight
        self.register_buffer("table", (table / table.sum(-1, keepdim=True)).log())

    def initial_state(self, streams):
        return (torch.zeros(streams, 1),)

    def forward(self, tokens, state):
        assert not self.training
        assert not torch.is_grad_enabled()
        self.batches.append(tuple(tokens.shape))
        return self.table[tokens], (state[0] + tokens.shape[1],)


ABC = Characters.train(["abc"], CharactersConfig(min_count=1))
A, B, C = range(FIRST_PIECE, FIRST_PIECE + 3)
CYCLE = {BOUNDARY: {A: 1.0}, A: {B: 1.0}, B: {C: 1.0}, C: {A: 1.0}}
GREEDY = Sampling(temperature=0.0)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def random_log_probs(rows, V, seed=0):
    return (2 * torch.randn(rows, V, generator=seeded(seed))).log_softmax(-1).numpy()


# --- the distribution that is drawn from


def filtered_by_hand(row, settings):
    """The definition, one step after the other, in Python floats."""
    weights = {token: math.exp(value / settings.temperature) for token, value in enumerate(row) if token != BOUNDARY}

    def normalised():
        total = sum(weights.values())
        return {token: weight / total for token, weight in weights.items()}

    if settings.top_k:
        kept = sorted(weights, key=lambda token: -weights[token])[: settings.top_k]
        weights = {token: weights[token] for token in kept}
    weights, total, kept = normalised(), 0.0, []
    for token in sorted(weights, key=lambda token: -weights[token]):
        if total >= settings.top_p:
            break
        kept.append(token)
        total += weights[token]
    weights = {token: weights[token] for token in kept}
    least = settings.min_p * max(weights.values())
    weights = {token: weight for token, weight in weights.items() if weight >= least}
    probabilities = normalised()
    return [probabilities.get(token, 0.0) for token in range(len(row))]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("top_k", [0, 1, 5, 100])
@pytest.mark.parametrize("top_p", [0.05, 0.8, 1.0])
@pytest.mark.parametrize("min_p", [0.0, 0.1, 0.9])
def test_filters_equal_brute_force(temperature, top_k, top_p, min_p):
    settings, log_probs = Sampling(temperature, top_k, top_p, min_p), random_log_probs(6, 17)
    before = log_probs.copy()
    found = filter_log_probs(log_probs, settings)
    expected = [filtered_by_hand(row, settings) for row in log_probs.astype(np.float64).tolist()]
    np.testing.assert_allclose(np.exp(found), expected, atol=1e-6)
    assert found.dtype == np.float32
    assert np.array_equal(log_probs, before)


def test_filters_of_temperature_zero_and_of_equals():
    log_probs = np.log(np.array([[0.6, 0.1, 0.2, 0.1]], dtype=np.float32))
    assert np.exp(filter_log_probs(log_probs, GREEDY)).tolist() == [[0, 0, 1, 0]]
    assert np.isfinite(filter_log_probs(log_probs, Sampling(top_k=2))).tolist() == [[False, True, True, False]]
    for temperature in (1e-30, 1e-310):
        assert np.exp(filter_log_probs(log_probs, Sampling(temperature))).tolist() == [[0, 0, 1, 0]]


@pytest.mark.parametrize("settings", [Sampling(), Sampling(temperature=0.7), Sampling(0.9, 6, 0.9, 0.05)])
def test_draws_follow_the_distribution(settings):
    N, log_probs = 40_000, random_log_probs(1, 12)
    uniforms = torch.rand(N, dtype=torch.float64, generator=seeded()).numpy()
    drawn = np.bincount(draw(log_probs.repeat(N, 0), settings, uniforms), minlength=12) / N
    expected = np.exp(filter_log_probs(log_probs, settings)[0].astype(np.float64))
    assert drawn[BOUNDARY] == 0
    assert (drawn[expected == 0] == 0).all()
    assert (np.abs(drawn - expected) <= 5 * np.sqrt(expected / N)).all()


def test_the_ends_of_the_unit_interval_draw_possible_tokens():
    log_probs = torch.tensor([[0.5, 0.0, 0.25, 0.25, 0.0]]).log().repeat(2, 1).numpy()
    assert draw(log_probs, Sampling(), np.array([0.0, 1 - 2.0**-53])).tolist() == [2, 3]
    assert draw(log_probs, Sampling(temperature=1e-30), np.array([0.0, 0.99])).tolist()[0] == 2


@pytest.mark.parametrize("settings", [GREEDY, Sampling(), Sampling(temperature=0.5), Sampling(top_k=3)])
def test_a_row_alone_draws_as_among_others(settings):
    log_probs, uniforms = random_log_probs(40, 23), np.linspace(0, 1 - 2.0**-53, 40)
    alone = [draw(log_probs[row : row + 1], settings, uniforms[row : row + 1]).item() for row in range(40)]
    assert alone == draw(log_probs, settings, uniforms).tolist()


@pytest.mark.parametrize("temperature", [1.0, 0.7, 3.0, 1e-30, 1e-310])
def test_compiled_draws_are_the_same(temperature):
    log_probs, uniforms = random_log_probs(500, 99), np.random.default_rng(0).random(500)
    uniforms[:2] = 0, 1 - 2.0**-53
    log_probs[:, 3:60:2] = -math.inf
    kernel = load(sampling_kernels.draw)
    for ids in np.arange(1, 99), np.arange(40, 90, 7):
        expected = draw(log_probs, Sampling(temperature), uniforms, ids).tolist()
        assert kernel(log_probs, ids, uniforms, temperature).tolist() == expected
    log_probs[7] = math.nan
    assert (kernel(log_probs, ids, uniforms, temperature) < 0).nonzero()[0].tolist() == [7]


@pytest.mark.parametrize("settings", [GREEDY, Sampling(), Sampling(temperature=0.5), Sampling(top_k=3)])
@pytest.mark.parametrize("rows", [1, 2])
def test_probabilities_that_are_not_numbers_are_an_error(settings, rows):
    with pytest.raises(TrainingFault, match="not numbers"):
        draw(np.full((rows, 5), math.nan, np.float32), settings, np.array([0.1, 0.2])[:rows])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"temperature": -0.1}, "`temperature` must be at least 0"),
        ({"top_p": 0.0}, "`top_p` must be greater than 0"),
        ({"top_p": 1.1}, "`top_p` must be at most 1"),
        ({"min_p": 1.0}, "`min_p` must be less than 1"),
        ({"top_k": -1}, "`top_k` must be at least 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong, message):
    with pytest.raises(UsageError, match=message):
        Sampling(**wrong)


# --- sampling


def test_greedy_follows_the_likeliest():
    model = Bigram(ABC.vocab_size, CYCLE)
    assert sample(model, ABC, "", length=7, settings=GREEDY) == ["abcabca"]
    assert sample(model, ABC, "ab", length=4, settings=GREEDY, streams=2) == ["cabc", "cabc"]
    assert sample(model, ABC, "ab", length=0, streams=2) == ["", ""]


def test_same_generator_same_texts():
    model = History(ABC.vocab_size, [A, B, C])
    texts = sample(model, ABC, "a", length=50, streams=5, generator=seeded())
    assert texts == sample(model, ABC, "a", length=50, streams=5, generator=seeded())
    assert len({*texts}) == 5
    assert texts != sample(model, ABC, "a", length=50, streams=5, generator=seeded(1))
    assert {len(text) for text in sample(model, ABC, "a", length=9, streams=3)} == {9}


def test_a_stream_that_ends_leaves_the_batch_and_the_others_unchanged():
    model, uniform = Bigram(ABC.vocab_size, {None: {A: 1.0, B: 1.0, C: 1.0}}), {"length": 30, "streams": 8}
    texts = sample(model, ABC, "", **uniform, generator=seeded())
    model.batches.clear()
    stopped = sample(model, ABC, "", **uniform, generator=seeded(), stop=["cc"])
    assert stopped == [text.split("cc")[0] for text in texts]
    widths = [rows for rows, _ in model.batches[1:]]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 8


def test_a_prompt_of_any_length_is_read_once():
    model = Bigram(ABC.vocab_size, CYCLE)
    assert sample(model, ABC, "abc" * 33_333 + "a", length=3, settings=GREEDY, streams=4) == ["bca"] * 4
    assert sum(rows * tokens for rows, tokens in model.batches) == 100_001 + 2 * 4
    assert max(tokens for _, tokens in model.batches) <= 1024


def test_the_whole_prompt_counts():
    tokenizer, prompt = ABC, "abcabbca" * 300
    model = History(tokenizer.vocab_size, [A, B, C])
    ids = [BOUNDARY, *tokenizer.encode(prompt).tolist()]
    for _ in range(20):
        log_probs, _ = model(torch.tensor([ids]), model.initial_state(1))
        ids.append(int(log_probs[0, -1].argmax()))
    assert sample(model, tokenizer, prompt, length=20, settings=GREEDY) == [tokenizer.decode(ids[-20:])]


@pytest.mark.parametrize("stop", [["zz"], ["bc", "zz"], ["cab"], ["zz", "abcabd", "ca"], ["a"]])
def test_stop_strings_end_the_text_and_are_not_part_of_it(stop):
    pieces = Words("ab", "ca", "bc")
    ab, ca, bc = range(FIRST_PIECE, FIRST_PIECE + 3)
    model = Bigram(pieces.vocab_size, {BOUNDARY: {ab: 1.0}, ab: {ca: 1.0}, ca: {bc: 1.0}, bc: {ab: 1.0}})
    whole = "abcabc" * 20
    ends = sorted((whole.find(s) + len(s), whole.find(s)) for s in stop if s in whole)
    expected = whole[: ends[0][1]] if ends else whole[:21]
    assert sample(model, pieces, "", length=21, stop=stop) == [expected]
    *others, last = generate(open_engine(model), pieces, "", length=21, stop=stop)
    assert {token.finish_reason for token in others} <= {None}
    assert last.finish_reason == ("stop" if ends and len(expected) < 21 else "length")


def told(model, **how):
    """The texts of the tokens that make some certain."""
    return [token.text for token in generate(open_engine(model), ABC, "", **how) if token.text]


def test_text_that_cannot_be_a_stop_string_any_more_is_told_at_once():
    assert told(Bigram(ABC.vocab_size, CYCLE), length=8, stop=["bcx"]) == ["a", "bca", "bca", "b"]


def test_characters_are_whole_and_pieces_are_cut_at_the_length():
    e = [FIRST_BYTE + byte for byte in "é".encode()]
    model = Bigram(ABC.vocab_size, {BOUNDARY: {A: 1.0}, A: {e[0]: 1.0}, e[0]: {e[1]: 1.0}, e[1]: {A: 1.0}})
    assert told(model, length=4) == ["a", "é", "a", "é"]
    pieces = Words("abc")
    assert sample(Bigram(pieces.vocab_size, {None: {FIRST_PIECE: 1.0}}), pieces, "", length=4) == ["abca"]


def test_bytes_make_characters():
    weights = {None: {FIRST_BYTE + byte: 1.0 + byte % 7 for byte in range(256) if bytes([byte]) not in b"\xef\n"}}
    model = Bigram(ABC.vocab_size, weights)  # without the first byte of U+FFFD
    texts = sample(model, ABC, "", length=40, streams=20, generator=seeded())
    texts += [h.text for h in beam_search(model, ABC, "", length=10, beams=20)]
    assert {len(text) for text in texts} == {40, 10}
    assert "\ufffd" not in "".join(texts)
    assert len(sample(model, ABC, "", length=10, settings=GREEDY, stop=["\n"])[0]) == 10


def test_prompts_with_unseen_characters_and_surrogates_are_read():
    model = Bigram(ABC.vocab_size, {None: {A: 1.0}})
    assert sample(model, ABC, "漢\ud800\0", length=2) == ["aa"]


@pytest.mark.parametrize("architecture", SINGLE)
@pytest.mark.parametrize("value", [3e38, -3e38, math.inf, math.nan])
def test_weights_beyond_all_bounds_are_silent(architecture, value):  # warnings are errors here
    model = ARCHITECTURES[architecture](ARCHITECTURES[architecture].Config(), ABC.vocab_size)
    if isinstance(model, CountingModel):
        model.fit(ABC.encode("abcabacbc" * 9), ABC.encode("abc"))
    for number in model.state_dict().values():
        if number.is_floating_point():
            number.fill_(value)
    for search in sample, partial(beam_search, beams=2):
        with suppress(TrainingFault):
            search(model, ABC, "ab", length=3)
    with suppress(TrainingFault):
        evaluate(model, ABC, Text.from_string("abcabc", "abc"))


def test_the_model_is_left_as_it_was():
    model = Bigram(ABC.vocab_size, CYCLE).train()
    sample(model, ABC, "", length=2)
    beam_search(model, ABC, "", length=2, beams=2)
    assert model.training
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"length": -1}, "`length` must be at least 0"),
        ({"streams": 0}, "`streams` must be at least 1"),
        ({"stop": ["a", ""]}, "`stop` must not be empty"),
    ],
)
def test_sampling_nonsense_is_refused(wrong, message):
    with pytest.raises(UsageError, match=message):
        sample(Bigram(ABC.vocab_size, CYCLE), ABC, "", **{"length": 3, **wrong})


# --- beam search


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("stop", [(), ("cb",)])
def test_one_beam_is_greedy(seed, stop):
    model = History(ABC.vocab_size, [A, B, C, *(FIRST_BYTE + byte for byte in "é".encode())], seed=seed)
    (found,) = beam_search(model, ABC, "ab", length=25, beams=1, stop=stop, length_penalty=1.0)
    assert [found.text] == sample(model, ABC, "ab", length=25, settings=GREEDY, stop=stop)


def every_text(model, tokenizer, prompt, ids, length, stop):
    """text -> ln of the probability of its likeliest spelling, by trying all that are well-formed UTF-8."""
    best = {}

    def grow(tokens, log_prob):
        decoder = StreamDecoder(tokenizer)
        text = "".join(decoder.push(token) for token in tokens)[:length]
        if "\ufffd" in text:
            return
        ends = sorted((text.find(s) + len(s), text.find(s)) for s in stop if s in text)
        if ends or len(text) == length:
            text = text[: ends[0][1]] if ends else text
            best[text] = max(best.get(text, -math.inf), log_prob)
            return
        read = torch.tensor([[BOUNDARY, *tokenizer.encode(prompt).tolist(), *tokens]])
        log_probs = model(read, model.initial_state(1))[0][0, -1]
        for token in ids:
            grow([*tokens, token], log_prob + log_probs[token].item())

    grow([], 0.0)
    return best


@pytest.mark.parametrize("penalty", [0.0, 0.7, 2.0])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("stop", [(), ("b",), ("é", "ca")])
@pytest.mark.parametrize("tokenizer", [ABC, Words("a", "b", "ca")])
def test_a_wide_beam_finds_the_best_texts(tokenizer, stop, penalty, seed):
    ids = [A, B, C, *(FIRST_BYTE + byte for byte in "é".encode())]
    model = History(tokenizer.vocab_size, ids, seed=seed)
    expected = every_text(model, tokenizer, "b", ids, 3, stop)
    scores = {text: log_prob / ((5 + len(text)) / 6) ** penalty for text, log_prob in expected.items()}
    found = beam_search(model, tokenizer, "b", length=3, beams=4096, hypotheses=10, stop=stop, length_penalty=penalty)
    texts = [hypothesis.text for hypothesis in found]
    assert len(set(texts)) == len(texts)
    np.testing.assert_allclose([h.log_prob for h in found], [expected[text] for text in texts], atol=1e-5)
    np.testing.assert_allclose([h.score for h in found], [scores[text] for text in texts], atol=1e-5)
    np.testing.assert_allclose([h.score for h in found], sorted(scores.values(), reverse=True)[:10], atol=1e-5)


def test_more_beams_than_texts_and_no_length():
    model = Bigram(ABC.vocab_size, {None: {A: 3.0, B: 1.0}})
    found = beam_search(model, ABC, "", length=2, beams=100)
    assert [hypothesis.text for hypothesis in found] == ["aa", "ab", "ba", "bb"]
    assert found[0].log_prob == found[0].score == pytest.approx(2 * math.log(3 / 4))
    assert beam_search(model, ABC, "", length=0, beams=3) == [Hypothesis("", 0.0, 0.0)]


def test_a_wider_beam_sees_past_a_tempting_start():
    model = Bigram(ABC.vocab_size, {BOUNDARY: {A: 0.6, B: 0.4}, A: {A: 0.5, B: 0.5}, B: {C: 1.0}, C: {C: 1.0}})
    assert beam_search(model, ABC, "", length=2, beams=1)[0].text == "aa"
    assert beam_search(model, ABC, "", length=2, beams=2)[0].text == "bc"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"beams": 0}, "`beams` must be 1 to"),
        ({"beams": 10**6}, "`beams` must be 1 to"),
        ({"hypotheses": 5}, "no fewer than the 5 texts asked for"),
        ({"length_penalty": -1.0}, "`length_penalty` must be at least 0"),
        ({"length_penalty": math.nan}, "`length_penalty` must be at least 0"),
        ({"length": -1}, "`length` must be at least 0"),
    ],
)
def test_beam_nonsense_is_refused(wrong, message):
    with pytest.raises(UsageError, match=message):
        beam_search(Bigram(ABC.vocab_size, CYCLE), ABC, "", **{"length": 3, "beams": 2, **wrong})


def test_a_beam_over_no_numbers_is_an_error():
    with pytest.raises(TrainingFault, match="not numbers"):
        beam_search(Bigram(ABC.vocab_size, {None: {A: math.nan}}), ABC, "", length=2, beams=2)
