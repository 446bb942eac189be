"""The tokenizers, one file each, and the table that everything else iterates. The first is the default."""

from charlm.tokenizers.base import FIRST_BYTE, FIRST_PIECE, Ids, StreamDecoder, Tokenizer, alphabet
from charlm.tokenizers.bpe import BPE
from charlm.tokenizers.bytes import Bytes
from charlm.tokenizers.characters import Characters
from charlm.tokenizers.sentencepiece import SentencePiece

TOKENIZERS: dict[str, type[Tokenizer]] = {tokenizer.kind: tokenizer for tokenizer in (Characters, Bytes, SentencePiece)}
ALL_TOKENIZERS: dict[str, type[Tokenizer]] = {**TOKENIZERS, BPE.kind: BPE}
"""What a run may have: the tokenizers that charlm trains, and one that is imported only."""

__all__ = ["ALL_TOKENIZERS", "FIRST_BYTE", "FIRST_PIECE", "TOKENIZERS", "Ids", "StreamDecoder", "Tokenizer", "alphabet"]
