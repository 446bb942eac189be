"""The scheduler: fair, bounded, quick to forget, and what one client gets does not depend on who else is there.

`CROWD=500 pytest tests/test_scheduler.py -k crowd` compares as many requests.
"""

import http.client
import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from serving import LIMITS, NAMES, Client, random_request, serving

from charlm.server import scheduler as scheduling
from charlm.server.completing import CHUNK_TOKENS, completion_tasks
from charlm.server.errors import ApiError
from charlm.server.library import Library, ServedModel
from charlm.server.limits import Limits
from charlm.server.openai import Choice, Completion, Usage
from charlm.server.scheduler import Finished, Job, Scheduler, Steps, Task

CROWD = int(os.environ.get("CROWD", "72"))  # requests that are asked alone, and again all at once
LONG = 4000  # tokens, more than anything here has time for


@pytest.fixture(scope="module")
def library(served: Path) -> Library:
    return Library([served / name for name in NAMES], torch.device("cpu"))


@pytest.fixture
def model(library: Library) -> ServedModel:
    return library.load("lstm")


class Requests:
    """A scheduler, and what each job has received."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.limits, self.came = limits, threading.Condition()
        self.scheduler = Scheduler(limits, self._deliver)
        self.received: dict[Job, list[Any]] = {}

    def _deliver(self, parcels: list[tuple[Job, list[Any]]]) -> None:
        with self.came:
            for job, events in parcels:
                job.receive(events)
            self.came.notify_all()

    def submit(self, model: ServedModel, asked: Completion, client: str = "one") -> Job:
        events: list[Any] = []
        job = Job(model, client, events.extend)
        self.received[job] = events
        self.scheduler.submit(job, completion_tasks(model, asked, job, Usage(), self.limits))
        return job

    def submit_steps(self, model: ServedModel, steps: Callable[[], Steps], client: str = "one") -> Job:
        events: list[Any] = []
        job = Job(model, client, events.extend)
        self.received[job] = events
        self.scheduler.submit(job, [Task(1, steps)])
        return job

    def wait(self, condition: Callable[[], bool]) -> None:
        with self.came:
            assert self.came.wait_for(condition, 60)

    def ended(self, job: Job) -> bool:
        return any(isinstance(event, Finished) for event in self.received[job])

    def error(self, job: Job) -> ApiError | None:
        self.wait(lambda: self.ended(job))
        (finished,) = (event for event in self.received[job] if isinstance(event, Finished))
        return finished.error

    def text(self, job: Job) -> str:
        return "".join(event.text for event in self.received[job] if isinstance(event, Choice))


@pytest.fixture
def requests() -> Iterator[Requests]:
    made = Requests()
    yield made
    made.scheduler.close()


def asking(prompt: str = "What", **fields: Any) -> Completion:
    return Completion("any", (prompt,), **{"max_tokens": LONG, "seed": 1, **fields})


def parts(choices: list[dict[str, Any]]) -> tuple[list[Any], list[float]]:
    """What must be equal to the letter, and the numbers that may differ in their last digits."""
    shown = [(choice["index"], choice["text"], choice["finish_reason"]) for choice in choices]
    numbers = [number for choice in choices if choice["logprobs"] for number in choice["logprobs"]["token_logprobs"]]
    return shown, numbers


def test_answers_in_a_crowd_equal_those_alone(served: Path) -> None:
    bodies = [random_request(number) for number in range(CROWD)]
    with serving([served / name for name in NAMES]) as server:

        def ask(body: dict[str, Any]) -> Any:
            return parts(server.ask("POST", "/v1/completions", body).json["choices"])

        alone = [ask(body) for body in bodies]
        with ThreadPoolExecutor(64) as pool:
            together = list(pool.map(ask, bodies))
    for body, (shown, numbers), (shown_alone, numbers_alone) in zip(bodies, together, alone, strict=True):
        assert shown == shown_alone, body
        assert numbers == pytest.approx(numbers_alone, abs=1e-5)


@pytest.mark.parametrize("n", [1, 4])
def test_a_client_that_leaves_costs_at_most_one_step_more(n: int, model: ServedModel, requests: Requests) -> None:
    job = requests.submit(model, asking(n=n))
    requests.wait(lambda: len(requests.text(job)) > 5 * n)
    with requests.came:  # nothing is delivered meanwhile, so the thread is within a round or waits to deliver
        requests.scheduler.cancel(job)
        before = len(requests.text(job))
    requests.scheduler.cancel(job)
    other = requests.submit(model, asking(max_tokens=20))
    assert requests.error(other) is None
    assert len(requests.text(job)) <= before + 2 * n
    assert requests.scheduler.active == 0


def test_thousands_that_leave_at_any_moment_leave_nothing_behind(library: Library, requests: Requests) -> None:
    chosen = random.Random(1)
    for number in range(300):
        model = library.load(chosen.choice(NAMES))
        prompt = "What pale ghost " * chosen.choice([1, 200])
        echo = {"echo": True, "log_probs": 1} if chosen.random() < 0.3 else {}
        job = requests.submit(model, asking(prompt, n=chosen.choice([1, 3]), **echo), str(number % 5))
        if chosen.random() < 0.7:
            time.sleep(chosen.random() / 200)
        requests.scheduler.cancel(job)
    last = requests.submit(library.load("ngram"), asking(max_tokens=3))
    assert requests.error(last) is None
    requests.wait(lambda: requests.scheduler.active == requests.scheduler.waiting == 0)
    assert not requests.scheduler._batches
    assert not requests.scheduler._queue


def test_a_full_queue_refuses_and_recovers(model: ServedModel) -> None:
    requests = Requests(Limits(max_waiting=3, max_streams=2))
    running = [requests.submit(model, asking()) for _ in range(2)]
    requests.wait(lambda: all(requests.text(job) for job in running))
    waiting = [requests.submit(model, asking(max_tokens=2)) for _ in range(3)]
    with pytest.raises(ApiError, match="3 requests are waiting already") as problem:
        requests.submit(model, asking())
    assert problem.value.status == 429
    assert int(problem.value.headers["Retry-After"]) >= 1
    assert problem.value.headers["x-should-retry"] == "true"
    for job in running:
        requests.scheduler.cancel(job)
    assert [requests.error(job) for job in waiting] == [None] * 3
    assert requests.error(requests.submit(model, asking(max_tokens=2))) is None
    requests.scheduler.close()


def test_who_has_least_is_served_next(model: ServedModel) -> None:
    requests = Requests(Limits(max_streams=4))
    order = list[str]()

    def noted(client: str) -> Callable[[], Steps]:
        def steps() -> Steps:
            order.append(client)
            yield

        return steps

    blocker = requests.submit(model, asking(n=4))
    requests.wait(lambda: bool(requests.text(blocker)))
    jobs = [requests.submit_steps(model, noted("greedy"), "greedy") for _ in range(10)]
    jobs += [requests.submit_steps(model, noted("modest"), "modest") for _ in range(2)]
    requests.scheduler.cancel(blocker)
    requests.wait(lambda: all(map(requests.ended, jobs)))
    assert Counter(order) == {"greedy": 10, "modest": 2}
    assert order.index("modest") <= 2
    assert "modest" in order[2:5]
    requests.scheduler.close()


def test_others_go_on_while_a_long_prompt_is_read(
    model: ServedModel, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduling, "PROMPT_SECONDS_PER_ROUND", 0.0)
    chunks = 40
    writing = requests.submit(model, asking(max_tokens=LONG))
    requests.wait(lambda: bool(requests.text(writing)))
    begun = len(requests.text(writing))
    reading = requests.submit(model, asking("x" * CHUNK_TOKENS * chunks, max_tokens=1))
    assert requests.error(reading) is None
    assert len(requests.text(writing)) - begun >= chunks - 1  # a step after every chunk
    requests.scheduler.cancel(writing)


def test_a_short_prompt_is_not_held_up_by_a_long_one(
    model: ServedModel, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduling, "PROMPT_SECONDS_PER_ROUND", 0.0)
    long = requests.submit(model, asking("x" * CHUNK_TOKENS * 200, max_tokens=1))
    short = requests.submit(model, asking("What", max_tokens=3))
    assert requests.error(short) is None
    assert not requests.ended(long)
    requests.scheduler.cancel(long)


def test_a_request_that_takes_too_long_is_told_so(model: ServedModel) -> None:
    requests = Requests(Limits(request_seconds=0.05))
    error = requests.error(requests.submit(model, asking()))
    assert error is not None
    assert (error.status, error.code) == (408, "time_limit")
    requests.scheduler.close()


def test_a_failure_is_told_to_those_it_concerns(library: Library, requests: Requests) -> None:
    def failing() -> Steps:
        yield
        raise ZeroDivisionError

    def exhausting() -> Steps:
        yield
        raise MemoryError

    lstm, ngram = library.load("lstm"), library.load("ngram")
    going = requests.submit(ngram, asking(max_tokens=40))
    error = requests.error(requests.submit_steps(lstm, failing))
    assert error is not None
    assert (error.status, "log" in error.message) == (500, True)
    error = requests.error(requests.submit_steps(lstm, exhausting))
    assert error is not None
    assert error.code == "out_of_memory"
    assert requests.error(going) is None
    assert requests.error(requests.submit(lstm, asking(max_tokens=3))) is None


def test_a_model_of_no_numbers_fails_its_own_requests_only(library: Library, requests: Requests, served: Path) -> None:
    broken = Library([served / "lstm"], torch.device("cpu")).load("lstm")
    with torch.no_grad():
        broken.run.model.output.bias.fill_(torch.nan)
    going = requests.submit(library.load("ngram"), asking(max_tokens=40))
    error = requests.error(requests.submit(broken, asking()))
    assert error is not None
    assert "not numbers" in error.message
    assert requests.error(going) is None


def test_closing_fails_what_has_not_ended(model: ServedModel) -> None:
    requests = Requests(Limits(max_streams=1))
    jobs = [requests.submit(model, asking()) for _ in range(3)]
    requests.scheduler.close()
    for job in jobs:
        error = requests.error(job)
        assert error is not None
        assert error.code == "shutting_down"
    with pytest.raises(ApiError, match="shutting down"):
        requests.submit(model, asking())


def test_a_disconnected_client_is_noticed_streaming_or_not(served: Path) -> None:
    def active(server: Client) -> int:
        return server.service.scheduler.active + server.service.scheduler.waiting

    with serving([served / "lstm"], Limits(max_streams=2)) as server:
        for stream in (True, False):
            body = {"model": "lstm", "prompt": "a", "max_tokens": 100_000, "stream": stream}
            connections = []
            for _ in range(4):  # two run, two wait
                connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
                connection.request("POST", "/v1/completions", json.dumps(body))
                connections.append(connection)
            for expected in (4, 0):
                end = time.monotonic() + 20
                while active(server) != expected and time.monotonic() < end:
                    time.sleep(0.01)
                assert active(server) == expected
                for connection in connections:
                    connection.close()
