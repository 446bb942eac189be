"""What each section of the page shows, and teaches; None: there is nothing to show."""

from collections.abc import Sequence

from charlm.analysis import AttentionMaps, Passage, gains
from charlm.comparison import listed
from charlm.report import figures, parts
from charlm.report.findings import SAMPLE, Finding, Findings
from charlm.report.html import Html, tag, together
from charlm.report.parts import beside, side_by_side, teach

PASSAGE = 100  # characters of a passage where two models differ
PASSAGES = 2  # of each pair, either way round


def learning(found: Findings) -> Html | None:
    """Loss while training, of those that were trained by gradients."""
    if not (learned := [(n, f) for n, f in enumerate(found.contenders) if f.curve]):
        return None
    return together(
        [
            teach(
                "Lines are the loss on the text being learned from (a running mean, which lags behind at first), "
                "points the loss on the validation slice. Against characters one sees which model learns most from "
                "each of them, against seconds which learns most on this machine. What is counted has no curve: it "
                "reads its text once. Where points turn up while the line goes down, a model learns its text by heart. "
                "Points end where the slice joins the text being learned from, half-way."
            ),
            *(
                teach(f"The curve of {f.name} is that of the network in it, which waits while all are weighed.", "told")
                for _, f in learned
                if f.made
            ),
            _key(learned),
            side_by_side(
                ("against characters read", figures.learning(learned, "characters", "characters read in training")),
                ("against time", figures.learning(learned, "seconds", "seconds of training")),
            ),
        ]
    )


def cost(found: Findings) -> Html:
    """Quality against size and against time, with the Pareto front."""
    every = list(enumerate(found.contenders))
    return together(
        [
            teach(
                "Nobody is below and to the left of the dotted line, the Pareto front: whoever is on it can be beaten "
                "only at a higher price. What is counted has one number for each n-gram that it met."
            ),
            _key(every),
            side_by_side(
                (
                    "quality and size",
                    figures.front(every, lambda f: f.row.parameters, "parameters (n-grams counted)", log=True),
                ),
                (
                    "quality and training time",
                    figures.front(every, lambda f: f.row.training_seconds, "seconds of training", log=False),
                ),
            ),
        ]
    )


def context(found: Findings) -> Html:
    """Quality against the characters that may be seen."""
    every = list(enumerate(found.contenders))
    adapting = [finding.name for finding in found.contenders if finding.row.adapts]
    return beside(
        [
            teach(
                "The same models, allowed to see only the last 1, 2, 4, … characters. An n-gram and a feed-forward "
                "network have a fixed window, behind which more text changes nothing; a recurrent network carries on "
                "what it keeps in its state, a Transformer looks back as far as its window and layers reach. With very "
                "little text a network also pays for a situation that it seldom met in training."
            ),
            teach(f"Repetitions are looked for in all that is seen by {listed(adapting)}: there the curve goes on.")
            if adapting
            else None,
            teach("The bands are 95 % intervals: at each length a sample of the text is read.", "told"),
            _key(every),
        ],
        tag("figure", figures.context(every)),
    )


def surprisal(found: Findings) -> Html:
    """An excerpt, every character coloured by its bits under each model."""
    panels = [
        (finding.name, tag("div", parts.reading(finding.excerpt), class_="text", dir="auto"))
        for finding in found.contenders
    ]
    return together(
        [
            teach(
                "The stronger its colour, the more bits a character cost: the more it surprised the model, which had "
                "read everything before it. Beginnings of words and names are strong, their ends faint. Point at a "
                "character, or touch it, to see what each model expected there, likeliest first."
            ),
            parts.scale(),
            parts.tabs("excerpt", panels),
        ]
    )


def differences(found: Findings) -> Html | None:
    """Where the best and each of the others differ most."""
    best, *others = found.contenders
    if not others:
        return None
    panels = [(f"{best.name} – {other.name}", _pairs(found, best, other)) for other in others]
    return together(
        [
            teach(
                "The passages where one model saves most against the other, and the other way round. Names and phrases "
                "that occurred before are cheap for whoever remembers them; grammar over long distances for whoever "
                "keeps it in mind."
            ),
            parts.tabs("pair", panels, first=1),
        ]
    )


def _pairs(found: Findings, a: Finding, b: Finding) -> Html:
    shown = []
    for one, other in ((a, b), (b, a)):
        bits, other_bits = one.reading.character_bits, other.reading.character_bits
        for passage in gains(bits, other_bits, length=PASSAGE, count=PASSAGES):
            saved = tag("p", f"{one.name} saves {passage.other_bits - passage.bits:.0f} bits", class_="who")
            shown.append(tag("div", saved, *(_passage(found, f, passage) for f in (one, other)), class_="pair"))
    return together(shown) if shown else tag("p", "Neither is better anywhere.")


def _passage(found: Findings, finding: Finding, passage: Passage) -> Html:
    stretch = slice(passage.begin, passage.end)
    characters = found.read.slice(passage.begin, passage.end).read()
    coloured = together(map(parts.surprise, characters, finding.reading.character_bits[stretch].tolist()))
    total = finding.reading.character_bits[stretch].sum()
    told = tag("p", f"{finding.name}: {total:.0f} bits", class_="told")
    return tag("div", told, tag("p", coloured, class_="text", dir="auto"))


