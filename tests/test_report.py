"""The page: well-formed, alone in the world, everything in it as text, its figures those of the table."""

import base64
import hashlib
import json
import math
import random
import re
import sys
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
from charlm.models import SINGLE
from charlm.report import Findings, as_page, find, findings, sections
from charlm.report.figures import pareto
from charlm.report.html import Html, tag, together
from charlm.report.parts import MARKS
from charlm.report.plots import COLOURS, DASHES, MARKERS
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
    return compare(to_train(plans, split, tokenizer, about={"corpus": origin.describe(split)}), split)


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
        wanted = "result learning cost context surprisal differences kinds samples gradients attention embeddings"
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
            shown = content(panel).replace("↵\n", "\n").replace("⇥\t", "\t")
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
        assert {*bits} == {*SINGLE, "ngram (frozen)", *found.result.baselines}
        assert [finding.name for finding in found.contenders] == [n for n in found.result.names if "frozen" not in n]
        assert " ".join(lead(found.result)) in content(tree)
        assert "ngram adapts: it counts what it reads, too" in content(section(tree, "result"))

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
        assert "what is read is counted too by ngram, not by the others" in told

    def test_gradients_before_training_and_after_it(self, found: Findings, tree: ElementTree.Element) -> None:
        shown = section(tree, "gradients")
        networks = [name for name in found.result.names if name != "ngram"]
        assert [content(item) for item in shown.findall(".//ul[@class='key']/li")] == [*networks, "rnn with relu"]
        numbers = {name: number for number, name in enumerate([*found.result.names, "rnn with relu"])}
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
        assert "made of ngram and lstm, which a small network that sees what they say brings together" in told
        assert "The curve of mixture is that of the network in it" in content(section(tree, "learning"))
        for name in ("gradients", "embeddings"):
            assert "being made of others: mixture (ngram and lstm)." in content(section(tree, name))
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
        assert "gru predicts corpus best, at" in (folder / "report.html").read_text(encoding="utf-8")

    def test_only_pages_are_replaced(self, folder: Path, charlm: Charlm) -> None:
        assert charlm("train", "corpus.txt", *QUICK, "-q", "--arch", "ngram").code == 0
        for command in (("report", "-o"), ("compare", "corpus.txt", *QUICK, "--report")):
            outcome = charlm(*command, "corpus.txt")
            assert (outcome.code, "corpus.txt exists and is no report" in outcome.err) == (2, True)
        assert charlm("report").code == charlm("report").code == 0
        assert not list(folder.glob(".*"))

    def test_without_matplotlib_the_way_out_is_told_at_once(
        self, folder: Path, charlm: Charlm, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        outcome = charlm("compare", "corpus.txt", "--report", "a.html")
        assert (outcome.code, "pip install matplotlib" in outcome.err) == (2, True)
        assert not checkpoint.RUNS.exists()
        assert charlm("compare", "corpus.txt", *QUICK, "--arch", "rnn").code == 0

    def test_seeds_and_unequal_runs(self, folder: Path, charlm: Charlm) -> None:
        seeds = ("--arch", "rnn", "--seeds", "2", "--report", "a.html")
        assert charlm("compare", "corpus.txt", *QUICK, *seeds).code == 0
        told = (folder / "a.html").read_text(encoding="utf-8")
        assert "standard deviation over 2 seeds" in told
        assert "all else on this page is the run of the first" in told
        assert charlm("train", "corpus.txt", "--arch", "gru", *QUICK[2:], "--budget", "2steps", "-q").code == 0
        split, sources = trained_already(checkpoint.runs())
        told = as_page(find(compare(sources, split)))
        assert "not the same: " in told
