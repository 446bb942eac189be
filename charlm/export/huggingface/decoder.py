"""An imported decoder as the class that it came from, or another of its family."""

from typing import Any

import torch
from torch import Tensor

from charlm.config import BOUNDARY
from charlm.export.huggingface.families import FAMILIES, family_of
from charlm.models.decoder import Decoder


def config_json(model: Decoder) -> dict[str, Any]:
    """The content of config.json."""
    name = family_of(model.config)
    family = FAMILIES[name]
    return {
        "architectures": [family.architecture],
        "model_type": name,
        "vocab_size": model.vocab_size + model.config.reserved,
        **family.to_json(model.config),
        **dict.fromkeys(family.biases, model.config.biases),
        "tie_word_embeddings": False,
        "bos_token_id": BOUNDARY,
        "eos_token_id": None,
        "dtype": "float32",
    }


@torch.no_grad()
def tensors(model: Decoder) -> dict[str, Tensor]:
    """The weights by the names of the family; ids that no text has get an embedding of 0."""
    family, named = FAMILIES[family_of(model.config)], dict[str, Tensor]()
    parameters = dict(model.named_parameters())
    for weight in family.weights(model.config):
        if weight.ours not in parameters:
            continue  # a bias that the model does not have
        part = weight.part(named.setdefault(weight.theirs, torch.zeros(weight.shape)))
        part.copy_(parameters[weight.ours].reshape(part.shape))
    reserved = torch.zeros(model.config.reserved, model.config.width)
    named[family.embedding] = torch.cat([model.embedding.weight.detach().cpu(), reserved])
    named[family.output] = model.output.weight
    return named
