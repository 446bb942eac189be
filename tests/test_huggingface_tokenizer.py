"""tokenizer.json: Hugging Face's own library reads every text as the tokenizer does that it was written from."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tokenizers import CASES, TEXTS, TRAPS

from charlm.export.huggingface.tokenizer import BOUNDARY_TOKEN, tokenizer_json
from charlm.tokenizers import TOKENIZERS, Tokenizer

tokenizers = pytest.importorskip("tokenizers", reason="needs `pip install transformers`")

NAMES = [f"{kind}-{'-'.join(map(str, options.values()))}-{text}" for kind, options, text in CASES]


def trained(number: int) -> Tokenizer:
    kind, options, text = CASES[number]
    return TOKENIZERS[kind].train([TEXTS[text]], TOKENIZERS[kind].Config(**options))


OURS = [trained(number) for number in range(len(CASES))]


def opened(tokenizer: Tokenizer) -> "tokenizers.Tokenizer":
    theirs = tokenizers.Tokenizer.from_str(json.dumps(tokenizer_json(tokenizer)))
    theirs.encode_special_tokens = True  # `split_special_tokens` in tokenizer_config.json
    return theirs


THEIRS = [opened(tokenizer) for tokenizer in OURS]
held = st.text(st.characters(exclude_categories=("Cs",)))
texts = st.one_of(
    held,
    st.lists(st.sampled_from([trap for trap in TRAPS if trap.isprintable()] + ["a", "the ", "\n", BOUNDARY_TOKEN])).map(
        "".join
    ),
    st.integers(0, 900).flatmap(lambda begin: st.just(TEXTS["prose"][begin : begin + 90])),
)


@pytest.mark.parametrize("number", [2, 5, 9, 10], ids=[NAMES[number] for number in (2, 5, 9, 10)])
@settings(max_examples=2000, derandomize=True)
@given(text=texts)
def test_every_text_has_the_same_ids(number: int, text: str) -> None:
    same_ids(number, text)


@pytest.mark.parametrize("number", range(len(CASES)), ids=NAMES)
@settings(max_examples=100, derandomize=True)
@given(text=texts)
def test_every_tokenizer_gives_the_same_ids(number: int, text: str) -> None:
    same_ids(number, text)


def same_ids(number: int, text: str) -> None:
    """Of two unigram segmentations with equal scores SentencePiece takes the one that float32 rounds up."""
    ours, theirs = OURS[number].encode(text).tolist(), THEIRS[number].encode(text).ids
    assert theirs[0] == 0
    if ours != theirs[1:]:
        assert OURS[number].vocabulary().get("model_type") == "unigram"
        scores = [0.0] * 257 + [score for _, score in OURS[number].vocabulary()["pieces"]]
        assert sum(scores[id] for id in theirs[1:]) == pytest.approx(sum(scores[id] for id in ours), rel=1e-6)
    assert THEIRS[number].decode(theirs, skip_special_tokens=True) == text


@pytest.mark.parametrize("number", range(len(CASES)), ids=NAMES)
def test_a_long_text_has_the_same_ids(number: int) -> None:
    text = "".join(random.Random(number).choices([*TEXTS["prose"].split(" "), " ", "  ", "Ω", "<0x41>"], k=9000))
    assert THEIRS[number].encode(text, add_special_tokens=False).ids == OURS[number].encode(text).tolist()


@pytest.mark.parametrize("number", range(len(CASES)), ids=NAMES)
def test_each_id_keeps_its_number_and_its_bytes(number: int) -> None:
    ours, theirs = OURS[number], THEIRS[number]
    assert theirs.get_vocab_size() == ours.vocab_size
    for token, piece in enumerate(ours.pieces()[1:], 1):
        try:
            text = piece.decode()
        except UnicodeDecodeError:
            continue
        assert theirs.decode([token]) == text


def test_bytes_that_are_no_utf8_are_decoded_as_we_do() -> None:
    number = [case[0] for case in CASES].index("bytes")
    ids = random.Random(1).choices(range(1, 257), k=5000)
    ours, theirs = OURS[number].decode(ids), THEIRS[number].decode(ids)
    assert ours.translate(dict.fromkeys(range(0xD800, 0xE000), 0xFFFD)).count("\ufffd") <= theirs.count("\ufffd")
    assert ours.replace("\ufffd", "") == theirs.replace("\ufffd", "")
