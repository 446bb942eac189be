"""Whether `--size auto` is a good choice: every size trained on the beginnings of a text for the same time.

    python tests/benchmarks/sizes.py TEXT [--arch lstm] [--characters 200000 1000000] [--budgets 20s 2m] [--sizes tiny]

Prints bits per character of the end of each beginning (the last tenth, 100,000 characters of it at most) and how far
the choice of `auto` is from the best. Let nothing else run meanwhile.
"""

import argparse
import tempfile
from pathlib import Path

from charlm.corpus import Text, open_corpus, split
from charlm.evaluation import evaluate
from charlm.tokenizers import TOKENIZERS
from charlm.training import SIZES, Budget, TrainingConfig, complete, model_config, train
from charlm.training.recipe import auto_size

SCORED = 100_000


def bits(text: Text, arch: str, size: str, budget: str) -> float:
    """Bits per character of the end of the text, of a model that learned from the rest of it."""
    parts, kind = split(text), TOKENIZERS["characters"]
    tokenizer = kind.train(parts.training.chunks(), kind.Config())
    config = model_config(arch, size, {}, parts.training.characters, Budget.parse(budget))
    training = complete(TrainingConfig(budget=budget), arch)
    with tempfile.TemporaryDirectory() as folder:
        trained = train(Path(folder), parts, tokenizer, arch, config, training, about={})
        return evaluate(trained.model, tokenizer, parts.held_out.slice(0, SCORED)).bits_per_character


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text")
    parser.add_argument("--arch", default="lstm")
    parser.add_argument("--characters", type=int, nargs="+", default=[200_000, 1_000_000])
    parser.add_argument("--budgets", nargs="+", default=["20s", "2m"])
    parser.add_argument("--sizes", nargs="+", default=SIZES[1:])
    asked = parser.parse_args()
    whole = open_corpus(asked.text)
    for characters in asked.characters:
        text = whole.slice(0, min(characters, whole.characters))
        for budget in asked.budgets:
            chosen = auto_size(split(text).training.characters, Budget.parse(budget))
            found = {size: bits(text, asked.arch, size, budget) for size in dict.fromkeys([*asked.sizes, chosen])}
            figures = ", ".join(f"{size} {value:.3f}" for size, value in found.items())
            loss = found[chosen] / min(found.values()) - 1
            print(f"{text.characters:,} characters, {budget}: {figures}; auto is {chosen}, {loss:.1%} off", flush=True)


if __name__ == "__main__":
    main()