def kinds(found: Findings) -> Html:
    """Bits by kind of character."""
    every = list(enumerate(found.contenders))
    return beside(
        [
            teach(
                "Where the bits go. The first letter of a word is the choice among all words that fit; inside a word "
                "spelling leaves less and less open. A model that knows words but not what goes together is far better "
                "inside words than at their beginning."
            ),
            _key(every),
        ],
        tag("figure", figures.kinds(every)),
    )


def _made_of_others(found: Findings) -> Html | None:
    """Why a mixture is not there."""
    if not (mixtures := [f"{f.name} ({f.made[0]})" for f in found.contenders if f.made]):
        return None
    return teach(f"Not here, being made of others: {listed(mixtures)}. Look at the members.", "told")


def _key(found: Sequence[figures.Numbered]) -> Html:
    return parts.key((number, finding.name) for number, finding in found)


def samples(found: Findings) -> Html:
    """What each writes, and the longest quote in it."""
    shown = []
    for number, finding in enumerate(found.contenders):
        quote = finding.quote
        told = f"longest verbatim quote: {len(quote.text)} characters"
        written = parts.marked(finding.sample, quote.place, len(quote.text))
        text = tag("div", written, class_=f"text c{number % 8}", dir="auto")
        shown.append(tag("article", tag("h3", finding.name), tag("p", told, class_="told"), text))
    return together(
        [
            teach(
                f"What each writes after the end of a line: {SAMPLE} characters at temperature 0.8, the same seed. "
                "Marked is the longest stretch that stands word for word in the training text. For scale: of real text "
                f"as long, never seen in training, {len(found.yardstick.text)} characters in a row stand there too; "
                "much longer ones are quoted, not written."
            ),
            tag("div", *shown, class_="samples"),
        ]
    )


def gradients(found: Findings) -> Html | None:
    """Gradients through time, of those that have them."""
    if not (deep := [(n, f) for n, f in enumerate(found.contenders) if f.gradients is not None]):
        return None
    beginnings = {name: beginning for _, finding in deep for name, beginning in finding.beginnings.items()}
    numbers = {finding.name: number for number, finding in deep}
    for name in beginnings:  # those with another activation, in the colours that are left
        numbers.setdefault(name, len(found.contenders) + len(numbers) - len(deep))
    drawn = {
        "before": [(numbers[name], beginning) for name, beginning in beginnings.items()],
        "after": [(number, finding.gradients) for number, finding in deep if finding.gradients],
    }
    return together(
        [
            teach(
                "A network learns from an input long ago only as far as a gradient reaches back to it. In a plain "
                "recurrent network it is multiplied by the same matrix and squashed by tanh at every step: before "
                "training it vanishes exponentially, a straight line here. With relu, whose matrix begins as the "
                "identity, it passes almost unchanged. The gates of GRU and LSTM let a share of it through, and "
                "training teaches them where to let more. Attention reaches every place in its window in one step; "
                "but a Transformer begins with attention that passes nothing on, and has no line until it has learned."
            ),
            parts.key((number, name) for name, number in numbers.items()),
            side_by_side(
                *((f"{when} training", figures.gradients(those, when)) for when, those in drawn.items() if those),
            ),
            teach("The scale is logarithmic; a line that ends has fallen below a ten-millionth.", "told"),
            _made_of_others(found),
        ]
    )


def attention(found: Findings) -> Html | None:
    """Where Transformers look, a map a head."""
    if not (looking := [(f.name, f.attention) for f in found.contenders if f.attention is not None]):
        return None
    return together(
        [
            teach(
                "Each row of a map is a character that looks back, each column one that it looks at; the stronger the "
                "colour, the more. Nobody can look ahead, so the upper right is empty. A diagonal looks at the "
                "character itself or one shortly before; columns are places that all later ones come back to."
            ),
            tag("p", "".join(looking[0][1].tokens), class_="text", dir="auto"),
            *(part for name, seen in looking for part in (tag("h3", name), _heads(name, seen))),
        ]
    )


def _heads(name: str, seen: AttentionMaps) -> Html:
    """A small map a head."""
    layers, heads, *_ = seen.weights.shape
    shown = []
    for layer in range(layers):
        for head in range(heads):
            title = f"layer {layer + 1}, head {head + 1}"
            drawn = figures.attention(seen.weights[layer, head], f"Attention of {name}, {title}")
            shown.append(tag("figure", tag("figcaption", title), drawn))
    return tag("div", *shown, class_="maps")


def embeddings(found: Findings) -> Html | None:
    """Maps of the characters, of those that have embeddings."""
    every = [(n, f) for n, f in enumerate(found.contenders) if f.embedding is not None]
    if not every:
        return None
    text = found.read.slice(0, 100_000).read()
    shown = ((f.name, figures.embedding(f.embedding, n, f.name, text)) for n, f in every if f.embedding is not None)
    return together(
        [
            teach(
                "Each network turns characters into vectors of its own making, which begin at random. Nobody tells it "
                "what a vowel is (coloured), a capital or a comma: the more it has learned, the nearer those lie that "
                "are used alike. Drawn are the two directions of greatest variance; the axes say how much they show. "
                "After seconds of training most of it is still the randomness of the beginning."
            ),
            side_by_side(*shown),
            _made_of_others(found),
        ]
    )
