"""The laws of a tokenizer, over every entry of TOKENIZERS; then what each kind promises by itself."""

import copy
import json
import random
from functools import cache

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from charlm.config import BOUNDARY
from charlm.errors import CharlmError, CheckpointError, DataError, UsageError
from charlm.tokenizers import FIRST_BYTE, FIRST_PIECE, TOKENIZERS, StreamDecoder, Tokenizer
from charlm.tokenizers import sentencepiece as pieces_module

FILE = "tokenizer.json"

PROSE = (
    "Call me Ishmael. Some years ago - never mind how long precisely - having little or no money in my purse, and\n"
    "nothing particular to interest me on shore, I thought I would sail about a little and see the watery part of the\n"
    "world.\r\n\r\n\tIt is a way I have of driving off the spleen, and of regulating: naïve café, déjà vu.\n"
) * 4
TRAPS = [
    *("\0", "\r", "\n", "\r\n", "\t", "\x85", "\u2028", "\u2029", " ", "    ", "\u2581", "\u2585", "\u2047"),
    *("<unk>", "<s>", "</s>", "<0x41>", "<0xE2>", "<pad>", "\\u2581", "]", "^", "\\", "-", "[a-z]"),
    *(
        "e\u0301",
        "\u0301",
        "\u200d",
        "\ufe0f",
        "👨\u200d👩\u200d👧",
        "😀",
        "漢字",
        "ß",
        "İ",
        "ﬁ",
        "\u0378",
        "\U0010ffff",
    ),
    *("\ufeff", "\ufffd", "\ufffe", "\uffff", "\ud83d", "\ude00", "\ud83d\ude00", "\udc80", "\ud800", "\x7f", "\x80"),
]
TEXTS = {
    "prose": PROSE,
    "traps": "".join(random.Random(5).choices([*TRAPS, "a", "b", " ", "\n"], k=3000)),
    "rare": "abcdefghijklmnopqrstuvwxyz\n",
    "repeated": "漢字 漢字 \n" * 40,
}
CASES = [
    ("characters", {}, "prose"),
    ("characters", {"min_count": 1}, "traps"),
    ("characters", {}, "traps"),
    ("characters", {}, "rare"),
    ("characters", {"min_count": 1000}, "repeated"),
    ("bytes", {}, "prose"),
    ("bytes", {}, "traps"),
    ("sentencepiece", {"vocab_size": 320}, "prose"),
    ("sentencepiece", {"vocab_size": 320, "model_type": "bpe"}, "prose"),
    ("sentencepiece", {"vocab_size": 300}, "traps"),
    ("sentencepiece", {"vocab_size": 300, "model_type": "bpe"}, "traps"),
    ("sentencepiece", {"vocab_size": 259, "min_count": 1}, "rare"),
    ("sentencepiece", {"vocab_size": 261}, "repeated"),
]

any_text = st.lists(
    st.sampled_from(TRAPS)
    | st.sampled_from(["Call me ", "some years", "the ", "abc", "\n\n"])
    | st.text(st.characters(exclude_categories=()), max_size=6),
    max_size=12,
).map("".join)


def trained(kind: str, text: str, **options: object) -> Tokenizer:
    return TOKENIZERS[kind].train([text], TOKENIZERS[kind].Config(**options))


@cache
def case(number: int) -> Tokenizer:
    kind, options, name = CASES[number]
    return trained(kind, TEXTS[name], **options)


@pytest.fixture(
    params=range(len(CASES)), ids=lambda n: "-".join(map(str, [CASES[n][0], *CASES[n][1].values(), CASES[n][2]]))
)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return case(request.param)


each_case = st.sampled_from(range(len(CASES)))


def utf8(text: str) -> bytes:
    """Written out by hand: UTF-8 of each code point, surrogates like any other."""
    spelled = []
    for c in map(ord, text):
        if c < 0x80:
            spelled += [c]
        elif c < 0x800:
            spelled += [0xC0 | c >> 6, 0x80 | c & 63]
        elif c < 0x10000:
            spelled += [0xE0 | c >> 12, 0x80 | c >> 6 & 63, 0x80 | c & 63]
        else:
            spelled += [0xF0 | c >> 18, 0x80 | c >> 12 & 63, 0x80 | c >> 6 & 63, 0x80 | c & 63]
    return bytes(spelled)


def test_every_kind_is_tried():
    assert {kind for kind, _, _ in CASES} == set(TOKENIZERS)
    assert next(iter(TOKENIZERS)) == "characters"
    assert all(kind == tokenizer.kind for kind, tokenizer in TOKENIZERS.items())


