"""Everything that is needed to cite the figures or to reproduce them."""

from collections.abc import Iterator, Mapping
from typing import Any

from charlm import __version__
from charlm.checkpoint import Card
from charlm.comparison import duration
from charlm.report.findings import Finding, Findings
from charlm.report.html import Html, tag, together

FIRST_SETTINGS = (
    "budget", "optimizer", "learning_rate", "schedule", "batch", "segment", "weight_decay", "clip", "precision",
)  # fmt: skip
"""The settings of training that are listed first; the others follow in the order of the run's card."""


def citation(findings: Findings) -> Html:
    """The environment, an entry for BibTeX, and a table of each contender's settings."""
    rows = [tag("tr", tag("th", name, scope="row"), tag("td", value)) for name, value in _environment(findings)]
    return together(
        [
            tag("h3", "Software and machine"),
            tag("table", tag("tbody", *rows), class_="facts"),
            tag("p", "The processor is that of the machine that made this page.", class_="note"),
            tag("h3", "Settings of each model"),
            *(_contender(finding) for finding in findings.contenders),
            tag("h3", "BibTeX"),
            tag("pre", _bibtex(findings), class_="entry"),
        ]
    )


def _environment(findings: Findings) -> Iterator[tuple[str, str]]:
    machine, split = findings.machine, findings.result.split
    yield "Date", findings.date
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
    """One run: its settings and the hash of its weights."""
    rows = [tag("tr", tag("th", name, scope="row"), tag("td", value)) for name, value in settings(finding)]
    return tag("details", tag("summary", finding.name), tag("table", tag("tbody", *rows), class_="facts"))


def settings(finding: Finding) -> Iterator[tuple[str, str]]:
    """The facts of a run's card about how it was made, by name."""
    card, row = finding.card, finding.row
    yield "Architecture", row.architecture
    yield "Parameters", f"{row.parameters:,}"
    chosen = row.provenance[0]["chosen"]
    yield from ((_name(key), value) for key, value in _config(card.config, chosen) if key != "members")
    members = zip(card.config.get("members") or (), chosen.get("members") or (), strict=True)
    for number, (member, of_member) in enumerate(members, 1):
        listed = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in _config(member["config"], of_member))
        yield f"Member {number}", f"{member['architecture']}: {listed}"
    training = card.history.training or {}
    for key in [*FIRST_SETTINGS, *(key for key in training if key not in (*FIRST_SETTINGS, "seed"))]:
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


def _config(config: Mapping[str, Any], chosen: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The settings of an architecture, and for those that were left open the values that training chose."""
    for key, value in config.items():
        if value is None and key in chosen:
            yield key, f"{_value(chosen[key])} (chosen automatically)"
        else:
            yield key, _value(value)


def _trained_with(card: Card) -> Iterator[str]:
    """Versions and machine; the cards of older runs do not have the machine."""
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


def _bibtex(findings: Findings) -> str:
    """An entry for the software, with the figure of the best model in its note."""
    best, text = findings.contenders[0], findings.result.split.held_out
    figure = f"{best.name}: {best.row.evaluation.bits_per_character:.4f} bits per character"
    where = f"on {text.characters:,} held-out characters, SHA-256 {text.sha256[:16]}"
    return (
        "@software{charlm,\n"
        "  title   = {charlm: small language models on your own text},\n"
        f"  version = {{{__version__}}},\n"
        f"  year    = {{{findings.date[:4]}}},\n"
        f"  note    = {{{figure} {where}; {findings.machine['processor']}, PyTorch {findings.machine['torch']}}}\n"
        "}"
    )
