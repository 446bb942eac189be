"""The playground: what its routes say, and the page in a real browser.

The browser's tests want Chromium and playwright: `pip install playwright`, and CHROMIUM=/path/to/chromium where it is
not /usr/bin/chromium. Without them they are skipped.
"""

import math
import os
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TEXT
from serving import NAMES, Client, serving

from charlm import checkpoint
from charlm.analysis import read
from charlm.corpus import Text
from charlm.server.quotes import MIN_QUOTE_CHARACTERS, quotations

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
TYPED = "HAMLET:\nWhat é old 漢 ghost"

browser_test = pytest.mark.skipif(
    not (find_spec("playwright") and Path(CHROMIUM).exists()), reason="no playwright or no Chromium"
)


@pytest.fixture(scope="module")
def server(served: Path) -> Iterator[Client]:
    with serving([served / name for name in NAMES]) as client:
        yield client


def expect(server: Client, text: str, **fields: Any) -> dict[str, Any]:
    reply = server.ask("POST", "/api/expect", {"models": NAMES, "text": text, **fields})
    assert reply.status == 200, reply.body
    return {answer["model"]: answer for answer in reply.json["models"]}


def test_typed_characters_cost_what_score_says_however_they_are_typed(server: Client, served: Path) -> None:
    bits: dict[str, list[float]] = {name: [] for name in NAMES}
    typed = 0
    for end in (0, 1, 2, 3, 9, 10, 8, 12, 5, len(TYPED), 20, len(TYPED)):
        since, typed = min(typed, end, 3), end
        for name, answer in expect(server, TYPED[:end], since=since).items():
            bits[name] = bits[name][:since] + answer["bits"]
            assert len(bits[name]) == end
            if name != "pieces":  # whose earlier pieces may change with what follows
                assert answer["total_bits"] == pytest.approx(sum(bits[name]), abs=1e-3)
    for name in NAMES:
        run = checkpoint.load(served / name)
        right = read(run.model, run.tokenizer, Text.from_string(TYPED, "typed")).character_bits
        assert np.allclose(expect(server, TYPED)[name]["bits"], right, atol=1e-3)


def test_the_bars_are_at_the_cursor(server: Client) -> None:
    for cursor in (0, 5, len(TYPED)):
        inside, alone = expect(server, TYPED, cursor=cursor), expect(server, TYPED[:cursor])
        for name in NAMES:
            for one, other in zip(inside[name]["next"], alone[name]["next"], strict=True):
                assert one["text"] == other["text"]
                assert one["probability"] == pytest.approx(other["probability"], abs=1e-5)


def test_bars_are_drawn_from_as_the_settings_say(server: Client) -> None:
    plain = expect(server, "HAMLET", top=50)
    for name, answer in expect(server, "HAMLET", top_k=2, top=50).items():
        drawn = [bar["drawn"] for bar in answer["next"]]
        assert sum(share > 0 for share in drawn) == 2
        assert sum(drawn) == pytest.approx(1, abs=1e-6)
        assert [bar["probability"] for bar in answer["next"]] == [bar["probability"] for bar in plain[name]["next"]]
    for answer in expect(server, "HAMLET", temperature=0).values():
        assert max(bar["drawn"] for bar in answer["next"]) == 1


def test_texts_are_written_as_the_api_writes_them(server: Client) -> None:
    body = {"models": NAMES, "prompt": "HAMLET:", "seed": 3, "max_tokens": 40, "top": 3, "top_p": 0.9}
    events = server.ask("POST", "/api/write", body).events
    for name in NAMES:
        tokens = [token for event in events if event["model"] == name for token in event["tokens"]]
        same = server.complete(name, "HAMLET:", seed=3, max_tokens=40, top_p=0.9, logprobs=3).json["choices"][0]
        assert [token["text"] for token in tokens] == same["logprobs"]["tokens"]
        assert [token["offset"] for token in tokens] == same["logprobs"]["text_offset"]
        for token, log_prob in zip(tokens, same["logprobs"]["token_logprobs"], strict=True):
            assert token["probability"] == pytest.approx(math.exp(log_prob), rel=1e-4)
            assert len(token["alternatives"]) == 3
        assert [event["finish_reason"] for event in events if event["model"] == name][-1] == "length"


