"""Requests of people who mean no good, or do not know better: each gets an answer of the documented shape, and soon.

`HOSTILE=3000 pytest tests/test_server_hostile.py` tries as many at random.
"""

import json
import os
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import Client, serving

from charlm.server.limits import Limits

COUNT = int(os.environ.get("HOSTILE", "300"))
SECONDS = 5.0
PATHS = ["/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize"]
VALUES: list[Any] = [
    None, True, 0, -1, 10**40, 1e308, -0.0, "", "x", "\ud800", "\0", "x" * 5000, [], [[]], [[[]]], {}, {"a": {}},
    [None], [1, "a"], "../../etc/passwd", "lstm\r\nX: y", [2**31], [0, 0],
]  # fmt: skip
FIELDS = [
    "model", "prompt", "n", "best_of", "max_tokens", "temperature", "top_p", "top_k", "min_p", "stop", "seed",
    "stream", "stream_options", "logprobs", "echo", "suffix", "logit_bias", "messages", "tokens", "__proto__", "",
]  # fmt: skip
LITERALS = ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000, '"\\ud800"', "[" * 3000, '{"a":' * 3000, "\x00", "//"]
HEADERS = [
    b"Content-Length: 99999999999999999999", b"Content-Length: -5", b"Content-Length: 5, 6",
    b"Content-Length: 3\r\nContent-Length: 4", b"Transfer-Encoding: chunked\r\nContent-Length: 3",
    b"Transfer-Encoding: gzip", b"Expect: 100-continue", b"Host: a\r\nHost: b", b"Host: evil.example", b"Host : x",
    b"X-Long: " + b"a" * 100_000, b"\xff\xfe: \x00", b"X: a\x00b", b"Connection: Upgrade\r\nUpgrade: websocket",
    b" folded: yes", b"Origin: http://evil.example", b"Content-Encoding: gzip", b"Range: bytes=0-1",
]  # fmt: skip
TARGETS = [
    b"/../../etc/passwd", b"/static/..%2f..%2fapp.py", b"//x", b"*", b"http://evil.example/v1/models", b"/\xff", b"",
    b"/static/%00", b"/v1/models/%2e%2e", b"/" + b"a" * 70_000, b"/static/" + b"../" * 50, b"/v1/models?model=%ff",
]  # fmt: skip


@pytest.fixture(scope="module")
def server(served: Path) -> Iterator[Client]:
    with serving([served / "lstm", served / "pieces"], Limits(body_seconds=1.0, body_bytes=1 << 20)) as client:
        yield client


def random_body(chosen: random.Random) -> bytes:
    """JSON with something wrong in it, or none at all."""
    kind = chosen.randrange(4)
    if kind == 0:
        return chosen.choice(LITERALS).encode() + chosen.choice([b"", b"}", b"]"])
    if kind == 1:
        return chosen.randbytes(chosen.randrange(200))
    body = {"model": "lstm", "prompt": "a", "messages": [{"role": "user", "content": "a"}], "max_tokens": 1}
    for _ in range(chosen.randrange(1, 4)):
        body[chosen.choice(FIELDS)] = chosen.choice(VALUES)
    text = json.dumps(body)
    if kind == 3:
        literal = chosen.choice(LITERALS)
        text = text.replace(": 1", f": {literal}", 1) if chosen.random() < 0.5 else text[: chosen.randrange(len(text))]
    return text.encode()


def random_request(chosen: random.Random) -> bytes:
    body = random_body(chosen)
    target, method = chosen.choice(PATHS).encode(), b"POST"
    length, extra = str(len(body)).encode(), b""
    kind = chosen.randrange(6)
    if kind == 0:
        extra = chosen.choice(HEADERS) + b"\r\n"
    if kind == 1:
        target, method = chosen.choice(TARGETS), chosen.choice([b"GET", b"POST", b"PUT", b"BREW", b"", b"\x16\x03\x01"])
    if kind == 2 and chosen.random() < 0.3:
        return chosen.randbytes(chosen.randrange(1, 400)) + b"\r\n\r\n"
    host = b"" if b"Host" in extra else b"Host: localhost\r\n"
    return b"%s %s HTTP/1.1\r\n%sContent-Length: %s\r\n%sConnection: close\r\n\r\n%s" % (
        method, target, host, length, extra, body
    )  # fmt: skip


def check(reply: bytes, sent: bytes) -> int:
    """The status of an answer, whose shape is as documented."""
    head, _, body = reply.partition(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 100"):
        head, _, body = body.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    assert status < 500, (sent[:300], reply[:300])
    assert b"Traceback" not in reply
    if status >= 400:
        error = json.loads(body)["error"]
        assert set(error) == {"message", "type", "param", "code"}, sent[:300]
        assert len(error["message"]) < 500
    return status


def test_requests_at_random(server: Client) -> None:
    chosen, statuses = random.Random(COUNT), dict[int, int]()
    for _ in range(COUNT):
        sent, half_close, begun = random_request(chosen), chosen.random() < 0.2, time.monotonic()
        reply = server.raw(sent, half_close)
        assert time.monotonic() - begun < SECONDS, sent[:300]
        if not reply:
            assert half_close or b"\r\n\r\n" not in sent, sent[:300]  # whoever stops speaking may get no answer
            continue
        status = check(reply, sent)
        statuses[status] = statuses.get(status, 0) + 1
    assert statuses[400] > COUNT / 4
    assert server.complete("lstm", "a").status == 200


@pytest.mark.parametrize("target", TARGETS)
def test_no_path_leads_out(target: bytes, server: Client) -> None:
    reply = server.raw(b"GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % target)
    assert b"root:" not in reply
    assert check(reply, target) in (200, 400, 403, 404)


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b"9" * 100_000, b"\xff" * 100_000])
def test_bodies_that_parsers_stumble_over(body: bytes, server: Client) -> None:
    reply = server.ask("POST", "/v1/completions", body)
    assert (reply.status, reply.error["code"]) == (400, "invalid_json")


def test_bodies_too_large_or_too_slow(server: Client) -> None:
    assert server.ask("POST", "/v1/completions", b" " * (2 << 20)).status == 413
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"
    begun = time.monotonic()
    assert check(server.raw(head + b"{"), head) == 408
    if reply := server.raw(head + b"{", half_close=True):
        assert check(reply, head) in (400, 408)
    assert time.monotonic() - begun < SECONDS


def test_a_connection_that_sends_nothing_is_closed(server: Client) -> None:
    begun = time.monotonic()
    assert server.raw(b"POST /v1/comp") == b""
    assert time.monotonic() - begun < SECONDS + 1


def test_a_reader_that_never_reads_holds_nobody_up(server: Client) -> None:
    body = json.dumps({"model": "lstm", "prompt": "a", "max_tokens": 3000, "stream": True, "logprobs": 20}).encode()
    with socket.create_connection(("127.0.0.1", server.port)) as idle:
        idle.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body))
        idle.sendall(body)
        assert server.complete("lstm", "a", max_tokens=5).status == 200


def test_nothing_of_the_machine_is_told(server: Client, tmp_path: Path) -> None:
    for reply in (
        server.ask("GET", "/v1/models"),
        server.complete(str(tmp_path), "a"),
        server.complete("lstm", "a"),
        server.ask("GET", "/metrics"),
    ):
        assert b"/checkpoints" not in reply.body
        assert os.fsencode(Path.home()) not in reply.body
