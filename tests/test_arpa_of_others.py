"""ARPA files as other tools write them: the numbers are those that KenLM reads out of the same file.

tests/arpa/ holds what `lmplz --order 3 --discount_fallback` of KenLM 0.3.0, the same with `--vocab_pad 20`, and IRSTLM
6.00.05 (`build-lm.sh -n 3 -s witten-bell`, then `compile-lm --text=yes`) make of these lines, a word a character:
"a cab", "abba", "", "b cab", "cab a", "baa", "abc abc", "", "c", "ba ab", "aa", "cb a".
"""

import bz2
import codecs
import gzip
import io
import json
import lzma
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Charlm
from test_export import SMALL, learned, scores, spoiled, written

from charlm import checkpoint
from charlm.errors import CharlmError, DataError, UsageError
from charlm.export import read_arpa
from charlm.export.arpa.words import meaning, spelled
from charlm.inference import open_engine
from charlm.models import NGram
from charlm.tokenizers import Tokenizer

FILES = {
    name: (Path(__file__).parent / "arpa" / f"{name}.arpa").read_bytes()
    for name in ("lmplz", "lmplz_vocab_pad", "irstlm")
}
LINES = "cab\n\na b\nbac ab\nb\n"
KENLM = {
    "lmplz": """-0.8768498 -0.5445854 -0.7416607 -0.7606183 -0.6624894 -0.5199108 -0.6197818 -1.0511818 -0.6697593
        -0.7550932 -0.5146009 -1.1858803 -0.7003902 -0.2300503 -0.6087847 -0.7606183 -0.7550932 -0.8173375""",
    "lmplz_vocab_pad": """-1.0214212 -0.565186 -0.8444468 -0.8225326 -0.7449021 -0.5776415 -0.6687331 -1.1665752
        -0.7316736 -0.8596286 -0.5443344 -1.3522117 -0.7569783 -0.245624 -0.6660855 -0.8225326 -0.8596286 -0.8792517""",
    "irstlm": """-0.745088 -0.456971 -0.0720135 -0.446541 -0.828252 -0.57933 -0.710702 -1.6152211 -0.631642
        -0.702223 -0.300649 -1.9229851 -0.889744 -0.106951 -0.334479 -0.446541 -0.702223 -1.029582""",
}
"""log10 of each character of LINES, the end of each line included: kenlm.Model(file).full_scores(line)."""


def noted(file: bytes, **options: str | bool) -> tuple[NGram, Tokenizer, list[str]]:
    notes: list[str] = []
    return *read_arpa(io.BytesIO(file), "some.arpa", on_note=notes.append, **options), notes  # type: ignore[arg-type]


@pytest.mark.parametrize("name", FILES)
def test_lines_have_the_probabilities_that_kenlm_gives_them(name: str) -> None:
    model, tokenizer, notes = noted(FILES[name])
    log10 = scores(model, tokenizer.encode(LINES)) / math.log(10)
    assert log10.tolist() == pytest.approx([float(number) for number in KENLM[name].split()], abs=2e-6)
    assert any("each line is a sentence" in note for note in notes)


