"""The page: well-formed, alone in the world, everything in it as text, its figures those of the table."""

import base64
import hashlib
import itertools
import json
import math
import random
import re
from collections.abc import Iterable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from conftest import Charlm
from hypothesis import given
from hypothesis import strategies as st

from charlm import checkpoint
from charlm.comparison import Comparison, compare, lead, plan, table, to_train, trained_already
from charlm.corpus import Origin
from charlm.models import ARCHITECTURES, SINGLE, CountingModel
from charlm.report import Findings, as_page, find, findings, sections
from charlm.report.citation import settings
from charlm.report.drawings import DRAWINGS, SENTENCES, drawing, sentence
from charlm.report.figures import pareto
from charlm.report.html import Html, tag, together, visible
from charlm.report.parts import MARKS
from charlm.report.plots import COLOURS, DASHES, MARKERS, apart
from charlm.tokenizers import Characters, SentencePiece, Tokenizer
from charlm.training import TrainingConfig

ODD = [
    '<script>alert("1")</script>',
    "it's & isn't",
    "😀👩‍👩‍👧",
    "שלום עולם",
    "e\u0301 q\u0323",
    "$x^2$",
    "]]>",
    "a\u202eb",
    "\t",
]
TEXT = "\n".join(" ".join(random.Random(n).choices([*ODD, "the cat", "sat on", "a mat."], k=6)) for n in range(400))
COUNTING = {name for name, kind in ARCHITECTURES.items() if issubclass(kind, CountingModel)}
XLINK = "{http://www.w3.org/1999/xlink}href"


