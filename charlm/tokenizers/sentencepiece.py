"""Pieces of words, learned by SentencePiece (Kudo & Richardson 2018, arXiv 1808.06226): unigram or byte-pair encoding.

The library sees only what it carries exactly: characters that are pieces of their own. All others are spelled in bytes
on this side, so nothing depends on how it treats them. What is stored is the list of pieces and scores; the library's
model file is written from it on loading, so its parser never meets bytes from a disk.
"""

import io
import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import sentencepiece
from typing_extensions import override

from charlm.config import Settings, setting
from charlm.errors import DataError, UsageError
from charlm.tokenizers.base import CODE_POINTS, FIRST_PIECE, Ids, Integers, Tokenizer, count, spell
from charlm.tokenizers.characters import CharactersConfig

DEFAULT_VOCAB_SIZE = 512
"""Ids where no size is asked for, at most: a short text has fewer pieces."""

MAX_TRAINING_CHARACTERS = 1 << 21
"""Characters that pieces are learned from at most: blocks spread evenly over the training part."""

_CHARACTERS_PER_SENTENCE = 1 << 12  # characters of one training sentence
_MAX_CHARACTERS_PER_CALL = 1 << 16  # characters encoded at once; bounds the library's memory
_SPACE = "\u2581"  # what the library writes for a space
_UNKNOWN = "\u2585"  # what it writes for what it does not know
_MODEL_TYPES = {"unigram": 1, "bpe": 2}  # as in the library's model file

_MAX_SCORE = 1e9
_TRAINER_OPTIONS: dict[str, Any] = {
    "hard_vocab_limit": False,
    "character_coverage": 1.0,
    "normalization_rule_name": "identity",
    "add_dummy_prefix": False,
    "remove_extra_whitespaces": False,
    "allow_whitespace_only_pieces": True,  # indentation: a quarter fewer tokens on source code
    "max_sentence_length": 8 * _CHARACTERS_PER_SENTENCE,  # in bytes; a longer one would be left out
    "unk_piece": _UNKNOWN,
    "unk_id": 0,
    "bos_id": -1,
    "eos_id": -1,
    "pad_id": -1,
    "num_threads": 4,  # each adds up its own share: a fixed number gives the same pieces on every machine
    "minloglevel": 2,
}

Piece = tuple[str, float]  # its text, and its score as a float32


@dataclass(frozen=True)
class SentencePieceConfig(CharactersConfig):
    """How many pieces there are and how they are chosen."""

    vocab_size: int | None = setting(
        None,
        f"number of ids, the 256 bytes and the boundary included; if not given, {DEFAULT_VOCAB_SIZE} "
        "or what a short text has",
        min=FIRST_PIECE + 1,
    )
    model_type: str = setting("unigram", "how pieces are chosen", choices=tuple(_MODEL_TYPES))


