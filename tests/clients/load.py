"""The load test: `load.py URL MODEL [PID]` against a running `charlm serve`; PID is the server's, for its memory.

64 clients stream for SECONDS; 1,000 requests are cancelled at random moments; the queue is filled; a prompt of 100,000
characters is read while others stream. Prints what it measured; says nothing of a machine that is busy.
"""

import asyncio
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

URL, MODEL = sys.argv[1:3]
PID = sys.argv[3] if len(sys.argv) > 3 else None
SECONDS = float(os.environ.get("SECONDS", "60"))
HOST, PORT = urlsplit(URL).hostname, urlsplit(URL).port
PROMPTS = ["ROMEO:\n", "What shall I say to thee? ", "The " * 40, "KING "]


class RefusedError(Exception):
    """A status that is not 200."""


async def stream(fields: dict[str, Any], on_event: Any, status: list[int]) -> None:
    """One request; `on_event` gets each choice as it comes."""
    body = json.dumps({"model": MODEL, "stream": True, **fields}).encode()
    reader, writer = await asyncio.open_connection(HOST, PORT, limit=1 << 22)
    head = ["POST /v1/completions HTTP/1.1", "Host: localhost", "Connection: close", f"Content-Length: {len(body)}"]
    try:
        writer.write("\r\n".join([*head, "", ""]).encode() + body)
        status.append(int((await reader.readline()).split()[1]))
        if status[-1] != 200:
            raise RefusedError(await reader.read())
        while line := await reader.readline():
            if line.startswith(b"data: {"):
                event = json.loads(line[6:])
                assert "error" not in event, event
                on_event(event["choices"][0])
    finally:
        writer.close()


def memory() -> float:
    """Megabytes that the server has."""
    return int(Path(f"/proc/{PID}/statm").read_text().split()[1]) * 4096 / 1e6 if PID else 0.0


def gauge(name: str) -> float:
    """A number of /metrics."""
    page = urlopen(f"{URL}/metrics").read().decode()
    return float(next(line.split()[1] for line in page.splitlines() if line.startswith(f"{name} ")))


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


async def many() -> None:
    end, written, firsts, status, sizes = time.monotonic() + SECONDS, [0], list[float](), list[int](), list[float]()

    async def client(number: int) -> None:
        chosen = random.Random(number)
        while time.monotonic() < end:
            begun, first = time.monotonic(), [0.0]

            def took(choice: dict[str, Any], begun: float = begun, first: list[float] = first) -> None:
                first[0] = first[0] or time.monotonic() - begun
                written[0] += len(choice["text"])

            fields = {"prompt": chosen.choice(PROMPTS), "max_tokens": chosen.randrange(50, 300), "seed": number}
            await stream(fields, took, status)
            firsts.append(first[0])

    async def watch() -> None:
        while time.monotonic() < end:
            await asyncio.sleep(1)
            sizes.append(memory())

    begun = time.monotonic()
    await asyncio.gather(watch(), *(client(number) for number in range(64)))
    seconds = time.monotonic() - begun
    print(f"64 clients, {seconds:.0f} s: {len(status)} requests, statuses {sorted(set(status))}, ", end="")
    print(f"{written[0] / seconds:,.0f} characters/s, first character ", end="")
    print(f"p50 {1e3 * quantile(firsts, 0.5):.0f} ms, ", end="")
    half = sizes[len(sizes) // 2 :]
    print(f"p99 {1e3 * quantile(firsts, 0.99):.0f} ms; memory {min(half):.0f} to {max(half):.0f} MB in the second half")


async def cancelled() -> None:
    chosen, status = random.Random(1), list[int]()

    async def one() -> None:
        text = chosen.choice([*PROMPTS, "x" * 20_000])
        task = asyncio.create_task(stream({"prompt": text, "max_tokens": 2000, "n": 2}, lambda _: None, status))
        await asyncio.sleep(chosen.random() / 2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    waiting = asyncio.Semaphore(24)

    async def bounded() -> None:
        async with waiting:
            await one()

    await asyncio.gather(*(bounded() for _ in range(1000)))
    begun = time.monotonic()
    while gauge("charlm_active_streams") or gauge("charlm_waiting_requests"):
        assert time.monotonic() - begun < 5, "streams are left"
        await asyncio.sleep(0.01)
    milliseconds = 1e3 * (time.monotonic() - begun)
    print(f"1,000 cancelled at random moments: none left after {milliseconds:.0f} ms; {memory():.0f} MB")


async def full() -> None:
    status: list[int] = []
    fields = {"prompt": "a", "max_tokens": 3000, "n": 8}
    tasks = [asyncio.create_task(stream(fields, lambda _: None, status)) for _ in range(120)]
    await asyncio.sleep(3)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0.5)
    after: list[int] = []
    await stream({"prompt": "a", "max_tokens": 5}, lambda _: None, after)
    print(f"120 at once: {status.count(429)} refused with 429, others {sorted(set(status) - {429})}; then {after}")


async def long_prompt() -> None:
    gaps, status, stop = list[float](), list[int](), asyncio.Event()

    async def writing(number: int) -> None:
        last = [0.0]

        def took(_: dict[str, Any]) -> None:
            now = time.monotonic()
            if last[0]:
                gaps.append(now - last[0])
            last[0] = now

        while not stop.is_set():
            last[0] = 0.0
            await stream({"prompt": "a", "max_tokens": 200, "seed": number}, took, status)

    tasks = [asyncio.create_task(writing(number)) for number in range(4)]
    await asyncio.sleep(1)
    before, begun = list(gaps), time.monotonic()
    gaps.clear()
    await stream({"prompt": "x" * 100_000, "max_tokens": 1}, lambda _: None, status)
    seconds = time.monotonic() - begun
    during = list(gaps)
    stop.set()
    await asyncio.gather(*tasks)
    print(f"a prompt of 100,000 characters read in {seconds:.1f} s while 4 stream, the gaps between ", end="")
    print(f"p50 {1e3 * quantile(during, 0.5):.0f}, p99 {1e3 * quantile(during, 0.99):.0f}, ", end="")
    print(f"max {1e3 * max(during):.0f} ms (before: max {1e3 * max(before):.0f} ms)")


async def main() -> None:
    await stream({"prompt": "a", "max_tokens": 1}, lambda _: None, [])  # the model is loaded
    for part in (many, cancelled, full, long_prompt):
        await part()


asyncio.run(main())
