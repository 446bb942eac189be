"""Texts as they are given: by standard input, fine-tuned on, learned from, with other line ends."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import TEXT, Charlm, begun
from hypothesis import given
from hypothesis import strategies as st

from charlm import checkpoint
from charlm.corpus import Origin, Text, overlap, share_in
from charlm.corpus.line_ends import LINE_ENDS, known_line_ends, line_ends, unknown_line_ends
from charlm.evaluation import learned_share
from charlm.tokenizers import TOKENIZERS, alphabet

NGRAM = ("--arch", "ngram", "--order", "3", "-q")
QUICK = ("--budget", "2steps", "-q")
NEW = "Ünïcode – fine “text” of its own, and a ghost of number %d.\n"


def text(string: str) -> Text:
    return Text.from_string(string, "text")


@pytest.fixture
def run(folder: Path, charlm: Charlm) -> Path:
    """An n-gram of corpus.txt, named run."""
    assert charlm("train", "corpus.txt", *NGRAM, "-o", "run").code == 0
    (folder / "other.txt").write_text("".join(NEW % number for number in range(40)), encoding="utf-8")
    return folder / "run"


PLACES = (
    ("evaluate", "run", "--text"),
    ("score", "run"),
    ("inspect", "predict", "run", "--text"),
    ("sample", "run", "--seed", "1", "--length", "9", "--prompt-file"),
    ("mix", "run", "run", "-o", "mixed", "--force", "--text"),
    ("train", *NGRAM, "-o", "again", "--force", "--json"),
    ("train", "corpus.txt", *NGRAM, "-o", "again", "--force", "--json", "--held-out"),
    ("compare", "--arch", "ngram", "--again", "--json"),
    ("compare", "corpus.txt", "--arch", "ngram", "--again", "--json", "--held-out"),
)
FIGURES = {"bits", "bits_per_character", "unseen_characters", "parameters", "tokens", "predictions"}


def figures(data: object) -> list[object]:
    """What JSON says of texts and models, wherever in it: no times, no names."""
    if isinstance(data, dict):
        own = [(name, value) for name, value in data.items() if name in FIGURES]
        return [*own, *(figure for value in data.values() for figure in figures(value))]
    return [figure for entry in data for figure in figures(entry)] if isinstance(data, list) else []


@pytest.mark.parametrize("place", PLACES, ids=" ".join)
def test_every_place_that_takes_a_text_takes_standard_input(place: tuple[str, ...], run: Path, charlm: Charlm) -> None:
    content = Path("other.txt").read_text(encoding="utf-8")
    json_wanted = () if "--json" in place or place[0] == "sample" else ("--json",)
    piped = charlm(*place, "-", *json_wanted, stdin=content)
    assert piped.code == 0, piped.err
    typed = place[0] in ("score", "inspect")  # these take a text, not its name
    named = charlm(*place, content if typed else "other.txt", *json_wanted)
    if place[0] == "sample":
        assert piped.out == named.out
    else:
        assert figures(json.loads(piped.out)) == figures(json.loads(named.out)) != []


def test_a_file_named_dash_can_be_named(run: Path, charlm: Charlm) -> None:
    Path("-").write_text(TEXT)
    figures = json.loads(charlm("evaluate", "run", "--text", "./-", "--json").out)
    assert figures["characters"] == len(TEXT)


class TestStandardInputIsNotKept:
    def test_held_out_there_and_read_here(self, run: Path, charlm: Charlm) -> None:
        assert charlm("train", "-", "--held-out", "other.txt", *NGRAM, "-o", "piped", stdin=TEXT).code == 0
        figures = json.loads(charlm("evaluate", "piped", "--json").out)
        Path("all.txt").write_text(TEXT)
        assert charlm("train", "all.txt", "--held-out", "other.txt", *NGRAM, "-o", "named").code == 0
        assert figures["bits"] == json.loads(charlm("evaluate", "named", "--json").out)["bits"]
        assert figures["share_in_training"] is None

    def test_held_out_by_standard_input_ends_at_once_and_trains_on(self, folder: Path, charlm: Charlm) -> None:
        path = begun()
        card = path / checkpoint.CARD
        described = json.loads(card.read_text())
        split = Origin(("corpus.txt",)).open()
        (folder / "all.txt").write_text(split.training.read())
        origin = Origin(("all.txt",), held_out="corpus.txt")
        described["corpus"] = {**origin.describe(origin.open()), "held_out_file": "-"}
        card.write_text(json.dumps(described))
        for arguments in (["evaluate", "--text", "-"], ["evaluate"]):
            assert charlm(*arguments, str(path), stdin=TEXT).code == (0 if "-" in arguments else 3)
        outcome = charlm("train", "--resume", str(path), "-q")
        assert outcome.code == 0, outcome.err  # nothing that is learned from was held out

    def test_a_run_goes_on_from_standard_input(self, folder: Path, charlm: Charlm) -> None:
        path = begun()
        (folder / "corpus.txt").unlink()
        assert charlm("train", "-", "--resume", str(path), "-q", stdin=TEXT + "More.").code == 3
        outcome = charlm("train", "-", "--resume", str(path), "-q", stdin=TEXT)
        assert outcome.code == 0, outcome.err
        assert "standard input" in charlm("info", str(path)).out
        told = charlm("evaluate", str(path))
        assert (told.code, "this run's corpus came from standard input" in told.err) == (3, True)


@pytest.mark.parametrize(
    "arguments", [("score", "run"), ("inspect", "predict", "run", "--text"), ("sample", "run", "-p")]
)
def test_the_name_of_a_file_as_a_text_is_noticed(arguments: tuple[str, ...], run: Path, charlm: Charlm) -> None:
    Path("two words").write_text(TEXT)
    outcome = charlm(*arguments, "two words")
    assert outcome.code == 0
    assert "there is a file of this name" in outcome.err
    assert outcome.err.rstrip().endswith("'two words'")
    assert charlm(*arguments, "no file").err == ""


class TestFineTuning:
    @pytest.mark.parametrize("kind", TOKENIZERS)
    def test_seeing_more_changes_no_id(self, kind: str) -> None:
        before = TOKENIZERS[kind].train([TEXT], TOKENIZERS[kind].Config())
        after = before.also_seeing(alphabet([NEW]))
        assert after.fingerprint == before.fingerprint
        assert type(after).from_files(after.files()).files() == after.files()
        np.testing.assert_array_equal(after.encode(TEXT + NEW + "漢"), before.encode(TEXT + NEW + "漢"))
        unseen = [len(tokenizer.unseen(tokenizer.encode(NEW + "漢"))) for tokenizer in (before, after)]
        assert unseen == [sum(character not in TEXT for character in NEW) + 1, 1]

    def test_a_run_knows_its_parents_and_what_they_saw(self, run: Path, charlm: Charlm) -> None:
        assert charlm("train", "corpus.txt", "--arch", "gru", "--size", "tiny", *QUICK, "-o", "first").code == 0
        (run.parent / "third.txt").write_text("Ганнибал и слоны, страница %s.\n" * 40, encoding="utf-8")
        assert charlm("train", "other.txt", "--from", "first", *QUICK, "-o", "second").code == 0
        assert charlm("train", "third.txt", "--from", "second", *QUICK, "-o", "third").code == 0
        card = json.loads(charlm("info", "third", "--json").out)
        assert [Path(entry["run"]).name for entry in card["parents"]] == ["second", "first"]
        assert [entry["corpus"]["name"] for entry in card["parents"]] == ["other", "corpus"]
        first = checkpoint.read_card(Path("first")).files["weights"].sha256
        assert card["parents"][1]["weights"] == first
        assert f"first (weights {first[:12]}" in charlm("info", "third").out
        for text in ("corpus.txt", "other.txt", "third.txt"):
            outcome = charlm("evaluate", "third", "--text", text, "--json")
            figures = json.loads(outcome.out)
            assert figures["unseen_characters"] == 0
            assert figures["share_in_training"] > 0.8
            assert "occurs word for word in the training text of third" in outcome.err
        assert json.loads(charlm("evaluate", "second", "--text", "third.txt", "--json").out)["unseen_characters"] > 0

    def test_cards_of_strangers(self) -> None:
        assert checkpoint.History.from_json({"parents": None}).parents == ()
        for parents in (3, [3, None], {"run": 3}):
            with pytest.raises(ValueError, match="parents"):
                checkpoint.History.from_json({"parents": parents})


class TestOverlap:
    @staticmethod
    def brute_force(own: str, others: list[str], size: int) -> float:
        def plain(string: str) -> bytes:
            return string.replace("\r", "").replace("\n", " ").replace("\t", " ").encode()

        data = plain(own)
        passages = [data[at : at + size] for at in range(0, len(data) - size + 1, size)]
        return sum(any(p in plain(other) for other in others) for p in passages) / max(1, len(passages))

    @given(own=st.text("ab\n\ré", max_size=60), others=st.lists(st.text("ab\n\ré", max_size=60), max_size=3))
    def test_is_what_a_search_finds(self, own: str, others: list[str]) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(overlap, "WINDOW_BYTES", 4)
            patch.setattr(overlap, "_BYTES_PER_STRIP", 8)
            patch.setattr("charlm.corpus.text.MAX_CHUNK_BYTES", 7)
            expected = self.brute_force(own, others, 4)
            assert share_in(text(own), [text(other) for other in others]) == pytest.approx(expected)

    def test_of_a_long_text_there_is_a_sample(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("charlm.corpus.text.MAX_CHUNK_BYTES", 100)
        lines = "".join(f"{number:9}\n" for number in range(4000))
        assert share_in(text(lines), [text(lines)]) == 1
        monkeypatch.setattr(overlap, "MAX_WINDOWS", 50)
        assert len(overlap._passages(text(lines))) in range(50, 100)
        assert share_in(text(lines[20_000:]), [text(lines)]) == 1
        assert share_in(text(lines[20_000:]), [text(lines[:20_000])]) == 0
        monkeypatch.setattr(overlap, "MAX_BYTES", 10_000)
        assert 0 < share_in(text(lines), [text(lines)]) < 0.4

    def test_a_held_out_text_that_is_learned_from_is_told(self, run: Path, charlm: Charlm) -> None:
        for command in ("train", "compare"):
            more = NGRAM if command == "train" else ("--arch", "ngram", "-o", "runs")
            outcome = charlm(command, "corpus.txt", "--held-out", "corpus.txt", *more)
            assert "corpus: 100.0% of it occurs word for word in the training text" in outcome.err
        assert "corpus: 9" in charlm("mix", "run", "run", "--text", "corpus.txt").err
        assert "in the training text" in charlm("evaluate", "run", "--text", "other.txt").out
        assert charlm("evaluate", "run", "--text", "other.txt").err == ""

    @pytest.mark.parametrize("command", ["evaluate", "compare", "report"])
    def test_runs_that_learned_from_what_they_held_out_are_named(self, command: str, run: Path, charlm: Charlm) -> None:
        for name in ("a", "b"):
            outcome = charlm("train", "corpus.txt", "--held-out", "corpus.txt", *NGRAM, "-o", name)
            assert outcome.code == 0
        (note,) = {line.split(" occurs")[1] for line in charlm(command, "a").err.splitlines() if " occurs " in line}
        assert note == " word for word in the training text of a; figures on that part measure memory, not prediction"
        both = charlm(command, "a", "b").err
        assert both.count(" occurs ") == (2 if command == "evaluate" else 1)
        assert command == "evaluate" or "the training text of a and b" in both
        Path("new.txt").write_text(" ".join(str(number**3) for number in range(600)), encoding="utf-8")
        assert charlm("train", "new.txt", *NGRAM, "-o", "c").code == 0
        assert " occurs " not in charlm(command, "c").err

    def test_a_text_that_is_gone_is_known_by_its_hash(self, run: Path, charlm: Charlm) -> None:
        loaded, whole = checkpoint.load(run), text(TEXT)
        assert learned_share(whole, loaded.history).complete
        Path("corpus.txt").unlink()
        found = learned_share(whole, loaded.history)
        assert (found.complete, found.share) == (False, pytest.approx(0.9, abs=0.01))
        assert learned_share(text(TEXT[5:]), loaded.history).known is None


class TestLineEnds:
    @given(string=st.text("a\r\n", max_size=40))
    def test_are_counted_as_a_search_counts_them(self, string: str) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("charlm.corpus.text.MAX_CHUNK_BYTES", 4)
            counts = line_ends(text(string))
        rest = string.replace("\r\n", "")
        assert counts == {"LF": rest.count("\n"), "CRLF": string.count("\r\n"), "CR": rest.count("\r")}

    def test_unknown_ones_are_told(self) -> None:
        ends = dict(zip(LINE_ENDS, ("\n", "\r\n", "\r"), strict=True))
        for own in LINE_ENDS:
            for usual in LINE_ENDS:
                message = unknown_line_ends(text(f"a{ends[own]}" * 9), line_ends(text(f"b{ends[usual]}" * 9)))
                assert (message is None) is (own == usual)
        assert unknown_line_ends(text("no end"), {"LF": 9, "CRLF": 0, "CR": 0}) is None
        assert unknown_line_ends(text("a\r\n"), {"LF": 9, "CRLF": 3, "CR": 0}) is None

    def test_what_an_old_run_does_not_say_is_taken_from_its_characters(self) -> None:
        assert known_line_ends(None, feeds=True, returns=True) is None
        assert known_line_ends({"line_ends": 3}, feeds=True, returns=False) == {"LF": 1, "CRLF": 0, "CR": 0}

    def test_each_command_tells(self, run: Path, charlm: Charlm) -> None:
        Path("dos.txt").write_bytes(TEXT.replace("\n", "\r\n").encode())
        dos = TEXT.replace("\n", "\r\n")[:99]
        for arguments in (
            ("evaluate", "run", "--text", "dos.txt"),
            ("score", "run", dos),
            ("inspect", "predict", "run", "--text", dos),
            ("sample", "run", "-p", dos, "-l", "1"),
            ("train", "corpus.txt", "--held-out", "dos.txt", *NGRAM),
            ("mix", "run", "run", "--text", "dos.txt"),
        ):
            assert "its lines end with CRLF, those of the training text with LF" in charlm(*arguments).err


def test_a_prompt_comes_without_its_byte_order_mark(run: Path, charlm: Charlm) -> None:
    Path("prompt.txt").write_bytes(b"\xef\xbb\xbfHAM")
    for arguments in (["--prompt-file", "prompt.txt"], ["--prompt-file", "-"]):
        outcome = charlm("sample", "run", "-l", "0", *arguments, stdin=Path("prompt.txt").read_bytes())
        assert outcome.out == "HAM\n"


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
@pytest.mark.parametrize("size", [100, 300, 1000])
def test_a_vocabulary_that_nobody_asked_for_is_as_large_as_the_text_allows(model_type: str, size: int) -> None:
    kind = TOKENIZERS["sentencepiece"]
    tokenizer = kind.train([TEXT[:size]], kind.Config(model_type=model_type))
    assert 257 < tokenizer.vocab_size <= 512
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT
    assert kind.train([TEXT[:size]], kind.Config(model_type=model_type, vocab_size=tokenizer.vocab_size)).vocab_size
