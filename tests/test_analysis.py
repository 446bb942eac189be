"""Analyses of one model: sums against `evaluate`, and each against a slower way of finding the same."""

import itertools
import math
import random

import numpy as np
import pytest
import torch
from handmade import History, Table, Words, characters, varied

from charlm.analysis import (
    KINDS,
    activations,
    attention_maps,
    bits_by_kind,
    clear_differences,
    context_curve,
    embedding_map,
    gains,
    gradient_times_input,
    gradients_through_time,
    lens,
    longest_quote,
    predict,
    read,
    untrained,
)
from charlm.analysis.activations import properties
from charlm.analysis.differences import _critical_t
from charlm.analysis.embeddings import embedding_of
from charlm.config import BOUNDARY
from charlm.corpus import Text, text
from charlm.errors import DataError, TrainingFault, UsageError
from charlm.evaluation import evaluate
from charlm.models import ARCHITECTURES, NGram
from charlm.models.transformer import Attention
from charlm.tokenizers import Bytes
from charlm.tokenizers.base import FIRST_PIECE

NETWORKS = ("rnn", "gru", "lstm", "transformer", "feedforward")
BYTES = Bytes((), np.array([97]))
TOKENIZERS = [characters("abcd é\n"), Words("ab", "cd é", "\na", "漢"), BYTES]
SAID = Text.from_string(varied(900), "said")


def network(architecture, vocab_size=270, **options):
    kind = ARCHITECTURES[architecture]
    torch.manual_seed(3)
    model = kind(
        kind.Config(**{"width": 12} | ({"heads": 2} if architecture == "transformer" else {}) | options), vocab_size
    )
    for weight in model.parameters():
        if not weight.any():  # a zero that stands where learned numbers will hides what they do
            torch.nn.init.normal_(weight, std=0.3)
    return model


def counted(text, tokenizer, **options):
    model = NGram(NGram.Config(**{"order": 3} | options), tokenizer.vocab_size)
    ids = tokenizer.encode(text)
    model.fit(ids[:-100], ids[-100:])
    return model


class TestReading:
    @pytest.mark.parametrize("tokenizer", TOKENIZERS)
    @pytest.mark.parametrize("of", [lambda V: History(V), lambda V: network("gru", V)])
    def test_it_adds_up_to_what_is_reported(self, tokenizer, of):
        model = of(tokenizer.vocab_size)
        found, expected = read(model, tokenizer, SAID), evaluate(model, tokenizer, SAID)
        assert found.bits == pytest.approx(expected.bits, rel=1e-14)
        assert math.fsum(found.character_bits) == pytest.approx(expected.bits, rel=1e-14)
        assert found.character_bits.shape == (SAID.characters,)
        assert found.token_bits.shape == found.ids.shape

    def test_bits_of_a_hand_made_model(self):
        ab, e = FIRST_PIECE, (1 + 0xC3, 1 + 0xA9)
        tokenizer = Words("ab")
        table = np.full((tokenizer.vocab_size,) * 2, 1e-3)
        table[BOUNDARY, ab], table[ab, e[0]], table[e[0], e[1]] = 1 / 4, 1 / 8, 1 / 2
        found = read(Table(table), tokenizer, Text.from_string("abé", "three"))
        np.testing.assert_allclose(found.token_bits, [2, 3, 1], rtol=1e-6)
        np.testing.assert_allclose(found.character_bits, [1, 1, 4], rtol=1e-6)

    def test_progress_and_errors(self):
        told = []
        tokenizer = characters("ab")
        read(History(tokenizer.vocab_size), tokenizer, SAID, progress=lambda what, done: told.append((what, done)))
        assert told[-1] == ("reading", 1.0)
        with pytest.raises(DataError, match="empty text"):
            read(History(tokenizer.vocab_size), tokenizer, Text.from_string("", "nothing"))