# --- the laws ---------------------------------------------------------------------------------------------------------


@given(each_case, any_text)
@settings(max_examples=400)
def test_round_trip(number, text):
    tokenizer = case(number)
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int32
    assert ids.ndim == 1
    assert tokenizer.decode(ids) == text
    pieces = tokenizer.pieces()
    assert b"".join(pieces[i] for i in ids) == utf8(text)
    assert len(ids) == 0 or (ids.min() > BOUNDARY and ids.max() < tokenizer.vocab_size)
    assert tokenizer.byte_lengths()[ids].sum() == len(utf8(text))


def test_round_trip_of_every_character(tokenizer):
    text = "".join(map(chr, range(0, 0x110000, 7))) + "".join(map(chr, range(0x3000)))
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_round_trip_of_a_long_text(tokenizer):
    text = (PROSE + "\ud83d\ude00 漢\u2581" + "".join(TRAPS)) * 60
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_round_trip_of_what_it_was_trained_on():
    for number, (_, _, name) in enumerate(CASES):
        assert case(number).decode(case(number).encode(TEXTS[name])) == TEXTS[name]


def test_layout(tokenizer):
    pieces = tokenizer.pieces()
    assert tokenizer.vocab_size == len(pieces) == len(tokenizer.byte_lengths())
    assert pieces[BOUNDARY] == b""
    assert pieces[FIRST_BYTE:FIRST_PIECE] == [bytes([value]) for value in range(256)]
    assert all(pieces[FIRST_PIECE:])
    assert len(set(pieces[FIRST_PIECE:])) == len(pieces[FIRST_PIECE:])
    assert tokenizer.byte_lengths().tolist() == [len(piece) for piece in pieces]
    assert tokenizer.decode([BOUNDARY]) == ""
    assert tokenizer.decode([]) == ""


@given(
    each_case,
    st.lists(st.integers(0, 2**16) | st.sampled_from([0xED, 0xA0, 0xBD, 0xF0, 0x9F, 0xE2, 0xC0, 0x80]), max_size=30),
)
@settings(max_examples=400)
def test_streaming_agrees_with_decode_for_ids_that_a_model_makes_up(number, numbers):
    tokenizer = case(number)
    ids = [n % tokenizer.vocab_size for n in numbers]
    decoder = StreamDecoder(tokenizer)
    assert "".join(map(decoder.push, ids)) + decoder.finish() == tokenizer.decode(ids)
    assert decoder.finish() == ""


@given(each_case, any_text)
@settings(max_examples=200)
def test_streaming_gives_whole_characters_as_soon_as_they_are_whole(number, text):
    tokenizer = case(number)
    decoder, shown, read = StreamDecoder(tokenizer), "", b""
    for token in tokenizer.encode(text):
        shown += decoder.push(token)
        read += tokenizer.pieces()[token]
        complete = [n for n in range(len(text) + 1) if len(utf8(text[:n])) <= len(read)]
        assert shown == text[: complete[-1]]
    assert decoder.finish() == ""


def test_bytes_that_are_no_text_become_replacement_characters():
    tokenizer, decode = case(0), lambda data: case(0).decode([FIRST_BYTE + byte for byte in data])
    assert decode(b"\xff") == "\ufffd"
    assert decode(b"a\xe2\x82b") == "a\ufffdb"
    assert decode(b"\xf0\x9f\x98") == "\ufffd"
    assert decode(b"\xed\xa0") == "\ufffd\ufffd"
    assert decode(b"\xed\xa0\xbd\xed\xb8\x80") == "\ud83d\ude00"  # two surrogates, not one emoji
    decoder = StreamDecoder(tokenizer)
    assert [decoder.push(FIRST_BYTE + byte) for byte in "é€".encode()] == ["", "é", "", "", "€"]
    decoder.push(FIRST_BYTE + 0xE2)
    other = copy.copy(decoder)
    assert [other.push(FIRST_BYTE + byte) for byte in b"\x82\xac"] == ["", "€"]
    assert decoder.finish() == "\ufffd"


def test_ids_out_of_range_are_refused(tokenizer):
    with pytest.raises(AssertionError):
        tokenizer.decode([-1])
    with pytest.raises(IndexError):
        tokenizer.decode([tokenizer.vocab_size])


# --- training and storing ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "options", "name"), CASES)
def test_training_is_deterministic_and_blind_to_chunks(kind, options, name):
    text, cls = TEXTS[name], TOKENIZERS[kind]
    cuts = sorted(random.Random(1).choices(range(len(text)), k=20))
    chunks = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert cls.train(chunks, cls.Config(**options)).files() == trained(kind, text, **options).files()


