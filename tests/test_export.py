"""ARPA files: what is written reads back the same, other programs' numbers are kept, damage is named by its line."""

import gzip
import io
import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TEXT, Charlm

from charlm.errors import CharlmError, DataError, UsageError
from charlm.export import read_arpa, write_arpa
from charlm.export.arpa.words import SPECIAL, meaning, spelled
from charlm.models import RNN, NGram
from charlm.models.ngram.counting import count_ngrams
from charlm.models.ngram.estimation import SMOOTHERS
from charlm.models.ngram.smoothing import modified_kneser_ney
from charlm.models.ngram.trie import tensors_of
from charlm.models.recurrent import RNNConfig
from charlm.tokenizers import TOKENIZERS, Tokenizer
from charlm.tokenizers.characters import Characters

ODD = "a▁b⏎c\\d \t\r\n\x00\x85\u2028\u00a0é\U0001f600<s> </s> <unk>\\u{41}\\x41 ▁⏎\\\ufeff<s>" * 9


def learned(kind: str, text: str, **options: object) -> Tokenizer:
    return TOKENIZERS[kind].train([text], TOKENIZERS[kind].Config(**options))


def fitted(tokenizer: Tokenizer, text: str, **settings: object) -> NGram:
    model = NGram(NGram.Config(**{"cache": 0, **settings}), tokenizer.vocab_size)  # ARPA has no place for a cache
    ids = tokenizer.encode(text)
    cut = len(ids) * 9 // 10
    model.fit(ids[:cut], ids[cut:])
    return model


def written(model: NGram, tokenizer: Tokenizer) -> bytes:
    file = io.BytesIO()
    write_arpa(model, tokenizer, file)
    return file.getvalue()


def scores(model: NGram, ids: np.ndarray) -> np.ndarray:
    stream = torch.from_numpy(np.append(0, ids)).long()[None]
    return model.score(stream[:, :-1], stream[:, 1:], model.initial_state(1))[0][0].double().numpy()


def test_every_character_has_a_word_of_its_own() -> None:
    for character in map(chr, [*range(0x3000), *range(0x3000, 0x110000, 13)]):
        word = spelled(character)
        assert meaning(word) == character
        assert word.isprintable()
        assert " " not in word
    assert [meaning(spelled(value)) for value in range(256)] == list(range(256))
    assert not {spelled(word) for word in SPECIAL} & SPECIAL


@pytest.mark.parametrize("smoothing", SMOOTHERS)
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_what_is_written_reads_back_the_same(kind: str, smoothing: str) -> None:
    options = {"vocab_size": 300} if kind == "sentencepiece" else {}
    tokenizer = learned(kind, TEXT + ODD, **options)
    model = fitted(tokenizer, TEXT + ODD, order=5, smoothing=smoothing)
    file = written(model, tokenizer)
    again, same = read_arpa(io.BytesIO(file))
    assert same.files() == tokenizer.files()
    assert again.levels.tolist() == model.levels.tolist()
    ids = np.append(tokenizer.encode(ODD[::-1] + TEXT[:500] + "\U0001f4a9 Ж"), np.arange(tokenizer.vocab_size))
    np.testing.assert_allclose(scores(again, ids), scores(model, ids), atol=1e-6, rtol=1e-6)
    twice = written(again, same)
    np.testing.assert_allclose(*(scores(read_arpa(io.BytesIO(f))[0], ids) for f in (file, twice)), atol=1e-6, rtol=1e-6)


def test_what_is_written_is_the_table_without_the_cache() -> None:
    tokenizer = learned("characters", TEXT)
    one, other = (written(fitted(tokenizer, TEXT, order=4, cache=cache), tokenizer) for cache in (0, 50))
    assert one == other


