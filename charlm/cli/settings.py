"""The options of training, tokenizer and architecture that `train`, `compare` and `bench` share, and their checks."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from charlm.cli.options import Decorator, check_name, device_option, option, refuse, threads_option
from charlm.cli.setting_options import by_value, given, settings_options
from charlm.corpus import Split
from charlm.errors import UsageError
from charlm.models import ARCHITECTURES, SINGLE, CountingModel
from charlm.tokenizers import TOKENIZERS, Tokenizer
from charlm.training import TrainingConfig, policy_of, recipe_of
from charlm.training.optimizers import DECAYS

STEPWISE = {"size", "device", *TrainingConfig.names()} - {"budget"}
"""The options for training by steps, without effect on counting models. A budget limits those as well."""

RECIPE = ("optimizer", "batch", "segment", "learning_rate")
"""The training settings whose default depends on the architecture."""


def _training_defaults() -> Mapping[str, str]:
    """In words, the defaults of the training settings that depend on the architecture."""
    recipes = {name: recipe_of(name) for name, kind in ARCHITECTURES.items() if kind.by_gradient}
    by_recipe = {setting: {name: recipe[setting] for name, recipe in recipes.items()} for setting in RECIPE}
    return {name: by_value(values) for name, values in {**by_recipe, "weight_decay": DECAYS}.items()}


SET_BY_SIZE = {name: "by --size" for kind in ARCHITECTURES for size in policy_of(kind).sizes.values() for name in size}


def run_options(*, skip: Iterable[str] = ()) -> list[Decorator]:
    """The options of training, tokenizers and architectures, but for those in `skip`."""
    return [
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
            skip=skip,
            common=(),
            defaults={**SET_BY_SIZE, "dropout": "by text, --size and --budget"},
        ),
    ]


def architectures_option() -> Decorator:
    """--arch, for several architectures; see `named_architectures`."""
    help = f"Architectures, separated by commas: {', '.join(ARCHITECTURES)}.  [default: all but mixture]"
    return option("--arch", multiple=True, help=help)


def named_architectures(values: Iterable[str]) -> list[str]:
    """The architectures that --arch names, each once; by default all but mixtures."""
    names = [name.strip() for value in values for name in value.split(",")] or list(SINGLE)
    return list(dict.fromkeys(check_name(name, ARCHITECTURES, "--arch") for name in names))


def check_counting(architectures: Collection[str], options: Collection[str]) -> None:
    """Raises UsageError for one of these options if every architecture is a counting model."""
    if all(issubclass(ARCHITECTURES[name], CountingModel) for name in architectures):
        names = " and ".join(dict.fromkeys(architectures))
        refuse(options, f"has no effect on {names} models, which are counted")


def check_sizes(architectures: Collection[str]) -> None:
    """Raises UsageError for a --size if none of these architectures comes in sizes."""
    if not any(policy_of(name).sizes for name in architectures):
        names = " and ".join(dict.fromkeys(architectures))
        refuse({"size"}, f"has no effect on {names} models, which have one size")


def check_threads(threads: str, training: TrainingConfig) -> None:
    """Raises UsageError for several threads in deterministic training."""
    if training.deterministic and threads not in ("auto", "1"):
        raise UsageError("--deterministic trains on one thread: it goes with no --threads but 1")


def architecture_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """The options of architectures that were given."""
    return given(values, *(kind.Config for kind in ARCHITECTURES.values()))


def learn_tokenizer(values: Mapping[str, Any], split: Split) -> Tokenizer:
    """The tokenizer that the options ask for, learned from the training text.

    Raises UsageError for an option of another tokenizer.
    """
    name = values["tokenizer"]
    kind = TOKENIZERS[check_name(name, TOKENIZERS, "--tokenizer")]
    options, own = given(values, *(other.Config for other in TOKENIZERS.values())), given(values, kind.Config)
    if wrong := sorted(set(options) - set(own)):
        raise UsageError(f"--{wrong[0].replace('_', '-')} is not an option of the {name} tokenizer")
    return kind.train(split.training.chunks(), kind.Config(**own))