def test_save_and_load(tokenizer):
    files = tokenizer.files()
    again = type(tokenizer).from_files({**files, "other": b""})
    assert again.files() == files
    assert again.pieces() == tokenizer.pieces()
    assert again.fingerprint == tokenizer.fingerprint
    assert (again.seen == tokenizer.seen).all()
    for text in [*TEXTS.values(), *TRAPS]:
        assert (again.encode(text) == tokenizer.encode(text)).all()


def test_fingerprints_tell_apart_what_encodes_differently():
    assert len({case(number).fingerprint for number in (0, 1, 3, 5, 7, 8, 9, 10, 11, 12)}) == 10
    assert case(5).fingerprint == case(6).fingerprint  # the bytes of whatever text
    assert case(5).files() != case(6).files()


@pytest.mark.parametrize("kind", ["characters", "bytes"])
def test_any_text_trains(kind):
    for text in ["", "a", "\ud800", "\U0010ffff"]:
        tokenizer = trained(kind, text)
        assert tokenizer.vocab_size == FIRST_PIECE
        assert tokenizer.decode(tokenizer.encode(text + "b")) == text + "b"


def test_unseen_characters_have_spans():
    for number, (_, _, name) in enumerate(CASES):
        tokenizer, seen = case(number), set(TEXTS[name])
        assert tokenizer.seen.tolist() == sorted(map(ord, seen))
        text = "the 漢\U0001f680 Ж\ud912Жé\u2581" + "".join(TRAPS)
        unseen = [character for character in text if character not in seen]
        for dtype in (np.int32, np.uint16):
            ids = tokenizer.encode(text).astype(dtype)
            spans = tokenizer.unseen(ids)
            assert spans.shape == (len(unseen), 2)
            assert [tokenizer.decode(ids[first:last]) for first, last in spans] == unseen
        assert len(tokenizer.unseen(tokenizer.encode(TEXTS[name]))) == 0


def test_unseen_characters_across_blocks(monkeypatch):
    monkeypatch.setattr("charlm.tokenizers.base._IDS_PER_BLOCK", 2)
    for number in range(len(CASES)):
        text = "a\U0001f680Жb漢\U0001f681" * 3
        ids = case(number).encode(text)
        found = [case(number).decode(ids[first:last]) for first, last in case(number).unseen(ids)]
        assert found == [c for c in text if c not in TEXTS[CASES[number][2]]]


# --- files that were damaged or made to harm --------------------------------------------------------------------------


def rejected(cls: type[Tokenizer], content: bytes) -> None:
    with pytest.raises(CheckpointError, match=FILE):
        cls.from_files({FILE: content})


@pytest.mark.parametrize("number", [0, 2, 5, 7, 8])
def test_damaged_files_are_refused_or_work(number):
    tokenizer, random_ = case(number), random.Random(number)
    content = tokenizer.files()[FILE]
    for _ in range(250):
        damaged = bytearray(content)
        for _ in range(random_.choice([0, 1, 1, 3])):
            damaged[random_.randrange(len(damaged))] ^= 1 << random_.randrange(8)
        damaged = damaged[: random_.choice([len(damaged), random_.randrange(len(damaged))])]
        try:
            loaded = type(tokenizer).from_files({FILE: bytes(damaged)})
        except CheckpointError:
            continue
        assert loaded.files()[FILE] == bytes(damaged)
        assert loaded.decode(loaded.encode(TEXTS["traps"])) == TEXTS["traps"]


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_nonsense_is_refused(kind):
    cls = TOKENIZERS[kind]
    with pytest.raises(CheckpointError, match="missing"):
        cls.from_files({})
    for content in [
        b"",
        b"\0",
        b"null",
        b"[]",
        b"{}",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 10_000,
    ]:
        rejected(cls, content)
    for seen in [None, 1, "a", [1, 1], [2, 1], [-1], [0x110000], [1.5], ["1"], [[1]], [2**70], [True], {"1": 1}]:
        rejected(cls, json.dumps({"kind": kind, "seen": seen}).encode())


def test_a_tokenizer_of_another_kind_is_refused(tokenizer):
    for cls in TOKENIZERS.values():
        if cls is not type(tokenizer):
            rejected(cls, tokenizer.files()[FILE])


def edited(tokenizer: Tokenizer, **changes: object) -> bytes:
    data = {**json.loads(tokenizer.files()[FILE]), **changes}
    return json.dumps(data, separators=(",", ":")).encode() + b"\n"