class TestLens:
    @pytest.mark.parametrize("tokenizer", TOKENIZERS)
    def test_every_character_with_its_bits(self, tokenizer):
        model = network("lstm", tokenizer.vocab_size)
        found = list(lens(model, tokenizer, SAID, top=3))
        assert "".join(character.text for character in found) == SAID.read()
        np.testing.assert_allclose(
            [character.bits for character in found], read(model, tokenizer, SAID).character_bits, rtol=1e-12
        )
        assert model.training

    def test_rank_and_predictions_are_those_of_the_model(self):
        tokenizer = TOKENIZERS[0]
        model = History(tokenizer.vocab_size)
        said = varied(300, "abcd é\n")
        ids = torch.from_numpy(tokenizer.encode(said)).long()
        log_probs, _ = model(torch.cat([torch.tensor([BOUNDARY]), ids])[None, :-1], model.initial_state(1))
        pieces, characters = tokenizer.pieces(), lens(model, tokenizer, Text.from_string(said, "said"), top=4)
        for row, id, found in zip(log_probs[0], ids.tolist(), characters, strict=True):
            order = [other for other in row.argsort(descending=True).tolist() if other != BOUNDARY]
            assert found.rank == order.index(id) + 1
            assert len(found.predictions) == 4
            for other, prediction in zip(order, found.predictions, strict=False):
                assert prediction.text == pieces[other].decode("utf-8", "backslashreplace")
                assert prediction.probability == pytest.approx(row[other].exp().item(), rel=1e-5)
                assert prediction.complete == (pieces[other] < b"\x80" or len(pieces[other]) > 1)

    def test_of_several_bytes_the_dearest_counts(self):
        table = np.full((257, 257), 1e-4)
        lead, tail = 1 + 0xC3, 1 + 0xA9
        table[BOUNDARY, lead], table[lead, tail], table[lead, tail + 1], table[lead, 66] = 1 / 2, 1 / 8, 1 / 4, 1 / 16
        (found,) = lens(Table(table), BYTES, Text.from_string("é", "one"), top=3)
        assert (found.text, found.rank) == ("é", 2)
        assert found.bits == pytest.approx(4, rel=1e-6)
        assert [prediction.text for prediction in found.predictions] == ["ê", "é", "\\xc3\\x41"]
        assert [prediction.complete for prediction in found.predictions] == [True, True, False]

    @pytest.mark.parametrize("tokenizer", TOKENIZERS)
    @pytest.mark.parametrize("architecture", ["gru", "transformer"])
    def test_an_excerpt_is_what_it_is_within_the_whole(self, tokenizer, architecture, monkeypatch):
        model = network(architecture, tokenizer.vocab_size)
        monkeypatch.setattr(type(model), "chunk", 100)
        monkeypatch.setattr("charlm.analysis.surprisal.MAX_LOG_PROBS", 30 * tokenizer.vocab_size)
        whole = list(lens(model, tokenizer, SAID))
        spans = [(0, 3), (3, 4), (250, 330), (899, 900)]
        for a, b in zip(
            itertools.chain.from_iterable(whole[slice(*span)] for span in spans),
            lens(model, tokenizer, SAID, spans),
            strict=True,
        ):
            assert (a.text, a.rank) == (b.text, b.rank)
            assert a.bits == pytest.approx(b.bits, abs=1e-9)
            assert [p.text for p in a.predictions] == [p.text for p in b.predictions]
        assert list(lens(model, tokenizer, SAID, [])) == []

    def test_the_end_of_an_excerpt_is_the_end_of_reading(self):
        tokenizer = TOKENIZERS[0]
        read = []

        class Counted(History):
            chunk = 10

            def forward(self, tokens, state):
                read.append(tokens.shape[1])
                return super().forward(tokens, state)

        list(lens(Counted(tokenizer.vocab_size), tokenizer, SAID, [(20, 25)]))
        assert sum(read) < 100


