"""A network that no class of Hugging Face Transformers can hold, with `modeling_charlm.py`, which computes it there."""

from pathlib import Path
from typing import Any

from torch import Tensor

from charlm.config import BOUNDARY
from charlm.models import ARCHITECTURES, Network

CODE_FILE = "modeling_charlm.py"
NETWORKS = ("rnn", "gru", "lstm", "feedforward", "transformer")
"""The architectures that the file computes."""


def name_of(model: object) -> str | None:
    """The architecture of a model if `modeling_charlm.py` has it."""
    return next((name for name in NETWORKS if type(model) is ARCHITECTURES[name]), None)


def config_json(model: Network) -> dict[str, Any]:
    """The content of config.json."""
    settings = {name: value for name, value in model.config.to_json().items() if name not in ("dropout", "tie")}
    module = CODE_FILE.removesuffix(".py")
    return {
        "architectures": ["CharlmForCausalLM"],
        "auto_map": {"AutoConfig": f"{module}.CharlmConfig", "AutoModelForCausalLM": f"{module}.CharlmForCausalLM"},
        "model_type": "charlm",
        "network": name_of(model),
        "settings": {**settings, "output_width": model.output.in_features},
        "vocab_size": model.vocab_size,
        "bos_token_id": BOUNDARY,
        "eos_token_id": None,
        "tie_word_embeddings": False,
        "dtype": "float32",
    }


def tensors(model: Network) -> dict[str, Tensor]:
    """The weights by the names that they have in the file."""
    shared = ("output.", "known")
    return {
        name if name.startswith(shared) else f"network.{name}": tensor for name, tensor in model.state_dict().items()
    }


def code() -> bytes:
    """The file itself."""
    return Path(__file__).with_name(CODE_FILE).read_bytes()