def test_edited_characters_are_refused():
    cls, seen = TOKENIZERS["characters"], [97, 98]
    tokenizer = trained("characters", "aabb")
    assert cls.from_files({FILE: edited(tokenizer)}).files() == tokenizer.files()
    assert edited(tokenizer, characters=seen) == tokenizer.files()[FILE]
    for characters in [None, [98, 97], [97, 97], [97, 99], [-1], [0x110000], ["a"], [97.0], [True, 98], {}]:
        rejected(cls, edited(tokenizer, characters=characters))
    for changes in [{"seen": [97]}, {"kind": "bytes"}, {"more": 1}]:
        rejected(cls, edited(tokenizer, **changes))


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_edited_pieces_are_refused(model_type):
    tokenizer = trained("sentencepiece", "ab ab ba", vocab_size=259, model_type=model_type, min_count=1)
    cls, whole = TOKENIZERS["sentencepiece"], [["a", -1.0], ["b", -2.0], ["ab", -1.5]]
    assert cls.from_files({FILE: edited(tokenizer, pieces=whole)}).vocab_size == FIRST_PIECE + 3
    wrong: list[object] = [
        *("", "\0", "\u2581", "\u2585", "\ud800", "a\ud800", "a", "c", "bc", 1, None, ["a"], {"a": 1}, "a\u2581", "b\0")
    ]
    for text in wrong:
        rejected(cls, edited(tokenizer, pieces=[*whole, [text, -1.0]]))
    for score in [float("nan"), float("inf"), -float("inf"), 1e39, 1e30, 0.1, 1, True, "1.0", None, [1.0]]:
        rejected(cls, edited(tokenizer, pieces=[*whole, ["ba", score]]))
    for changes in [
        {"pieces": []},
        {"pieces": None},
        {"pieces": [["ab", 1.0]]},
        {"pieces": [["a"]]},
        {"model_type": "word"},
    ]:
        rejected(cls, edited(tokenizer, **changes))
    for changes in [{"model_type": []}, {"model_type": None}, {"pieces": [["a", 1.0, 1]]}, {"more": 1}]:
        rejected(cls, edited(tokenizer, **changes))


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
@pytest.mark.parametrize("score", [0.0, -0.0, 1e9, -1e9, 1.401298464324817e-45])
def test_strange_scores_work(model_type, score):
    tokenizer = trained("sentencepiece", "ab ab ba", vocab_size=259, model_type=model_type, min_count=1)
    strange = [["a", score], ["b", -score], [" ", score], ["ab" * 500, score], [" a", -score]]
    loaded = TOKENIZERS["sentencepiece"].from_files({FILE: edited(tokenizer, pieces=strange)})
    text = "ab a" * 1000 + TEXTS["traps"]
    assert loaded.decode(loaded.encode(text)) == text


# --- characters -------------------------------------------------------------------------------------------------------


def test_characters_by_hand():
    tokenizer = trained("characters", "banana é\né", min_count=2)
    assert tokenizer.pieces()[FIRST_PIECE:] == [b"a", b"n", "é".encode()]
    assert tokenizer.encode("nab€é").tolist() == [258, 257, 1 + 98, 1 + 0xE2, 1 + 0x82, 1 + 0xAC, 259]
    assert tokenizer.seen.tolist() == sorted(map(ord, "ban é\n"))
    assert tokenizer.unseen(tokenizer.encode("nab€é")).tolist() == [[3, 6]]


@given(any_text, any_text)
@settings(max_examples=100)
def test_characters_and_bytes_encode_parts_like_the_whole(one, two):
    for number in (0, 1, 2, 5):
        tokenizer = case(number)
        assert [*tokenizer.encode(one), *tokenizer.encode(two)] == tokenizer.encode(one + two).tolist()


# --- SentencePiece ----------------------------------------------------------------------------------------------------


def pieces_of(tokenizer: Tokenizer, text: str) -> list[bytes]:
    return [tokenizer.pieces()[token] for token in tokenizer.encode(text)]


def test_pairs_by_hand():
    tokenizer = trained("sentencepiece", "ab ab abc abc abc\n" * 9, vocab_size=FIRST_PIECE + 7, model_type="bpe")
    assert set(tokenizer.pieces()[FIRST_PIECE:]) == {b"a", b"b", b"c", b" ", b"ab", b" ab", b" abc"}
    assert pieces_of(tokenizer, "ab abcab€\n") == [b"ab", b" abc", b"ab", b"\xe2", b"\x82", b"\xac", b"\n"]


