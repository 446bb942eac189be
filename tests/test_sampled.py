"""What is drawn and how it is shown: only what training showed, as lines begin, and nothing that a terminal obeys."""

import io
import os
import random
import shlex
import sys
from functools import cache

import numpy as np
import pytest
import torch
from handmade import Table, characters
from hypothesis import given
from hypothesis import strategies as st

from charlm import cli
from charlm.cli.glyphs import sanitized
from charlm.cli.live import TrainingView
from charlm.cli.outcome import MAX_PROMPT, example_prompt
from charlm.cli.sample import TextOutput
from charlm.config import BOUNDARY
from charlm.corpus import Text
from charlm.decoding import AllowedIds, Sampling, beam_search, generate, opening, sample
from charlm.decoding.continuation import MAX_SKIPPED
from charlm.inference import open_engine
from charlm.models import ARCHITECTURES, CountingModel, Network
from charlm.models.mixture import Member, Mixture, MixtureConfig
from charlm.tokenizers import TOKENIZERS
from charlm.tokenizers.base import FIRST_BYTE, FIRST_PIECE

SMALL = {"width": 16, "layers": 1, "heads": 2, "window": 8, "embedding": 4, "order": 4, "cache": 16}
RARE = "é漢字😀語–"
TEXT = "".join(
    f"{random.Random(n).choice(['the', 'one', 'pale'])} ghost of night {n % 7}\n{RARE[n // 50] if n % 50 == 0 else ''}"
    for n in range(300)
)
SETTINGS = [
    Sampling(1.5),
    Sampling(3.0),
    Sampling(50.0),
    Sampling(0.0),
    Sampling(5.0, top_k=300),
    Sampling(9.0, 0, 0.99),
]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@cache
def tokenizer_of(name, text=TEXT):
    kind = TOKENIZERS[name]
    return kind.train([text], kind.Config(**({"vocab_size": 280} if name == "sentencepiece" else {})))


def config_of(name):
    kind = ARCHITECTURES[name]
    return kind.Config().changed({key: value for key, value in SMALL.items() if key in kind.Config.names()})


