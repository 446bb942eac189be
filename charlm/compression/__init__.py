"""Text <-> bytes by any model: the proof that a figure in bits is true.

A model that gives each token the probability p can store it in -log2 p bits, and give it back. What cannot be stored in
the bits that were claimed was not predicted with them.

content        bytes of any kind <-> ids            predictors   the probabilities, the same on both sides
coding         ids <-> bits, by range coders        progress     how far that is
container      the file                             fingerprint  the model and the machine that it wants
compressing    text -> file                         decompressing  and back
runs           the run that a file was made with    proof        stored by claimed bits
portable       n-grams in integers                  opening      which predictor codes
"""

from charlm.compression.compressing import Compressed, CompressionConfig, compress
from charlm.compression.container import Container, Header
from charlm.compression.content import Content
from charlm.compression.decompressing import decompress
from charlm.compression.progress import CodingProgress, OnProgress
from charlm.compression.proof import Proof, prove
from charlm.compression.runs import embedded_run, files_of, find_run

__all__ = [
    "CodingProgress",
    "Compressed",
    "CompressionConfig",
    "Container",
    "Content",
    "Header",
    "OnProgress",
    "Proof",
    "compress",
    "decompress",
    "embedded_run",
    "files_of",
    "find_run",
    "prove",
]
