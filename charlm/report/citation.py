"""Everything that is needed to cite the figures, or to make them again."""

from collections.abc import Iterator

from charlm import __version__
from charlm.checkpoint import Card
from charlm.comparison import duration
from charlm.report.findings import Finding, Findings
from charlm.report.html import Html, tag, together

TRAINING = ("budget", "optimizer", "learning_rate", "schedule", "batch", "segment", "weight_decay", "clip", "precision")
"""The settings of training that are named first; the others follow in the order of the run's card."""


def citation(found: Findings) -> Html:
    """The environment, an entry for BibTeX, and a table of each contender's settings."""
    rows = [tag("tr", tag("th", what, scope="row"), tag("td", value)) for what, value in _environment(found)]
    return together(
        [
            tag("h3", "Software and machine"),
            tag("table", tag("tbody", *rows), class_="facts"),
            tag("p", "The processor is that of the machine that made this page.", class_="told"),
            tag("h3", "Settings of each model"),
            *(_contender(finding) for finding in found.contenders),
            tag("h3", "BibTeX"),
            tag("pre", _bibtex(found), class_="entry"),
        ]
    )


def _environment(found: Findings) -> Iterator[tuple[str, str]]:
    machine, split = found.machine, found.result.split
    yield "Date", found.date
    yield "Processor", f"{machine['processor']}; cores: {machine['cores']}, threads used: {machine['threads']}"
    yield "Arithmetic", f"training {machine['training_precision']}, evaluation float32 ({machine['bfloat16']})"
    yield "Versions", f"charlm {__version__}, Python {machine['python']}, PyTorch {machine['torch']}"
    yield "Held-out text", f"{split.held_out.name}, {split.held_out.characters:,} characters"
    yield "Its SHA-256", split.held_out.sha256
    yield (
        "Training text",
        f"{split.training.characters:,} characters, the last {split.validation.characters:,} validation",
    )
    yield "Its SHA-256", split.training.sha256


def _contender(finding: Finding) -> Html:
    """One run: what it is, what it was trained with, and which weights came out."""
    rows = [tag("tr", tag("th", what, scope="row"), tag("td", value)) for what, value in settings(finding)]
    return tag("details", tag("summary", finding.name), tag("table", tag("tbody", *rows), class_="facts"))


def settings(finding: Finding) -> Iterator[tuple[str, str]]:
    """Everything that a run's card says of how it was made, by name."""
    card, row = finding.card, finding.row
    yield "Architecture", row.architecture
    yield "Parameters", f"{row.parameters:,}"
    yield from ((_name(key), _value(value)) for key, value in card.config.items() if key != "members")
    for number, member in enumerate(card.config.get("members") or ()):
        listed = ", ".join(f"{key.replace('_', ' ')} {_value(value)}" for key, value in member["config"].items())
        yield f"Member {number + 1}", f"{member['architecture']}: {listed}"
    training = card.history.training or {}
    for key in [*TRAINING, *(key for key in training if key not in (*TRAINING, "seed"))]:
        if key in training:
            yield _name(key), _value(training[key])
    if training:
        yield "Seed", ", ".join(_seeds(finding))
    progress = card.history.progress or {}
    if "step" in progress:
        yield "Steps", f"{_value(progress['step'])}"
    yield "Time of training", duration(row.training_seconds)
    yield "Tokenizer", f"{row.tokenizer}, {_value(card.vocab_size)} ids"
    yield "Trained with", ", ".join(_trained_with(card))
    yield "Weights, SHA-256", _value(card.files["weights"].sha256)


def _trained_with(card: Card) -> Iterator[str]:
    """Versions and machine; older runs say nothing of the machine."""
    machine = card.environment or {}
    yield f"charlm {_value(card.charlm)}"
    if "python" in machine:
        yield f"Python {machine['python']}"
    yield f"PyTorch {_value(card.torch)}"
    if "processor" in machine:
        yield f"{machine['processor']}, threads: {_value(machine.get('threads'))}"


def _seeds(finding: Finding) -> list[str]:
    first = (finding.card.history.training or {}).get("seed")
    return [_value(first)] if not isinstance(first, int) else [str(first + n) for n in range(len(finding.row.runs))]


def _name(key: str) -> str:
    return key.replace("_", " ").capitalize()


def _value(value: object) -> str:
    if value is None:
        return "chosen automatically"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _bibtex(found: Findings) -> str:
    """An entry for the software, with the figure of the best in its note."""
    best, text = found.contenders[0], found.result.split.held_out
    figure = f"{best.name}: {best.row.evaluation.bits_per_character:.4f} bits per character"
    where = f"on {text.characters:,} held-out characters, SHA-256 {text.sha256[:16]}"
    return (
        "@software{charlm,\n"
        "  title   = {charlm: small language models on your own text},\n"
        f"  version = {{{__version__}}},\n"
        f"  year    = {{{found.date[:4]}}},\n"
        f"  note    = {{{figure} {where}; {found.machine['processor']}, PyTorch {found.machine['torch']}}}\n"
        "}"
    )
