"""The optimizers, by name. One learning rate serves all of a run's; each parameter group knows its weight decay."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from charlm.models import LanguageModel
from charlm.training.muon import Muon

BETAS = (0.9, 0.99)

Groups = list[dict[str, object]]

OPTIMIZERS: dict[str, Callable[[Groups, float], Optimizer]] = {
    "adamw": lambda groups, rate: AdamW(groups, lr=rate, betas=BETAS, fused=True),
    "adam": lambda groups, rate: Adam(groups, lr=rate, betas=BETAS, fused=True),  # decay added to the gradient
    "sgd": lambda groups, rate: SGD(groups, lr=rate, momentum=0.9, nesterov=True),
    "rmsprop": lambda groups, rate: RMSprop(groups, lr=rate, alpha=0.99),
    "muon": lambda groups, rate: Muon(groups, rate),
}


DECAYS = {"adamw": 0.3, "muon": 0.3, "adam": 0.0, "sgd": 0.0, "rmsprop": 0.0}
"""The weight decay that is measured best; the last three add theirs to the gradient, which 0.3 would drown."""


def hidden_matrices(model: LanguageModel) -> set[int]:
    """The ids of the matrices between embedding and output layer, which Muon (Jordan et al. 2024) is made for."""
    output = getattr(model, "output", None)
    outer = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) or m is output for p in m.parameters()}
    return {id(p) for p in model.parameters() if p.ndim == 2 and id(p) not in outer}


def build_optimizers(
    model: LanguageModel, name: str, rate: float, weight_decay: float, precision: str = "auto"
) -> list[Optimizer]:
    """The optimizer of that name over the model's parameters; vectors (biases, norms) are not decayed.

    muon takes the hidden matrices and leaves the rest to adamw: two optimizers, or one where either has nothing.
    """
    parameters = list(model.parameters())
    if name == "muon":
        hidden = hidden_matrices(model)
        parts = {
            "muon": [p for p in parameters if id(p) in hidden],
            "adamw": [p for p in parameters if id(p) not in hidden],
        }
        optimizers = [OPTIMIZERS[kind](_groups(part, weight_decay), rate) for kind, part in parts.items() if part]
        for optimizer in optimizers:
            if isinstance(optimizer, Muon):
                optimizer.exact = precision == "float32"
        return optimizers
    return [OPTIMIZERS[name](_groups(parameters, weight_decay), rate)]


def restore(optimizer: Optimizer, state: dict[int, dict[str, Tensor]]) -> None:
    """Give an optimizer back what its `state_dict` held, parameter by parameter.

    Raises ValueError or IndexError for what this optimizer would never hold: its kernels do not look.
    """
    probe = nn.Parameter(torch.zeros(2, 2))
    probe.grad = torch.zeros(2, 2)
    fresh = OPTIMIZERS[type(optimizer).__name__.lower()](_groups([probe], 0.0), 0.1)
    fresh.step()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for place, values in state.items():
        expected = {
            key: (parameters[place].shape if value.shape == probe.shape else value.shape, value.dtype)
            for key, value in fresh.state[probe].items()
        }
        if {key: (value.shape, value.dtype) for key, value in values.items()} != expected:
            raise ValueError("the state of the optimizer does not fit the model")
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _groups(parameters: list[nn.Parameter], weight_decay: float) -> Groups:
    matrices = [p for p in parameters if p.ndim >= 2]
    vectors = [p for p in parameters if p.ndim < 2]
    groups: Groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
