"""A run as a folder that Hugging Face Transformers opens. Writing it needs nothing but charlm."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from charlm import __version__
from charlm.checkpoint import Run
from charlm.checkpoint.saving import Pieces, safetensors
from charlm.config import BOUNDARY
from charlm.errors import UsageError
from charlm.export.fit import Fit, WithoutFloor
from charlm.export.huggingface import decoder, starcoder2, with_code
from charlm.export.huggingface.card import model_card
from charlm.export.huggingface.families import family_of
from charlm.export.huggingface.tokenizer import to_json, tokenizer_files
from charlm.models import LanguageModel, Network, architecture_of
from charlm.models.decoder import Decoder
from charlm.models.transformer import Transformer
from charlm.tokenizers import FIRST_BYTE, FIRST_PIECE, Tokenizer

NATIVE = "{} in Transformers, without code"
WITH_CODE = f"{with_code.CODE_FILE}, which lies beside it"
NO_FLOOR = (
    f"the share of the probability that is spread evenly over the vocabulary ({Network.FLOOR:g}, and "
    f"{Network.FLOOR_AFTER_UNKNOWN:g} after an id that training never showed)"
)


def fit(model: LanguageModel) -> Fit:
    """Without code where a class of Transformers holds the model, else with it. Raises UsageError for what has none."""
    if isinstance(model, Transformer) and not starcoder2.misfits(model.config):
        return Fit(NATIVE.format("Starcoder2"), (NO_FLOOR,), WithoutFloor(model))
    if isinstance(model, Decoder):
        return Fit(NATIVE.format(family_of(model.config)), (), model)
    return fit_with_code(model)


def fit_with_code(model: LanguageModel) -> Fit:
    """With the file that computes it, whatever it is: nothing is lost. Raises UsageError for what the file has not."""
    if missing := with_code.without_code(model):
        name = architecture_of(model)
        name += f" with {missing[0]}" * (missing != [name])
        raise UsageError(
            f"{name}: Hugging Face Transformers has no place for it, and charlm has code for "
            f"{', '.join(with_code.NETWORK_NAMES)}, fitted n-grams, and mixtures of them"
        )
    return Fit(WITH_CODE, (), model)


def contents(run: Run, fit: Fit, figures: Sequence[str] = ()) -> dict[str, Pieces]:
    """The files by name. `figures` go into the model card."""
    model = run.model
    native = fit.form != WITH_CODE
    config, tensors = _native(model) if native else (with_code.config_json(model), with_code.tensors(model))
    files: dict[str, bytes] = {
        "config.json": to_json({"charlm": __version__, **config}),
        "generation_config.json": to_json(_generation(model, run.tokenizer)),
        **tokenizer_files(run.tokenizer),
        **({} if native else with_code.code(model)),
        "README.md": model_card(run, fit, figures, with_code=not native),
    }
    return {"model.safetensors": safetensors(tensors, {"format": "pt"}), **{n: [file] for n, file in files.items()}}


def _native(model: LanguageModel) -> tuple[Mapping[str, Any], Mapping[str, Tensor]]:
    if isinstance(model, Decoder):
        return decoder.config_json(model), decoder.tensors(model)
    assert isinstance(model, Transformer)
    return starcoder2.config_json(model), starcoder2.tensors(model)


def _generation(model: LanguageModel, tokenizer: Tokenizer) -> dict[str, Any]:
    """The settings of `generate`: drawn, as charlm draws, of ids that spell characters of the training text."""
    worth_drawing = model.seen_ids().cpu().clone()
    spelled = {FIRST_BYTE + byte for character in tokenizer.spelled() for byte in character.encode("utf-8", "replace")}
    worth_drawing[[BOUNDARY, *({*range(FIRST_BYTE, FIRST_PIECE)} - spelled)]] = False
    never = torch.nonzero(~worth_drawing).flatten().tolist()
    return {"bos_token_id": BOUNDARY, "pad_token_id": BOUNDARY, "do_sample": True, "suppress_tokens": never}
