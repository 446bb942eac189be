"""Single units of each network, over the excerpt."""

from charlm.analysis import Unit
from charlm.report import parts
from charlm.report.findings import Finding, Findings
from charlm.report.html import Html, tag, together
from charlm.report.parts import words

CHARACTERS = 420  # of the excerpt
LEVELS = 3  # of colour, either way
STANDARD_DEVIATIONS = 1.8  # from the mean: the strongest colour


def units(found: Findings) -> Html | None:
    """For each network the units that follow a property of the text best."""
    networks = [(n, finding) for n, finding in enumerate(found.contenders) if finding.activations]
    if not networks:
        return None
    begin = found.span[0]
    text = found.read.slice(begin, min(found.span[1], begin + CHARACTERS)).read()
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
                class_="told shades",
            ),
            parts.numbered_tabs("network", panels),
        ]
    )


def _network(text: str, begin: int, number: int, finding: Finding) -> Html:
    found = finding.activations
    assert found is not None
    panels = [
        (f"{unit.follows}, r\u00a0=\u00a0{unit.correlation:.2f}".replace("-", "−"), _over(text, begin, unit), number)
        for unit in found.units
    ]
    told = tag("p", f"Units of the {found.vector}, which has {found.size:,}.", class_="told")
    return together([told, parts.numbered_tabs(f"units-{number}", panels)])


def _over(text: str, begin: int, unit: Unit) -> Html:
    """The text, coloured by one unit."""
    values = unit.values[begin : begin + len(text)]
    coloured = parts.runs(text, [_shade(value) for value in values.tolist()])
    told = tag("p", f"Unit {unit.number}", class_="told")
    return tag("div", told, tag("div", coloured, class_="text", dir="auto"))


def _shade(value: float) -> str:
    level = min(LEVELS, round(LEVELS * abs(value) / STANDARD_DEVIATIONS))
    return f"{'b' if value > 0 else 'a'}{level}" if level else ""