@pytest.mark.parametrize("name", FILES)
def test_what_is_imported_obeys_the_laws(name: str, tmp_path: Path) -> None:
    model, tokenizer, _ = noted(FILES[name])
    ids = np.append(0, tokenizer.encode(LINES * 2 + "é!" + LINES))
    stream = torch.from_numpy(ids).long()[None]
    log_probs, _ = model(stream, model.initial_state(1))
    assert log_probs.logsumexp(-1).abs().max() < 1e-5
    assert log_probs.isfinite().all()
    for size in (1, 2, 7):
        state, parts = model.initial_state(1), []
        for part in stream.split(size, 1):
            part_log_probs, state = model(part, state)
            parts.append(part_log_probs)
        torch.testing.assert_close(torch.cat(parts, 1), log_probs, atol=1e-5, rtol=1e-5)
    engine = open_engine(model)
    state = engine.start(1)
    for token, expected in zip(ids, log_probs[0], strict=True):
        stepped, state = engine.step(np.array([token]), state)
        np.testing.assert_allclose(stepped[0], expected.numpy(), atol=1e-4)
    torch.testing.assert_close(
        model.score(stream[:, :-1], stream[:, 1:], model.initial_state(1))[0][0],
        log_probs[0, :-1].gather(1, stream[0, 1:, None])[:, 0],
    )
    checkpoint.save(tmp_path, "ngram", model, tokenizer)
    loaded = checkpoint.load(tmp_path)
    assert torch.equal(loaded.model(stream, loaded.model.initial_state(1))[0], log_probs)
    again, same, notes = noted(written(model, tokenizer))
    assert same.files() == tokenizer.files()
    assert not notes
    np.testing.assert_allclose(scores(again, ids[1:]), scores(model, ids[1:]), atol=1e-5)


def with_backoffs_of_0(file: bytes) -> bytes:
    head, longest = file.split(b"\\3-grams:\n")
    return head + b"\\3-grams:\n" + re.sub(rb"(?m)(\t.*)$", rb"\1\t0", longest)


PLAIN = FILES["lmplz"]
WAYS = {
    "a byte order mark": codecs.BOM_UTF8 + PLAIN,
    "backoffs of 0 at the highest order": with_backoffs_of_0(PLAIN),
    "-inf for <s>": PLAIN.replace(b"\n0\t<s>", b"\n-inf\t<s>"),
    "SRILM's <s>": PLAIN.replace(b"\n0\t<s>", b"\n-99\t<s>"),
    "gzip": gzip.compress(PLAIN),
    "bzip2": bz2.compress(PLAIN),
    "xz": lzma.compress(PLAIN),
    "lzma": lzma.compress(PLAIN, lzma.FORMAT_ALONE),
    "gzip of a byte order mark": gzip.compress(codecs.BOM_UTF8 + PLAIN.replace(b"\n", b"\r\n")),
}


@pytest.mark.parametrize("way", WAYS)
def test_ways_to_write_the_same(way: str) -> None:
    assert WAYS[way] != PLAIN
    expected, tokenizer, _ = noted(PLAIN)
    model, same, _ = noted(WAYS[way])
    assert same.files() == tokenizer.files()
    for name, tensor in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"mmap lm http://kheafield.com/code format version 5\n\0", "KenLM"),
        (b"blmt 3 60 754", "IRSTLM"),
        (gzip.compress(b"iARPA\n\n\\data\\\n", mtime=0), "compile-lm --text=yes"),
        ("\\data\\".encode("utf-16"), "UTF-16"),
        (b"\x28\xb5\x2f\xfd\0", "zstd"),
        (PLAIN.replace(b"-2.6", b"-2,6").replace(b"-1.", b"-1,"), "LC_ALL=C"),
        (gzip.compress(gzip.compress(PLAIN, mtime=0), mtime=0), "not an ARPA file"),
        (lzma.compress(PLAIN)[:200], "cannot be read"),
        (bz2.compress(PLAIN)[:200], "cannot be read"),
        (
            with_backoffs_of_0(PLAIN).replace(b"\t0\n\\end", b"\t-1\n\\end").replace(b"\t0\n\n\\end", b"\t-1\n\n\\end"),
            "no backoff but 0",
        ),
    ],
)
def test_what_cannot_be_read_is_named(content: bytes, what: str) -> None:
    with pytest.raises(DataError, match=re.escape(what)) as raised:
        noted(content)
    assert str(raised.value).startswith("some.arpa:")
    assert "\n" not in str(raised.value)


STREAM = PLAIN.replace("▁".encode(), "⏎".encode())
"""The same numbers, of a file that has a word for a line feed and none for a space."""


