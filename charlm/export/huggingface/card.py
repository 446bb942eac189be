"""README.md of an export, its model card: what the model is, what it learned from, how good it is, how it is used."""

from collections.abc import Sequence

from charlm import __version__
from charlm.checkpoint import Run, read_card, result_of
from charlm.export.fit import Fit
from charlm.progress import duration

_FRONT = """---
# charlm {version}: a model card
library_name: transformers
pipeline_tag: text-generation
tags: [charlm, {architecture}]
---
"""
_USE = """
## Use

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(FOLDER{trust})
tokenizer = AutoTokenizer.from_pretrained(FOLDER{trust})
inputs = tokenizer("Once", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=200)[0], skip_special_tokens=True))
```

A text begins with the boundary, `<|endoftext|>` (id 0), which the tokenizer puts there. Ids 1 to 256 are the bytes that
spell characters without an id of their own.
"""
_TRUST = """
`trust_remote_code=True` lets Transformers run the files of code that lie here: read them before, as you would any
program.
"""


def model_card(run: Run, fit: Fit, figures: Sequence[str], *, with_code: bool) -> bytes:
    """`figures` are sentences on what the export costs in bits per character."""
    trust = ", trust_remote_code=True" if with_code else ""
    sections = [
        _FRONT.format(version=__version__, architecture=run.architecture),
        f"# {_heading(run)}\n\n{_introduction(run, fit)}\n",
        _list("Data and training", _facts(run)),
        _list("Bits per character", [*_result(run), *figures]),
        _list("What this form does not hold", [f"{sentence[0].upper()}{sentence[1:]}." for sentence in fit.lost]),
        _USE.format(trust=trust),
        _TRUST if with_code else "",
    ]
    return "".join(sections).encode("utf-8", "backslashreplace")


def _heading(run: Run) -> str:
    name = (run.history.corpus or {}).get("name")
    return f"{run.architecture} on {name}" if name else run.architecture


def _introduction(run: Run, fit: Fit) -> str:
    model, ids = run.model, run.tokenizer.ids_in_words(run.tokenizer.vocab_size)
    size = f"{model.parameters_count:,} {model.parameters_are}, {ids}"
    return f"A small language model of {run.tokenizer.kind}, trained by charlm: {size}. Form: {fit.form}."


def _facts(run: Run) -> list[str]:
    history, facts = run.history, []
    name = (history.corpus or {}).get("name")
    for part, title in (("training", f"Training text: {name},"), ("held_out", "Held-out text:")):
        if (count := history.characters(part)) is not None:
            facts.append(f"{title} {count:,} characters, SHA-256 `{history.sha256(part)}`")
    if training := history.training:
        names = ("budget", "optimizer", "learning_rate", "batch", "segment", "seed")
        facts.append(", ".join(f"{name.replace('_', ' ')} {training.get(name)}" for name in names))
    if history.progress is not None:
        facts.append(f"Trained in {duration(history.seconds)}, {history.progress.get('step', 0):,} steps")
    settings = ", ".join(f"{name} {value}" for name, value in run.model.config.to_json().items())
    return [*facts, f"Settings: {settings}"]


def _result(run: Run) -> list[str]:
    result = result_of(run.path, read_card(run.path))
    if result is None:
        return ["Not measured"]
    return [f"{result}, by charlm: minus the sum of log2 P(token | all before it), divided by the text's characters"]


def _list(title: str, entries: Sequence[str]) -> str:
    return f"\n## {title}\n\n" + "".join(f"- {entry}\n" for entry in entries) if entries else ""
