"""Who may ask a server, and what happens while runs come, go and change."""

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from serving import NAMES, Client, serving

from charlm.server import library
from charlm.server.guard import Access


@pytest.fixture(scope="module")
def server(served: Path) -> Iterator[Client]:
    with serving([served / name for name in NAMES]) as client:
        yield client


def test_only_localhost_and_the_servers_own_pages_may_ask(server: Client) -> None:
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", ""):
        reply = server.ask("GET", "/v1/models", Host=host)
        assert (reply.status, reply.error["code"]) == (403, "host_not_allowed")
    for host in ("localhost", "LOCALHOST:1", "[::1]:8000", "127.0.0.1"):
        assert server.ask("GET", "/v1/models", Host=host).status == 200
    for origin in ("http://evil.example", "null", "http://[", f"http://localhost:{server.port}"):
        assert server.ask("GET", "/v1/models", Origin=origin).error["code"] == "origin_not_allowed"
    assert server.ask("GET", "/v1/models", Origin=server.url).status == 200


def test_a_key_is_asked_for_and_pages_of_a_named_origin_may_ask(served: Path) -> None:
    access = Access("s3cret", None, ["http://pages.example"])
    with serving([served / "ngram"], access=access) as server:
        for given in ("", "Bearer", "Bearer wrong", "Basic s3cret", "Bearer s3cretx", "Bearer \xff"):
            reply = server.ask("GET", "/v1/models", Authorization=given)
            assert (reply.status, reply.error["code"]) == (401, "invalid_api_key")
        assert server.ask("GET", "/v1/models", Authorization="Bearer s3cret", Host="any.example").status == 200
        assert server.ask("GET", "/health").status == 200
        asked = {"Authorization": "Bearer s3cret", "Origin": "http://pages.example"}
        assert server.ask("GET", "/v1/models", **asked).headers["access-control-allow-origin"] == asked["Origin"]
        before = {"Origin": "http://pages.example", "Access_Control_Request_Method": "POST"}
        assert server.ask("OPTIONS", "/v1/completions", **before).status == 200
        assert server.ask("GET", "/v1/models", **{**asked, "Origin": "http://evil.example"}).status == 403


def test_a_run_that_is_replaced_is_served_anew(served: Path, tmp_path: Path) -> None:
    place = tmp_path / "served"
    shutil.copytree(served / "lstm", place)
    with serving([place]) as server:
        before = server.complete("served", "What", seed=1, echo=True, max_tokens=0, logprobs=0).json
        shutil.rmtree(place)
        assert server.complete("served", "What").error["code"] == "model_not_found"
        shutil.copytree(served / "transformer", place)
        after = server.complete("served", "What", seed=1, echo=True, max_tokens=0, logprobs=0).json
        assert before["system_fingerprint"] != after["system_fingerprint"]
        assert before["choices"][0]["logprobs"] != after["choices"][0]["logprobs"]
        (weights,) = place.glob("weights-*")
        weights.write_bytes(b"x" * weights.stat().st_size)
        (place / "checkpoint.json").touch()
        broken = server.complete("served", "What")
        assert (broken.status, broken.error["code"]) == (500, "model_broken")
        assert str(tmp_path) not in broken.error["message"]
        assert broken.headers["x-should-retry"] == "false"


def test_models_that_do_not_fit_beside_others_take_the_place_of_the_oldest(
    served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = library.Library([served / name for name in ("ngram", "lstm", "bytes")], torch.device("cpu"))
    made.load("ngram"), made.load("lstm")
    assert made.loaded_count == 2
    monkeypatch.setattr(library.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 0}))
    made.load("bytes")
    assert made.loaded("ngram") is None
    assert made.loaded("bytes") is not None
    assert made.loaded_count == 1


def test_the_runs_of_checkpoints_are_served_as_they_come(
    served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with serving(None) as server:
        assert server.ask("GET", "/v1/models").json["data"] == []
        shutil.copytree(served / "ngram", tmp_path / "checkpoints" / "new")
        assert server.complete("new", "What").status == 200
        assert server.ask("POST", "/tokenize", {"prompt": "a"}).status == 200


def test_many_ask_at_once_and_first_loads_are_shared(served: Path) -> None:
    with serving([served / name for name in NAMES]) as server:
        replies: list[Any] = []

        def ask(number: int) -> None:
            name = NAMES[number % len(NAMES)]
            replies.append(server.complete(name, "What", max_tokens=5, seed=0).json["choices"][0]["text"])

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(replies) == 24
        assert len(set(replies)) <= len(NAMES)


def test_json_of_lone_surrogates_arrives_as_it_was_sent(server: Client) -> None:
    reply = server.complete("bytes", "a\ud800b", echo=True, max_tokens=0)
    assert reply.json["choices"][0]["text"] == "a\ud800b"
    assert json.loads(reply.body.decode("ascii"))
