"""Settings that belong together, under one name: what a preset says."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from charlm.errors import UsageError
from charlm.export.huggingface.starcoder2 import PORTABLE


@dataclass(frozen=True)
class Preset:
    """An architecture and the settings of it that are not left to its size; `about` says what for."""

    about: str
    architecture: str
    settings: Mapping[str, Any]


DEFAULT_ARCHITECTURE = "lstm"
PRESETS: Mapping[str, Preset] = {
    "portable": Preset(
        "a Transformer that Hugging Face Transformers opens without code of charlm's",
        "transformer",
        PORTABLE,
    ),
}


def with_preset(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with those of a preset. Raises UsageError for one that the preset decides otherwise."""
    settings = PRESETS[name].settings
    for option, value in settings.items():
        if options.get(option, value) != value:
            raise UsageError(f"{name} has `{option}={value!r}`; leave `{option}` out, or `preset`", "preset")
    return {**options, **settings}
