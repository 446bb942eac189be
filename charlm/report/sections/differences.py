"""Where two models differ: for any two, the passages whose difference is larger than noise."""

from itertools import combinations

from charlm.analysis import Passage, clear_differences
from charlm.report import parts
from charlm.report.findings import Finding, Findings
from charlm.report.html import Html, tag, together
from charlm.report.parts import words

SHADES = ((4.0, "3"), (2.0, "2"), (0.7, "1"))  # from how many bits on a character has each shade


def differences(findings: Findings) -> Html | None:
    """A panel for each pair of contenders; two lists choose which one is shown."""
    if len(findings.contenders) < 2:
        return None
    text = findings.read.read()
    panels = [_pair(text, findings, a, b) for a, b in combinations(range(len(findings.contenders)), 2)]
    names = [finding.name for finding in findings.contenders]
    choice = tag(
        "div", _chooser("first", names, 0), " and ", _chooser("second", names, 1), class_="choice", hidden=True
    )
    return together(
        [
            words(
                "Choose two models. Shown are the passages where one of them needed far fewer bits than the other. "
                "Names and phrases that occurred before are cheap for a model that remembers them; sentence "
                "structure is cheap for a model that keeps track of it.",
                "Passages are left out if the difference is below a tenth of their bits or could be due to chance: "
                "with 95 % confidence none of the differences shown is.",
            ),
            tag("div", choice, *panels, class_="pairs"),
        ]
    )


def _chooser(which: str, names: list[str], chosen: int) -> Html:
    options = (tag("option", name, value=str(n), selected=n == chosen) for n, name in enumerate(names))
    return tag("select", *options, class_=which, aria_label=f"{which} model")


def _pair(text: str, findings: Findings, a: int, b: int) -> Html:
    first, second = findings.contenders[a], findings.contenders[b]
    sides = clear_differences(text, first.reading.character_bits, second.reading.character_bits)
    content = []
    for passages, better, worse in zip(sides, (first, second), (second, first), strict=True):
        heading = f"{better.name} was better" if passages else f"{better.name} was nowhere clearly better"
        content.append(tag("h3", heading))
        content += [_passage(text, passage, first, second, better, worse) for passage in passages]
    key = tag(
        "p",
        tag("i", first.name, class_="a2"),
        " or ",
        tag("i", second.name, class_="b2"),
        ": this model needed fewer bits for the character. Stronger colours are larger differences.",
        class_="note shades",
    )
    heading = tag("h4", f"{first.name} and {second.name}")
    first_pair = (a, b) == (0, 1)
    return tag("div", heading, key, *content, class_="panel", data_pair=f"{a}-{b}", hidden=not first_pair)


def _passage(text: str, passage: Passage, first: Finding, second: Finding, better: Finding, worse: Finding) -> Html:
    """One passage, each character in the colour of the model that needed fewer bits for it."""
    stretch = slice(passage.begin, passage.begin + len(text[passage.begin : passage.end].rstrip()))
    saved = second.reading.character_bits[stretch] - first.reading.character_bits[stretch]
    runs = parts.runs(text[stretch], [_shade(bits) for bits in saved.tolist()])
    low, high = sorted((passage.bits, passage.other_bits))
    bits = parts.note(f"{better.name} {low:.0f} bits, {worse.name} {high:.0f} bits")
    return tag("div", bits, tag("div", runs, class_="text", dir="auto"), class_="pair")


def _shade(saved: float) -> str:
    """The class of a character for which the first model needed so many bits less; negative if it needed more."""
    side = "a" if saved > 0 else "b"
    return next((side + shade for bits, shade in SHADES if abs(saved) >= bits), "")