def compared(
    kind: type[Tokenizer] = Characters,
    vocabulary: int | None = None,
    architectures: Iterable[str] = SINGLE,
    **options: object,
) -> Comparison:
    Path("odd.txt").write_text(TEXT, encoding="utf-8")
    origin = Origin(("odd.txt",))
    split = origin.open()
    settings = {"vocab_size": vocabulary} if vocabulary else {}
    tokenizer = kind.train(split.training.chunks(), kind.Config(**settings))
    training = TrainingConfig(budget="8steps", batch=4, segment=16, precision="float32")
    plans = plan(architectures, "tiny", options, training, split.training.characters)
    return compare(to_train(plans, split, tokenizer, history=checkpoint.History(corpus=origin.describe(split))), split)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    """What there is to show of all architectures, hardly trained, on a text of what pages stumble over."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(findings, "CONTEXT_TOKENS", 1 << 10)
        patched.chdir(tmp_path_factory.mktemp("found"))
        return find(compared(order=3))


@pytest.fixture(scope="module")
def page(found: Findings) -> str:
    return as_page(found)


@pytest.fixture(scope="module")
def tree(page: str) -> ElementTree.Element:
    return ElementTree.fromstring(page)


def content(element: ElementTree.Element) -> str:
    return "".join(element.itertext())


def section(tree: ElementTree.Element, name: str) -> ElementTree.Element:
    (one,) = tree.findall(f".//section[@id='{name}']")
    return one


class TestPage:
    def test_every_section_is_there_and_linked(self, tree: ElementTree.Element) -> None:
        wanted = (
            "result models learning cost context surprisal differences kinds samples units gradients attention "
            "embeddings cite"
        )
        assert [one.get("id") for one in tree.findall(".//section")] == wanted.split()
        assert [link.get("href") for link in tree.findall(".//nav/a")] == [f"#{name}" for name in wanted.split()]

    def test_browsers_read_what_a_strict_parser_reads(self, page: str, tree: ElementTree.Element) -> None:
        begun: list[str] = []

        class Reader(HTMLParser):
            def handle_starttag(self, tag: str, attrs: object) -> None:
                begun.append(tag)

            def handle_startendtag(self, tag: str, attrs: object) -> None:
                begun.append(tag)

        Reader().feed(page)
        names = [str(element.tag).rpartition("}")[2].lower() for element in tree.iter()]
        assert begun == names

    def test_it_loads_nothing(self, page: str, tree: ElementTree.Element) -> None:
        for element in tree.iter():
            for name in ("src", "href", XLINK, "data", "action", "poster", "srcset"):
                assert element.get(name, "#").startswith(("#", "data:image/png;base64,"))
            assert not [name for name in element.attrib if name.startswith("on")]
        assert all(target.startswith("#") for target in re.findall(r"url\(['\"]?(.)", page))
        assert "@import" not in page

    def test_it_may_run_its_own_script_and_nothing_else(self, tree: ElementTree.Element) -> None:
        (policy,) = tree.findall(".//meta[@http-equiv='Content-Security-Policy']")
        (script,) = tree.findall(".//script")
        digest = base64.b64encode(hashlib.sha256(f"//<![CDATA[{script.text[2:-2]}//]]>".encode()).digest()).decode()
        assert policy.get("content", "").startswith("default-src 'none'; ")
        assert f"script-src 'sha256-{digest}'" in policy.get("content", "")

    def test_names_within_it_are_its_own(self, tree: ElementTree.Element) -> None:
        ids = [element.get("id") for element in tree.iter() if element.get("id")]
        assert len(ids) == len(set(ids))
        used = {element.get(XLINK, "")[1:] for element in tree.iter() if element.get(XLINK, "").startswith("#")}
        assert used <= set(ids)

    def test_it_is_small(self, page: str) -> None:
        assert len(page.encode()) < 3_000_000

    def test_the_same_findings_make_the_same_page(self, found: Findings, page: str) -> None:
        assert as_page(found) == page

    def test_colours_are_those_of_the_page(self, page: str) -> None:
        assert "#1c00" not in page
        assert "#c010" not in page
        assert page.count("var(--c5)") > 3


class TestText:
    def test_the_excerpt_is_the_text(self, found: Findings, tree: ElementTree.Element) -> None:
        panels = section(tree, "surprisal").findall(".//div[@class='text']")
        assert len(panels) == len(SINGLE)
        for panel in panels:
            shown = content(panel).replace("⏎\n", "\n").replace("⇥\t", "\t")
            assert len(shown) > 300
            assert shown in found.read.read().replace("\u202e", "\ufffd")
        assert "<script>alert" in content(tree)

    def test_bits_are_those_of_the_reading(self, found: Findings, tree: ElementTree.Element) -> None:
        panel = section(tree, "surprisal").find(".//div[@class='text']")
        assert panel is not None
        told = [float(one.get("title", "").split()[0]) for one in panel]
        bits = [character.bits for character in found.contenders[0].excerpt]
        assert told == pytest.approx(bits, abs=0.006)
        text, excerpt = found.read.read(), "".join(character.text for character in found.contenders[0].excerpt)
        place = text.index(excerpt)
        reading = found.contenders[0].reading.character_bits[place : place + len(excerpt)]
        assert bits == pytest.approx(reading.tolist())
        assert all(one.get("class", "s0") == f"s{min(9, int(b))}" for one, b in zip(panel, bits, strict=True))

    @given(st.text())
    def test_any_text_comes_back_out(self, plain: str) -> None:
        element = ElementTree.fromstring(tag("p", plain, title=plain))
        kept = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff\u202a-\u202e\u2066-\u2069]", "\ufffd", plain)
        assert content(element) == kept.replace("\r\n", "\n").replace("\r", "\n")
        assert [*element] == []

    def test_markup_is_not_escaped_twice(self) -> None:
        assert tag("p", tag("b", "a<b"), None, " & ", hidden=True, id=None) == (
            '<p hidden="hidden"><b>a&lt;b</b> &amp; </p>'
        )
        assert together([Html("<i>"), "<i>"]) == "<i>&lt;i&gt;"

    def test_names_of_runs_are_text(self, found: Findings) -> None:
        name = """<img src=x onerror="a">$&'"""
        odd = replace(found, contenders=tuple(replace(one, name=name) for one in found.contenders))
        tree = ElementTree.fromstring(as_page(odd))
        assert tree.findall(".//img[@src='x']") == []
        assert name in content(section(tree, "samples"))