def test_unigram_finds_the_best_segmentation():
    tokenizer = case(7)
    scores = dict(json.loads(tokenizer.files()[FILE])["pieces"])
    text = "the little sail of my purse, and some years ago\nI would driving off"
    best = [0.0]
    for end in range(1, len(text) + 1):
        best.append(max(best[n] + scores[text[n:end]] for n in range(end) if text[n:end] in scores))
    found = sum(scores[piece.decode()] for piece in pieces_of(tokenizer, text))
    assert found == pytest.approx(best[-1], abs=1e-3)


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_the_model_written_from_the_pieces_is_the_one_that_was_trained(monkeypatch, model_type):
    models = []

    def processor(model_proto):
        models.append(original(model_proto=model_proto))
        return models[-1]

    original = sentencepiece.SentencePieceProcessor
    monkeypatch.setattr(sentencepiece, "SentencePieceProcessor", processor)
    trained("sentencepiece", PROSE, vocab_size=320, model_type=model_type)
    first, second = models
    assert first.get_piece_size() == second.get_piece_size() == 320 - 256
    assert first.encode(PROSE, out_type=int) == second.encode(PROSE, out_type=int)
    assert second.encode(" a  b ", out_type=str) == first.encode(" a  b ", out_type=str)


def test_spaces_and_newlines_are_ordinary_symbols():
    tokenizer = trained("sentencepiece", "if a:\n    b\n        c\n" * 40, vocab_size=262, model_type="bpe")
    for text in [" a", "a ", "  a  ", "\n", "\n\n", " \n", "\na\n", "\r\n"]:
        assert b"".join(pieces_of(tokenizer, text)) == text.encode()
    assert any(set(piece) == {32} and len(piece) > 1 for piece in tokenizer.pieces())
    assert tokenizer.encode("\n").min() >= FIRST_PIECE


def test_compatibility_characters_are_left_alone():
    tokenizer = trained(
        "sentencepiece", "ﬁn ﬁt ﬁx ½ ½ Å Å e\u0301 é é e\u0301\n" * 9, vocab_size=275, model_type="bpe", min_count=1
    )
    for text in ["ﬁ", "½", "Å", "e\u0301", "é", "Ａ"]:
        assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_a_size_that_is_too_large_is_refused_with_one_that_is_not(model_type):
    with pytest.raises(UsageError, match=r"`vocab_size` 90000: .* the largest size possible is \d+$") as refusal:
        trained("sentencepiece", PROSE, vocab_size=90_000, model_type=model_type)
    possible = int(str(refusal.value).split()[-1])
    assert trained("sentencepiece", PROSE, vocab_size=possible, model_type=model_type).vocab_size == possible
    with pytest.raises(UsageError):
        trained("sentencepiece", PROSE, vocab_size=possible + 1, model_type=model_type)


@pytest.mark.parametrize(
    "text", ["", "a", "\n\n\n\n", "\0\0\0\0", "\u2581\u2581\u2581", "\ud800\ud800\ud800", "abcdef"]
)
def test_a_text_without_pieces_is_refused(text):
    with pytest.raises(DataError, match="no pieces"):
        trained("sentencepiece", text, vocab_size=300)


def test_sizes_are_exact_and_settings_checked():
    for size in (258, 259, 280, 300):
        assert trained("sentencepiece", PROSE, vocab_size=size).vocab_size == size
    for options in [{"vocab_size": 257}, {"model_type": "word"}, {"min_count": 0}]:
        with pytest.raises(UsageError):
            TOKENIZERS["sentencepiece"].Config(**options)


def test_many_scripts_leave_room_for_pieces():
    text = "".join(chr(0x4E00 + n) * 2 for n in range(3000)) + PROSE * 3
    tokenizer = trained("sentencepiece", text, vocab_size=400)
    learned = [piece.decode() for piece in tokenizer.pieces()[FIRST_PIECE:]]
    assert sum(len(piece) > 1 for piece in learned) >= 30
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_large_text_is_sampled_evenly(monkeypatch):
    monkeypatch.setattr(pieces_module, "MAX_TRAINING_CHARACTERS", 8 * 4096)
    blocks = [chr(0x41 + n) * 4096 for n in range(50)]
    kept = pieces_module._sample(["".join(blocks)])
    assert kept == blocks[::8]


def test_training_is_silent(capfd):
    trained("sentencepiece", PROSE, vocab_size=300)
    with pytest.raises(CharlmError):
        trained("sentencepiece", "\n" * 50)
    assert capfd.readouterr() == ("", "")
