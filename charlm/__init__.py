"""charlm: small language models on your own text.

>>> import charlm
>>> run = charlm.train("corpus.txt", "lstm", budget="50steps")
>>> text = run.sample("hello", length=80)
>>> figure = run.evaluate().bits_per_character
>>> characters = run.score("hello")
>>> result = charlm.compare("corpus.txt", ["rnn", "ngram"], budget="20steps", order=3)

The names below are imported when they are first used, so that `import charlm` and `charlm --help` are quick.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "ARCHITECTURES",
    "TOKENIZERS",
    "CharlmError",
    "Comparison",
    "Evaluation",
    "LanguageModel",
    "Run",
    "Sampling",
    "Text",
    "Tokenizer",
    "TrainingObserver",
    "__version__",
    "analysis",
    "beam_search",
    "compare",
    "compress",
    "decompress",
    "evaluate",
    "load",
    "mix",
    "open_corpus",
    "paired_difference",
    "read_arpa",
    "read_huggingface",
    "sample",
    "split",
    "train",
    "write_arpa",
]

if TYPE_CHECKING:
    from charlm import analysis as analysis
    from charlm.compression import compress, decompress
    from charlm.corpus import Text, open_corpus, split
    from charlm.decoding import Sampling, beam_search, sample
    from charlm.errors import CharlmError
    from charlm.evaluation import Evaluation, evaluate, paired_difference
    from charlm.export import read_arpa, read_huggingface, write_arpa
    from charlm.library import Comparison, Run, compare, load, train
    from charlm.mixing import mix
    from charlm.models import ARCHITECTURES, LanguageModel
    from charlm.tokenizers import TOKENIZERS, Tokenizer
    from charlm.training import TrainingObserver

_ROOMS = {
    "compression": ("compress", "decompress"),
    "corpus": ("Text", "open_corpus", "split"),
    "decoding": ("Sampling", "beam_search", "sample"),
    "errors": ("CharlmError",),
    "evaluation": ("Evaluation", "evaluate", "paired_difference"),
    "export": ("read_arpa", "read_huggingface", "write_arpa"),
    "library": ("Comparison", "Run", "compare", "load", "train"),
    "mixing": ("mix",),
    "models": ("ARCHITECTURES", "LanguageModel"),
    "tokenizers": ("TOKENIZERS", "Tokenizer"),
    "training": ("TrainingObserver",),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "analysis":
        return importlib.import_module("charlm.analysis")
    if name not in _ROOM_OF:
        raise AttributeError(f"module 'charlm' has no attribute {name!r}")
    return getattr(importlib.import_module(f"charlm.{_ROOM_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