class SentencePiece(Tokenizer):
    """One id a piece: a word, a part of one, a run of spaces, a character.

    Its text is cut in one way of many, so a model's cost over it is an upper bound on what the model would pay.
    `encode` of two halves, joined, decodes to the whole but may differ from `encode` of the whole.
    """

    Config: ClassVar[type[Settings]] = SentencePieceConfig
    kind = "sentencepiece"

    def __init__(self, pieces: Sequence[Piece], model_type: str, seen: Integers) -> None:
        """Raises ValueError for pieces that the library would not carry exactly."""
        texts = [text for text, _ in pieces]
        characters = [text for text in texts if len(text) == 1]
        if not characters or len(set(texts)) < len(texts) or "" in texts or not all(map(carried, "".join(texts))):
            raise ValueError("not a list of pieces")
        super().__init__([text.encode() for text in texts], seen)
        self._list = pieces
        self._model_type = model_type
        self._others = _others(characters)
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=_model(pieces, _MODEL_TYPES[model_type]))

    @classmethod
    def train(cls, chunks: Iterable[str], config: SentencePieceConfig) -> "SentencePiece":
        """Learn `vocab_size` ids. Half of the pieces are left to more than one character, if the text holds so many.

        Raises UsageError that names the largest size possible if the text holds fewer than were asked for, or for a
        `min_count` that no character has; DataError if the text holds no pieces.
        """
        counts = np.zeros(CODE_POINTS, dtype=np.int64)
        sample = _sample(_counted(chunks, counts))
        frequent = _by_frequency(counts, config.min_count)
        if CharactersConfig.min_count <= (max_count := int(counts.max())) < config.min_count:
            raise UsageError(
                f"{config.min_count}: no character of the training text occurs so often; "
                f"the most frequent occurs {max_count:,} times",
                "min_count",
            )
        piece_count = (config.vocab_size or DEFAULT_VOCAB_SIZE) - FIRST_PIECE
        characters = max(1, piece_count // 2)
        while len(pieces := _learn(sample, frequent[:characters], piece_count, config.model_type)) < piece_count:
            if characters >= len(frequent):
                break
            characters += piece_count - len(pieces) if pieces else 1
        if not pieces:
            raise DataError("SentencePiece finds no pieces in this text: give more, or use `tokenizer='characters'`")
        if config.vocab_size is not None and len(pieces) < piece_count:
            raise UsageError(
                f"{config.vocab_size}: the text holds too few pieces; "
                f"the largest size possible is {FIRST_PIECE + len(pieces)}",
                "vocab_size",
            )
        return cls(pieces, config.model_type, np.flatnonzero(counts))

    def vocabulary(self) -> dict[str, Any]:
        """How the pieces were chosen, and each with its score, in the order of their ids."""
        return {"model_type": self._model_type, "pieces": [[text, score] for text, score in self._list]}

    @classmethod
    @override
    def from_vocabulary(cls, vocabulary: Mapping[str, Any], seen: Integers) -> "SentencePiece":
        pieces = [(text, float(score)) for text, score in vocabulary["pieces"]]
        scores = np.array([score for _, score in pieces])
        if not (np.abs(scores) <= _MAX_SCORE).all() or (scores != scores.astype(np.float32)).any():
            raise ValueError("not a list of scores")
        return cls(pieces, vocabulary["model_type"], seen)

    @override
    def encode(self, text: str) -> Ids:
        ids = [np.empty(0, dtype=np.int32)]
        for begin in range(0, len(text), _MAX_CHARACTERS_PER_CALL):
            parts = self._others.split(
                text[begin : begin + _MAX_CHARACTERS_PER_CALL]
            )  # carried, other, carried, ..., carried
            carried = self._processor.encode(parts[::2], return_type="numpy", num_threads=1)
            for pieces, other in zip(carried, [*parts[1::2], ""], strict=True):
                ids += [pieces + (FIRST_PIECE - 1), spell(other)]
        return np.concatenate(ids)


def _others(characters: Iterable[str]) -> "re.Pattern[str]":
    """Splits a text into stretches of these characters, and in between, stretches of others."""
    return re.compile(f"([^{re.escape(''.join(characters))}]+)")


def carried(character: str) -> bool:
    """Whether the library can hand this character back: one of Unicode's, and none that it keeps for itself."""
    return character not in ("\0", _SPACE, _UNKNOWN) and not "\ud800" <= character <= "\udfff"


def _counted(chunks: Iterable[str], counts: Integers) -> Iterator[str]:
    for chunk in chunks:
        count(chunk, counts)
        yield chunk


def _by_frequency(counts: Integers, min_count: int) -> list[str]:
    """The characters that occur often enough and can be carried, most frequent first."""
    order = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts >= min_count)]
    return [character for character in map(chr, order.tolist()) if carried(character)]


def _sample(chunks: Iterable[str]) -> list[str]:
    """Every 1st, 2nd, 4th ... block of the text, whichever keeps them to MAX_TRAINING_CHARACTERS."""
    blocks: list[str] = []
    stride = 1
    for place, block in enumerate(_blocks(chunks)):
        if place % stride == 0:
            blocks.append(block)
        if len(blocks) * _CHARACTERS_PER_SENTENCE > MAX_TRAINING_CHARACTERS:
            blocks, stride = blocks[::2], stride * 2
    return blocks


def _blocks(chunks: Iterable[str]) -> Iterator[str]:
    """The text in blocks of one size, however it comes."""
    rest = ""
    for chunk in chunks:
        rest += chunk
        whole = len(rest) - len(rest) % _CHARACTERS_PER_SENTENCE
        yield from (
            rest[begin : begin + _CHARACTERS_PER_SENTENCE] for begin in range(0, whole, _CHARACTERS_PER_SENTENCE)
        )
        rest = rest[whole:]
    if rest:
        yield rest


def _learn(sample: Iterable[str], characters: Sequence[str], max_pieces: int, model_type: str) -> list[Piece]:
    """Up to `max_pieces` pieces that the sample holds, made of these characters; none if the library gives up."""
    if not characters:
        return []
    others = _others(characters)
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(part for block in sample for part in others.split(block)[::2]),
            model_writer=model,
            model_type=model_type,
            vocab_size=1 + max_pieces,
            **_TRAINER_OPTIONS,
        )
    except RuntimeError:  # nothing but line ends, or too little to count
        return []
    learned = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    ids = range(1, learned.get_piece_size())
    return [(learned.id_to_piece(id).replace(_SPACE, " "), learned.get_score(id)) for id in ids]


def _model(pieces: Iterable[Piece], model_type: int) -> bytes:
    """The library's model file (sentencepiece_model.proto): id 0 the unknown, which never occurs, then the pieces."""
    unknown = _field(1, _field(1, _UNKNOWN.encode()) + b"\x18\x02")  # type = UNKNOWN
    known = [
        _field(1, _field(1, text.replace(" ", _SPACE).encode()) + b"\x15" + struct.pack("<f", score))
        for text, score in pieces
    ]
    trainer = _field(2, bytes([0x18, model_type]) + _field(45, _UNKNOWN.encode()))
    normalizer = _field(3, _field(1, b"identity") + b"\x18\x00\x20\x00\x28\x01")  # no prefix, spaces kept, escaped
    return b"".join([unknown, *known, trainer, normalizer])


def _field(number: int, content: bytes) -> bytes:
    """One length-delimited field of a protocol buffer."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    low, high = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + _varint(high) if high else bytes([low])