@cache
def model_of(name, tokenizer, text=TEXT):
    """A model that knows what the text has, and little more."""
    torch.manual_seed(0)
    ids = tokenizer.encode(text).astype(np.int64)
    if name == "mixture":
        members = tuple(Member(each, config_of(each)) for each in ("ngram", "lstm"))
        models = [model_of(each, tokenizer, text) for each in ("ngram", "lstm")]
        return Mixture(MixtureConfig(members=members), tokenizer.vocab_size, models)
    model = ARCHITECTURES[name](config_of(name), tokenizer.vocab_size)
    if isinstance(model, CountingModel):
        model.fit(ids[: len(ids) * 9 // 10], ids[len(ids) * 9 // 10 :])
    elif isinstance(model, Network):
        model.expect(torch.from_numpy(np.bincount(ids, minlength=tokenizer.vocab_size)))
    return model.eval()


# --- only what training showed


@pytest.mark.parametrize("backend", ["eager", "auto"])
@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_only_characters_of_the_training_text_are_written(architecture, tokenizer, backend):
    tokenizer = tokenizer_of(tokenizer)
    model = open_engine(model_of(architecture, tokenizer), backend)
    if model.backend == "eager" != backend:
        pytest.skip("eager is all there is")
    texts = []
    for number, settings in enumerate(SETTINGS):
        prompt, streams = ("the ", 1 + number % 3) if number < 4 else ("the caf\u00e8", 3)
        texts += sample(
            model, tokenizer, prompt, length=30, settings=settings, streams=streams, generator=seeded(number)
        )
    texts += [h.text for h in beam_search(model, tokenizer, "the ", length=6, beams=10)]
    written = set("".join(texts))
    assert written <= set(TEXT)
    assert written & set(RARE), "the bytes of rare characters are drawn, too"


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_what_is_allowed_spells_characters_of_the_text_and_never_ends_within_one(text, rng):
    tokenizer = TOKENIZERS["bytes"].train([text], TOKENIZERS["bytes"].Config())
    model = Table(np.full((257, 257), 1 / 257))
    shown = torch.zeros(257, dtype=torch.bool)
    shown[tokenizer.encode("".join(rng.sample(text, rng.randint(1, len(text))))).astype(np.int64)] = True
    model.seen_ids = lambda: shown
    allowed = AllowedIds(model, tokenizer)
    met, waiting = set(), [(0, b"")]
    while waiting:
        prefix, data = waiting.pop()
        ids = allowed.ids[prefix]
        assert len(ids)
        assert shown[ids].all()
        masked = allowed.masked(np.zeros((1, 257), np.float32), np.array([prefix]))
        assert np.isfinite(masked[0]).nonzero()[0].tolist() == ids.tolist()
        for token in ids.tolist():
            longer, after = (
                data + bytes([token - FIRST_BYTE]),
                int(allowed.after(np.array([prefix]), np.array([token]))[0]),
            )
            if after:
                waiting.append((after, longer))
            else:
                met.add(longer.decode())
    spelled_in_shown = {c for c in text if shown[[FIRST_BYTE + byte for byte in c.encode()]].all()}
    assert met == spelled_in_shown
    assert all(allowed.can_write(c) == (c in met) for c in {*text, "a", "é", "漢"})


def test_where_the_alphabet_is_not_known_bytes_make_well_formed_characters():
    model, tokenizer = Table(np.full((260, 260), 1 / 260)), characters("abc")
    allowed = AllowedIds(model, tokenizer)
    every = [chr(code) for code in range(1, 0x110000, 37) if not 0xD800 <= code < 0xE000]
    assert all(map(allowed.can_write, every))
    assert not any(map(allowed.can_write, "\ud800\udfff"))
    texts = sample(model, tokenizer, "", length=200, streams=5, generator=seeded())
    assert "".join(texts).encode().decode() == "".join(texts)


def test_after_a_character_never_seen_a_network_goes_on_as_it_thinks_not_at_random():
    text = "a" * 3000 + "bcdefghijklmnopqrstuvwxyz" * 2
    tokenizer = characters(text)
    model = model_of("lstm", tokenizer, text)
    drawn = "".join(sample(model, tokenizer, "aé", length=1, streams=2000, generator=seeded()))
    with torch.no_grad():
        log_probs, _ = model(torch.tensor([[BOUNDARY, FIRST_PIECE]]), model.initial_state(1))
    usual = log_probs[0, -1, FIRST_PIECE].exp().item()
    assert drawn.count("a") / 2000 == pytest.approx(usual, abs=0.1)


# --- where a text begins


def test_a_text_begins_with_a_line_or_where_there_are_none_at_the_boundary():
    for kind in TOKENIZERS:
        assert opening(tokenizer_of(kind)) == "\n"
    dna = "GATTACA" * 60
    for text in dna, dna + "\n":
        tokenizer = characters(text, min_count=2)
        assert opening(tokenizer) == ""
        found = sample(model_of("lstm", tokenizer, text), tokenizer, None, length=9, streams=20, generator=seeded())
        assert set("".join(found)) <= set(text)
        assert sample(
            Table(np.eye(tokenizer.vocab_size)[[FIRST_PIECE] * tokenizer.vocab_size]), tokenizer, None, length=2
        )


def name(rng):
    middle = [rng.choice(some) for some in ("aeiou", "lrnstvxz", "aeiou") * rng.randint(1, 2)]
    return "".join((rng.choice("BCDFGHKLMN"), *middle, rng.choice("aenoslry")))


@pytest.mark.parametrize("order", [list, sorted])
def test_an_ngram_begins_lines_as_lines_begin(order):
    names = order([name(random.Random(number)) for number in range(1000)])
    text = "".join(f"{name}\n" for name in names)
    tokenizer = characters(text)
    ids, config = tokenizer.encode(text), ARCHITECTURES["ngram"].Config(order=6, smoothing="kneser-ney")
    model = ARCHITECTURES["ngram"](config, tokenizer.vocab_size)
    model.fit(ids[:-900], ids[-900:])
    lone, begun, after = (
        [text[0] for text in sample(model, tokenizer, prompt, length=1, streams=1000, generator=seeded())]
        for prompt in ("\n", None, "\n".join(names[400:403]) + "\n")
    )
    lone, wrong, after = (sum(not letter.isupper() for letter in letters) for letters in (lone, begun, after))
    assert wrong <= max(4, after + 4, lone // 6), (lone, wrong, after)
    assert len(set(begun)) >= 8


@pytest.mark.parametrize("smoothing", ["gated", "kneser-ney"])
def test_an_ngram_of_a_sorted_list_begins_lines_as_it_goes_on(smoothing):
    """Its validation slice has initials that the text before it has not, so a gate learns that others may follow."""
    text = "".join(f"{one}\n" for one in sorted(name(random.Random(number)) for number in range(1000)))
    tokenizer = characters(text)
    ids, config = tokenizer.encode(text), ARCHITECTURES["ngram"].Config(order=6, smoothing=smoothing)
    model = ARCHITECTURES["ngram"](config, tokenizer.vocab_size)
    model.fit(ids[:-900], ids[-900:])
    begun = sample(model, tokenizer, None, length=1, streams=1000, generator=seeded())
    long = sample(model, tokenizer, None, length=400, streams=50, generator=seeded())
    later = [line for text in long for line in text.split("\n")[3:-1]]
    first, within = (sum(not line[:1].isupper() for line in lines) / len(lines) for lines in (begun, later))
    assert first <= within + 0.03, (first, within)


def test_a_line_that_does_not_end_is_ended():
    tokenizer = characters("ab\n")
    newline, a, b = (int(tokenizer.encode(c)[0]) for c in "\nab")
    table = np.zeros((tokenizer.vocab_size, tokenizer.vocab_size))
    table[:, a], table[newline] = 1, 0
    table[newline, b] = 1
    assert sample(Table(table), tokenizer, None, length=3, streams=2) == ["baa", "baa"]
    assert MAX_SKIPPED < 1000


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@pytest.mark.parametrize("prompt", [None, "the "])
@pytest.mark.parametrize("stop", [(), ("\n",), ("gh", "漢")])
def test_tokens_make_the_texts_and_cost_what_the_model_says(tokenizer, prompt, stop):
    tokenizer = tokenizer_of(tokenizer)
    model, plain = model_of("ngram", tokenizer), {"length": 90, "streams": 3, "stop": stop}
    texts = sample(model, tokenizer, prompt, **plain, generator=seeded())
    tokens = list(generate(open_engine(model), tokenizer, prompt, **plain, generator=seeded(), top=3))
    for stream, text in enumerate(texts):
        of_stream = [token for token in tokens if token.stream == stream]
        assert "".join(token.text for token in of_stream) == text
        *others, last = of_stream
        assert {token.finish_reason for token in others} <= {None}
        assert last.finish_reason == ("length" if len(text) == 90 else "stop")
        if prompt:
            ids = [BOUNDARY, *tokenizer.encode(prompt).tolist(), *(token.id for token in of_stream)]
            log_probs, _ = model(torch.tensor([ids]), model.initial_state(1))
            rows = log_probs[0, -len(of_stream) - 1 : -1].detach()
            expected = rows.gather(1, torch.tensor([[token.id] for token in of_stream]))[:, 0]
            np.testing.assert_allclose([token.log_prob for token in of_stream], expected, atol=1e-4)
            best = rows.topk(3).values
            np.testing.assert_allclose([[p for _, p in token.top] for token in of_stream], best, atol=1e-4)


@pytest.mark.parametrize("architecture", ["lstm", "transformer", "ngram", "mixture"])
def test_a_seed_gives_one_text_however_long_and_whatever_was_drawn_before(architecture):
    tokenizer = tokenizer_of("characters")
    model = model_of(architecture, tokenizer)
    first = sample(model, tokenizer, None, length=2500, generator=seeded(1))[0]
    sample(model_of("gru", tokenizer), tokenizer, None, length=600, streams=3)
    assert sample(model, tokenizer, None, length=2500, generator=seeded(1))[0] == first
    assert sample(model, tokenizer, None, length=500, generator=seeded(1))[0] == first[:500]


def test_closing_the_generator_cancels_a_text():
    tokenizer = tokenizer_of("characters")
    tokens = generate(open_engine(model_of("lstm", tokenizer)), tokenizer, "the ", length=10**9, streams=2)
    assert [next(tokens).stream for _ in range(4)] == [0, 1, 0, 1]
    tokens.close()
    assert not list(tokens)


# --- how it is shown


OBEYED = "".join(map(chr, [*range(9), 11, 12, *range(14, 32), 127, *range(128, 160), 0x202E, 0x2066]))


def test_a_terminal_obeys_nothing(monkeypatch):
    text = "a" + "b".join(OBEYED) + "c\tå\u200d漢\r\nd\re\n"
    for terminal in (False, True):
        out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        out.isatty = lambda terminal=terminal: terminal
        monkeypatch.setattr(sys, "stdout", out)
        output = TextOutput()
        for character in text:
            output.write(character)
        written = out.buffer.getvalue().decode()
        assert not terminal or not set(written) & {*OBEYED, "\r"}
        assert written == (sanitized(text) if terminal else text)
    assert sanitized("a\x1b[2Jb\r\nc\td\x9b\re") == "a␛[2Jb\nc\td\ufffd␍e"


def test_a_live_view_obeys_nothing():
    view = TrainingView("a run", stop=lambda: False)
    view.on_sample("x\x1b[31my\x9b\x07\nz")
    assert view.sample == "x␛[31my\ufffd␇ z"


@pytest.fixture
def escapes(folder, charlm):
    """A run of a text that has escape sequences."""
    text = "".join(f"\x1b[{n % 8}mline {n}\x07\x9b\n" for n in range(300))
    (folder / "colours.txt").write_text(text, encoding="utf-8")
    assert charlm("train", "colours.txt", "--arch", "ngram", "--order", "4", "-q", "-o", "run").code == 0
    return folder


def test_escape_sequences_of_a_corpus_pass_a_pipe_and_are_shown_on_a_terminal(escapes, charlm, monkeypatch):
    piped = charlm("sample", "run", "--seed", "1", "-l", "200")
    assert "\x1b[" in piped.out
    monkeypatch.setattr(
        "charlm.cli.sample.TextOutput.__init__", lambda self: vars(self).update(terminal=True, _held="")
    )
    shown = charlm("sample", "run", "--seed", "1", "-l", "200")
    assert shown.out == sanitized(piped.out)
    several = charlm("sample", "run", "-n", "2", "--beams", "2", "-l", "20")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    looked = [charlm("score", "run", "\x1b[5mline\x07"), charlm("inspect", "predict", "run", "--text", "line 1")]
    failed = charlm("train", "no\x1b[31mfile")
    assert failed.code == 3
    for outcome in (shown, several, *looked, failed):
        assert not set(outcome.out + outcome.err) & {"\x07", "\x9b", *("\x1b" if outcome not in looked else "")}
        assert "\x1b[5m" not in outcome.out


def test_stop_strings_that_cannot_come_are_refused_and_unseen_prompts_are_said(folder, charlm):
    assert charlm("train", "corpus.txt", "--arch", "ngram", "--order", "4", "-q", "-o", "run").code == 0
    refused = charlm("sample", "run", "--stop", "\\n")
    assert refused.code == 2
    assert "never matches" in refused.err
    assert "$'\\n'" in refused.err
    assert charlm("sample", "run", "--stop", "\n", "-p", "What ").out.count("\n") == 1
    said = charlm("sample", "run", "-p", "What é", "-l", "5")
    assert said.code == 0
    assert "'é'" in said.err
    assert charlm("sample", "run", "-p", "What ", "-l", "5").err == ""


@pytest.mark.parametrize(
    "text", ["The ghost walks", "GATTACA" * 50, "\n\n  'tis so\n", "漢字" * 40, "a\n", "\x1b[1m\nok"]
)
def test_a_suggested_prompt_is_of_the_text(text):
    (prompt,) = shlex.split(example_prompt(Text.from_string(text, "text")))
    assert prompt in text
    assert prompt.isprintable()
    assert 0 < len(prompt) <= MAX_PROMPT
    assert example_prompt(Text.from_string("\x1b\n\x00\n", "text")) == ""


def test_training_suggests_a_prompt_that_the_text_has(folder, charlm):
    (folder / "dna.txt").write_text("GATTACA" * 60, encoding="utf-8")
    trained = charlm("train", "dna.txt", "--arch", "ngram", "-o", "run")
    assert "--prompt GATTACAGATTA" in trained.err


def test_a_closed_pipe_ends_a_sample_at_once(folder, charlm, monkeypatch):
    assert charlm("train", "corpus.txt", "--arch", "ngram", "--order", "3", "-q", "-o", "run").code == 0
    reader, writer = os.pipe()
    os.close(reader)
    closed = io.TextIOWrapper(
        io.FileIO(writer, "w", closefd=False), encoding="utf-8"
    )  # unbuffered: nothing is left to be flushed
    monkeypatch.setattr(sys, "stdout", closed)
    assert cli.run(["sample", "run", "-p", "What", "-l", "1000000000"]) == 0
    os.close(writer)
