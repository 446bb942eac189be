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
from charlm.analysis import lens, read
from charlm.analysis.surprisal import places
from charlm.corpus import Text
from charlm.evaluation.scoring import windowed_token_bits
from charlm.server.quotes import MIN_QUOTE_CHARACTERS, occurrences, quotations

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


def test_worths_are_the_differences_of_shorter_and_longer_contexts(server: Client, served: Path) -> None:
    text, reach = "HAMLET:\nWhat \u6f22 old ghost \u6f22", 20
    for place in (5, 14, len(text) - 3, len(text) - 1):
        body = {"models": NAMES, "text": text, "place": place, "reach": reach}
        for answer in server.ask("POST", "/api/why", body).json["models"]:
            run = checkpoint.load(served / answer["model"])
            ids = run.tokenizer.encode(text[: place + 1]).astype(np.uint32)
            tokens = np.flatnonzero(places(run.tokenizer, ids)[1] >= place)
            left = answer["without_context"]
            for context, worth in enumerate(answer["worths"], 1):
                left -= worth
                parts = windowed_token_bits(run.model, run.tokenizer, ids, context, tokens)
                assert left == pytest.approx(sum(float(part.sum()) for part in parts), abs=1e-3)


def test_each_kind_of_model_says_what_its_own_parts_say(server: Client, served: Path) -> None:
    text, reach = "HAMLET:\nWhat pale ghost is this", 12
    for place in (0, 1, 9, len(text) - 1):
        body = {"models": NAMES, "text": text, "place": place, "reach": reach}
        answers = {answer["model"]: answer for answer in server.ask("POST", "/api/why", body).json["models"]}
        for name in ("lstm", "transformer", "pieces", "bytes"):
            assert len(answers[name]["gradients"]) == min(place, reach)
        network: Any = checkpoint.load(served / "transformer").model
        attention = np.array(answers["transformer"]["attention"])
        assert attention.shape == (network.config.layers, network.config.heads, min(place, reach))
        if place == 9:  # all characters are within reach, and only the boundary is left out
            assert (attention.sum(2) < 1).all()
        ngram, lstm = answers["mixture"]["members"]
        assert (ngram["name"], lstm["name"]) == ("ngram", "lstm")
        assert ngram["weight"] + lstm["weight"] == pytest.approx(1, abs=1e-3)
        for member in (ngram, lstm):
            assert member["bits"] == pytest.approx(answers[member["name"]]["bits"], abs=1e-3)