def test_pieces_that_look_like_what_arpa_reserves() -> None:
    pieces = [[piece, -1.0 / 2 ** (len(piece) > 1)] for piece in (*"</s>unk ", "<s>", "</s>", "<unk>", "<s> <s>")]
    vocabulary = {"model_type": "unigram", "pieces": pieces}
    tokenizer = TOKENIZERS["sentencepiece"].from_vocabulary(vocabulary, np.unique([ord(c) for c in "</s>unk "]))
    text = "<s> </s> <unk> <s> <s>sun/" * 9
    ids = tokenizer.encode(text)
    assert {len(tokenizer.pieces()[token]) for token in ids} > {1, 3, 4}
    model = fitted(tokenizer, text, order=3)
    again, _ = read(written(model, tokenizer))
    np.testing.assert_allclose(scores(again, ids), scores(model, ids), atol=1e-6, rtol=1e-6)


def test_the_form_of_a_file() -> None:
    """What KenLM's lm/read_arpa.cc asks for: sizes that are true, tabs, no backoff at the longest, no log above 0."""
    tokenizer = learned("characters", TEXT)
    head, *sections = written(fitted(tokenizer, TEXT, order=3, smoothing="kenlm"), tokenizer).decode().split("\n\n")
    assert head.splitlines()[:2] == [line for line in head.splitlines()[:2] if line.startswith("# ")]
    assert head.splitlines()[2] == "\\data\\"
    sizes = [int(size) for size in re.findall(r"^ngram \d=(\d+)$", head, re.M)]
    number = r"-?\d+(?:\.\d{8})?"
    shorter = {""}
    for length, (size, section) in enumerate(zip(sizes, sections, strict=False), 1):
        title, *lines = section.splitlines()
        assert title == f"\\{length}-grams:"
        assert len(lines) == size
        form = re.compile(rf"({number})\t(\S+(?: \S+){{{length - 1}}})" + (rf"\t{number}" if length < 3 else ""))
        found = [form.fullmatch(line) for line in lines]
        assert all(match and float(match[1]) <= 0 for match in found)
        grams = {match[2] for match in found if match}
        assert all(" ".join(gram.split()[part]) in shorter for gram in grams for part in (slice(1, None), slice(-1)))
        shorter = grams
        if length == 1:
            assert {"<s>", "</s>", "<unk>", "▁", "⏎"} < grams
    assert sections[3:] == ["\\end\\\n"]


BEGINNING = (Path(__file__).parent / "coriolanus.txt").read_text(encoding="utf-8")
LMPLZ = """
-2.725593 | <unk> | 0
0 | <s> | -0.33123854
-2.5121956 | </s> | 0
-2.176812 | F | -0.24929976
-1.3999847 | ▁ | -0.88814116
-2.7155044 | q | -0.19569564
-1.9134251 | n f | -0.23238969
-0.89362705 | f ▁ | -0.29158738
-1.8813503 | d ! | -0.23238969
-0.27026755 | <s> F | -0.22044556
-0.33544704 | r ? ▁ | -0.23612529
-0.22625297 | s . ⏎ | -0.78481805
-0.33504897 | <s> F i | -0.19549526
-0.8500765 | h e ▁ | -0.68371254
-0.2445763 | p f u l
-1.9570264 | S : ⏎ G
-0.99400365 | ▁ h a d
-0.28181025 | <s> F i r
-0.026946949 | V I R G
-2.2200456 | . ⏎ ⏎ G
"""
"""Lines of KenLM's `lmplz --order 4 --discount_fallback` on BEGINNING as one sentence, one word a character."""

LMPLZ_DISCOUNTS = [
    (0.1, 2 - 0.3 / 9, 1.4),
    (0.46640316, 1.27448397, 1.58746471),
    (0.60194175, 1.15489582, 1.63533728),
    (0.63753601, 1.04731560, 1.71717678),
]
"""As `test_ngram` explains."""


@cache
def beginning() -> tuple[NGram, Tokenizer]:
    """What KenLM makes of BEGINNING."""
    tokenizer = learned("characters", BEGINNING, min_count=1)
    ids = np.array([0, *range(257, tokenizer.vocab_size)])
    A = len(ids)
    symbols = np.concatenate(([0], tokenizer.encode(BEGINNING) - 256, [0]))
    levels = count_ngrams(symbols, A, 4)
    estimates = modified_kneser_ney(levels, LMPLZ_DISCOUNTS)
    unigram = np.full(tokenizer.vocab_size, estimates[0].backoff[0] / (A + 1) / (tokenizer.vocab_size - A))
    unigram[ids] = estimates[0].mass + estimates[0].backoff[0] / (A + 1)
    config = NGram.Config(order=4, smoothing="kenlm")
    return NGram.from_tensors(config, tokenizer.vocab_size, tensors_of(ids, levels, estimates, unigram)), tokenizer