def test_the_tree_of_beams_leads_to_the_texts_found(server: Client) -> None:
    body = {"model": "lstm", "prompt": "HAMLET", "beams": 3, "length": 12}
    *steps, last = server.ask("POST", "/api/beams", body).events
    nodes = {node["number"]: node for step in steps for node in step["nodes"]}
    assert all(len(step["nodes"]) == 3 for step in steps)
    found = server.complete("lstm", "HAMLET", beams=3, n=3, max_tokens=12).json["choices"]
    assert [one["text"] for one in last["found"]] == [choice["text"] for choice in found]
    for one in last["found"]:
        text, number = "", one["node"]
        assert nodes[number]["log_prob"] == one["log_prob"]
        while number:
            text, number = nodes[number]["token"] + text, nodes[number]["parent"]
        assert text == one["text"]
    greedy = "".join(node["token"] for node in nodes.values() if node["greedy"])
    assert server.complete("lstm", "HAMLET", temperature=0).json["choices"][0]["text"].startswith(greedy)


def test_worths_add_up_and_are_nothing_beyond_what_a_model_sees(server: Client, served: Path) -> None:
    text = "HAMLET:\nWhat pale ghost is this"
    for place in (0, 1, 9, len(text) - 1):
        body = {"models": NAMES, "text": text, "place": place, "reach": 64}
        for answer in server.ask("POST", "/api/why", body).json["models"]:
            assert len(answer["worths"]) == place
            left = answer["without_context"] - sum(answer["worths"])
            if answer["model"] != "pieces":  # whose context is counted in whole pieces
                assert left == pytest.approx(answer["bits"], abs=1e-3)
    table = {"models": ["ngram"], "text": text, "place": 25}
    (found,) = server.ask("POST", "/api/why", table).json["models"]
    assert max(found["worths"]) > 0
    assert server.ask("POST", "/api/why", {"models": NAMES, "text": ""}).error["param"] == "text"