class TestPredict:
    def test_the_likeliest_characters_whatever_their_bytes(self):
        model = History(257)
        prompt = "abc"
        ids = torch.tensor([[BOUNDARY, *(1 + byte for byte in prompt.encode())]])
        probability = {}
        for code in [*range(0x80), *range(0x80, 0x800, 1)]:
            data = chr(code).encode()
            stream = torch.cat([ids, torch.tensor([[1 + byte for byte in data]])], 1)
            log_probs, _ = model.score(stream[:, :-1], stream[:, 1:], model.initial_state(1))
            probability[chr(code)] = math.exp(log_probs[0, ids.shape[1] - 1 :].sum().item())
        expected = sorted(probability, key=lambda character: -probability[character])[:20]
        found = [p for p in predict(model, BYTES, prompt, top=60) if p.complete and len(p.text.encode()) < 3]
        assert [p.text for p in found[:20]] == expected
        assert [p.probability for p in found[:20]] == pytest.approx([probability[c] for c in expected], rel=1e-4)
        assert [p.probability for p in predict(model, BYTES, "")] == sorted(
            [p.probability for p in predict(model, BYTES, "")], reverse=True
        )

    def test_probabilities_that_are_none(self):
        model = History(257)
        model.table.fill_(float("nan"))
        with pytest.raises(TrainingFault, match="not numbers"):
            predict(model, BYTES, "a")


def test_gains_are_the_best_passages_there_are():
    generator = np.random.default_rng(0)
    a, b = generator.random((2, 300))
    found = gains(a, b, length=20, count=4)
    saved = [(b - a)[begin : begin + 20].sum() for begin in range(281)]
    taken = np.zeros(300, bool)
    for passage in found:
        open_places = [place for place in range(281) if not taken[place : place + 20].any()]
        assert passage.begin == max(open_places, key=lambda place: saved[place])
        assert (passage.end - passage.begin, passage.bits) == (20, pytest.approx(a[passage.begin : passage.end].sum()))
        assert passage.other_bits - passage.bits == pytest.approx(saved[passage.begin])
        taken[passage.begin : passage.end] = True
    assert len(gains(a, b + 1, length=200, count=4)) == 1
    assert gains(a, a - 1) == ()
    assert [(p.begin, p.end) for p in gains(a[:5] - 2, b[:5])] == [(0, 5)]


class TestKinds:
    def test_by_hand(self):
        said = "Don't go,\r\n42 é́a ’tis 3rd.\t漢字🙂"
        kinds = "SiiPiwSiPNNDDwSiiwPSiiwDiiPwSiP"
        names = dict(zip("SiwPDN", KINDS, strict=True))
        for number, (character, kind) in enumerate(zip(said, kinds, strict=True)):
            one = np.zeros(len(said))
            one[number] = 1
            found = {name for name, of in bits_by_kind(said, one).items() if of.bits}
            assert found == {names[kind]}, (number, character)

    def test_they_add_up(self):
        said = "".join(map(chr, random.Random(1).choices([*range(0xD800), *range(0xE000, 0x30000)], k=20_000)))
        bits = np.random.default_rng(1).random(len(said))
        found = bits_by_kind(said, bits)
        assert tuple(found) == KINDS
        assert sum(kind.characters for kind in found.values()) == len(said)
        assert sum(kind.bits for kind in found.values()) == pytest.approx(bits.sum(), rel=1e-12)
        assert found["letter inside a word"].bits_per_character == pytest.approx(0.5, abs=0.01)
        assert math.isnan(bits_by_kind("a", np.ones(1))["digit"].bits_per_character)


class TestContext:
    @pytest.mark.parametrize("tokenizer", TOKENIZERS)
    def test_where_all_is_asked_it_is_the_evaluation(self, tokenizer):
        model = network("gru", tokenizer.vocab_size)
        short = SAID.slice(0, 120)
        found = context_curve(model, tokenizer, read(model, tokenizer, short), (1, 2, 7, 500), tokens=10_000)
        assert [point.context for point in found] == [1, 2, 7]  # 500 is all of it
        for point in found:
            expected = evaluate(model, tokenizer, short, context=point.context).bits_per_character
            assert point.bits_per_character == pytest.approx(expected, rel=1e-6)
            assert (point.characters, point.error) == (120, 0.0)

    def test_an_ngram_is_flat_beyond_its_order(self):
        said = varied(3000, "abc")
        tokenizer = characters(said)
        model = counted(said, tokenizer, cache=0)
        reading = read(model, tokenizer, SAID)
        whole = reading.bits / SAID.characters
        curve = context_curve(model, tokenizer, reading, tokens=2000)
        assert curve[0].bits_per_character != pytest.approx(whole, rel=1e-3)
        assert [point.bits_per_character for point in curve[1:]] == pytest.approx([whole] * (len(curve) - 1), rel=1e-6)

    def test_a_sample_tells_within_its_error(self):
        model = network("gru", TOKENIZERS[0].vocab_size)
        text = Text.from_string(varied(8000), "long")
        reading = read(model, TOKENIZERS[0], text)
        (some,) = context_curve(model, TOKENIZERS[0], reading, (2,), tokens=2000)
        exact = evaluate(model, TOKENIZERS[0], text, context=2).bits_per_character
        assert some.characters < 1200
        assert 0 < some.error < 0.05
        assert abs(some.bits_per_character - exact) < 4 * some.error
        assert some == context_curve(model, TOKENIZERS[0], reading, (2,), tokens=2000)[0]


