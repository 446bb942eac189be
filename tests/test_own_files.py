"""What charlm writes is never read as a corpus; a run made from a folder keeps to the files that it was made from."""

import gzip
import json
from pathlib import Path

import pytest
from conftest import TEXT, Charlm

from charlm import checkpoint
from charlm.checkpoint import CARD, METRICS
from charlm.corpus import Origin, ReadingLog, open_corpus, reopen
from charlm.errors import CharlmError, DataError
from charlm.own_files import REPORT_MARK, written_by_charlm

NGRAM = ("--arch", "ngram", "--order", "3", "-q")
TINY = ("--arch", "rnn", "--size", "tiny", "--budget", "3steps", "-q")


@pytest.fixture
def texts(folder: Path) -> Path:
    """A folder with two texts."""
    (folder / "corpus.txt").unlink()
    (folder / "texts").mkdir()
    (folder / "texts" / "a.txt").write_text(TEXT)
    (folder / "texts" / "b.txt").write_text(TEXT.upper())
    return folder / "texts"


def whole(folder: Path, encoding: str = "utf-8") -> str:
    return open_corpus([folder], encoding).read()


def test_whatever_charlm_writes_into_a_folder_leaves_its_text_as_it_was(
    texts: Path, charlm: Charlm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(texts)
    before = whole(texts)
    assert charlm("train", ".", *TINY).code == 0
    (texts / "figures.json").write_text(charlm("compare", ".", *NGRAM[:4], "--json").out)
    assert charlm("export", "checkpoints/texts-ngram").code == 0
    assert charlm("export", "checkpoints/texts-ngram", "-o", "packed.gz").code == 0
    run = texts / "checkpoints" / "texts-rnn"
    for name in (CARD, METRICS):
        (texts / f"copy-{name}.txt").write_bytes((run / name).read_bytes())
    (texts / "page.html").write_text(f"<!DOCTYPE html>\n{REPORT_MARK}\n<html></html>\n")
    killed = texts / "killed"
    killed.mkdir()
    (killed / next(run.glob("tokenizer*")).name).write_bytes(b"{}")
    for encoding in ("utf-8", "latin-1", "auto"):
        assert whole(texts, encoding) == before
    log = ReadingLog()
    open_corpus([texts], log=log)
    notes = list(log.notes())
    assert len(notes) == len(log.left_out) == 6
    (runs,) = (note for note in notes if note.endswith(": a run of charlm"))
    assert all(name in runs for name in ("texts-rnn", "texts-ngram", "killed"))


def test_the_page_that_is_written_is_known_again(folder: Path, charlm: Charlm) -> None:
    assert charlm("train", "corpus.txt", *NGRAM, "-o", "run").code == 0
    assert charlm("report", "run").code == 0
    assert written_by_charlm(folder / "report.html") == "a report of charlm"


def test_texts_that_look_a_little_like_charlm_are_read(texts: Path) -> None:
    (texts / "checkpoint.json").write_text('{"epoch": 3}')
    (texts / "heading.md").write_text("# charlm is a word\n")
    (texts / "more").mkdir()
    (texts / "more" / "sha256.json").write_text('{"mine": "abc"}')
    assert all(part in whole(texts) for part in ('"epoch"', "# charlm is", '"mine"'))


def test_comparing_a_folder_again_gives_the_same_figures(
    texts: Path, charlm: Charlm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(texts)
    first, second = (charlm("compare", ".", *NGRAM[:4], "--csv").out.splitlines()[1].split(",")[:4] for _ in range(2))
    assert first == second
    assert len(list((texts / "checkpoints").iterdir())) == 1


def test_shell_globs_may_name_what_charlm_wrote_but_not_alone(texts: Path, charlm: Charlm) -> None:
    assert charlm("train", "texts", *NGRAM, "-o", "run").code == 0
    log = ReadingLog()
    text = open_corpus(["run", "texts"], log=log)
    assert (text.name, text.read()) == ("texts", whole(texts))
    assert log.left_out == {"a run of charlm": ["run"]}
    with pytest.raises(DataError, match="only what charlm wrote"):
        open_corpus(["run"])


def test_a_new_file_is_named_and_the_run_goes_on_with_its_own(texts: Path, charlm: Charlm) -> None:
    assert charlm("train", "texts", *NGRAM, "-o", "run").code == 0
    before = json.loads(charlm("evaluate", "run", "--json").out)
    (texts / "new.txt").write_text("Something else.")
    (texts / "empty.txt").touch()
    outcome = charlm("evaluate", "run", "--json")
    assert json.loads(outcome.out)["bits_per_character"] == before["bits_per_character"]
    assert outcome.err.splitlines() == [
        f"left out {texts / 'new.txt'}: new since the run was trained; a run keeps to its own files"
    ]
    assert charlm("compare", "run").code == 0
    (texts / "b.txt").write_text("Shorter.")
    assert f"{texts / 'b.txt'} has changed since" in charlm("evaluate", "run").err
    (texts / "b.txt").unlink()
    assert f"{texts / 'b.txt'}: no longer there" in charlm("evaluate", "run").err


def test_a_corpus_that_has_moved_is_named_in_its_new_place(texts: Path, charlm: Charlm) -> None:
    (texts / "held.md").write_text(TEXT[:500])
    assert charlm("train", "texts", "--held-out", "texts/held.md", *NGRAM, "-o", "run").code == 0
    texts.rename(texts.with_name("moved"))
    assert "say where it is now: --held-out FILE" in charlm("evaluate", "run").err
    assert charlm("evaluate", "run", "--held-out", "moved/held.md").code == 0
    assert "say where it is now: --corpus PATH" in charlm("compare", "run").err
    there = ("--corpus", "moved", "--held-out", "moved/held.md")
    for command in ("evaluate", "compare"):
        assert charlm(command, "run", *there).code == 0, command
    (texts.with_name("moved") / "a.txt").write_text(TEXT.lower())
    assert "not the text that this run was made from" in charlm("compare", "run", *there).err


def test_the_list_of_many_files_is_not_part_of_the_card(texts: Path, charlm: Charlm) -> None:
    for number in range(300):
        (texts / f"{number}-{'x' * 100}.txt").write_text(f"text {number}\n")
    assert charlm("train", "texts", *NGRAM, "-o", "run").code == 0
    assert (Path("run") / CARD).stat().st_size < 5_000
    assert len(checkpoint.load("run").history.corpus["files"]["sources"][0]) == 302
    assert charlm("evaluate", "run").code == 0


def test_a_run_without_a_list_reads_what_is_there(texts: Path) -> None:
    origin = Origin((str(texts),))
    described = origin.describe(origin.open())
    assert "files" not in described
    assert reopen(described).split.training.name == "texts"


@pytest.mark.parametrize("entry", [["../x", 1, None], ["/x", 1, None], [3, 1, None], ["x", "1", None], ["x"], 3])
def test_a_list_from_a_stranger_leads_nowhere(texts: Path, entry: object) -> None:
    origin, log = Origin((str(texts),)), ReadingLog()
    described = origin.describe(origin.open(log), log)
    with pytest.raises(CharlmError, match="does not say which text"):
        reopen({**described, "files": {"sources": [[entry]], "held_out": None}})


def test_an_export_by_another_program_is_a_text(tmp_path: Path) -> None:
    for name, opened in (("a.arpa", open), ("a.arpa.gz", gzip.open)):
        with opened(tmp_path / name, "wb") as file:
            file.write(b"\\data\\\nngram 1=3\n")
        assert written_by_charlm(tmp_path / name) is None
