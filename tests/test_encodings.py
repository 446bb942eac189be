"""Encodings: what is found decodes the file as it was written, wrong bytes are counted, and all of it is said."""

import io
import os
import sys
from pathlib import Path

import pytest
from conftest import TEXT, Charlm
from hypothesis import given
from hypothesis import strategies as st

from charlm import cli
from charlm.corpus import Origin, ReadingLog, open_corpus, reopen
from charlm.corpus.encodings import find_encoding
from charlm.errors import CharlmError, DataError, UsageError

QUOTES = "It’s a “quoted” sentence – with dashes — and nothing else, isn’t it? The rest is plain words.\n"
GERMAN = "Grüße aus München: „schöne“ Häuser und Straßen, für alle. Übermäßig große Flüsse – und Brücken.\n"
POLISH = "Zażółć gęślą jaźń, a potem wróć do domu; książka leży na stole i czeka.\n"
RUSSIAN = "Съешь же ещё этих мягких французских булок, да выпей чаю.\n"
JAPANESE = "吾輩は猫である。名前はまだ無い。どこで生れたか頓と見当がつかぬ。\n"
CHINESE = "我们的世界是一个很大的地方,有很多人住在这里。今天天气很好,我们去公园。\n"
WIDE = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")
CASES = [
    *((text, encoding) for text in (QUOTES, GERMAN, RUSSIAN, JAPANESE, CHINESE) for encoding in ("utf-8", *WIDE)),
    *((text, encoding) for text in (QUOTES, GERMAN) for encoding in ("cp1252", "mac-roman")),
    *((POLISH, encoding) for encoding in ("cp1250", "iso8859-2")),
    *((RUSSIAN, encoding) for encoding in ("cp1251", "koi8-r", "cp866")),
    *((JAPANESE, encoding) for encoding in ("shift_jis", "euc_jp")),
    *((CHINESE, encoding) for encoding in ("gb18030", "big5")),
    ("café au lait\n", "latin-1"),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "some.txt"


def refused(*arguments: object, **options: str) -> str:
    with pytest.raises(CharlmError) as caught:
        open_corpus(*arguments, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert message.count("\n") <= 1
    return message


@pytest.mark.parametrize(("text", "encoding"), CASES)
@pytest.mark.parametrize("times", [2, 300])
def test_what_is_found_reads_the_text_as_it_was_written(file: Path, text: str, encoding: str, times: int) -> None:
    file.write_bytes((text * times).encode(encoding, "ignore"))
    written = file.read_bytes().decode(encoding)
    assert open_corpus([file], "auto").read() == written
    if encoding != "utf-8":
        message = refused([file])
        advised = message.split("`encoding='")[1].split("'")[0]
        assert open_corpus([file], advised).read() == written
        assert f'reads as {advised}: "{written.split()[0]}' in message


def test_a_byte_far_from_the_beginning_tells_as_well(file: Path) -> None:
    file.write_bytes(b"plain words\n" * 200_000 + QUOTES.encode("cp1252") * 3)
    log = ReadingLog()
    assert open_corpus([file], "auto", log=log).read().endswith(QUOTES)
    assert list(log.guessed) == ["cp1252"]
    assert 'reads as cp1252: "' in refused([file])
    assert "’" in refused([file])


def test_quotes_in_few_words_are_windows_1252(file: Path) -> None:
    for data in (b"It\x92s late.\n", b"It\x92s a fine day, isn\x92t it? \x93Yes\x94 \x96 he said.", b"5 \x80 only"):
        file.write_bytes(data)
        assert open_corpus([file], "auto").read() == data.decode("cp1252")


def test_cyrillic_in_utf_16_is_not_taken_for_ascii(file: Path) -> None:
    file.write_bytes(RUSSIAN.encode("utf-16-le"))  # whose bytes are all below 0x80
    assert "reads as utf-16-le" in refused([file])


@pytest.mark.parametrize("data", [os.urandom(5000), bytes(range(256)) * 8, b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"])
def test_what_is_no_text_fits_no_encoding(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    assert find_encoding(lambda: file.open("rb")) is None
    assert "binary data, not text" in refused([file], "auto")


@pytest.mark.parametrize(("text", "encoding"), [(GERMAN, "utf-8"), (JAPANESE, "shift_jis"), (GERMAN, "utf-16-le")])
def test_a_file_cut_inside_its_last_character(file: Path, text: str, encoding: str) -> None:
    file.write_bytes((text + "ü猫"[encoding == "shift_jis"]).encode(encoding)[:-1])
    message = refused([file], encoding)
    assert "cut inside its last character" in message
    assert "latin" not in message
    assert "cp1252" not in message
    assert open_corpus([file], encoding, errors="skip").read() == text


def test_a_lone_byte_at_the_end_of_ascii_may_be_either(file: Path) -> None:
    file.write_bytes(b"plain caf\xe9")
    assert 'cut inside its last character; or it is cp1252, "é" being the character' in refused([file])


@given(st.lists(st.one_of(st.text(max_size=5).map(lambda s: s.encode("utf-8", "replace")), st.binary(max_size=3))))
def test_wrong_bytes_are_replaced_or_skipped_as_python_does_it(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes]
) -> None:
    data = b"text" + b"".join(parts).replace(b"\0", b"")
    file = tmp_path_factory.getbasetemp() / "wrong.txt"
    file.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("charlm.corpus.decoder.BYTES_PER_READ", 3)
        for errors, name in (("replace", "replace"), ("skip", "ignore")):
            log = ReadingLog()
            read = open_corpus([file], errors=errors, log=log).read()
            assert read == data.decode("utf-8", name)
            lost = len(data) - len(data.decode("utf-8", "ignore").encode())
            assert sum(log.wrong_bytes.values()) == lost
            assert len(list(log.notes())) == bool(lost)


def test_a_large_file_with_a_wrong_byte_is_not_mapped_as_it_is(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charlm.corpus.source.MAX_BYTES_IN_MEMORY", 16)
    file.write_bytes(GERMAN.encode() + b"\xff" + GERMAN.encode())
    log = ReadingLog()
    assert open_corpus([file], errors="skip", log=log).read() == GERMAN * 2
    assert list(log.notes()) == [f"left out: 1 byte of {file} that cannot be decoded"]


def test_one_bad_byte_is_counted_and_the_encoding_stays(file: Path) -> None:
    for encoding, bad in (("utf-8", b"\xff"), ("shift_jis", b"\xff")):
        file.write_bytes(JAPANESE.encode(encoding) * 20 + bad + JAPANESE.encode(encoding) * 20)
        assert f"1 of its bytes is wrong, the rest is {encoding}" in refused([file], encoding)
        assert open_corpus([file], encoding, errors="replace").read() == JAPANESE * 20 + "\ufffd" + JAPANESE * 20


def test_errors_that_do_not_exist(file: Path) -> None:
    file.write_text("text")
    with pytest.raises(UsageError, match="`errors` must be one of strict, replace, skip"):
        open_corpus([file], errors="ignore")


def test_each_file_of_a_folder_has_its_own_encoding_and_a_run_remembers_it(tmp_path: Path) -> None:
    texts = {"a.txt": (TEXT, "utf-8"), "b.txt": (GERMAN, "cp1252"), "c.txt": (RUSSIAN, "utf-16-be")}
    for name, (text, encoding) in texts.items():
        (tmp_path / name).write_bytes(text.encode(encoding, "replace"))
    log, origin = ReadingLog(), Origin((str(tmp_path),), "auto")
    split = origin.open(log)
    assert split.training.read() + split.held_out.read() == TEXT + GERMAN + RUSSIAN
    assert [note.split(": ")[0] for note in log.notes()] == ["read as cp1252", "read as utf-16-be"]
    described = origin.describe(split, log)
    assert [entry.encoding for entry in described["files"]["sources"][0]] == ["utf-8", "cp1252", "utf-16-be"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("charlm.corpus.listing.find_encoding", lambda _: "latin-1")
        assert reopen(described).held_out.sha256 == split.held_out.sha256


def test_a_folder_says_that_it_leaves_out_text_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "b.txt").write_bytes(GERMAN.encode("utf-16-le"))
    log = ReadingLog()
    assert open_corpus([tmp_path], log=log).read() == "text"
    assert list(log.left_out) == ["utf-16-le, not utf-8; `encoding='auto'` reads it"]


def test_standard_input_is_found_out_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(QUOTES.encode("cp1252"))))
    log = ReadingLog()
    assert open_corpus(["-"], "auto", log=log).read() == QUOTES
    assert list(log.guessed) == ["cp1252"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(bytes(range(256)))))
    with pytest.raises(DataError, match="standard input: binary data"):
        open_corpus(["-"], "auto")


def test_every_command_that_reads_texts_takes_both_options_and_a_run_remembers(folder: Path, charlm: Charlm) -> None:
    (folder / "odd.txt").write_bytes((GERMAN * 9).encode("cp1252") + b"\x81" + TEXT.encode() + b"\x81")
    how = ("--encoding", "cp1252", "--errors", "skip")
    outcome = charlm("train", "odd.txt", "--arch", "ngram", "--order", "3", "-q", "-o", "run", *how)
    assert "left out: 2 bytes of odd.txt that cannot be decoded" in outcome.err
    assert charlm("evaluate", "run").code == 0
    assert charlm("evaluate", "run", "--text", "odd.txt", *how).code == 0
    assert charlm("compare", "odd.txt", "--arch", "ngram", "--order", "3", *how).code == 0
    assert charlm("score", "run", "-", *how, stdin=b"Gr\xfc\x81\xdfe").code == 0
    for command in ("train", "compare", "evaluate", "mix", "score"):
        assert {"--encoding", "--errors"} <= {name for p in command_of(command) for name in p.opts}, command


def command_of(name: str) -> list[object]:
    command = cli.cli.get_command(None, name)  # type: ignore[arg-type]
    assert command is not None
    return command.params  # type: ignore[return-value]
