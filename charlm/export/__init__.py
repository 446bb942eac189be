"""Models in other programs' formats: ARPA files of n-grams, and folders that Hugging Face Transformers opens.

formats      one table of them all: what a run becomes, and what is lost
arpa         n-grams, in and out
huggingface  networks with their tokenizers, in and out
gguf         Transformers for llama.cpp
onnx         one step of a network
"""

from charlm.export.arpa import read_arpa, write_arpa
from charlm.export.huggingface.reading import read_huggingface

__all__ = ["read_arpa", "read_huggingface", "write_arpa"]