def test_contexts_are_counted_in_the_training_text(server: Client) -> None:
    training = (TEXT * 2 + "Caf\xe9, na\xefve \u6f22\n" + TEXT)[: 9 * (3 * len(TEXT) + 14) // 10]
    body = {"models": ["ngram"], "text": "zzHAMLET:\nWhat pale ghost"}
    (answer,) = server.ask("POST", "/api/why", body).json["models"]
    assert [context["text"] for context in answer["contexts"]] == ["hos", "os", "s"]  # of a model of order 4
    for context in answer["contexts"]:
        assert context["count"] == occurrences(context["text"], training)
        assert context["followed"] == occurrences(context["text"] + "t", training)
    for place in answer["places"]:
        assert place["before"] + place["match"] + place["after"] in training
        assert place["match"] == "host"
    assert [place["line"] for place in answer["places"]] == [2, 11, 20]
    (never,) = server.ask("POST", "/api/why", {**body, "text": "z\u2603"}).json["models"]
    assert (never["contexts"], never["places"]) == ([], [])


def test_overlapping_passages_are_all_counted() -> None:
    for training in ("aaaaa", "abababa", "xyz", ""):
        for passage in ("a", "aa", "aba", "ab", "xyz", "q"):
            right = sum(training.startswith(passage, place) for place in range(len(training)))
            assert occurrences(passage, training) == right


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


HELD_OUT = (TEXT * 2 + "Caf\xe9, na\xefve \u6f22\n" + TEXT)[-len(TEXT) * 3 // 10 - 3 :]  # or a little more


def test_passages_are_of_the_held_out_text_and_only_that(server: Client, served: Path) -> None:
    seen = set()
    for seed in range(20):
        asked = {"model": "lstm", "seed": seed, "before": 50, "length": 30}
        drawn = server.ask("POST", "/api/passage", asked).json
        assert sorted(drawn) == ["before", "characters", "passage"]
        assert (len(drawn["before"]), len(drawn["passage"])) == (50, 30)
        assert drawn["before"] + drawn["passage"] in HELD_OUT
        assert drawn["characters"].startswith(" ")
        assert set(drawn["passage"]) <= set(drawn["characters"])
        assert server.ask("POST", "/api/passage", asked).json == drawn
        seen.add(drawn["passage"])
    assert len(seen) > 5
    whole = server.ask("POST", "/api/passage", {"model": "lstm", "before": 1000, "length": 400}).json
    assert whole["before"] + whole["passage"] in HELD_OUT
    assert len(whole["passage"]) == 400
    models = {model["name"]: model for model in server.ask("GET", "/api/models").json["models"]}
    assert models["mixture"]["held_out"] == models["lstm"]["held_out"] is not None


def test_a_held_out_text_that_is_gone_is_an_error_without_its_path(served: Path) -> None:
    corpus = served.parent / "corpus.txt"
    corpus.rename(served.parent / "moved.txt")
    try:
        with serving([served / "ngram"]) as other:
            error = other.ask("POST", "/api/passage", {"model": "ngram"})
            assert (error.status, error.error["code"]) == (404, "no_held_out_text")
            assert str(served.parent) not in error.error["message"]
    finally:
        (served.parent / "moved.txt").rename(corpus)


def test_models_guess_in_the_order_of_their_probabilities(server: Client, served: Path) -> None:
    text = "HAMLET:\nWhat old ghost \u6f22 is"
    begin = text.index("ghost")
    answers = server.ask("POST", "/api/guesses", {"models": NAMES, "text": text, "begin": begin}).json["models"]
    for answer in answers:
        run = checkpoint.load(served / answer["model"])
        whole = Text.from_string(text, "typed")
        right = read(run.model, run.tokenizer, whole).character_bits[begin:]
        if answer["model"] == "pieces":  # whose tokens are longer than a character
            assert answer["guesses"] is None
            assert sum(answer["bits"]) == pytest.approx(sum(right), rel=0.2)
            continue
        assert np.allclose(answer["bits"], right, atol=1e-3)
        ranks = [character.rank for character in lens(run.model, run.tokenizer, whole, [(begin, len(text))])]
        for number, rank, character in zip(answer["guesses"], ranks, text[begin:], strict=True):
            assert number == rank if character != "\u6f22" else number >= rank  # which is spelled in three bytes
    assert server.ask("POST", "/api/guesses", {"models": NAMES, "text": "ab", "begin": 3}).error["param"] == "begin"
    for answer in server.ask("POST", "/api/guesses", {"models": NAMES, "text": "ab", "begin": 2}).json["models"]:
        assert answer["bits"] == []


def test_the_page_needs_nothing_from_elsewhere(server: Client) -> None:
    page = server.ask("GET", "/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    names = re.findall(r'(?:src|href)="(/[^"]*)"', page.body.decode())
    assert "/static/app.js" in names
    for name in names:
        assert server.ask("GET", name).status == 200
    for file in (
        "app.js",
        "expect.js",
        "write.js",
        "beams.js",
        "why.js",
        "guess.js",
        "api.js",
        "style.css",
        "index.html",
    ):
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
        ("passage", {}, "model"), ("passage", {"model": "lstm", "length": 401}, "length"),
        ("passage", {"model": "lstm", "before": -1}, "before"), ("passage", {"model": "lstm", "seed": -1}, "seed"),
        ("passage", {"model": "../lstm"}, "model"), ("guesses", {"models": ["lstm"], "text": "a", "begin": 2}, "begin"),
        ("why", {"models": ["lstm"], "text": "a", "reach": 65}, "reach"),
    ],
)  # fmt: skip
def test_refusals_name_the_field(path: str, fields: dict[str, Any], param: str, server: Client) -> None:
    reply = server.ask("POST", f"/api/{path}", fields)
    assert reply.status in (400, 404)
    assert reply.error["param"] == param


ROUTES: dict[str, dict[str, Any]] = {  # and a request to each
    "expect": {"models": NAMES, "text": "HAMLET", "cursor": 3, "since": 1, "top": 4, "temperature": 0.8},
    "write": {"models": NAMES, "prompt": "HAMLET", "max_tokens": 3, "seed": 1, "top": 2, "top_k": 3},
    "beams": {"model": "lstm", "prompt": "HAMLET", "beams": 2, "length": 3, "length_penalty": 1, "to_line_end": True},
    "why": {"models": NAMES, "text": "HAMLET", "place": 2, "reach": 4},
    "quotes": {"model": "lstm", "text": "HAMLET"},
    "passage": {"model": "lstm", "seed": 1, "before": 10, "length": 10},
    "guesses": {"models": NAMES, "text": "HAMLET", "begin": 2},
}
ODD = [[], {}, [[]], "", "\ud800", "\x00", "../..", -1, 0, 1.5, 10**400, 1e300, True, ["lstm", 5], "x" * 300]


@pytest.mark.parametrize("route", ROUTES)
def test_odd_values_are_refused_or_answered(route: str, server: Client) -> None:
    assert server.ask("POST", f"/api/{route}", ROUTES[route]).status == 200
    for field in ROUTES[route]:
        for value in ODD:
            reply = server.ask("POST", f"/api/{route}", {**ROUTES[route], field: value})
            assert reply.status in (200, 400, 404), (field, value, reply.body)
            assert reply.status == 200 or reply.error["message"]
    assert server.ask("POST", f"/api/{route}", {**ROUTES[route], "more": 1}).error["param"] == "more"


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
    assert len(page.query_selector_all("#why > code")) == 6
    assert page.eval_on_selector("#why code", "(code) => code.textContent") == "HAMLET:␣What␣pale"
    labels = page.eval_on_selector_all("#why > small", "(labels) => labels.map((label) => label.textContent)")
    assert {"gradient × input", "attention, layer 1", "counted", "weights"} <= set(labels)
    assert page.inner_text("#why .counted li") != ""
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


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


@browser_test
def test_bounds_follow_from_the_numbers_of_guesses(page: Any) -> None:
    bounds = "async (guesses) => (await import('/static/guess.js')).bounds(guesses)"
    assert page.evaluate(bounds, [1, 2, 1, 4, 1, 2, 1, 3]) == pytest.approx({"lower": 1.25, "upper": 1.75})
    assert page.evaluate(bounds, [1, 2, 7, 9] * 3) == {"lower": 2, "upper": 2}
    assert page.evaluate(bounds, [1] * 9) == {"lower": 0, "upper": 0}
    assert page.evaluate(bounds, [1, 2] * 5) == {"lower": 1, "upper": 1}
    assert page.evaluate(bounds, [1, 1, 1, 2]) == pytest.approx({"lower": 0.5, "upper": 0.811278})
    assert page.evaluate(bounds, [9]) == {"lower": 0, "upper": 0}


@browser_test
def test_shannons_game_is_played_by_keyboard_to_its_end(page: Any, server: Client) -> None:
    page.fill("#passage-length", "12")
    page.select_option("#passage-model", "lstm")
    with page.expect_response("**/api/passage") as drawn, page.expect_response("**/api/guesses") as guessed:
        page.click("#passage")
    passage = drawn.value.json()["passage"]
    models = {answer["model"]: answer for answer in guessed.value.json()["models"]}
    page.wait_for_function("() => document.activeElement.id === 'guess'")
    page.keyboard.type("§~§")
    assert page.inner_text("#wrong") == "Not: § ~"
    assert page.inner_text("#spoken") == "not §; 2 wrong"
    for number, character in enumerate(passage):
        assert page.inner_text("#guess-label") == f"Guess character {number + 1} of 12"
        if number == 5:
            page.click("#tell")
        else:
            page.keyboard.press("Enter" if character == "\n" else "Space" if character == " " else character)
    assert page.inner_text("#guess-label") == "All 12 characters are guessed"
    assert page.is_disabled("#guess")
    assert page.text_content("#game-text").replace("⏎", "").endswith(passage)
    rows = {row[0]: row[1:] for row in page.evaluate(CELLS)}
    assert list(rows) == ["You", *NAMES]
    order = drawn.value.json()["characters"]
    reader = [3, *(1 if number != 5 else 1 + order.index(passage[5]) for number in range(1, 12))]
    assert rows["You"][1] == f"{100 * reader.count(1) / 12:.0f} %"
    for name in NAMES:
        assert rows[name][3] == f"{sum(models[name]['bits']) / 12:.2f}"
    assert rows["pieces"][2] == "–"
    assert rows["ngram"][0] == str(models["ngram"]["guesses"][-1])
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@browser_test
def test_a_letter_that_a_phone_composes_is_a_guess_at_once(page: Any) -> None:
    page.fill("#passage-length", "5")
    with page.expect_response("**/api/passage"):
        page.click("#passage")
    page.wait_for_function("() => !document.querySelector('#passage').disabled")
    session = page.context.new_cdp_session(page)
    for letter in "\xdf\xfe":  # which are not in the text
        session.send("Input.imeSetComposition", {"text": letter, "selectionStart": 1, "selectionEnd": 1})
    page.wait_for_function("() => document.querySelector('#wrong').textContent === 'Not: \xdf \xfe'")
    assert page.input_value("#guess") == ""
    assert page.evaluate("document.activeElement.id") == "guess"


CELLS = """
    [...document.querySelectorAll('#scores tbody tr')].map((row) => [...row.cells].map((cell) => cell.innerText.trim()))
"""