def test_kenlm_writes_the_same() -> None:
    lines = [line.split("\t") for line in written(*beginning()).decode().splitlines() if "\t" in line]
    own = {gram: [float(number) for number in (probability, *backoff)] for probability, gram, *backoff in lines}
    for line in LMPLZ.strip().splitlines():
        probability, gram, *backoff = line.split(" | ")
        assert own[gram] == pytest.approx([float(number) for number in (probability, *backoff)], abs=2e-6), gram


def test_a_file_without_our_comments_gives_the_same_numbers() -> None:
    model, tokenizer = beginning()
    foreign = b"".join(line for line in written(model, tokenizer).splitlines(True) if not line.startswith(b"#"))
    again, other = read_arpa(io.BytesIO(b"written by hand\n\n" + foreign.replace(b"\n", b"\r\n")))
    assert isinstance(other, Characters)
    ids = tokenizer.encode(BEGINNING)
    assert (other.encode(BEGINNING) == ids).all()
    np.testing.assert_allclose(scores(again, ids), scores(model, ids), atol=1e-6, rtol=1e-6)


SMALL = """\\data\\
ngram 1=5
ngram 2=3
ngram 3=1

\\1-grams:
-1\t<unk>
-99\t<s>\t-0.1249387
-0.69897\t</s>
-0.69897\ta
-0.30103\t_\t-0.0280287

\\2-grams:
-0.39794\t<s> a\t-0.0280287
-0.30103\ta _
-0.60206\t_ </s>

\\3-grams:
-0.60206\t<s> a a

\\end\\
"""
"""As other programs may write it: no backoff where it is 0, and `a a`, which ends the 3-gram, is missing."""


def read(file: str | bytes, **options: str) -> tuple[NGram, Tokenizer]:
    return read_arpa(io.BytesIO(file.encode() if isinstance(file, str) else file), "some.arpa", **options)


def probabilities(file: str, text: str, **options: str) -> list[float]:
    model, tokenizer = read(file, **options)
    everything, _ = model(torch.from_numpy(tokenizer.encode("a" + text)).long()[None], model.initial_state(1))
    assert everything.logsumexp(-1).abs().max() < 1e-5
    return np.exp(scores(model, tokenizer.encode(text))).tolist()


def test_a_small_file_by_hand() -> None:
    found = probabilities(SMALL, "aa  !", space="_")
    assert found == pytest.approx([0.4, 0.25, 0.5, 0.9375 * 0.5, 0.9375 * 0.1 / 256], rel=1e-5)
    assert probabilities(SMALL, "aa__") == pytest.approx(found[:4], rel=1e-5)
    assert probabilities(SMALL.replace("_", "<br>"), "aa\n\n", newline="<br>") == pytest.approx(found[:4], rel=1e-5)
    spaced = SMALL.replace("\t", "   ").replace("\n\n", "\n \n \n")
    assert probabilities(spaced, "aa__") == pytest.approx(found[:4], rel=1e-5)
    controls = SMALL.replace("_", "\x01")
    assert probabilities(controls, "aa\x01\x01") == pytest.approx(found[:4], rel=1e-5)


def test_few_digits_are_made_to_add_up() -> None:
    file = re.sub(r"(\.\d{4})\d+", r"\1", SMALL)
    assert probabilities(file, "aa__") == pytest.approx([0.4, 0.25, 0.5, 0.9375 * 0.5], rel=3e-4)


def test_a_file_of_bytes() -> None:
    _, tokenizer = read(re.sub(r"\ba\b", r"\\x41", SMALL).replace("_", "\\xFF"))
    assert tokenizer.kind == "bytes"


