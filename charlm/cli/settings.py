"""The options of training, tokenizer and architecture, which `train` and `compare` share; --help-all lists them all."""

from collections.abc import Mapping

from charlm.cli.options import Decorator, by_value, device_option, option, settings_options, threads_option
from charlm.models import ARCHITECTURES
from charlm.tokenizers import TOKENIZERS
from charlm.training import TrainingConfig, policy_of, recipe_of
from charlm.training.optimizers import DECAYS


def _training_defaults() -> Mapping[str, str]:
    """What stands in for the training settings that are left open, for the architectures that are trained by them."""
    recipes = {name: recipe_of(name) for name, kind in ARCHITECTURES.items() if kind.by_gradient}
    own = {setting: {name: recipe[setting] for name, recipe in recipes.items()} for setting in OPEN}
    return {name: by_value(values) for name, values in {**own, "weight_decay": DECAYS}.items()}


OPEN = ("optimizer", "batch", "segment", "learning_rate")
SIZED = {name: "by --size" for kind in ARCHITECTURES for size in policy_of(kind).sizes.values() for name in size}

run_options: list[Decorator] = [
    option(
        "--tokenizer",
        default="characters",
        show_default=True,
        help=f"How text becomes ids: {', '.join(TOKENIZERS)}.",
    ),
    device_option(),
    threads_option(expose_value=True, rare=True),
    settings_options(
        "Training",
        {"training": TrainingConfig},
        skip=("budget",),
        common=("seed",),
        defaults=_training_defaults(),
    ),
    settings_options("Tokenizer", {name: kind.Config for name, kind in TOKENIZERS.items()}, common=()),
    settings_options(
        "Architecture (for those that have it)",
        {name: kind.Config for name, kind in ARCHITECTURES.items()},
        common=(),
        defaults={**SIZED, "dropout": "by text, --size and --budget"},
    ),
]
