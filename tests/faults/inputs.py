"""Strings and corpora of every sort: kept exactly, or refused with the place where they are wrong."""

import codecs
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from charlm.corpus import Text, open_corpus
from charlm.errors import DataError
from charlm.tokenizers import TOKENIZERS, Tokenizer
from charlm.tokenizers.base import StreamDecoder
from charlm.tokenizers.characters import CharactersConfig
from faults.processes import Tally

ODD = [
    *("\0", "\r", "\r\n", "\n", "\u2028", "\u2029", "\x85", "\x1a", "\x1b[31m", "\t\t", "   ", "\u00a0"),  # separators
    *("\ufeff", "\ufffe", "\ufffd", "\u2581", "\u2585", "<unk>", "<s>"),  # marks
    *("\u202e\u0627\u0644\u0639\u0631\u0628\u202c", "\u200d", "\U0001f468\u200d\U0001f469"),  # directions, joiners
    *("e\u0301\u0323", "\u1100\u1161\u11a8", "\u0378", "\U000e0001", "\U0010ffff", "\ue000"),  # combining, unassigned
]
SURROGATES = ["\ud800", "\udfff", "\udc80", "\ud83d\ud83d", "\udc00\ud800"]
ENCODINGS = ["utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1"]
LONG_LINE = 1 << 20

words = st.text(st.characters(codec="utf-8"), max_size=20)
strings = st.lists(
    st.one_of(words, st.sampled_from(ODD), st.sampled_from(SURROGATES), st.text(st.characters())), max_size=20
)
pieces = st.lists(st.one_of(words, st.sampled_from(ODD)), min_size=1, max_size=40)


def _each(count: int, seed: int, strategy: st.SearchStrategy[object], test: Callable[..., None]) -> None:
    """The test on so many examples; hypothesis makes the one that fails as small as it can."""
    settings_ = settings(
        max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )  # fmt: skip
    seeded(seed)(settings_(given(strategy)(test)))()


def corpora(count: int, folder: Path, seed: int) -> Tally:
    """Files of odd text in many encodings, some with a wrong byte: read exactly, or refused at that byte."""
    tally = Tally("generated corpora")
    changes = st.one_of(st.none(), st.tuples(st.integers(0, 10**6), st.binary(min_size=1, max_size=3)))
    kinds = st.tuples(pieces, st.sampled_from(ENCODINGS), changes, st.sampled_from([1, 1, 1, 30, LONG_LINE]))

    def test(drawn: tuple[list[str], str, tuple[int, bytes] | None, int]) -> None:
        parts, encoding, change, times = drawn
        text = "".join(parts)
        text = text * times if times < LONG_LINE else (text * (LONG_LINE // max(1, len(text)) + 1)).replace("\n", " ")
        _corpus(folder / "odd.txt", text, encoding, change, tally)

    _noted(tally, partial(_each, count, seed, kinds, test))
    return tally


def _corpus(file: Path, text: str, encoding: str, change: tuple[int, bytes] | None, tally: Tally) -> None:
    data = text.encode(encoding, "replace")
    if change:
        at = change[0] % (len(data) + 1)
        data = data[:at] + change[1] + data[at:]
    file.write_bytes(data)
    wrong, expected = None, ""
    try:
        expected = data.decode(encoding)
    except UnicodeDecodeError as problem:
        unmarked = encoding == "utf-8-sig" and data.startswith(codecs.BOM_UTF8)  # it counts from behind the mark
        wrong = problem.start + 3 * unmarked
    try:
        found = open_corpus([file], encoding).read()
    except DataError as problem:
        tally.add("refused")
        _justified(str(problem), wrong, expected)
        return
    assert wrong is None, f"byte {wrong} is no {encoding}"
    assert found in (expected, expected.removeprefix("\ufeff"))
    tokenizer = TOKENIZERS["characters"].train(Text.from_string(found, "odd").chunks(), CharactersConfig())
    assert tokenizer.decode(tokenizer.encode(found)) == found
    tally.add("exact")


def _justified(problem: str, wrong: int | None, expected: str) -> None:
    """A refusal names the byte that is wrong, or there is another reason for it."""
    place = re.search(r"byte (\d+)", problem)
    nuls = "NULs at byte" in problem
    if wrong is not None and place and not nuls:
        assert int(place[1]) == wrong, f"{problem}, and it is byte {wrong}"
        return
    empty = not expected.removeprefix("\ufeff")
    assert (nuls and (wrong is not None or "\0" in expected)) or empty or "UTF-16" in problem or "order mark" in problem


def texts(count: int, _folder: Path, seed: int) -> Tally:
    """Any str through every tokenizer and back, whole and id by id."""
    tally = Tally("strings through every tokenizer")
    learned = "the cat sat on the mat; \u017elu\u0165 \u2581 \U0001f600 \u0627\u0644\n" * 20
    trained = [
        kind.train([learned], kind.Config(**({"vocab_size": 270} if name == "sentencepiece" else {})))
        for name, kind in TOKENIZERS.items()
    ]

    def test(parts: list[str]) -> None:
        for tokenizer in trained:
            _kept("".join(parts), tokenizer)
        tally.add("exact")

    _noted(tally, partial(_each, count, seed, strings, test))
    for text in ("", "a" * 100_000, "".join(ODD + SURROGATES) * 1500):
        _noted(tally, partial(test, [text]))
    return tally


def _kept(text: str, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    stream = StreamDecoder(tokenizer)
    assert "".join(map(stream.push, ids.tolist())) + stream.finish() == text


def _noted(tally: Tally, test: Callable[[], None]) -> None:
    try:
        test()
    except Exception as problem:
        notes = " ".join(getattr(problem, "__notes__", []))
        tally.check(False, f"{type(problem).__name__}: {problem!s:.500} {notes:.500}")
