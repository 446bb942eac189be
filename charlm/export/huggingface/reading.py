"""A folder of Hugging Face Transformers as a model and a tokenizer. It is data: nothing in it is executed.

Sizes come first: config.json says which tensors there are, and what the file's header says of them is compared before
any is read.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from charlm.errors import DataError, UsageError
from charlm.export.huggingface.families import FAMILIES, Family, Json, Unfit
from charlm.export.huggingface.tokenizer_reading import Vocabulary, byt5, is_partial, read_tokenizer
from charlm.export.huggingface.weights import Weight
from charlm.memory import physical_memory
from charlm.models.decoder import Decoder, DecoderConfig
from charlm.progress import Listener, silent
from charlm.tokenizers import Tokenizer

JSON_LIMIT = 64 << 20  # bytes of a file of JSON
TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""The types of numbers that are read; all become float32, exactly."""

_WEIGHTS, _INDEX, _PICKLED = "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\.safetensors")
_NOT_LEARNED = re.compile(r".*\.(attn\.bias|masked_bias|attention\.bias|inv_freq)")  # tables that some files hold


@dataclass(frozen=True)
class Imported:
    """A model, its tokenizer, the family it is of, and what whoever imports it should know."""

    model: Decoder
    tokenizer: Tokenizer
    family: str
    notes: tuple[str, ...]


def read_huggingface(folder: Path, progress: Listener = silent) -> Imported:
    """The model in a folder that `save_pretrained` wrote, or `charlm export` without code.

    Raises DataError, in a line, that names the file and what of it is missing, damaged, or not held by charlm.
    """
    config = _json(folder / "config.json")
    try:
        family, settings = _settings(config)
    except (Unfit, UsageError) as problem:
        raise DataError(f"{folder / 'config.json'}: {problem}") from None
    vocabulary = _vocabulary(folder, config)
    size = config.get("vocab_size")
    if type(size) is not int or not 0 < size < 1 << 24 or max(vocabulary.theirs) >= size:
        raise DataError(
            f"{folder}: the tokenizer has ids up to {max(vocabulary.theirs)}, the model {size}: they differ"
        )
    weights = _Weights(folder, family.embedding)
    biases = any(
        weight.theirs in weights if weight.optional else _is_bias(weight.ours) for weight in family.weights(settings)
    )
    settings = settings.changed({"reserved": size - len(vocabulary.theirs), "biases": biases})
    model = _model(weights, family, settings, vocabulary, config, progress)
    notes = _notes(settings, size - len(vocabulary.theirs))
    return Imported(model.eval(), vocabulary.tokenizer, str(config["model_type"]), notes)


def _is_bias(parameter: str) -> bool:
    """Whether this is the bias of a linear layer."""
    return parameter.endswith(".bias") and "norm" not in parameter


def _settings(config: Mapping[str, Any]) -> tuple[Family, DecoderConfig]:
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise Unfit(f"model_type is {str(kind)[:40]!r}; charlm imports {', '.join(FAMILIES)}")
    if config.get("quantization_config"):
        raise Unfit("the weights are quantized; get those in float32, bfloat16 or float16")
    family = FAMILIES[kind]
    return family, DecoderConfig(**family.config(Json(config)))


def _vocabulary(folder: Path, config: Mapping[str, Any]) -> Vocabulary:
    path = folder / "tokenizer.json"
    ends = [config.get(name) for name in ("bos_token_id", "eos_token_id")]
    size = config.get("vocab_size")
    boundary = next((token for token in ends if type(token) is int and type(size) is int and 0 <= token < size), None)
    if not path.exists() and _named_class(folder).startswith("ByT5"):
        return byt5()
    content = _json(path)
    try:
        tokenizer = read_tokenizer(content, boundary)
        if len(set(tokenizer.theirs)) < len(tokenizer.theirs) or min(tokenizer.theirs) < 0:
            raise ValueError
        return tokenizer
    except Unfit as problem:
        raise DataError(f"{path}: {problem}") from None
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RuntimeError):
        raise DataError(f"{path}: damaged: not what a tokenizer.json holds; get an intact copy") from None


def _named_class(folder: Path) -> str:
    path = folder / "tokenizer_config.json"
    return str(_json(path).get("tokenizer_class")) if path.exists() else ""


def _json(path: Path) -> dict[str, Any]:
    """A file that holds a JSON object."""
    try:
        if path.stat().st_size > JSON_LIMIT:
            raise DataError(f"{path}: larger than {JSON_LIMIT >> 20} MB, so not what its name says")
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path}: missing; get the whole folder, as save_pretrained writes it") from None
    except OSError as problem:
        raise DataError(f"{path}: cannot be read: {problem.strerror}") from None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise DataError(f"{path}: damaged: not a JSON object; get an intact copy")
    return content


