"""A model that no class of Hugging Face Transformers can hold, with files of code that compute it there.

`modeling_charlm.py` computes networks; n-grams and mixtures also bring `mixture_charlm.py`.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from charlm.config import BOUNDARY
from charlm.models import ARCHITECTURES, LanguageModel, Mixture, Network, architecture_of
from charlm.models.mixture.model import COMBINATION_PREFIX, MEMBER_PREFIX
from charlm.models.ngram import NGram
from charlm.models.ngram.model import CACHE_PREFIX

CODE_FILE, MIXTURE_FILE = "modeling_charlm.py", "mixture_charlm.py"
NETWORK_NAMES = ("rnn", "gru", "lstm", "feedforward", "transformer")
"""The architectures that the first file computes."""

_TABLE = ("ids", "codes", "symbol", "mass", "backoff", "unigram", "first")  # of an n-gram


def name_of(model: object) -> str | None:
    """The architecture of a model if `modeling_charlm.py` has it."""
    return next((name for name in NETWORK_NAMES if type(model) is ARCHITECTURES[name]), None)


def without_code(model: LanguageModel) -> list[str]:
    """The architectures of the model and of its members, if it has any, that the files do not compute."""
    if isinstance(model, Mixture):
        return list(dict.fromkeys(name for member in model.each() for name in without_code(member)))
    if isinstance(model, NGram) and len(model.ids):
        return []
    return [] if name_of(model) else [architecture_of(model)]


def config_json(model: LanguageModel) -> dict[str, Any]:
    """The content of config.json."""
    networks, mixtures = (name.removesuffix(".py") for name in (CODE_FILE, MIXTURE_FILE))
    kind = "CharlmForCausalLM" if isinstance(model, Network) else "CharlmMixtureForCausalLM"
    module = networks if isinstance(model, Network) else mixtures
    return {
        "architectures": [kind],
        "auto_map": {"AutoConfig": f"{networks}.CharlmConfig", "AutoModelForCausalLM": f"{module}.{kind}"},
        "model_type": "charlm",
        **_described(model),
        "vocab_size": model.vocab_size,
        "bos_token_id": BOUNDARY,
        "eos_token_id": None,
        "tie_word_embeddings": False,
        "dtype": "float32",
    }


def _described(model: LanguageModel) -> dict[str, Any]:
    """Which model it is, by name, and the settings that the files ask for."""
    if isinstance(model, Mixture):
        members = [_described(member) for member in model.each()]
        return {"network": "mixture", "settings": {"combine": model.config.combine, "members": members}}
    if isinstance(model, NGram):
        sizes = {"symbols": len(model.ids), "ngrams": len(model.symbol), "contexts": len(model.backoff)}
        return {"network": "ngram", "settings": {**model.chosen, **sizes}}
    assert isinstance(model, Network)
    settings = {name: value for name, value in model.config.to_json().items() if name not in ("dropout", "tie")}
    return {"network": name_of(model), "settings": {**settings, "output_width": model.output.in_features}}


def tensors(model: LanguageModel) -> dict[str, Tensor]:
    """The weights by the names that they have in the files."""
    return {f"model.{name}": tensor for name, tensor in _named(model)}


def _named(model: LanguageModel) -> Iterator[tuple[str, Tensor]]:
    if isinstance(model, Mixture):
        for number, member in enumerate(model.each()):
            yield from ((MEMBER_PREFIX.format(number) + name, tensor) for name, tensor in _named(member))
        yield from ((COMBINATION_PREFIX + name, tensor) for name, tensor in model.combination.state_dict().items())
    elif isinstance(model, NGram):
        yield from ((name, getattr(model, name)) for name in _TABLE)
        weights = model.cache.tensors() if model.cache else {}
        yield from ((CACHE_PREFIX.replace("_", ".") + name, weights[name]) for name in weights if name != "window")
    else:
        for name, tensor in model.state_dict().items():
            yield name if name.startswith(("output.", "known")) else f"body.{name}", tensor


def code(model: LanguageModel) -> Mapping[str, bytes]:
    """The files themselves, by name."""
    names = [CODE_FILE] if isinstance(model, Network) else [CODE_FILE, MIXTURE_FILE]
    return {name: Path(__file__).with_name(name).read_bytes() for name in names}
