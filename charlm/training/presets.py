"""Settings that belong together, under one name: what `--preset` says."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from charlm.config import option_name
from charlm.errors import UsageError
from charlm.export.huggingface.starcoder2 import PORTABLE


@dataclass(frozen=True)
class Preset:
    """An architecture and the settings of it that are not left to its size; `about` says what for."""

    about: str
    architecture: str
    settings: Mapping[str, Any]


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
            flag = option_name(option)
            raise UsageError(f"--preset {name} has {_typed(option, value)}; leave {flag} out, or --preset")
    return {**options, **settings}


def _typed(option: str, value: Any) -> str:
    if isinstance(value, bool):
        return option_name(option if value else f"no_{option}")
    return f"{option_name(option)} {value}"
