"""A server in a thread of the tests, with small runs of every kind, and what speaks to it."""

import asyncio
import http.client
import json
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TEXT, few_steps

from charlm.cli import cli
from charlm.server.guard import Access
from charlm.server.library import Library
from charlm.server.limits import Limits
from charlm.server.running import make_server, open_socket
from charlm.server.service import Service

QUICK = ["--budget", "20steps", "--batch", "4", "--size", "tiny", "-q"]
MADE = {  # name of a run: how it is trained
    "ngram": ["--arch", "ngram", "--order", "4", "-q"],
    "lstm": ["--arch", "lstm", "--width", "16", *QUICK, "--no-join"],
    "transformer": ["--arch", "transformer", "--width", "16", *QUICK],
    "pieces": ["--arch", "gru", "--width", "16", "--tokenizer", "sentencepiece", *QUICK],
    "bytes": ["--arch", "rnn", "--width", "16", "--tokenizer", "bytes", *QUICK],
}
NAMES = [*MADE, "mixture"]
LIMITS, ANYBODY_HERE = Limits(), Access()


def make_runs(folder: Path) -> Path:
    """Runs of `NAMES` in folder/checkpoints, of a text with a few characters that have no id of their own."""
    (folder / "corpus.txt").write_text(TEXT * 2 + "Caf\xe9, na\xefve \u6f22\n" + TEXT, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch, few_steps():
        patch.chdir(folder)
        for name, options in MADE.items():
            cli.main(["train", "corpus.txt", *options, "-o", f"checkpoints/{name}"], standalone_mode=False)
        mix = ["mix", "checkpoints/ngram", "checkpoints/lstm", "-o", "checkpoints/mixture"]
        cli.main(mix, standalone_mode=False)
    return folder / "checkpoints"


@dataclass
class Reply:
    """A response, read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        found = self.json
        assert list(found) == ["error"], found
        assert list(found["error"]) == ["message", "type", "param", "code"]
        return dict(found["error"])

    @property
    def events(self) -> list[Any]:
        """The server-sent events, the last, which says that it is the last, left out."""
        assert self.headers["content-type"].startswith("text/event-stream")
        lines = self.body.decode().split("\n\n")
        assert lines[-2:] == ["data: [DONE]", ""]
        return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


@dataclass
class Client:
    """What tests ask a server by."""

    service: Service
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, data, named)
            response = connection.getresponse()
            return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def complete(self, model: str, prompt: Any, **fields: Any) -> Reply:
        return self.ask("POST", "/v1/completions", {"model": model, "prompt": prompt, **fields})

    def raw(self, data: bytes, half_close: bool = False) -> bytes:
        """Whatever comes back for these bytes until the server closes the connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(data)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            found = b""
            while part := connection.recv(1 << 16):
                found += part
            return found


def random_request(number: int) -> dict[str, Any]:
    """Any model, prompt and settings."""
    chosen = random.Random(number)
    text = chosen.choice(["", "HAMLET:\n", "What pale ghost is this " * chosen.randrange(1, 30), "漢é 😀"])
    drawing = chosen.choice(
        [{}, {"temperature": 0}, {"temperature": 0.7, "top_k": 5}, {"top_p": 0.9}, {"min_p": 0.1, "temperature": 1.3}]
    )
    listed = {"logprobs": 2, "echo": chosen.random() < 0.5} if chosen.random() < 0.3 else {}
    return {
        "model": chosen.choice(NAMES), "prompt": text, "seed": number, "n": chosen.choice([1, 1, 1, 3]), **drawing,
        "max_tokens": chosen.choice([1, 5, 40]), "stop": chosen.choice([None, "\n", ["gh", "old"]]), **listed,
    }  # fmt: skip


@contextmanager
def serving(paths: list[Path] | None, limits: Limits = LIMITS, access: Access = ANYBODY_HERE) -> Iterator[Client]:
    """A server for as long as the block lasts."""
    service, started = Service(Library(paths, torch.device("cpu")), limits), threading.Event()
    listening = open_socket("127.0.0.1", 0)
    port = listening.getsockname()[1]
    server = make_server(service, access, on_start=started.set)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listening])))
    thread.start()
    try:
        assert started.wait(20)
        yield Client(service, port)
    finally:
        server.should_exit = True
        server.config.timeout_graceful_shutdown = 1
        thread.join(20)
        assert not thread.is_alive()
