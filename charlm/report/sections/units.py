"""Single units of each network, over the excerpt."""

from charlm.analysis import Unit
from charlm.report import parts
from charlm.report.findings import Finding, Findings
from charlm.report.html import Html, tag, together
from charlm.report.parts import words

SHOWN_CHARACTERS = 420  # of the excerpt
SHADES = 3  # on either side of the mean
MAX_DEVIATION = 1.8  # standard deviations from the mean, from which on the colour is strongest


def units(findings: Findings) -> Html | None:
    """For each network the units that correlate best with a property of the text."""
    networks = [(n, finding) for n, finding in enumerate(findings.contenders) if finding.activations]
    if not networks:
        return None
    begin = findings.span[0]
    text = findings.read.slice(begin, min(findings.span[1], begin + SHOWN_CHARACTERS)).read()
    panels = [(finding.name, _network(text, begin, n, finding), n) for n, finding in networks]
    example = networks[0][1].activations
    assert example is not None
    return together(
        [
            words(
                "A network's state is a vector; each of its numbers is called a unit. Some units follow a property of "
                "the text that can be named, such as the position in the line or whether a bracket is open (Karpathy "
                "et al. 2016).",
                "For each property the unit that follows it best is listed, with the correlation r over "
                f"{example.characters:,} characters. Values of r below about 0.3 mean little. The text is "
                "coloured by the unit's value after each character, compared with its mean.",
            ),
            tag(
                "p",
                tag("i", "below", class_="a3"),
                " … mean … ",
                tag("i", "above", class_="b3"),
                class_="note shades",
            ),
            parts.numbered_tabs("network", panels),
        ]
    )


def _network(text: str, begin: int, number: int, finding: Finding) -> Html:
    activations = finding.activations
    assert activations is not None
    panels = [
        (f"{unit.follows}, r\u00a0=\u00a0{unit.correlation:.2f}".replace("-", "−"), _over(text, begin, unit), number)
        for unit in activations.units
    ]
    size = parts.note(f"Units of the {activations.vector}, which has {activations.size:,}.")
    return together([size, parts.numbered_tabs(f"units-{number}", panels)])


def _over(text: str, begin: int, unit: Unit) -> Html:
    """The text, coloured by one unit."""
    values = unit.values[begin : begin + len(text)]
    coloured = parts.runs(text, [_shade(value) for value in values.tolist()])
    return tag("div", parts.note(f"Unit {unit.number}"), tag("div", coloured, class_="text", dir="auto"))


def _shade(value: float) -> str:
    level = min(SHADES, round(SHADES * abs(value) / MAX_DEVIATION))
    return f"{'b' if value > 0 else 'a'}{level}" if level else ""
