"""Text, sources, splits and streams of ids: laws against Python's own str, and every error that a user can meet."""

import hashlib
import io
import os
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlm.corpus import BUILTINS, Stream, Text, blocks, clear_cache, encode, ids, open_corpus, split
from charlm.errors import CharlmError, DataError, UsageError

texts = st.text(st.one_of(st.sampled_from("a\n\r é中😀\u0301\u2028\ufeff"), st.characters(exclude_categories=["Cs"])))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks, index blocks and memory limits of a few bytes, so that short texts take every path."""
    for name, size in {
        "text.MAX_CHUNK_BYTES": 7,
        "text._BYTES_PER_INDEX_ENTRY": 5,
        "text.BYTES_PER_STRIDE": 10,
        "decoder.BYTES_PER_READ": 3,
        "source.MAX_BYTES_IN_MEMORY": 16,
    }.items():
        monkeypatch.setattr(f"charlm.corpus.{name}", size)
    monkeypatch.setattr("charlm.corpus.ids.MAX_CHARACTERS_IN_MEMORY", 16)


def error(*sources: str | Path, encoding: str = "utf-8") -> str:
    with pytest.raises(CharlmError) as caught:
        open_corpus(sources, encoding)
    message = str(caught.value)
    assert message.count("\n") <= 1
    return message


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "some.txt"


class TestText:
    @given(text=texts, start=st.integers(-9, 40), stop=st.one_of(st.none(), st.integers(-9, 40)))
    def test_is_sliced_like_str(self, text: str, start: int, stop: int | None) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("charlm.corpus.text._BYTES_PER_INDEX_ENTRY", 5)
            part = Text.from_string(text, "t").slice(start, stop)
            assert part.read() == text[start:stop]
            assert part.slice(1, -1).read() == text[start:stop][1:-1]
        utf8 = text[start:stop].encode()
        assert (part.characters, part.bytes) == (len(text[start:stop]), len(utf8))
        assert part.sha256 == hashlib.sha256(utf8).hexdigest()

    @given(text=texts, before=texts)
    def test_chunks_are_the_text_whatever_it_was_sliced_from(self, text: str, before: str) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("charlm.corpus.text.MAX_CHUNK_BYTES", 7)
            chunks = list(Text.from_string(text, "t").chunks())
            sliced = Text.from_string(before + text + before, "t").slice(len(before), len(before + text))
            assert list(sliced.chunks()) == chunks
        assert "".join(chunks) == text
        assert all(0 < len(chunk.encode()) <= 7 for chunk in chunks)

    def test_chunks_end_with_a_newline_where_they_can(self, small: None) -> None:
        assert list(Text.from_string("ab\ncd\nefghijklmno\r\n", "t").chunks()) == ["ab\ncd\n", "efghijk", "lmno\r\n"]

    def test_slice_keeps_the_name_and_copies_nothing(self) -> None:
        text = Text.from_string("x" * 1000, "t")
        part = text.slice(10, 20)
        assert part.name == "t"
        assert part._utf8.obj is text._utf8.obj
        assert repr(part) == "<Text 't': 10 characters, 10 bytes>"

    def test_half_a_surrogate_pair_is_refused(self) -> None:
        with pytest.raises(DataError, match="character 2 is half a surrogate"):
            Text.from_string("ab\ud800", "t")


class TestSources:
    @given(text=texts.filter(lambda text: text and "\0" not in text[:3]))
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32-be"])
    def test_any_text_is_read_unchanged(
        self, tmp_path_factory: pytest.TempPathFactory, encoding: str, text: str
    ) -> None:
        file = tmp_path_factory.getbasetemp() / "any.txt"
        mark = "" if encoding in ("utf-8-sig", "utf-16") else "\ufeff"  # Python writes it for these two
        file.write_bytes((mark + text).encode(encoding))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("charlm.corpus.decoder.BYTES_PER_READ", 3)
            patch.setattr("charlm.corpus.source.MAX_BYTES_IN_MEMORY", 16)
            assert open_corpus([file], encoding).read() == text

    def test_a_byte_order_mark_is_dropped_once_per_file(self, file: Path, small: None) -> None:
        for body in ("short", "longer than sixteen bytes"):
            file.write_bytes(b"\xef\xbb\xbf" + body.encode())
            assert open_corpus([file]).read() == body
            assert open_corpus([file, file]).read() == body * 2
        assert open_corpus(file).read() == open_corpus(str(file)).read() == body

    def test_line_ends_stay(self, file: Path) -> None:
        file.write_bytes(b"a\r\nb\rc\n")
        assert open_corpus([file]).read() == "a\r\nb\rc\n"

    def test_names(self, file: Path) -> None:
        file.write_text("text")
        assert open_corpus([str(file)]).name == "some"
        assert open_corpus([file, file]).name == "some-and-1-more"
        assert open_corpus([file.parent]).name == file.parent.name

    def test_folder_is_read_in_order_without_hidden_and_binary_files(self, tmp_path: Path) -> None:
        for name, content in {
            "b.md": b"B",
            "a/z.txt": "Zé".encode(),
            "c": b"C\f",
            "picture.txt": b"\x89PNG\r\n\x1a\n\0\0",
            "nothing.txt": b"",
            ".hidden": b"H",
            ".git/config": b"G",
        }.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(content)
        skipped: list[tuple[str, str]] = []
        text = open_corpus([tmp_path], skipped=lambda path, why: skipped.append((path.name, why)))
        assert text.read() == "ZéBC\f"
        assert skipped == [("nothing.txt", "empty"), ("picture.txt", "binary")]

    def test_latin_1_in_a_folder_is_an_error_and_not_left_out(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_bytes(b"caf\xe9 noir")
        assert "a.txt: not utf-8 (byte 3, line 1)" in error(tmp_path)
        assert open_corpus([tmp_path], "latin-1").read() == "café noir"

    def test_standard_input(self, monkeypatch: pytest.MonkeyPatch, small: None) -> None:
        for body in ("kurz é", "länger als sechzehn Bytes"):
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(body.encode())))
            text = open_corpus(["-"])
            assert (text.name, text.read()) == ("stdin", body)

    def test_wrong_byte_is_named_with_its_offset_and_line(self, file: Path, small: None) -> None:
        file.write_bytes("é\nzwei\n".encode() + b"dr\xffi und noch mehr")
        assert f"{file}: not utf-8 (byte 10, line 3)" in error(file)
        assert "1 of its bytes is wrong, the rest is utf-8" in error(file)

    @pytest.mark.parametrize("cut", [b"\xc3", b"\xe4\xb8", b"\xf0\x9f\x98"])
    def test_a_character_cut_off_at_the_end_is_an_error(self, file: Path, cut: bytes) -> None:
        file.write_bytes(b"ab\n" + cut)
        assert "byte 3, line 2" in error(file)

    def test_binary_is_called_binary(self, file: Path) -> None:
        file.write_bytes(b"\x1f\x8b\x08\0\0\0\0\0")
        assert "binary data, not text (byte 1, line 1 is not utf-8); compressed?" in error(file)
        file.write_bytes(b"fine\nbut" + 64 * b"\0" + b"not this")
        assert "binary data, not text (NULs at byte 8, line 2)" in error(file)
        file.write_bytes("\u00e9".encode() + "UTF-16".encode("utf-16-le"))
        assert "not utf-8 (NULs at byte 3, line 1); it reads as utf-16-le" in error(file)

    def test_a_few_nuls_are_characters_like_others(self, file: Path) -> None:
        for text in ("find\0print\0one\0by\0one\0", "a" * (1 << 20) + "\0", "\0\0 and more of it"):
            file.write_text(text)
            assert open_corpus([file]).read() == open_corpus([file.parent]).read() == text

    def test_utf_16_is_recognised(self, file: Path) -> None:
        file.write_bytes("Straße".encode("utf-16"))
        assert error(file) == (
            f'{file}: not utf-8 (byte 0, line 1); it reads as utf-16: "Straße"\n'
            "say `encoding='utf-16'`, or `encoding='auto'`, which finds out for each file"
        )
        file.write_bytes("no mark".encode("utf-16-le"))
        assert "utf-16-le" in error(file)
        assert "no byte order mark); it reads as utf-16-le" in error(file, encoding="utf-16")

    def test_empty(self, file: Path) -> None:
        file.touch()
        assert error(file) == f"{file}: empty; a corpus needs text"

    def test_missing(self, file: Path) -> None:
        assert "no such file or folder" in error(file)
        assert "no such file or folder" in error("x" * 5000)
        assert "builtin:python-stdlib" in error("python-stdlib")
        assert "no such built-in corpus; there are builtin:" in error("builtin:nothing")

    def test_unreadable(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file.write_text("secret")

        def refused(*args: object) -> None:
            raise PermissionError(13, "Permission denied", str(file))

        monkeypatch.setattr(Path, "open", refused)
        assert error(file) == f"{file}: cannot be read: Permission denied"

    def test_folder_without_text(self, tmp_path: Path) -> None:
        (tmp_path / "a.bin").write_bytes(b"\0")
        assert "no text in this folder (1 binary or empty files left out)" in error(tmp_path)

    @pytest.mark.parametrize("encoding", ["klingon", "hex", "rot13", "undefined", "a\0b"])
    def test_unknown_encoding(self, file: Path, encoding: str) -> None:
        file.write_text("text")
        with pytest.raises(UsageError, match="is unknown; try utf-8"):
            open_corpus([file], encoding)

    def test_nothing_named(self) -> None:
        with pytest.raises(UsageError, match="no corpus given"):
            open_corpus([])


class TestBuiltin:
    def test_reference_and_names(self) -> None:
        for name in ("python-reference", "unicode-names"):
            text = open_corpus([f"builtin:{name}"])
            assert text.name == name
            assert text.sha256 == open_corpus([f"builtin:{name}"]).sha256
            assert 0.5 < text.bytes / BUILTINS[name].bytes < 2

    def test_every_line_of_unicode_names_is_one(self) -> None:
        for line in open_corpus(["builtin:unicode-names"]).slice(0, 5000).read().splitlines()[:-1]:
            assert unicodedata.name(unicodedata.lookup(line)) == line

    def test_stdlib(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
        assert "without its sources" in error("builtin:python-stdlib")
        for name in ("os.py", "json/decoder.py", "json/tests/x.py", "idlelib/run.py", "site-packages/os.py", "mine.py"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(f"# {name}\r\n".encode())
        (tmp_path / "abc.py").write_bytes(b"# \xff")
        assert open_corpus(["builtin:python-stdlib"]).read() == "# json/decoder.py\n# os.py\n"


class TestSplit:
    @pytest.mark.parametrize(
        ("characters", "train", "validation", "held_out"),
        [
            (1_115_394, 953_662, 50_192, 111_540),  # Tiny Shakespeare: 1,003,854 and 111,540, as nanoGPT has it
            (30_000_000, 26_000_000, 1_000_000, 3_000_000),
            (10_000, 8_000, 1_000, 1_000),
            (100, 72, 18, 10),
        ],
    )
    def test_sizes(self, characters: int, train: int, validation: int, held_out: int) -> None:
        parts = split(Text.from_string("x" * characters, "t"))
        assert parts.train.characters == train
        assert parts.validation.characters == validation
        assert parts.held_out.characters == held_out

    @given(st.integers(100, 5000))
    def test_parts_make_up_the_whole(self, characters: int) -> None:
        text = "".join(chr(0x4E00 + i) for i in range(characters))
        parts = split(Text.from_string(text, "t"))
        assert parts.training.read() == parts.train.read() + parts.validation.read() == text[: int(0.9 * characters)]
        assert parts.training.read() + parts.held_out.read() == text
        assert min(parts.train.characters, parts.validation.characters, parts.held_out.characters) > 0

    def test_held_out_text_of_its_own_leaves_all_for_training(self) -> None:
        text, other = Text.from_string("x" * 200, "t"), Text.from_string("y", "o")
        parts = split(text, other)
        assert parts.held_out is other
        assert parts.training.read() == text.read()

    def test_too_small(self) -> None:
        for count in (1, 99):
            with pytest.raises(DataError, match=f"t: {count} characters are too few to split; 100 are needed"):
                split(Text.from_string("x" * count, "t"))
        with pytest.raises(DataError, match="the held-out text is empty"):
            split(Text.from_string("x" * 100, "t"), Text.from_string("", "h"))


class Codes:
    """Encodes characters as their code points; counts how often it is asked."""

    def __init__(self, vocab_size: int = 0x110000, fingerprint: str = "codes") -> None:
        self.vocab_size, self.fingerprint, self.calls = vocab_size, fingerprint, 0

    def encode(self, text: str) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
        self.calls += 1
        return np.frombuffer(text.encode("utf-32-le"), np.int32)


def decoded(stream: Stream) -> str:
    return "".join(map(chr, stream))


class TestStreams:
    @given(texts)
    def test_in_memory(self, text: str) -> None:
        stream = encode(Text.from_string(text, "t"), Codes())
        assert stream.dtype == np.uint32
        assert decoded(stream) == text

    @pytest.mark.parametrize(("vocab_size", "dtype"), [(257, np.uint16), (65536, np.uint16), (65537, np.uint32)])
    def test_smallest_type(self, vocab_size: int, dtype: type) -> None:
        assert encode(Text.from_string("abc", "t"), Codes(vocab_size)).dtype == dtype

    def test_large_text_is_encoded_once(self, small: None, tmp_path: Path) -> None:
        text, encoder, fractions = Text.from_string("ein längerer Text\n" * 9, "t"), Codes(), []
        stream = encode(text, encoder, tmp_path, lambda what, fraction: fractions.append(fraction))
        assert isinstance(stream, np.memmap)
        assert decoded(stream) == text.read()
        assert fractions == sorted(fractions)
        assert fractions[-1] == 1
        calls = encoder.calls
        same = Text.from_string("x" + text.read(), "other").slice(1)
        np.testing.assert_array_equal(encode(same, encoder, tmp_path), stream)
        assert encoder.calls == calls
        assert len(list(tmp_path.iterdir())) == 1

    def test_another_text_or_encoder_is_another_file(self, small: None, tmp_path: Path) -> None:
        for text, fingerprint in [("a" * 99, "1"), ("b" * 99, "1"), ("a" * 99, "2")]:
            assert decoded(encode(Text.from_string(text, "t"), Codes(fingerprint=fingerprint), tmp_path)) == text
        assert len(list(tmp_path.iterdir())) == 3

    def test_damaged_cache_is_made_anew(self, small: None, tmp_path: Path) -> None:
        text = Text.from_string("abc" * 99, "t")
        encode(text, Codes(), tmp_path)
        (path,) = tmp_path.iterdir()
        whole = path.read_bytes()
        for damaged in (b"", whole[:50], whole[:-1], whole + b"x", b"x" + whole[1:]):
            path.unlink()
            path.write_bytes(damaged)
            assert decoded(encode(text, Codes(), tmp_path)) == text.read()
            assert path.read_bytes() == whole

    def test_failure_leaves_nothing_behind(self, small: None, tmp_path: Path) -> None:
        class Broken(Codes):
            def encode(self, text: str) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
                if self.calls > 3:
                    raise OSError(28, "No space left on device")
                return super().encode(text)

        with pytest.raises(DataError, match="No space left on device; CHARLM_CACHE=FOLDER chooses another place"):
            encode(Text.from_string("abc" * 99, "t"), Broken(), tmp_path)
        assert not list(tmp_path.iterdir())

    def test_the_cache_is_bounded_and_forgets_what_was_used_longest_ago(
        self, small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made: list[Path] = []
        foreign = tmp_path / "notes.npy"
        foreign.write_bytes(bytes(5000))
        for number, letter in enumerate("abc"):
            encode(Text.from_string(letter * 99, "t"), Codes(), tmp_path)
            (path,) = set(tmp_path.iterdir()) - {foreign, *made}
            os.utime(path, (number, number))
            made.append(path)
        encode(Text.from_string("a" * 99, "t"), Codes(), tmp_path)  # used again: b is the oldest now
        monkeypatch.setattr(ids, "MAX_CACHE_BYTES", 3 * made[0].stat().st_size)
        encode(Text.from_string("d" * 99, "t"), Codes(), tmp_path)
        assert [path.exists() for path in (*made, foreign)] == [True, False, True, True]
        monkeypatch.setattr(ids, "MAX_CACHE_BYTES", 0)
        stream = encode(Text.from_string("e" * 99, "t"), Codes(), tmp_path)
        assert len(list(tmp_path.iterdir())) == 2
        left = tmp_path / f".{'0' * 64}.npy.x1.part"
        left.write_bytes(bytes(7))
        assert clear_cache(tmp_path) == stream.offset + stream.nbytes + 7
        assert list(tmp_path.iterdir()) == [foreign]

    def test_a_stream_in_blocks(self, small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ids, "BYTES_PER_STRIDE", 40)
        stream = encode(Text.from_string("abcdefg" * 99, "t"), Codes(), tmp_path)
        assert [len(block) for block in blocks(stream)] == [10] * 69 + [3]
        assert decoded(np.concatenate(list(blocks(stream)))) == "abcdefg" * 99
        assert list(blocks(stream[:0])) == []

    def test_cache_folder_from_the_environment(
        self, small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CHARLM_CACHE", str(tmp_path / "new"))
        encode(Text.from_string("abc" * 99, "t"), Codes())
        assert len(list((tmp_path / "new").iterdir())) == 1