class _Weights:
    """The tensors of one file, or of several that an index lists, by name. Nothing is read until it is asked for."""

    def __init__(self, folder: Path, embedding: str) -> None:
        self.folder = folder
        self.files: dict[str, Path] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        for file in self._listed():
            self._look_into(file)
        prefix = embedding.partition(".")[0] + "."
        self.prefix = prefix if embedding not in self.files and embedding.removeprefix(prefix) in self.files else ""

    def _listed(self) -> list[Path]:
        if (self.folder / _WEIGHTS).exists():
            return [self.folder / _WEIGHTS]
        if not (self.folder / _INDEX).exists():
            pickled = next(self.folder.glob("*.bin"), None)
            more = (
                f"; {pickled.name} is a pickle, which charlm does not open: save it as safetensors" if pickled else ""
            )
            raise DataError(f"{self.folder / _WEIGHTS}: missing{more}")
        mapped = _json(self.folder / _INDEX).get("weight_map")
        names = set(mapped.values()) if isinstance(mapped, dict) and mapped else {""}
        if not all(isinstance(name, str) and _NAME.fullmatch(name) for name in names):
            raise DataError(f"{self.folder / _INDEX}: damaged: it names files that are no weights; get an intact copy")
        return [self.folder / name for name in sorted(names)]

    def _look_into(self, file: Path) -> None:
        """Names, shapes and types, from the header."""
        try:
            if file.stat().st_size > physical_memory():
                raise DataError(f"{file}: larger than the memory of this machine")
            with safe_open(file, "pt") as opened:
                for name in opened.keys():  # noqa: SIM118
                    part = opened.get_slice(name)
                    if part.get_dtype() not in TYPES and not _NOT_LEARNED.fullmatch(name):
                        raise DataError(
                            f"{file}: {name} is of type {part.get_dtype()}; charlm reads {', '.join(TYPES)}"
                        )
                    self.files[name], self.shapes[name] = file, tuple(part.get_shape())
        except FileNotFoundError:
            raise DataError(f"{file}: missing; get the whole folder") from None
        except OSError as problem:
            raise DataError(f"{file}: cannot be read: {problem.strerror or problem}") from None
        except (SafetensorError, ValueError, RuntimeError) as problem:
            raise DataError(f"{file}: damaged: {str(problem)[:100]}; get an intact copy") from None

    def __contains__(self, name: str) -> bool:
        return name.removeprefix(self.prefix) in self.files

    def check(self, expected: Mapping[str, tuple[int, ...]], optional: set[str]) -> None:
        """Raises DataError unless these tensors are there, of these shapes, and no others."""
        own = {name.removeprefix(self.prefix): shape for name, shape in expected.items()}
        for name, shape in own.items():
            if name not in self.files and name not in {other.removeprefix(self.prefix) for other in optional}:
                raise DataError(f"{self.folder}: the weights have no {name}, which config.json asks for")
            if name in self.files and self.shapes[name] != shape:
                size = self.shapes[name]
                raise DataError(f"{self.files[name]}: {name} is {size}, and config.json makes it {shape}: they differ")
        others = (name for name in self.files if name not in own and not _NOT_LEARNED.fullmatch(name))
        if (other := next(others, None)) is not None:
            raise DataError(f"{self.files[other]}: {other} is not part of such a model as config.json describes")

    def __getitem__(self, name: str) -> Tensor:
        name = name.removeprefix(self.prefix)
        with safe_open(self.files[name], "pt") as opened:
            tensor: Tensor = opened.get_tensor(name)
            return tensor.float()


def _model(
    weights: _Weights,
    family: Family,
    settings: DecoderConfig,
    vocabulary: Vocabulary,
    config: Mapping[str, Any],
    progress: Listener,
) -> Decoder:
    size, V = int(config["vocab_size"]), len(vocabulary.theirs)
    listed = list(family.weights(settings))
    tied = bool(config.get("tie_word_embeddings", family.tied)) and family.output not in weights
    output = family.embedding if tied else family.output
    rows = Weight(family.embedding, (size, settings.width), ""), Weight(output, (size, settings.width), "")
    expected = {weight.theirs: weight.shape for weight in (*rows, *listed)}
    weights.check(expected, {weight.theirs for weight in listed if weight.optional})
    with torch.random.fork_rng():
        model = Decoder(settings, V)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for number, weight in enumerate(listed):
            progress("reading weights", number / len(listed))
            parameter = parameters.get(weight.ours)
            if parameter is not None and weight.theirs in weights:
                parameter.copy_(weight.part(weights[weight.theirs]).reshape(parameter.shape))
            elif parameter is not None:
                parameter.zero_()
        model.embedding.weight.copy_(weights[family.embedding][vocabulary.theirs])
        others = sorted(set(range(size)) - set(vocabulary.theirs))
        model.output.weight.copy_(weights[output][[*vocabulary.theirs, *others]])
    model.known[torch.tensor(is_partial(vocabulary.tokenizer.pieces()))] = False
    return model


def _notes(settings: DecoderConfig, reserved: int) -> tuple[str, ...]:
    notes = []
    if reserved:
        notes.append(f"{reserved:,} tokens that no text has, such as padding: their probability is the boundary's here")
    if not settings.window:
        notes.append(
            f"the context is {settings.context:,} tokens: when it is full, the older half is forgotten and the rest "
            "read anew"
        )
    return tuple(notes)