def test_a_file_with_a_word_for_a_line_feed_is_one_stream() -> None:
    one, of_lines = noted(PLAIN)[:2], noted(STREAM, newline="</s>")[:2]
    model, tokenizer, notes = noted(STREAM)
    assert [note for note in notes if "space" in note]
    assert not [note for note in notes if "line feed" in note]
    found = scores(model, tokenizer.encode("a\nb"))
    assert found == pytest.approx(scores(one[0], one[1].encode("a b")), abs=1e-6)
    assert scores(of_lines[0], of_lines[1].encode(LINES.replace(" ", "⏎"))) / math.log(10) == pytest.approx(
        [float(number) for number in KENLM["lmplz"].split()], abs=2e-6
    )


@pytest.mark.parametrize(
    ("file", "options", "what"),
    [
        (PLAIN, {"space": "_"}, "`space` '_': some.arpa has no such word"),
        (PLAIN, {"newline": "<br>"}, "`newline` '<br>': some.arpa has no such word"),
        (PLAIN, {"newline": ""}, "no such word"),
        (PLAIN, {"space": "<s>"}, "never a character"),
        (PLAIN, {"newline": "<s>"}, "never a character"),
        (PLAIN, {"space": "<unk>"}, "never a character"),
        (PLAIN, {"newline": "<unk>"}, "never a character"),
        (PLAIN, {"space": "</s>"}, "never a character"),
        (PLAIN, {"space": "a", "newline": "a"}, "both 'a'"),
        (SMALL.replace("</s>", "z").encode(), {"newline": "</s>"}, "no such word"),
        (
            b"# tokenizer " + next(iter(learned("characters", "aa  ").files().values())) + PLAIN,
            {"space": "▁"},
            "brings its own",
        ),
    ],
)
def test_words_that_cannot_be_a_space_or_a_line_feed(file: bytes, options: dict[str, str], what: str) -> None:
    with pytest.raises(UsageError, match=re.escape(what)):
        noted(file, **options)


def test_a_line_feed_and_the_end_of_a_sentence_cannot_be_both() -> None:
    with pytest.raises(DataError, match="the same as another word"):
        noted(PLAIN.replace("▁".encode(), b"\\u{A}"), newline="</s>")


def test_what_the_1_grams_leave_belongs_to_unseen_characters() -> None:
    model, tokenizer, notes = noted(FILES["lmplz_vocab_pad"])
    assert any("the 1-grams add up to 0.7237" in note for note in notes)
    unseen = np.setdiff1d(np.arange(tokenizer.vocab_size), model.ids.numpy())
    assert float(model.unigram[unseen].sum()) == pytest.approx(1 - 0.7236842 + 10**-1.7047223, abs=1e-6)


SPECIALS = """\\data\\
ngram 1=5
ngram 2=7
ngram 3=3

\\1-grams:
-1\t<unk>\t-0.3
-99\t<s>\t-0.3590219
-0.69897\t</s>\t-0.5
-0.69897\ta\t-0.20412
-0.30103\t_

\\2-grams:
-0.39794\t<s> a
-0.30103\ta _
-0.60206\ta <unk>
-0.30103\t<unk> a
-inf\t_ <s>
-0.30103\t</s> <s>
-0.60206\t<s> <s>

\\3-grams:
-0.60206\t<s> a <unk>
-0.60206\ta <unk> a
-0.60206\t<s> <s> a

\\end\\
"""
"""After a: _ 0.5, <unk> 0.25, and 0.625 of 0.2 for a and </s> each. After <s>: a 0.4, <s> 0.25, 0.4375 of the rest."""