class TestFigures:
    def test_the_table_is_that_of_compare(self, found: Findings, tree: ElementTree.Element) -> None:
        headings, lines = table(found.result)
        shown = section(tree, "result").find(".//table")
        assert shown is not None
        assert [content(cell) for cell in shown.findall("./thead/tr/th")] == headings
        rows = shown.findall("./tbody/tr")
        for row, line in zip(rows, lines, strict=True):
            assert [content(cell) for cell in row] == [cell.text for cell in line.cells]
            assert row.get("class") == line.kind
        bits = {row[0].get("data-value"): float(row[1].get("data-value", "")) for row in rows}
        for name, row_ in zip(found.result.names, found.result.rows, strict=True):
            assert bits[name] == row_.evaluation.bits_per_character
        assert {*bits} == {*SINGLE, "ngram (frozen)", "contexts (frozen)", *found.result.baselines}
        assert [finding.name for finding in found.contenders] == [n for n in found.result.names if "frozen" not in n]
        assert " ".join(lead(found.result)) in content(tree)
        assert "contexts and ngram also learn from the held-out text" in content(section(tree, "result"))

    def test_every_cell_can_be_sorted_by(self, tree: ElementTree.Element) -> None:
        shown = section(tree, "result").find(".//table[@class='sortable']")
        assert shown is not None
        assert all(cell.get("data-value") is not None for cell in shown.findall("./tbody/tr/*"))
        assert [heading.get("aria-sort") for heading in shown.findall(".//th[@aria-sort]")] == ["ascending"]
        assert all(heading.find("button") is not None for heading in shown.findall("./thead/tr/th"))

    def test_what_was_equal_is_told(self, found: Findings, tree: ElementTree.Element) -> None:
        told = content(section(tree, "result"))
        assert found.result.split.held_out.sha256 in told
        assert "the same for all: 8steps" in told
        assert "ngram also learn from the held-out text as they read it, the others do not" in told

    def test_gradients_before_training_and_after_it(self, found: Findings, tree: ElementTree.Element) -> None:
        shown = section(tree, "gradients")
        contenders = [one.name for one in found.contenders]
        networks = [name for name in contenders if name not in COUNTING]
        assert [content(item) for item in shown.findall(".//ul[@class='key']/li")] == [*networks, "rnn with relu"]
        numbers = {name: number for number, name in enumerate([*contenders, "rnn with relu"])}
        before, after = (ElementTree.tostring(figure, "unicode") for figure in shown.findall(".//figure"))
        assert {*networks, "rnn with relu"} - {"transformer"} <= {
            n for n in numbers if f"var(--c{numbers[n]})" in before
        }
        assert {n for n in numbers if f"var(--c{numbers[n]})" in after} == {*networks}
        rnn = next(one for one in found.contenders if one.name == "rnn")
        share = {name: one.norms[-1] / one.norms[0] for name, one in rnn.beginnings.items()}
        assert share["rnn"] < 1e-7 < 0.05 < share["rnn with relu"]

    def test_beginnings_that_all_explode_cost_the_page_nothing_else(self, found: Findings) -> None:
        without = replace(found, contenders=tuple(replace(one, beginnings={}) for one in found.contenders))
        shown = sections.gradients(without)
        assert shown is not None
        assert "after training" in shown
        assert "before training</figcaption>" not in shown

    def test_kinds_add_up_to_the_figure(self, found: Findings) -> None:
        for one in found.contenders:
            bits = sum(kind.bits for kind in one.kinds.values())
            assert bits == pytest.approx(one.row.evaluation.bits, rel=1e-9)

    def test_quotes_stand_in_the_training_text_and_are_marked(self, found: Findings, tree: ElementTree.Element) -> None:
        training = found.result.split.training.read()
        marked = [content(mark) for mark in section(tree, "samples").findall(".//mark")]
        assert marked == [re.sub("\u202e", "\ufffd", one.quote.text) for one in found.contenders]
        for one in found.contenders:
            assert one.quote.text in training
            assert one.sample[one.quote.place :].startswith(one.quote.text)

    def test_the_pareto_front(self) -> None:
        points = [(3.0, 2.0), (1.0, 5.0), (2.0, 6.0), (5.0, 1.0), (6.0, 4.0), (1.0, 7.0)]
        assert pareto(points) == [(1.0, 5.0), (3.0, 2.0), (5.0, 1.0), (6.0, 1.0)]
        assert pareto([(2.0, 2.0)]) == [(2.0, 2.0), (2.0, 2.0)]

    def test_a_mark_for_each_that_the_figures_have(self) -> None:
        assert len(MARKS) == len(MARKERS) == len(DASHES) == len(COLOURS)

    @given(st.lists(st.floats(-0.5, 1.5), min_size=1, max_size=8))
    def test_labels_keep_their_order_and_their_distance(self, places: list[float]) -> None:
        moved = apart(places, 0.1)
        order = sorted(range(len(places)), key=lambda n: places[n])
        assert all(moved[b] - moved[a] >= 0.1 - 1e-9 for a, b in itertools.pairwise(order))
        assert all(0 <= place <= 1 + 1e-9 for place in moved)
        calm = [0.05, 0.5, 0.9]
        assert apart(calm, 0.1) == calm