class TestQuoting:
    @pytest.mark.parametrize("seed", range(30))
    def test_no_match_is_longer(self, seed, monkeypatch):
        chance = random.Random(seed)
        monkeypatch.setattr(text, "MAX_CHUNK_BYTES", chance.choice([8, 64, 1 << 20]))
        alphabet = chance.choice(["ab", "aé", "abcdefgh\n"])
        sample, training = (varied(size, alphabet, seed + n) for n, size in enumerate((chance.randint(1, 40), 300)))
        found = longest_quote(sample, Text.from_string(training, "training"))
        longest = max(
            end - begin for begin in range(len(sample)) for end in range(begin, len(sample) + 1)
             if sample[begin:end] in training
        )  # fmt: skip
        assert len(found.text) == longest
        assert sample[found.place :].startswith(found.text)
        assert training[found.source :].startswith(found.text)

    def test_all_of_it_and_none_of_it(self):
        training = Text.from_string("To be, or not to be", "play")
        assert longest_quote("or not", training).text == "or not"
        assert longest_quote("漢", training).text == longest_quote("", training).text == ""


class TestGradients:
    def test_one_linear_unit_by_hand(self):
        model = network("rnn", 260, width=1, activation="relu")
        with torch.no_grad():
            model.embedding.weight.fill_(1.0)
            for weight, value in zip(model.layers[0].parameters(), (0.5, 0.8, 0.0, 0.0), strict=True):
                weight.fill_(value)  # h' = 0.5 x + 0.8 h, which is above 0; the output reads x + h'
        found = gradients_through_time(model, characters("abc"), Text.from_string("abcabcabcab" * 3, "t"), reach=9)
        assert found.positions == 33 - 17
        ratios = found.norms / found.norms[0]
        assert ratios[1:] == pytest.approx([0.5 * 0.8**k / 1.5 for k in range(1, 9)], rel=1e-4)

    @pytest.mark.parametrize("architecture", NETWORKS)
    def test_as_the_gradient_of_each_embedding(self, architecture):
        letters = "abcdefghijklmnop"
        tokenizer = characters(letters)
        options = {"window": 5} if architecture in ("transformer", "feedforward") else {}
        options |= {"previous": True} if architecture == "transformer" else {}
        model = network(architecture, tokenizer.vocab_size, **options).eval()
        found = gradients_through_time(model, tokenizer, Text.from_string(letters, "each once"))
        assert (found.positions, len(found.norms)) == (1, 8)
        ids = torch.from_numpy(tokenizer.encode(letters)).long()
        stream = torch.cat([torch.tensor([BOUNDARY]), ids])[None]
        log_probs, _ = model(stream[:, :-1], model.initial_state(1))
        model.zero_grad()
        (-log_probs[0, -1, ids[-1]]).backward()
        tables = [module.weight for module in model.modules() if isinstance(module, torch.nn.Embedding)]
        norms = torch.cat([table.grad for table in tables], 1).norm(dim=1)
        norms = norms[stream[0, 8:-1]].flip(0)  # no id occurs twice
        np.testing.assert_allclose(found.norms, norms, rtol=1e-3)
        assert (found.norms[5:] > 0).all() == (architecture != "feedforward")  # whose window is all that it sees

    @pytest.mark.parametrize("size", range(2, 9))
    def test_short_texts(self, size):
        found = gradients_through_time(network("gru", 257), BYTES, SAID.slice(0, size))
        assert len(found.norms) == len(BYTES.encode(SAID.slice(0, size).read())) // 2
        assert found.positions >= 1

    def test_the_model_is_left_as_it_was(self):
        model = network("lstm", 260)
        before = [weight.clone() for weight in model.parameters()]
        gradients_through_time(model, characters("abc"), SAID, reach=4, positions=3)
        assert model.training
        assert not model.embedding._forward_hooks
        assert all(weight.grad is None for weight in model.parameters())
        assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))

    def test_before_training_relu_keeps_what_tanh_and_gates_lose(self):
        tokenizer = characters("abcd é\n")
        trained = {name: network(name, tokenizer.vocab_size, width=48) for name in ("rnn", "gru", "lstm")}
        models = {name: untrained(model) for name, model in trained.items()}
        models["relu"] = untrained(trained["rnn"], activation="relu")
        left = {}
        for name, model in models.items():
            norms = gradients_through_time(model, tokenizer, SAID, reach=31, positions=20).norms
            left[name] = norms[30] / norms[1]
        assert 10 * left["rnn"] < left["gru"] < 1e-5 < left["lstm"] < 1e-2 < 0.5 < left["relu"] < 1.5, left

    def test_untrained_is_always_the_same_and_touches_nothing(self):
        model = network("transformer", 260)
        drawn, before = torch.get_rng_state(), [weight.clone() for weight in model.parameters()]
        one, other = untrained(model), untrained(model)
        assert one.config == model.config
        assert torch.equal(torch.get_rng_state(), drawn)
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
        assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
        assert not torch.equal(one.embedding.weight, model.embedding.weight)