def test_quotations_are_those_that_there_are() -> None:
    training = "".join(f"line {number} of the text that was learned\n" for number in range(100, 200))
    for begin, length in ((0, 40), (777, MIN_QUOTE_CHARACTERS), (1234, 333)):
        for before in range(0, 40, 7):
            text = "#" * before + training[begin : begin + length] + "!" * 50
            (found,) = quotations(text, training)
            assert text[found.begin : found.end] == training[begin : begin + length]
            assert found.source in training.split("\n")
    assert not list(quotations(training[5 : 5 + MIN_QUOTE_CHARACTERS // 2 - 1] + "#" * 99, training))
    assert not list(quotations("", training))
    twice = training[:100] + "#" + training[500:600]
    assert [(found.begin, found.end) for found in quotations(twice, training)] == [(0, 100), (101, 201)]


def test_quotes_name_the_line_and_a_text_that_is_gone_is_an_error(server: Client, served: Path) -> None:
    begin = TEXT.index("OPHELIA")
    text = "xyz " + TEXT[begin : begin + 60]
    (quote,) = server.ask("POST", "/api/quotes", {"model": "lstm", "text": text}).json["quotes"]
    assert (quote["begin"], quote["end"]) == (4, 64)
    assert quote["line"] == TEXT.count("\n", 0, begin) + 1
    assert quote["source"] == "OPHELIA:"
    corpus = served.parent / "corpus.txt"
    corpus.rename(served.parent / "moved.txt")
    try:
        with serving([served / "ngram"]) as other:
            error = other.ask("POST", "/api/quotes", {"model": "ngram", "text": text})
            assert (error.status, error.error["code"]) == (404, "no_training_text")
            assert str(served.parent) not in error.error["message"]
    finally:
        (served.parent / "moved.txt").rename(corpus)


def test_the_page_needs_nothing_from_elsewhere(server: Client) -> None:
    page = server.ask("GET", "/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    names = re.findall(r'(?:src|href)="(/[^"]*)"', page.body.decode())
    assert "/static/app.js" in names
    for name in names:
        assert server.ask("GET", name).status == 200
    for file in ("app.js", "expect.js", "write.js", "beams.js", "why.js", "api.js", "style.css", "index.html"):
        text = server.ask("GET", f"/static/{file}").body.decode()
        assert not re.search(r"https?://(?!www\.w3\.org/)|innerHTML|\beval\b| style=", text), file


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("expect", {"models": []}, "models"), ("expect", {"models": "lstm"}, "models"),
        ("expect", {"models": ["none"]}, "model"), ("expect", {"models": ["lstm"], "text": 5}, "text"),
        ("expect", {"models": ["lstm"], "text": "ab", "cursor": 3}, "cursor"),
        ("expect", {"models": ["lstm"], "text": "x" * 20_000}, "text"),
        ("expect", {"models": ["lstm"], "top_p": 2}, "top_p"), ("write", {"models": ["lstm"], "top": 99}, "top"),
        ("write", {"models": ["lstm"], "max_tokens": 10**6}, "max_tokens"), ("quotes", {"text": "a"}, "model"),
    ],
)  # fmt: skip
def test_refusals_name_the_field(path: str, fields: dict[str, Any], param: str, server: Client) -> None:
    reply = server.ask("POST", f"/api/{path}", fields)
    assert reply.status in (400, 404)
    assert reply.error["param"] == param


@pytest.fixture(scope="module")
def page(server: Client) -> Iterator[Any]:
    """The page in a browser; at the end nothing was complained of."""
    from playwright.sync_api import sync_playwright

    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        found = browser.new_page(viewport={"width": 390, "height": 844})
        found.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        found.on("pageerror", lambda problem: complaints.append(str(problem)))
        found.goto(server.url)
        found.wait_for_selector(".chip")
        yield found
        browser.close()
    assert complaints == []


@browser_test
def test_typing_shows_bars_and_costs_of_every_model(page: Any, server: Client) -> None:
    page.fill("#text", "")
    page.locator("#text").press_sequentially(TYPED.replace("\n", " "))
    page.wait_for_function("() => document.querySelectorAll('#expect .card').length === 6")
    page.wait_for_function(
        f"() => document.querySelector('#race text:last-of-type').textContent.startsWith('{len(TYPED)}')"
    )
    right = expect(server, TYPED.replace("\n", " "))
    for card in page.query_selector_all("#expect .card"):
        name = card.query_selector("h3").inner_text()
        bits = right[name]["total_bits"] / len(TYPED)
        assert card.query_selector("header p").inner_text() == f"{bits:.2f} bits/char"
        assert len(card.query_selector_all(".bars li")) == 5
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@browser_test
def test_a_character_is_changed_by_keyboard_and_the_text_goes_on_from_there(page: Any) -> None:
    page.fill("#text", "HAMLET:\n")
    page.fill("#length", "30")
    page.click("#write")
    done = "() => document.querySelector('#stop').disabled && document.querySelectorAll('#written .card').length === 6"
    page.wait_for_function(done)
    text = "[...document.querySelectorAll('#written .card')].find((c) => c.querySelector('h3').textContent === 'lstm')"
    before = page.evaluate(f"{text}.querySelector('.text').textContent")
    page.evaluate(f"{text}.querySelector('.text').focus()")
    for key in ("Home", "ArrowRight", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    page.wait_for_selector("dialog[open]")
    other = "dialog ol button:not([aria-current]):not([disabled])"
    chosen = page.eval_on_selector(other, "(button) => button.querySelector('span').textContent")
    page.click(other)
    page.wait_for_function(done)
    after = page.evaluate(f"{text}.querySelector('.text').textContent")
    assert after[:10] == before[:10]
    assert after[10] == {"␣": " ", "⏎": "\n"}.get(chosen, chosen)
    assert after[10] != before[10]


@browser_test
def test_pointing_at_a_character_says_what_came_before_was_worth(page: Any) -> None:
    page.fill("#text", "HAMLET: What pale")
    page.focus("#why-text")
    page.keyboard.press("End")
    page.wait_for_selector("#why code .chosen")
    assert len(page.query_selector_all("#why code")) == 6
    assert page.eval_on_selector("#why code", "(code) => code.textContent") == "HAMLET:␣What␣pale"


@browser_test
def test_nothing_of_a_text_becomes_markup(page: Any) -> None:
    page.fill("#text", "<img src=x onerror=alert(1)>&amp;<b>")
    page.wait_for_function("() => document.querySelector('#expect .text').textContent.includes('<img src=x')")
    assert page.query_selector("#expect img, #expect b") is None


@browser_test
def test_the_tree_grows_and_the_texts_found_are_listed(page: Any) -> None:
    page.fill("#text", "HAMLET")
    page.select_option("#beams-model", "ngram")
    page.click("#search")
    page.wait_for_selector("#found li")
    assert len(page.query_selector_all("#found li")) == 4
    assert len(page.query_selector_all("#tree .done")) == 4
    assert page.query_selector("#tree .greedy")
    assert page.query_selector("#tree .pruned")