DAMAGED = {
    "nothing": (SMALL, "", 1, "not an ARPA file"),
    "no data": ("\\data\\", "\\dat\\", 21, "no \\data\\ line"),
    "no sizes": (SMALL[7:37], "", 3, "expected ngram 1=SIZE"),
    "sizes out of order": ("ngram 2=3", "ngram 3=3", 3, "expected ngram 2=SIZE, found 'ngram 3=3'"),
    "a size that is no number": ("ngram 2=3", "ngram 2=x", 3, "ngram 2=SIZE"),
    "a negative size": ("ngram 2=3", "ngram 2=-3", 3, "ngram 2=SIZE"),
    "too long": ("ngram 3=1\n", "".join(f"ngram {n}=1\n" for n in range(3, 40)), 18, "up to length 16"),
    "an absurd size": ("ngram 3=1", "ngram 3=99999999999999999", 20, "end before there are as many"),
    "a size too small": ("ngram 1=5", "ngram 1=4", 11, "are there more n-grams"),
    "a size too large": ("ngram 2=3", "ngram 2=4", 17, "2-grams end before"),
    "another section": ("\\2-grams:", "\\3-grams:", 13, "expected \\2-grams:"),
    "no number": ("-0.60206\t_", "x\t_", 16, "'x' is not a number"),
    "nearly a number": ("-0.60206\t_", "-0_6\t_", 16, "'-0_6' is not a number"),
    "not a number": ("-0.60206\t_", "nan\t_", 16, "'nan' is not a number"),
    "infinity": ("-0.60206\t_", "inf\t_", 16, "'inf' is not a number"),
    "a probability of 0 too many": ("-0.60206\t_", "-inf\t_", 11, "after this n-gram add up to 0.75"),
    "an infinite backoff": ("\t-0.1249387", "\tinf", 8, "'inf' is not a number"),
    "a huge backoff": ("\t-0.1249387", "\t400", 8, "add up to 8e+98"),
    "more than certain": ("-0.60206\t_", "0.1\t_", 16, "above 0"),
    "a word too many": ("_ </s>", "_ _ _ </s>", 16, "2 words and perhaps a backoff; found 5 fields"),
    "a word too few": ("<s> a a", "<s> a", 19, "3 words; found 3 fields"),
    "a backoff at the longest": ("<s> a a", "<s> a a\t-1", 19, "3 words; found 5 fields"),
    "an unknown word": ("a _", "a b", 15, "'b' is not among the 1-grams"),
    "no such context": ("<s> a a", "a a a", 19, "not in the file"),
    "twice the same": ("a _", "_ </s>", 16, "line 15 has the same"),
    "twice the same word": ("\t_\t", "\ta\t", 11, "'a' is there already"),
    "twice the same character": ("\t</s>", "\t\\u{61}", 10, "'a' stands for the same as another word"),
    "a word of two characters": ("_", "of", 11, "'of' is longer than a character"),
    "1-grams that do not add up": ("-0.69897\ta", "-0.3\ta", 7, "of the 1-grams add up to 1.3"),
    "n-grams that do not add up": ("-0.39794\t<s>", "-1.39794\t<s>", 8, "after this n-gram add up to 0.64"),
    "a backoff after nothing": ("-0.30103\ta _", "-0.30103\ta _\t-1", 15, "after this n-gram add up to 0.1"),
    "no end": ("\\end\\\n", "", 20, "cut short"),
    "cut short": ("a a\n\n\\end\\\n", "a a", 19, "cut short"),
    "cut within a section": (SMALL[SMALL.index("-0.60206\t_") :], "", 15, "cut short"),
    "no 1-grams": (SMALL[SMALL.index("-1\t<unk>") :], "", 6, "cut short"),
    "a damaged tokenizer": ("\\data\\", '# tokenizer {"kind":"bytes"}\n\\data\\', 1, "in this comment is damaged"),
    "another tokenizer": (
        "\\data\\",
        '# tokenizer {"kind":"bytes","seen":[]}\n\\data\\',
        11,
        "is no word of the tokenizer",
    ),
    "deep JSON": ("\\data\\", "# tokenizer " + "[" * 99999 + "\n\\data\\", 1, "damaged"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_named_by_its_line(name: str) -> None:
    before, after, line, what = DAMAGED[name]
    assert before in SMALL
    with pytest.raises(DataError) as raised:
        read(SMALL.replace(before, after))
    assert str(raised.value).startswith(f"some.arpa:{line}: ")
    assert what in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 200


def test_text_that_is_not_utf8() -> None:
    with pytest.raises(DataError, match=r"^some.arpa:10: .* is not UTF-8"):
        read(SMALL.replace("\ta", "\té").encode("latin-1"))


def spoiled(file: bytes, generator: np.random.Generator) -> bytes:
    """The file with a bit turned, a piece cut out, a piece repeated elsewhere or another character, here and there."""
    for _ in range(generator.integers(1, 4)):
        begin, length = int(generator.integers(len(file))), int(generator.integers(1, 60))
        before, rest = file[:begin], file[begin:]
        pieces = [
            bytes([rest[0] ^ 1 << length % 8]) + rest[1:],
            rest[length:],
            file[begin // 2 :][:length] + rest,
            bytes([b"\t\n -0.9e<\\_x"[length % 12]]) + rest[1:],
        ]
        file = before + pieces[generator.integers(len(pieces))]
    return file


def outcome_of(file: bytes) -> NGram | str:
    try:
        return read(file)[0]
    except CharlmError as problem:
        return str(problem)


def test_any_damage_is_an_error_or_a_sound_model() -> None:
    generator = np.random.default_rng(5)
    tokenizer = learned("characters", TEXT[:300])
    ours = written(fitted(tokenizer, TEXT[:300], order=3), tokenizer)
    outcomes = [outcome_of(spoiled(file, generator)) for file in (SMALL.encode(), ours) for _ in range(400)]
    models = [outcome for outcome in outcomes if isinstance(outcome, NGram)]
    assert 0 < len(models) < 400
    assert all(re.match(r"some.arpa:\d+: .+", outcome) for outcome in outcomes if isinstance(outcome, str))
    for model in models:
        log_probs, _ = model(torch.tensor([[0, 98, 256]]), model.initial_state(1))
        assert log_probs.logsumexp(-1).abs().max() < 1e-5


def test_only_a_fitted_ngram_is_written() -> None:
    tokenizer = learned("characters", TEXT)
    for model in (RNN(RNNConfig(width=4), tokenizer.vocab_size), NGram(NGram.Config(), tokenizer.vocab_size)):
        with pytest.raises(UsageError, match="fitted n-gram"):
            written(model, tokenizer)


def test_progress_is_told() -> None:
    told: list[tuple[str, float]] = []
    tokenizer = learned("characters", TEXT)
    file = io.BytesIO()
    write_arpa(fitted(tokenizer, TEXT, order=3), tokenizer, file, lambda *event: told.append(event))
    read_arpa(io.BytesIO(file.getvalue()), progress=lambda *event: told.append(event))
    assert {"writing 3-grams", "reading 3-grams", "building"} <= {what for what, _ in told}
    assert all(0 <= done <= 1 for _, done in told)


def trained(charlm: Charlm, *options: str) -> None:
    outcome = charlm("train", "corpus.txt", "--arch", "ngram", "--cache", "0", "-o", "run", "--quiet", *options)
    assert outcome.code == 0, outcome.err


def bits(charlm: Charlm, run: str, *options: str) -> float:
    return float(
        json.loads(charlm("evaluate", run, "--json", "--text", "corpus.txt", *options).out)["bits_per_character"]
    )


@pytest.mark.parametrize("name", ["run.arpa", "run.arpa.gz", "run.arpa.bz2", "run.arpa.xz"])
def test_a_run_goes_out_and_comes_in(name: str, folder: Path, charlm: Charlm) -> None:
    trained(charlm)
    outcome = charlm("export", "run", "-o", name, "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["bytes"] == (folder / name).stat().st_size
    first = (folder / name).read_bytes()
    assert first.startswith(
        {".gz": b"\x1f\x8b", ".bz2": b"BZh", ".xz": b"\xfd7zXZ"}.get(Path(name).suffix, b"# charlm")
    )
    assert charlm("export", "run", "-o", name).code == 2
    assert charlm("export", "run", "-o", name, "--force").code == 0
    assert (folder / name).read_bytes() == first
    outcome = charlm("import", name, "--json")
    run = json.loads(outcome.out)["run"]
    assert Path(run) == Path("checkpoints/run")
    assert bits(charlm, run) == pytest.approx(bits(charlm, "run"), abs=1e-6)
    for how in (("--seed", "1"), ("--beams", "3"), ("--greedy",)):
        drawn = [charlm("sample", name, "--prompt", "HAMLET", "--length", "60", *how).out for name in (run, "run")]
        assert drawn[0] == drawn[1]
    again = charlm("export", run, "-o", "-")
    assert again.out.startswith("# charlm")
    assert charlm("import", "-", "-o", "twice", stdin=again.out).code == 0
    assert bits(charlm, "twice") == pytest.approx(bits(charlm, "run"), abs=1e-6)
    assert charlm("import", name, "-o", "twice").code == 2
    assert charlm("import", name, "-o", "twice", "--force").code == 0


def test_what_a_user_can_get_wrong(folder: Path, charlm: Charlm) -> None:
    (folder / "small.arpa").write_text(SMALL)
    assert charlm("import", "small.arpa", "-o", "small").code == 0
    for arguments, code, what in [
        (("import", "missing.arpa"), 3, "missing.arpa: cannot be read"),
        (("import", "corpus.txt"), 3, "not an ARPA file"),
        (("export", "missing"), 3, "missing"),
        (("export", "small", "-o", "missing/small.arpa"), 1, "missing/small.arpa: cannot be written"),
        (("export", "small", "-o", "-", "--json"), 2, "standard output"),
        (("evaluate", "small"), 3, "--text"),
    ]:
        outcome = charlm(*arguments)
        assert outcome.code == code, outcome.err
        assert what in outcome.err
        assert len(outcome.err.splitlines()) <= 2
    (folder / "cut.arpa.gz").write_bytes(gzip.compress(SMALL.encode() * 9)[:-30])
    outcome = charlm("import", "cut.arpa.gz")
    assert outcome.code == 3
    assert "cut.arpa.gz:" in outcome.err
    assert not list(folder.glob("checkpoints/*"))
    (folder / "small" / "kept.txt").touch()
    before = sorted(folder.rglob("small/*"))
    assert charlm("import", "cut.arpa.gz", "-o", "small", "--force").code == 3
    assert sorted(folder.rglob("small/*")) == before


def test_info_tells_what_an_ngram_is_made_of(folder: Path, charlm: Charlm) -> None:
    trained(charlm, "--order", "3", "--smoothing", "kenlm")
    content = json.loads(charlm("info", "run", "--json").out)
    lengths = content["ngrams"]
    assert [entry["length"] for entry in lengths] == [1, 2, 3]
    assert sum(entry["ngrams"] for entry in lengths) == content["parameters"]
    assert lengths[2]["discounts"] == content["discounts"][2]
    assert all(0 < entry["discounts"][0] < 1 for entry in lengths)
    assert sum(entry["matched"] for entry in lengths) == pytest.approx(1, abs=0.02)
    assert all(entry["megabytes"] > 0 for entry in lengths)
    shown = charlm("info", "run").out
    assert "matched" in shown
    assert "D3+" in shown
    (folder / "corpus.txt").unlink()
    assert json.loads(charlm("info", "run", "--json").out)["ngrams"][0]["matched"] is None
    assert charlm("info", "run").code == 0


def test_matched_lengths_by_hand() -> None:
    model, tokenizer = read(SMALL)
    tokens = torch.from_numpy(np.append(0, tokenizer.encode("aa__!"))).long()[None]
    lengths, state = model.matched(tokens, model.initial_state(1))
    assert lengths.tolist() == [[1, 2, 3, 2, 1, 0]]
    assert torch.equal(state[0], model(tokens, model.initial_state(1))[1][0])