class TestAttention:
    @pytest.mark.parametrize("kind", ["qkv", "dot", "mean"])
    def test_rows_are_shares_and_make_what_the_layer_gives(self, kind):
        tokenizer = characters("abc ")
        model = network("transformer", tokenizer.vocab_size, layers=2, heads=3, window=4, attention=kind).eval()
        given = []
        for layer in (part for part in model.modules() if isinstance(part, Attention)):
            layer.register_forward_hook(lambda layer, inputs, output: given.append((layer, inputs[0], output[0])))
        said = "abc cab b"
        found = attention_maps(model, tokenizer, said)
        T = len(said) + 1
        assert found.tokens == ("", *said)
        assert found.weights.shape == (2, 3, T, T)
        np.testing.assert_allclose(found.weights.sum(-1), 1, rtol=1e-5)
        distance = np.arange(T)[:, None] - np.arange(T)
        assert not found.weights[:, :, (distance < 0) | (distance >= 4)].any()
        for weights, (layer, x, y) in zip(torch.from_numpy(found.weights), given, strict=True):
            x, y = x.clone(), y.clone()  # out of inference mode
            v = layer.project(x[0])[:, 24:] if kind == "qkv" else x[0]
            heads = [weights[n] @ v[:, 4 * n : 4 * n + 4] for n in range(3)]
            torch.testing.assert_close(layer.out(torch.cat(heads, 1)), y[0], rtol=1e-4, atol=1e-5)
        assert not any(layer._forward_pre_hooks for layer, *_ in given)

    def test_what_has_none(self):
        tokenizer = characters("abc ")
        with pytest.raises(UsageError, match="LSTM has no attention"):
            attention_maps(network("lstm", tokenizer.vocab_size), tokenizer, "abc")
        with pytest.raises(UsageError, match="too many for a map"):
            attention_maps(network("transformer", tokenizer.vocab_size), tokenizer, "a" * 512)