def test_unknown_words_and_beginnings_inside() -> None:
    model, tokenizer, notes = noted(SPECIALS.encode(), space="_")
    assert [int(note.split()[0]) for note in notes if "left out" in note] == [2, 2]
    ids = np.append(0, tokenizer.encode("a aa!"))
    probs = model(torch.from_numpy(ids).long()[None], model.initial_state(1))[0][0].exp()
    assert torch.allclose(probs.sum(1), torch.ones(6), atol=1e-5)
    unseen = tokenizer.vocab_size - 4  # all but the boundary, a, space and line feed
    expected = [0.4, 0.5, 0.2, 0.625 * 0.2, 0.625 * 0.1 / unseen]
    assert probs[np.arange(5), ids[1:]].tolist() == pytest.approx(expected, rel=1e-4)
    of_nobody = [0.25, 0.25 - 0.625 * 0.1]  # <s>; what <unk> has after a beyond what the 1-grams give it
    assert probs[[0, 1], 0].tolist() == pytest.approx(of_nobody, rel=1e-4)


def test_unknown_words_that_are_less_probable_than_the_shorter_context_says() -> None:
    file = (
        SPECIALS.replace("-0.60206\ta <unk>", "-inf\ta <unk>")
        .replace("-0.20412", "0.09691")
        .replace("-0.60206\t<s> a <", "-inf\t<s> a <")
    )
    model, tokenizer, _ = noted(file.encode(), space="_")
    log_probs, _ = model(torch.from_numpy(np.append(0, tokenizer.encode("a a!a"))).long()[None], model.initial_state(1))
    assert log_probs.logsumexp(-1).abs().max() < 1e-5
    assert log_probs.isfinite().all()


def test_a_model_that_does_not_add_up_is_told_and_renormalized() -> None:
    pruned = FILES["irstlm"].replace(b"31\n", b"30\n").replace(b"-0.0720135\tc a b\n", b"")
    with pytest.raises(DataError, match=r"some.arpa:29: .* after this n-gram add up to 0\.\d+, not 1: `renormalize"):
        noted(pruned)
    model, tokenizer, notes = noted(pruned, renormalize=True)
    (note,) = (note for note in notes if "add up" in note)
    assert note.startswith("some.arpa:29: ")
    backed_off = 10 ** (-0.60206 - 0.410267)  # of b after c a, whose other followers share what 10 ** -0.0720135 leaves
    total = 1 - 10**-0.0720135 + backed_off
    assert f"add up to {total:.4g}" in note
    before, after = (np.exp(scores(m, tokenizer.encode("cab\n"))) for m in (noted(FILES["irstlm"])[0], model))
    assert after[:2] == pytest.approx(before[:2], rel=1e-5)
    assert after[2] == pytest.approx(backed_off / total, rel=1e-3)


PIECES = """\\data\\
ngram 1=7
ngram 2=1

\\1-grams:
-1\t<unk>
-99\t<s>
-1\t</s>
-0.5228787\t▁a\t-0.1549020
-0.69897\te\u0301
-0.69897\tb
-1\t<0x41>

\\2-grams:
-0.1549020\t▁a b
\\end\\
"""
"""Pieces as SentencePiece writes them: 0.3 for " a", 0.2 for "é" of two code points, 0.2 for b, 0.1 for the byte A."""


def test_words_of_several_characters() -> None:
    file = (
        PIECES.replace("-0.1549020\t▁a b", "-0.39794\t▁a b")
        .replace("\\end", "\n\\end")
        .replace("-0.1549020", "-0.1249387")
    )
    model, tokenizer, notes = noted(file.encode())
    text = " abe\u0301A\n \u0301"
    ids = tokenizer.encode(text)
    pieces = [tokenizer.pieces()[token].decode() for token in ids]
    assert pieces == [" a", "b", "e\u0301", "A", "\n", " ", "\u0301"]
    assert np.exp(scores(model, ids))[:5].tolist() == pytest.approx([0.3, 0.4, 0.2, 0.1, 0.1], rel=1e-5)
    assert tokenizer.decode(ids) == text
    assert any("2 of 4 words are longer than a character" in note for note in notes)
    again, same, _ = noted(written(model, tokenizer))
    assert same.files() == tokenizer.files()
    np.testing.assert_allclose(scores(again, ids), scores(model, ids), atol=1e-5)