class TestLearningCurve:
    LOSSES = (5.0, 4.0, 4.5, 3.0, 2.5, 2.6, 2.0)

    def curve(self, entries: Iterable[dict[str, object]]) -> list[float]:
        shared = {"seconds": 1.0, "characters_per_second": 10.0, "validation": None}
        return [point.training for point in findings._curve([{**shared, **entry} for entry in entries])]

    def test_older_metrics_lose_the_lag_of_their_running_mean(self) -> None:
        mean, entries = self.LOSSES[0], []
        for step, loss in enumerate(self.LOSSES, 1):
            mean = 0.98 * mean + 0.02 * loss
            entries.append({"step": step, "training": mean})
        assert self.curve(entries) == pytest.approx(self.LOSSES)
        assert self.curve(entries[::3]) == pytest.approx(
            [5.0, *(self.recent(*three) for three in (self.LOSSES[1:4], self.LOSSES[4:7]))]
        )

    def recent(self, *losses: float) -> float:
        weights = [0.98 ** (len(losses) - 1 - n) for n in range(len(losses))]
        return math.fsum(w * loss for w, loss in zip(weights, losses, strict=True)) / math.fsum(weights)

    def test_metrics_with_a_loss_are_drawn_as_they_are(self) -> None:
        entries = [{"step": n, "training": 6.0, "loss": loss} for n, loss in enumerate(self.LOSSES)]
        assert self.curve(entries) == list(self.LOSSES)

    def test_training_writes_the_loss_of_recent_steps(self, found: Findings) -> None:
        for one in found.contenders:
            lines = checkpoint.read_metrics(one.row.run)
            if lines:
                assert lines[0]["loss"] == pytest.approx(lines[0]["training"])  # of one step: its loss
                assert all(0 < line["loss"] < 12 for line in lines)

    def test_the_whole_curve_is_drawn_and_named(self, tree: ElementTree.Element) -> None:
        for figure in section(tree, "learning").findall(".//figure"):
            names = [content(text) for text in figure.iter("{http://www.w3.org/2000/svg}text")]
            assert {"rnn", "gru", "lstm", "transformer", "feedforward"} <= {*names}