class TestEmbeddings:
    @pytest.mark.parametrize("architecture", NETWORKS)
    def test_two_dimensions_stay_as_they_are(self, architecture):
        tokenizer = characters("abcde")
        options = {"embedding": 2} if architecture == "feedforward" else {"width": 2}
        options |= {"heads": 1} if architecture == "transformer" else {}
        model = network(architecture, tokenizer.vocab_size, **options)
        model.known[1:FIRST_PIECE] = False
        found = embedding_map(model, tokenizer)
        assert found.tokens == tuple("abcde")
        vectors = model.embedding.weight.detach()[FIRST_PIECE:]
        np.testing.assert_allclose(
            torch.cdist(*2 * [torch.from_numpy(found.points)]), torch.cdist(vectors, vectors), atol=1e-5
        )
        assert sum(found.explained) == pytest.approx(1)
        assert found.explained[0] >= found.explained[1]
        assert (found.points.max(0) >= -found.points.min(0)).all()

    def test_what_has_none(self):
        for model in (counted("ab" * 200, characters("ab")), History(257)):
            with pytest.raises(UsageError, match="has no embeddings"):
                embedding_of(model)

    @pytest.mark.parametrize("width", [16, 128])
    def test_random_vectors_have_no_neighbours_and_planted_ones_do(self, width):
        letters = [chr(n) for n in range(0x100, 0x150)]
        tokenizer, chance = characters("".join(letters)), 0
        for seed in range(20):
            torch.manual_seed(seed)
            model = network("gru", tokenizer.vocab_size, width=width)
            torch.nn.init.normal_(model.embedding.weight, generator=torch.Generator().manual_seed(seed))
            model.known[1:FIRST_PIECE] = False
            found = embedding_map(model, tokenizer)
            chance += any(found.neighbours(n) for n in range(80))
        assert chance <= 4  # one is expected
        with torch.no_grad():
            model.embedding.weight[FIRST_PIECE + 5] = model.embedding.weight[FIRST_PIECE + 9] * 2
        found = embedding_map(model, tokenizer)
        ((name, cosine),) = [near for near in found.neighbours(5) if near[1] > 0.9]
        assert name == letters[9]
        assert found.neighbours(9)[0][0] == letters[5]
        vectors = model.embedding.weight.detach()[FIRST_PIECE:]
        vectors = vectors - vectors.mean(0)
        assert cosine == pytest.approx(float(torch.cosine_similarity(vectors[5], vectors[9], dim=0)), abs=1e-5)


class TestActivations:
    @pytest.mark.parametrize("tokenizer", TOKENIZERS)
    @pytest.mark.parametrize("architecture", NETWORKS)
    def test_units_and_their_correlations(self, architecture, tokenizer):
        said = Text.from_string("ab cd\n(\u00e9 dab) " * 12, "said")
        found = activations(network(architecture, tokenizer.vocab_size), tokenizer, said)
        follows = properties(said.read())
        assert 1 <= len(found.units) <= 6
        assert len({unit.number for unit in found.units}) == len(found.units)
        strength = [abs(unit.correlation) for unit in found.units]
        assert strength == sorted(strength, reverse=True)
        for unit in found.units:
            assert unit.values.shape == (said.characters,)
            exact = np.corrcoef(unit.values, follows[unit.follows])[0, 1]
            assert unit.correlation == pytest.approx(exact, abs=1e-5)

    def test_a_value_is_that_of_the_state_after_the_character(self):
        tokenizer = characters("abcd ")
        model = network("lstm", tokenizer.vocab_size).eval()
        text = varied(60).translate({ord(c): "abcd "[n % 5] for n, c in enumerate(sorted({*varied(60)}))})
        found = activations(model, tokenizer, Text.from_string(text, "said"))
        with torch.inference_mode():
            stream = torch.tensor([[BOUNDARY, *tokenizer.encode(text).tolist()]])
            cells = [model.features(stream[:, : n + 2], model.initial_state(1))[1][-1][0] for n in range(len(text))]
        cells = torch.stack(cells).double().numpy()
        for unit in found.units:
            column = cells[:, unit.number]
            np.testing.assert_allclose(unit.values, (column - column.mean()) / column.std(), atol=1e-3)

    def test_properties_by_hand(self):
        found = properties('Ab (c "d")\n\n["e1')
        assert found["the position in the line"].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 0, 1, 2, 3, 4]
        assert found["the position in the word"].tolist() == [1, 2, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 2]
        assert found["text inside brackets"].tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1, 1]
        quoted = found['text inside "quotation marks"'].tolist()
        assert quoted == [0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1]
        assert found["digits"].tolist() == [0] * 15 + [1]

    def test_an_ngram_has_no_units(self):
        tokenizer = characters("ab ")
        with pytest.raises(UsageError, match="has no units"):
            activations(counted("ab " * 200, tokenizer), tokenizer, SAID)