def test_words_without_spaces_are_refused_unless_a_text_has_none() -> None:
    file = SMALL.replace("_", "中国").encode()
    with pytest.raises(DataError, match=r"some.arpa:11: '中国' is longer than a character, and no word is a space"):
        noted(file)
    _, tokenizer, _ = noted(file, space="")
    assert [tokenizer.pieces()[token].decode() for token in tokenizer.encode("a中国")] == ["a", "中国"]
    for odd in ("\\u{0}", "\\u{2581}", "\\u{D800}"):
        with pytest.raises(DataError, match=r"some.arpa:10: U\+[0-9A-F]{4} cannot be in a vocabulary"):
            noted(SMALL.replace("a\n", odd + "\n").replace("_", "▁中国").encode())


def test_longer_words_mean_what_they_spell() -> None:
    for text in ("▁ ⏎\n\\ \u0301e", "ab", "\\u{41}", "a\x00b", "<s>", "<unk>"):
        assert meaning(spelled(text)) == text
    assert meaning("▁the") == " the"
    assert meaning("|the", space="|") == " the"
    assert meaning("a⏎", newline="</s>") == "a⏎"
    assert meaning("<0x0A>") == 10
    assert meaning("\\u{110000}") == "\\u{110000}"


def test_importing_on_the_command_line(folder: Path, charlm: Charlm) -> None:
    (folder / "lines.txt").write_text(LINES)
    (folder / "packed").write_bytes(gzip.compress(FILES["lmplz"]))
    (folder / "irst.lm.xz").write_bytes(lzma.compress(FILES["irstlm"]))
    outcome = charlm("import", "packed", "--json")
    assert outcome.code == 0, outcome.err
    assert "note: no word stands for a line feed" in outcome.err
    (note,) = json.loads(outcome.out)["notes"]
    assert note.replace("`newline`", "--newline") in outcome.err  # each in the words of who reads it
    assert checkpoint.load(folder / "checkpoints" / "packed").history.imported["notes"] == [note]
    evaluated = json.loads(charlm("evaluate", "checkpoints/packed", "--text", "lines.txt", "--json").out)
    expected = -sum(map(float, KENLM["lmplz"].split())) / math.log10(2) / len(LINES)
    assert evaluated["bits_per_character"] == pytest.approx(expected, abs=1e-5)
    assert charlm("import", "irst.lm.xz").code == 0
    assert (folder / "checkpoints" / "irst").is_dir()
    for arguments, code in [(("--space", "_"), 2), (("--newline", "<s>"), 2), (("--newline", "</s>"), 0)]:
        outcome = charlm("import", "packed", "-o", "run", *arguments)
        assert outcome.code == code, outcome.err
        assert (folder / "run").exists() == (code == 0)
    assert not charlm("import", "packed", "-o", "again", "--newline", "</s>").err.startswith("note")


def outcome_of(file: bytes) -> NGram | str:
    try:
        return noted(file, renormalize=True)[0]
    except CharlmError as problem:
        return str(problem)


def test_any_damage_is_an_error_or_a_sound_model() -> None:
    generator = np.random.default_rng(6)
    files = (FILES["irstlm"], SPECIALS.encode(), PIECES.encode())
    outcomes = [outcome_of(spoiled(file, generator)) for file in files for _ in range(150)]
    models = [outcome for outcome in outcomes if isinstance(outcome, NGram)]
    assert 0 < len(models) < len(outcomes)
    assert all(re.match(r"some.arpa:.+", outcome) for outcome in outcomes if isinstance(outcome, str))
    for model in models:
        log_probs, _ = model(torch.tensor([[0, 98, 256, 11, 0, 98]]), model.initial_state(1))
        assert log_probs.logsumexp(-1).abs().max() < 1e-5
