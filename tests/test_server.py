"""The API as clients meet it: what OpenAI's own client reads, and what every answer says of the model."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from conftest import Charlm
from serving import NAMES, Client, serving

from charlm import checkpoint
from charlm.analysis import read
from charlm.corpus import Text
from charlm.server.library import BOUNDARY_NAME
from charlm.server.openai import log_probs_json

TYPED = "HAMLET:\nWhat é ghost, Z\n"


@pytest.fixture(scope="module")
def server(served: Path) -> Iterator[Client]:
    with serving([served / name for name in NAMES]) as client:
        yield client


@pytest.fixture(scope="module")
def client(server: Client) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as found:
        yield found


@pytest.mark.parametrize("name", NAMES)
def test_echoed_log_probs_are_those_of_score(name: str, client: openai.OpenAI, served: Path) -> None:
    run = checkpoint.load(served / name)
    answer = client.completions.create(model=name, prompt=TYPED, echo=True, max_tokens=0, logprobs=3)
    choice = answer.choices[0]
    assert choice.logprobs is not None
    bits = read(run.model, run.tokenizer, Text.from_string(TYPED, "typed")).token_bits
    found = np.array(choice.logprobs.token_logprobs)
    assert np.allclose(found, -bits * math.log(2), atol=1e-5)
    assert choice.text == TYPED
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (len(bits), 0)
    for token, log_prob, top in zip(
        choice.logprobs.tokens, choice.logprobs.token_logprobs, choice.logprobs.top_logprobs, strict=True
    ):
        assert len(top) in (2, 3, 4)
        assert top[token] >= log_prob


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_says_what_a_whole_answer_says(name: str, server: Client) -> None:
    fields = {"max_tokens": 24, "n": 3, "seed": 5, "logprobs": 2, "echo": True, "stop": ["\n\n"]}
    whole = server.complete(name, [TYPED, "W"], **fields).json
    parts = server.complete(name, [TYPED, "W"], **fields, stream=True, stream_options={"include_usage": True}).events
    assert parts[-1]["choices"] == []
    assert parts[-1]["usage"] == whole["usage"]
    joined: dict[int, dict[str, Any]] = {}
    for part in parts[:-1]:
        assert part["usage"] is None
        (choice,) = part["choices"]
        found = joined.setdefault(choice["index"], {"text": "", "finish_reason": None, "logprobs": {}})
        assert found["finish_reason"] is None
        found["text"] += choice["text"]
        found["finish_reason"] = choice["finish_reason"]
        for key, values in choice["logprobs"].items():
            found["logprobs"].setdefault(key, []).extend(values)
    assert [{"index": index, **joined[index]} for index in sorted(joined)] == sorted(
        whole["choices"], key=lambda choice: choice["index"]
    )


@pytest.mark.parametrize("max_tokens", [0, 1])
@pytest.mark.parametrize("echo", [False, True])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("listed", [None, 0, 1])
def test_the_corners_of_echo(max_tokens: int, echo: bool, stream: bool, listed: int | None, server: Client) -> None:
    reply = server.complete("lstm", TYPED, max_tokens=max_tokens, echo=echo, stream=stream, logprobs=listed, seed=1)
    assert reply.status == 200
    choices = [choice for part in reply.events for choice in part["choices"]] if stream else reply.json["choices"]
    text = "".join(choice["text"] for choice in choices)
    assert text.startswith(TYPED) if echo else len(text) == max_tokens
    assert len(text) == max_tokens + echo * len(TYPED)
    assert choices[-1]["finish_reason"] == "length"
    tokens = [token for choice in choices if choice["logprobs"] for token in choice["logprobs"]["tokens"]]
    assert len(tokens) == (0 if listed is None else max_tokens + echo * (len(TYPED) + 1))  # é has two bytes


def test_seeded_draws_are_those_of_the_command_line(server: Client, served: Path, charlm: Charlm) -> None:
    for name in "ngram", "lstm", "pieces":
        drawn = charlm("sample", str(served / name), "--prompt", "HAMLET:", "--length", "60", "--seed", "7").out
        answer = server.complete(name, "HAMLET:", max_tokens=60, seed=7, echo=True).json["choices"][0]["text"]
        assert answer[: len(drawn) - 1] == drawn[:-1]


def test_prompts_of_every_kind(server: Client) -> None:
    ids = server.ask("POST", "/tokenize", {"model": "lstm", "prompt": "What"}).json["tokens"]
    fields = {"max_tokens": 20, "seed": 3}
    (one,) = server.complete("lstm", "What", **fields).json["choices"]
    for prompt in (ids, [ids, ids], ["What", "What"], [[0, *ids]], BOUNDARY_NAME + "What"):
        choices = server.complete("lstm", prompt, **fields).json["choices"]
        assert {choice["text"] for choice in choices} == {one["text"]}
        assert [choice["index"] for choice in choices] == list(range(len(choices)))
    assert (
        server.complete("lstm", "", **fields).json["choices"][0]["text"]
        == (server.ask("POST", "/v1/completions", {"model": "lstm", **fields}).json["choices"][0]["text"])
    )


def test_n_texts_differ_and_stop_strings_end_them(server: Client) -> None:
    choices = server.complete("ngram", "HAMLET:", n=4, seed=1, max_tokens=200, stop="night").json["choices"]
    assert len({choice["text"] for choice in choices}) == 4
    for choice in choices:
        assert "night" not in choice["text"]
        assert choice["finish_reason"] in ("stop", "length")
    assert any(choice["finish_reason"] == "stop" for choice in choices)


def test_greedy_takes_the_likeliest_at_every_step(server: Client) -> None:
    answer = server.complete("transformer", "HAMLET", temperature=0, max_tokens=30, logprobs=1).json["choices"][0]
    for log_prob, top in zip(answer["logprobs"]["token_logprobs"], answer["logprobs"]["top_logprobs"], strict=True):
        assert log_prob == max(top.values())


@pytest.mark.parametrize("options", [(), ("--stop", "a"), ("--stop", "n", "--length-penalty", "0.7")])
def test_beams_find_what_the_command_line_finds(
    options: tuple[str, ...], server: Client, served: Path, charlm: Charlm
) -> None:
    fields: dict[str, Any] = {"stop": options[1]} if options else {}
    if "--length-penalty" in options:
        fields["length_penalty"] = 0.7
    for name in "ngram", "lstm", "pieces":
        searching = ["--prompt", "HAMLET:", "--length", "20", "--beams", "5", "-n", "3", "--json", *options]
        found = json.loads(charlm("sample", str(served / name), *searching).out)["texts"]
        reply = server.complete(name, "HAMLET:", beams=5, n=3, max_tokens=20, **fields).json
        assert [choice["text"] for choice in reply["choices"]] == [text["text"] for text in found]
        streamed = server.complete(name, "HAMLET:", beams=5, n=3, max_tokens=20, stream=True, **fields).events
        assert [part["choices"][0]["text"] for part in streamed] == [text["text"] for text in found]


def test_unseen_characters_are_a_token_a_byte_and_offsets_are_characters(server: Client) -> None:
    text = "a漢é b"
    shown = server.complete("lstm", text, echo=True, max_tokens=0, logprobs=0).json["choices"][0]["logprobs"]
    assert shown["tokens"] == ["a", *(f"bytes:\\x{b:02x}" for b in "漢é".encode()), " ", "b"]
    assert shown["text_offset"] == [0, 1, 1, 1, 2, 2, 3, 4]
    later = server.complete("lstm", text, max_tokens=3, logprobs=0).json["choices"][0]["logprobs"]
    assert later["text_offset"] == [5, 6, 7]


def test_of_two_ids_spelled_alike_the_likelier_is_listed() -> None:
    from charlm.server.openai import ScoredToken

    shown = log_probs_json([ScoredToken(2, -3.0, [(1, -1.0), (2, -3.0)], 0)], ["", "a", "a"])
    assert shown["top_logprobs"] == [{"a": -1.0}]


def test_the_tokenizer_as_tools_ask_for_it(server: Client) -> None:
    info = server.ask("GET", "/tokenizer_info?model=pieces").json
    assert info["eos_token"] == info["bos_token"] == BOUNDARY_NAME
    assert server.ask("POST", "/tokenize", {"model": "pieces", "prompt": info["eos_token"]}).json["tokens"] == [0]
    for name in NAMES:
        for text in ("What old skull é漢😀 \ud800", BOUNDARY_NAME + "abc", ""):
            ids = server.ask("POST", "/tokenize", {"model": name, "prompt": text}).json["tokens"]
            assert server.ask("POST", "/detokenize", {"model": name, "tokens": ids}).json == {"prompt": text}
    assert server.ask("POST", "/tokenize", {"prompt": "a"}).error["param"] == "model"


def test_chat_is_the_next_line(client: openai.OpenAI, server: Client) -> None:
    messages: Any = [{"role": "system", "content": "HAMLET:"}, {"role": "user", "content": "What pale"}]
    whole = client.chat.completions.create(model="ngram", messages=messages, seed=2)
    text = whole.choices[0].message.content
    assert text is not None
    assert "\n" not in text
    same = server.complete("ngram", "HAMLET:\nWhat pale\n", seed=2, max_tokens=512, stop="\n").json
    assert same["choices"][0]["text"] == text
    parts = list(
        client.chat.completions.create(
            model="ngram", messages=messages, seed=2, stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(part.choices[0].delta.content or "" for part in parts[:-1]) == text
    assert parts[-1].usage is not None
    assert parts[-2].choices[0].finish_reason == "stop"


def test_models_are_listed_and_unknown_ones_are_not_found(client: openai.OpenAI) -> None:
    assert {model.id for model in client.models.list()} == set(NAMES)
    assert client.models.retrieve("lstm").id == "lstm"
    for ask in (
        lambda: client.models.retrieve("none"),
        lambda: client.completions.create(model="../lstm", prompt="a"),
    ):
        with pytest.raises(openai.NotFoundError) as problem:
            ask()
        assert problem.value.code == "model_not_found"


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"model": None}, "model"), ({"model": 7}, "model"), ({"prompt": {}}, "prompt"), ({"prompt": []}, "prompt"),
    ({"prompt": ["a", 1]}, "prompt"), ({"prompt": [[]]}, "prompt"), ({"prompt": [-1]}, "prompt"),
    ({"prompt": [True]}, "prompt"), ({"prompt": [99999]}, "prompt"), ({"prompt": [257, 0]}, "prompt"),
    ({"prompt": [2**80]}, "prompt"), ({"prompt": ["a"] * 5000}, "prompt"), ({"n": 0}, "n"), ({"n": 1e9}, "n"),
    ({"n": 65}, "n"), ({"n": True}, "n"), ({"best_of": 2}, "best_of"), ({"suffix": "x"}, "suffix"),
    ({"logit_bias": {"5": 1}}, "logit_bias"), ({"presence_penalty": 0.5}, "presence_penalty"),
    ({"max_tokens": -1}, "max_tokens"), ({"max_tokens": 10**30}, "max_tokens"), ({"max_tokens": 2.0}, "max_tokens"),
    ({"n": 64, "max_tokens": 9999}, "max_tokens"), ({"temperature": -1}, "temperature"),
    ({"temperature": "hot"}, "temperature"), ({"temperature": 10**400}, "temperature"), ({"top_p": 0}, "top_p"),
    ({"top_k": -3}, "top_k"), ({"min_p": 1}, "min_p"), ({"logprobs": 21}, "logprobs"), ({"logprobs": True}, "logprobs"),
    ({"stop": 5}, "stop"), ({"stop": ["a"] * 17}, "stop"), ({"seed": 1.5}, "seed"), ({"seed": 2**63}, "seed"),
    ({"stream": 1}, "stream"), ({"stream_options": {}}, "stream_options"), ({"echo": "yes"}, "echo"),
    ({"stream": True, "stream_options": {"usage": True}}, "stream_options.usage"), ({"user": 3}, "user"),
    ({"stream": True, "stream_options": 5}, "stream_options"), ({"frequency": 1}, "frequency"),
    ({"beams": 2, "logprobs": 1}, "logprobs"), ({"beams": 2, "temperature": 0.5}, "beams"),
    ({"length_penalty": 1.0}, "length_penalty"), ({"beams": 0}, "beams"), ({"beams": 2, "n": 3}, "n"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "param"), REFUSED, ids=[str(case[0])[:40] for case in REFUSED])
def test_a_refusal_names_the_field(fields: dict[str, Any], param: str, server: Client) -> None:
    reply = server.ask("POST", "/v1/completions", {"model": "lstm", "prompt": "a", **fields})
    assert (reply.status, reply.error["param"], reply.error["type"]) == (400, param, "invalid_request_error")
    assert param.split(".")[0] in reply.error["message"]


def test_what_asks_for_nothing_is_accepted(server: Client) -> None:
    neutral = {
        "best_of": 1, "suffix": None, "logit_bias": {}, "presence_penalty": 0, "frequency_penalty": 0.0, "stop": None,
        "user": "someone", "logprobs": None, "seed": None, "stream": False, "stream_options": None,
    }  # fmt: skip
    assert server.complete("lstm", "a", **neutral).status == 200


def test_an_unknown_route_or_method_has_the_shape_of_errors(server: Client) -> None:
    assert server.ask("GET", "/nosuch").error["code"] == "no_such_route"
    reply = server.ask("GET", "/v1/completions")
    assert (reply.status, reply.error["type"]) == (405, "invalid_request_error")
    for path in ("/static/../app.py", "/..%2f..%2fetc/passwd", "//etc/passwd", "/v1/models/..%2F..%2Fcorpus.txt"):
        assert server.ask("GET", path).status == 404


def test_health_metrics_and_the_headers_of_every_response(server: Client) -> None:
    assert server.ask("GET", "/health").json["status"] == "ok"
    server.complete("lstm", "a", max_tokens=3)
    page = server.ask("GET", "/metrics")
    assert b'charlm_requests_total{route="completions",status="200"}' in page.body
    assert b"charlm_waiting_requests 0.0" in page.body
    for reply in (page, server.ask("GET", "/nosuch"), server.ask("POST", "/v1/completions", b"{")):
        assert reply.headers["content-security-policy"].startswith("default-src 'none'")
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in reply.headers
