"""Whether what `--size auto` chooses is a good choice: other sizes and dropouts trained on the same text as long.

    python tests/benchmarks/sizes.py TEXT [--arch lstm] [--characters 200000 1000000] [--budgets 20s 2m]
                                     [--sizes tiny small] [--dropouts 0 0.3]

Trains each size with its usual dropout, the usual size with each of the dropouts, all on the beginning of the text.
Prints bits per character of the end of that beginning (the last tenth, 100,000 characters of it at most) and how far
the usual choice is from the best. Let nothing else run meanwhile.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from charlm.config import Settings
from charlm.corpus import Text, open_corpus, split
from charlm.evaluation import evaluate
from charlm.tokenizers import TOKENIZERS
from charlm.training import SIZES, Budget, TrainingConfig, choose_device, complete, model_config, speed, train

SCORED = 100_000


def bits(text: Text, arch: str, config: Settings, budget: str) -> float:
    """Bits per character of the end of the text, of a model that learned from the rest of it."""
    parts, kind = split(text), TOKENIZERS["characters"]
    tokenizer = kind.train(parts.training.chunks(), kind.Config())
    training = complete(TrainingConfig(budget=budget), arch)
    with tempfile.TemporaryDirectory() as folder:
        trained = train(Path(folder), parts, tokenizer, arch, config, training)
        return evaluate(trained.model, tokenizer, parts.held_out.slice(0, SCORED)).bits_per_character


def choices(arch: str, characters: int, budget: Budget, sizes: list[str], dropouts: list[float]) -> dict[str, Settings]:
    """The settings to try, by what they are called; the first are those that charlm chooses."""

    def config(size: str, **options: Any) -> Settings:
        pace = speed(TrainingConfig().precision, choose_device("cpu"))
        return model_config(arch, size, options, characters, budget, pace)

    found = {"auto": config("auto")}
    found |= {size: config(size) for size in sizes}
    found |= {f"dropout {dropout}": config("auto", dropout=dropout) for dropout in dropouts}
    different = {settings: name for name, settings in reversed(found.items())}
    return {name: settings for settings, name in reversed(different.items())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text")
    parser.add_argument("--arch", default="lstm")
    parser.add_argument("--characters", type=int, nargs="+", default=[200_000, 1_000_000])
    parser.add_argument("--budgets", nargs="+", default=["20s", "2m"])
    parser.add_argument("--sizes", nargs="*", choices=SIZES[1:], default=SIZES[1:])
    parser.add_argument("--dropouts", type=float, nargs="*", default=[])
    asked = parser.parse_args()
    whole = open_corpus(asked.text)
    for characters in asked.characters:
        text = whole.slice(0, min(characters, whole.characters))
        learned = split(text).training.characters
        for budget in asked.budgets:
            tried = choices(asked.arch, learned, Budget.parse(budget), asked.sizes, asked.dropouts)
            found = {name: bits(text, asked.arch, settings, budget) for name, settings in tried.items()}
            figures = ", ".join(f"{name} {value:.3f}" for name, value in found.items())
            loss = found["auto"] / min(found.values()) - 1
            print(
                f"{text.characters:,} characters, {budget}: {figures}; auto is {tried['auto']}, {loss:.1%} off",
                flush=True,
            )


if __name__ == "__main__":
    main()
