"""charlm: small language models on your own text.

The names below are imported when they are first used, so that `import charlm` and `charlm --help` are quick.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "ARCHITECTURES": "charlm.models",
    "LanguageModel": "charlm.models",
    "TOKENIZERS": "charlm.tokenizers",
    "Tokenizer": "charlm.tokenizers",
    "Text": "charlm.corpus",
    "open_corpus": "charlm.corpus",
    "split": "charlm.corpus",
    "load": "charlm.checkpoint",
    "evaluate": "charlm.evaluation",
    "paired_difference": "charlm.evaluation",
    "Sampling": "charlm.decoding",
    "sample": "charlm.decoding",
    "beam_search": "charlm.decoding",
    "compress": "charlm.compression",
    "decompress": "charlm.compression",
    "read_arpa": "charlm.export",
    "read_huggingface": "charlm.export",
    "write_arpa": "charlm.export",
    "mix": "charlm.mixing",
    "train": "charlm.training",
    "CharlmError": "charlm.errors",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    """A public name from the room it lives in."""
    if name not in _HOMES:
        raise AttributeError(f"module 'charlm' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