class TestModels:
    def test_a_sentence_and_a_drawing_of_each(self, tree: ElementTree.Element, found: Findings) -> None:
        assert {*SENTENCES} == {*DRAWINGS} == {*ARCHITECTURES}
        cards = section(tree, "models").findall(".//article")
        assert [content(card.findall("h3")[0]) for card in cards] == [one.name for one in found.contenders]
        assert all(len(card.findall("svg")) == 1 for card in cards)

    def test_a_new_architecture_needs_neither(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class New(ARCHITECTURES["rnn"]):  # type: ignore[misc]
            """Remembers everything."""

        monkeypatch.setitem(ARCHITECTURES, "new", New)
        assert sentence("new") == "Remembers everything."
        assert ElementTree.fromstring(drawing("new", 1)).get("aria-label") == "new"


class TestDifferences:
    def test_a_panel_for_any_two_and_one_that_shows(self, found: Findings, tree: ElementTree.Element) -> None:
        panels = section(tree, "differences").findall(".//div[@data-pair]")
        numbers = range(len(found.contenders))
        assert [panel.get("data-pair") for panel in panels] == [
            f"{a}-{b}" for a, b in itertools.combinations(numbers, 2)
        ]
        assert [panel.get("hidden") for panel in panels] == [None, *["hidden"] * (len(panels) - 1)]

    def test_each_passage_stands_once_and_in_the_text(self, found: Findings, tree: ElementTree.Element) -> None:
        whole = re.sub("\u202e", "\ufffd", found.read.read())
        for panel in section(tree, "differences").findall(".//div[@data-pair]"):
            texts = [
                content(one).replace("⏎\n", "\n").replace("⇥\t", "\t") for one in panel.findall(".//div[@class='text']")
            ]
            assert all(text in whole for text in texts)
            assert len(texts) <= 4

    def test_models_that_are_equal_differ_nowhere(self, found: Findings) -> None:
        same = replace(found, contenders=(found.contenders[0], replace(found.contenders[0], name="again")))
        shown = sections.differences(same)
        assert shown is not None
        assert "again was nowhere clearly better" in shown
        assert 'class="pair"' not in shown


class TestInside:
    def test_attention_has_characters_on_its_axes_and_its_weights(
        self, found: Findings, tree: ElementTree.Element
    ) -> None:
        (maps,) = [one.attention for one in found.contenders if one.attention]
        shown = section(tree, "attention").findall(".//svg[@class='attention']")
        tokens = [visible(token) or "⊢" for token in maps.tokens]
        layers, heads, count, _ = maps.weights.shape
        assert len(shown) == layers * heads
        for one, weights in zip(shown, maps.weights.reshape(-1, count * count), strict=True):
            assert [content(text) for text in one.findall("text[@class='row']")] == tokens
            assert len([text for text in one.findall("text") if "column" in text.get("class", "")]) == count
            read = [value / 255 for value in bytes.fromhex(one.get("data-weights", ""))]
            assert read == pytest.approx(weights.tolist(), abs=0.5 / 255 + 1e-6)
            assert one.get("tabindex") == "0"

    def test_units_of_every_network_over_the_excerpt(self, found: Findings, tree: ElementTree.Element) -> None:
        shown = section(tree, "units")
        networks = [one.name for one in found.contenders if one.name not in COUNTING]
        assert [content(h) for h in shown.findall("./div[@class='tabs']/div/h4")] == networks
        for text in shown.findall(".//div[@class='text']"):
            plain = content(text).replace("⏎\n", "\n").replace("⇥\t", "\t")
            assert plain in re.sub("\u202e", "\ufffd", found.read.read())

    def test_a_map_that_shows_little_gives_way_to_neighbours(self, found: Findings) -> None:
        def with_share(share: float) -> Findings:
            return replace(
                found,
                contenders=tuple(
                    replace(one, embedding=one.embedding and replace(one.embedding, explained=(share, share)))
                    for one in found.contenders
                ),
            )

        few, much = (sections.embeddings(with_share(share)) for share in (0.03, 0.2))
        assert few is not None
        assert much is not None
        assert "Embeddings of lstm" not in few
        assert "Embeddings of lstm" in much
        embedding = found.contenders[-1].embedding or next(o.embedding for o in found.contenders if o.embedding)
        near = replace(embedding, chance=-2.0, explained=(0.01, 0.01))
        (listed,) = [replace(found, contenders=(replace(found.contenders[-1], embedding=near),))]
        assert '<th scope="col">nearest</th>' in (sections.embeddings(listed) or "")


class TestCitation:
    def test_everything_needed_to_cite_stands_there(self, found: Findings, tree: ElementTree.Element) -> None:
        told = section(tree, "cite")
        facts = content(told)
        for needed in (found.date, found.machine["processor"], found.machine["torch"], found.machine["python"]):
            assert str(needed) in facts
        blocks = told.findall(".//details")
        for one, block in zip(found.contenders, blocks, strict=True):
            rows = {content(row[0]): content(row[1]) for row in block.iter("tr")}
            config = one.card.config
            assert {key.replace("_", " ").capitalize() for key in config} <= {*rows}
            assert not any(re.search(r"(^|\w )chosen automatically", value) for value in rows.values()), rows
            assert rows["Weights, SHA-256"] == one.card.files["weights"].sha256
            if one.name not in COUNTING:
                assert (rows["Seed"], rows["Budget"], rows["Steps"]) == ("0", "8steps", "8")
                assert {"Optimizer", "Learning rate", "Batch", "Layers", "Parameters"} <= {*rows}

    def test_what_an_older_card_does_not_say_is_left_out(self, found: Findings) -> None:
        card = replace(found.contenders[0].card, history=checkpoint.History(), environment=None)
        shown = dict(settings(replace(found.contenders[0], card=card)))
        assert shown["Weights, SHA-256"] == card.files["weights"].sha256
        assert not {"Seed", "Steps", "Budget"} & {*shown}


class TestWords:
    PRIVATE = (
        r"nobody|whoever|as many as|the greatest of|of those that|voices|echoes|learn\w* by heart|\btold\b|\bguess|"
        r"pays? for|what is counted|asks it|brings? this text|come back to|held in mind"
    )

    def test_the_page_speaks_plain_english(self, tree: ElementTree.Element) -> None:
        for part in tree.findall(".//section"):
            for paragraph in part.findall(".//p"):
                if "text" in paragraph.get("class", ""):
                    continue
                plain = content(paragraph)
                assert not re.search(self.PRIVATE, plain, re.IGNORECASE), plain
                for line in re.split(r"(?<=[.:;])\s", plain):
                    assert len(line.split()) <= 36, line


class TestContenders:
    def test_an_ngram_is_flat_beyond_its_order(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        (ngram,) = find(compared(architectures=["ngram"], order=3, cache=0)).contenders
        curve = {point.context: point.bits_per_character for point in ngram.context}
        figure = ngram.row.evaluation.bits_per_character
        assert [curve[n] for n in curve if n >= 2] == pytest.approx([figure] * (len(curve) - 1))
        assert curve[1] > figure + 0.01

    def test_sentencepiece(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(findings, "CONTEXT_TOKENS", 1 << 10)
        found = find(compared(SentencePiece, 300, ["ngram", "rnn", "transformer"], order=3))
        tree = ElementTree.fromstring(as_page(found))
        panel = section(tree, "surprisal").find(".//div[@class='text']")
        assert panel is not None
        assert len(content(panel)) > 300
        assert "≤" in content(section(tree, "result"))

    def test_a_mixture(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(findings, "CONTEXT_TOKENS", 1 << 10)
        found = find(compared(architectures=["lstm", "mixture"], order=3, width=8))
        tree = ElementTree.fromstring(as_page(found))
        told = content(section(tree, "result"))
        made = "made of ngram, contexts and lstm, combined at every character by a small network that sees what they"
        assert made in told
        assert "The curve of mixture is that of the network in it" in content(section(tree, "learning"))
        for name in ("gradients", "embeddings"):
            assert "Not shown: mixture (ngram, contexts and lstm)." in content(section(tree, name))
        mixture = next(one for one in found.contenders if one.name == "mixture")
        assert math.fsum(mixture.reading.character_bits) == pytest.approx(mixture.row.evaluation.bits, rel=1e-12)

    def test_one_run_alone(self, found: Findings) -> None:
        alone = replace(found.result, rows=found.result.rows[-1:], baselines={})
        single = replace(found, result=alone, contenders=found.contenders[-1:])
        tree = ElementTree.fromstring(as_page(single))
        assert tree.findall(".//section[@id='differences']") == []


QUICK = ("--budget", "3steps", "--size", "tiny", "--batch", "4", "--segment", "16", "--precision", "float32")


class TestCommand:
    def test_compare_and_report_make_the_same_page(self, folder: Path, charlm: Charlm) -> None:
        outcome = charlm("compare", "corpus.txt", *QUICK, "--arch", "rnn,ngram", "--report", "a.html", "--json")
        assert outcome.code == 0, outcome.err
        rows = json.loads(outcome.out)["rows"]
        tree = ElementTree.fromstring((folder / "a.html").read_text(encoding="utf-8"))
        shown = {row[0].get("data-value"): row[1].get("data-value") for row in tree.findall(".//tbody/tr")}
        assert {row["name"]: repr(row["bits_per_character"]) for row in rows}.items() <= shown.items()
        outcome = charlm("report", *(row["run"] for row in rows), "-o", "b.html")
        assert outcome.code == 0, outcome.err
        assert outcome.out == ""
        again = ElementTree.fromstring((folder / "b.html").read_text(encoding="utf-8"))
        for name in ("surprisal", "differences", "kinds", "samples", "gradients"):
            assert content(section(again, name)) == content(section(tree, name))

    def test_the_newest_run_by_default(self, folder: Path, charlm: Charlm) -> None:
        assert charlm("train", "corpus.txt", *QUICK, "-q", "--arch", "gru").code == 0
        assert charlm("report").code == 0
        assert "gru is as uncertain as a choice among" in (folder / "report.html").read_text(encoding="utf-8")

    def test_only_pages_are_replaced(self, folder: Path, charlm: Charlm) -> None:
        assert charlm("train", "corpus.txt", "-q", "--arch", "ngram").code == 0
        for command in (("report", "-o"), ("compare", "corpus.txt", *QUICK, "--report")):
            outcome = charlm(*command, "corpus.txt")
            assert (outcome.code, "corpus.txt exists and is no report" in outcome.err) == (2, True)
        assert charlm("report").code == charlm("report").code == 0
        assert not list(folder.glob(".*"))

    def test_seeds_and_unequal_runs(self, folder: Path, charlm: Charlm) -> None:
        seeds = ("--arch", "rnn", "--seeds", "2", "--report", "a.html")
        assert charlm("compare", "corpus.txt", *QUICK, *seeds).code == 0
        told = (folder / "a.html").read_text(encoding="utf-8")
        assert "standard deviation over 2 seeds" in told
        assert "everything else on this page shows the run of the first" in told
        assert charlm("train", "corpus.txt", "--arch", "gru", *QUICK[2:], "--budget", "2steps", "-q").code == 0
        split, sources = trained_already(checkpoint.runs())
        told = as_page(find(compare(sources, split)))
        assert "not the same: " in told