class TestClearDifferences:
    WORDS = " ".join(random.Random(1).choices(["the", "cat", "sat", "on", "mats,", "dozing"], k=2000))

    def bits(self, seed):
        return np.random.default_rng(seed).exponential(2.0, len(self.WORDS))

    def test_what_was_planted_is_found_and_nothing_else(self):
        a, b = self.bits(1), self.bits(2)
        b[2950:3150] += 4
        a[5950:6150] += 4
        better, worse = clear_differences(self.WORDS, a, b)
        assert better
        assert worse
        assert all(p.begin < 3150 and p.end > 2950 for p in better)
        assert all(p.begin < 6150 and p.end > 5950 for p in worse)

    def test_noise_shows_nothing(self):
        shown = sum(any(clear_differences(self.WORDS, self.bits(n), self.bits(n + 50))) for n in range(20))
        assert shown <= 3  # one in twenty is expected

    def test_a_small_share_is_noise_to_a_reader(self):
        a = self.bits(1) + 20
        assert clear_differences(self.WORDS, a, a + 1) == ((), ())
        assert any(clear_differences(self.WORDS, a, a + 6))

    def test_critical_values_are_those_of_the_tables(self):
        for freedom, level, value in ((4, 0.05, 2.776), (10, 0.01, 3.169), (20, 0.001, 3.850), (60, 0.05, 2.000)):
            assert float(_critical_t(level, 1, np.array([freedom]))[0]) == pytest.approx(value, rel=0.01)

    def test_sides_swap_with_the_models_and_passages_are_whole_words_apart(self):
        rng = np.random.default_rng(5)
        a, b = (
            self.bits(n) * np.repeat(rng.uniform(0.2, 3, len(self.WORDS) // 50 + 1), 50)[: len(self.WORDS)]
            for n in (1, 2)
        )
        better, worse = clear_differences(self.WORDS, a, b, count=4)
        worse_again, better_again = clear_differences(self.WORDS, b, a, count=4)
        assert [(p.begin, p.end) for p in better] == [(p.begin, p.end) for p in better_again]
        assert [(p.begin, p.end) for p in worse] == [(p.begin, p.end) for p in worse_again]
        passages = sorted([*better, *worse])
        assert len(passages) > 2
        assert all(one.end <= other.begin for one, other in itertools.pairwise(passages))
        for p in passages:
            assert p.begin == 0 or self.WORDS[p.begin - 1] == " "
            assert 50 <= p.end - p.begin <= 100
            assert p.bits == pytest.approx(a[p.begin : p.end].sum())
            assert p.other_bits == pytest.approx(b[p.begin : p.end].sum())


@pytest.mark.parametrize("architecture", NETWORKS)
def test_gradient_times_input_is_the_slope_as_an_embedding_grows(architecture):
    model, targets, reach = network(architecture, **({"previous": True} if architecture == "transformer" else {})), 2, 5
    stream = np.array([BOUNDARY, 70, 71, 72, 73, 74, 75, 76, 77, 78])  # all different: each has a row of its own
    found = gradient_times_input(model.eval(), stream, targets, reach)
    assert found.shape == (reach,)
    ids, growth = torch.from_numpy(stream)[None], torch.ones(model.vocab_size, 1, requires_grad=True)  # of each row
    grown = {name: weight * growth for name, weight in model.named_parameters() if len(weight) == model.vocab_size}
    tables = {name: weight for name, weight in grown.items() if not name.startswith("output")}
    (log_probs, _), targeted = (
        torch.func.functional_call(model, tables, (ids, model.initial_state(1))),
        ids[0, -targets:],
    )
    log_probs[0, range(-targets - 1, -1), targeted].sum().backward()
    right = growth.grad[stream[-targets - reach : -targets], 0].flip(0)
    assert np.allclose(found, right.numpy(), atol=1e-4)
    assert len(gradient_times_input(model, stream, targets, 99)) == len(stream) - targets
    assert len(gradient_times_input(model, stream[:2], 1, 99)) == 1
    with pytest.raises(UsageError, match="no embeddings"):
        gradient_times_input(counted("aab", characters("ab")), stream, 1, 9)
