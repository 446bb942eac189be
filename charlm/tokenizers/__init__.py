"""The tokenizers, one file each, and the table that everything else iterates. The first is the default."""

from charlm.tokenizers.base import FIRST_BYTE, FIRST_PIECE, Ids, StreamDecoder, Tokenizer, alphabet
from charlm.tokenizers.bytes import Bytes
from charlm.tokenizers.characters import Characters
from charlm.tokenizers.sentencepiece import SentencePiece

TOKENIZERS: dict[str, type[Tokenizer]] = {tokenizer.kind: tokenizer for tokenizer in (Characters, Bytes, SentencePiece)}

__all__ = ["FIRST_BYTE", "FIRST_PIECE", "TOKENIZERS", "Ids", "StreamDecoder", "Tokenizer", "alphabet"]
