"""`charlm serve` as a process: what it says, and how it ends."""

import http.client
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from serving import Client, Reply

BODY = {"model": "ngram", "prompt": "What", "max_tokens": 300, "seed": 1, "stream": True}


@pytest.fixture
def folder(served: Path) -> Path:
    return served.parent


@pytest.fixture
def process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    safe_path = ["-P"] * (sys.version_info >= (3, 11))
    command = [sys.executable, *safe_path, "-m", "charlm", "serve", "--port", "0", "--threads", "1"]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as started:
        yield started
        started.kill()


def client_of(process: subprocess.Popen[str]) -> Client:
    assert process.stderr is not None
    line = process.stderr.readline()
    found = re.fullmatch(r"serving (.*) at http://127\.0\.0\.1:(\d+)\n", line)
    assert found, line
    assert set(found[1].split(", ")) == {"ngram", "lstm", "transformer", "pieces", "bytes", "mixture"}
    unused: Any = None
    return Client(unused, int(found[2]))


@contextmanager
def answering(client: Client, body: dict[str, Any]) -> Iterator[http.client.HTTPResponse]:
    with closing(http.client.HTTPConnection("127.0.0.1", client.port, timeout=60)) as connection:
        connection.request("POST", "/v1/completions", json.dumps(body))
        with connection.getresponse() as response:
            yield response


def test_ctrl_c_ends_it_at_once_and_says_so_to_who_waits(process: subprocess.Popen[str]) -> None:
    client = client_of(process)
    with answering(client, {**BODY, "max_tokens": 200_000}) as response:
        response.readline()
        process.send_signal(signal.SIGINT)
        rest = response.read().decode()
    assert "shutting_down" in rest.split("\n\n")[-2]
    assert process.wait(20) == 130
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.read() == ""
    record = json.loads(process.stderr.readlines()[-1])
    assert (record["route"], record["model"], record["status"]) == ("completions", "ngram", 200)
    assert record["error"] == "the server is shutting down"


def refused(client: Client) -> bool:
    """Whether nobody listens any more."""
    try:
        client.ask("GET", "/health")
    except ConnectionError:
        return True
    return False


def test_sigterm_lets_requests_finish_and_takes_no_new_ones(process: subprocess.Popen[str]) -> None:
    client = client_of(process)
    with answering(client, BODY) as response:
        first = response.readline()
        process.send_signal(signal.SIGTERM)
        reply = Reply(200, {"content-type": "text/event-stream"}, first + response.read())
    assert any(refused(client) or time.sleep(0.1) for _ in range(50))  # uvicorn looks for it ten times a second
    assert sum(len(event["choices"][0]["text"]) for event in reply.events) == 300
    assert process.wait(20) == 143
