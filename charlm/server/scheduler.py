"""Who is served when: one queue, and one thread that steps all texts of a model together.

In each round every model reads a stretch of the prompts that wait for it, for SLICE_SECONDS in all, and then takes one
step with all its texts. So a long prompt holds nobody up for longer than one stretch, texts that end make room at once,
and a request that nobody waits for any more is gone by the next round.
"""

import logging
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from charlm.errors import CharlmError
from charlm.inference import EngineState, LogProbs
from charlm.memory import ran_out
from charlm.server.errors import ApiError
from charlm.server.library import ServedModel
from charlm.server.limits import Limits
from charlm.server.streams import Stream, Streams

SLICE_SECONDS = 0.01
"""How long prompts are read between two steps of the texts."""
LONGEST_RETRY = 60  # seconds that a refused client is asked to wait, at most
FORGETTING = 0.8  # of the mean duration of requests, from one to the next

log = logging.getLogger("charlm.server")

Entrants = tuple[Sequence[Stream], LogProbs, EngineState]
Steps = Generator[None, None, Entrants | None]
"""Work in short pieces: yields between them; returns the texts that go on from there, with what comes next in each."""


@dataclass(eq=False)
class Work:
    """A part of a request that is done at one go: a prompt, and how many texts are written after it."""

    slots: int
    steps: Callable[[], Steps]


@dataclass
class Finished:
    """The last event of a request: all went well, or not."""

    error: ApiError | None = None


@dataclass(eq=False)
class Job:
    """One request. `receive` gets its events, and at last a Finished, from whoever `deliver` hands them to."""

    model: ServedModel
    client: str
    receive: Callable[[Any], None]
    works: deque[Work] = field(default_factory=deque)
    events: list[Any] = field(default_factory=list)  # not delivered yet
    open: int = 0  # works and streams that have not ended
    active: int = 0  # slots that it takes now
    begun: float = 0.0  # when its first prompt was read
    gone: bool = False  # nobody waits for it any more

    def send(self, event: Any) -> None:
        """Let the client have this after the round."""
        self.events.append(event)


@dataclass(eq=False)
class Reading:
    """A work in progress."""

    job: Job
    slots: int
    steps: Steps


class Batch:
    """What one model does: prompts that are read by turns, and texts that step together."""

    def __init__(self, model: ServedModel) -> None:
        self.readings: deque[Reading] = deque()
        self.texts = Streams(model)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self.readings and not self.texts.streams


Deliver = Callable[[list[tuple[Job, list[Any]]]], None]


class Scheduler:
    """The queue and the thread. `deliver` is called in the thread, once a round, with what each job is to receive."""

    def __init__(self, limits: Limits, deliver: Deliver) -> None:
        self.limits, self._deliver = limits, deliver
        self._waiting: dict[str, deque[Job]] = {}  # by client; a job stays until its last work has begun
        self._changed = threading.Condition()
        self._jobs: dict[Job, None] = {}  # begun, not ended
        self._batches: dict[ServedModel, Batch] = {}
        self._ended: list[Job] = []  # since events were last delivered
        self._closed = self._draining = False
        self._mean_seconds = 1.0
        self._thread = threading.Thread(target=self._run, name="charlm scheduler", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Requests in the queue, none of whose prompts has been read."""
        return sum(not job.begun for jobs in list(self._waiting.values()) for job in list(jobs))

    @property
    def active(self) -> int:
        """Texts that are written and prompts that are read at the moment."""
        return sum(job.active for job in list(self._jobs))

    def submit(self, job: Job, works: Iterable[Work]) -> None:
        """Take a request into the queue. Raises ApiError: 429 where that is full, 503 where the server is closing."""
        job.works.extend(works)
        job.open = len(job.works)
        with self._changed:
            if self._closed or self._draining:
                raise ApiError("the server is shutting down", code="shutting_down", status=503)
            if self.waiting >= self.limits.max_waiting:
                seconds = min(LONGEST_RETRY, max(1, math.ceil(self._mean_seconds)))
                message = f"{self.limits.max_waiting} requests are waiting already; try again in {seconds} s"
                raise ApiError(message, code="queue_full", status=429, headers={"Retry-After": str(seconds)})
            self._waiting.setdefault(job.client, deque()).append(job)
            self._changed.notify()

    def cancel(self, job: Job) -> None:
        """Forget a request, wherever it is; nothing more is computed for it from the next round on."""
        job.gone = True
        with self._changed:
            self._changed.notify()

    def drain(self) -> None:
        """Refuse new requests from now on."""
        self._draining = True

    def stop(self) -> None:
        """End after the present round; what has not ended fails with a 503."""
        self._closed = True
        if self._changed.acquire(blocking=False):  # a signal may come while this thread has it
            self._changed.notify()
            self._changed.release()

    def close(self) -> None:
        """Stop, and wait for it."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed:
            with self._changed:
                self._forget_the_gone()
                self._begin_what_fits()
                if not self._jobs and not self._ended:
                    self._changed.wait()
                    continue
            self._round()
            self._flush()
        stopping = ApiError("the server is shutting down", code="shutting_down", status=503)
        for job in [*self._jobs, *(job for jobs in self._waiting.values() for job in jobs)]:
            self._end(job, stopping)
        self._flush()

    def _forget_the_gone(self) -> None:
        now = time.monotonic()
        for job in list(self._jobs):
            if job.begun + self.limits.request_seconds < now and not job.gone:
                message = f"not done after {self.limits.request_seconds:g} s; ask for less at a time"
                self._end(job, ApiError(message, code="time_limit", status=408))
        for client, jobs in list(self._waiting.items()):
            self._waiting[client] = deque(job for job in jobs if not job.gone)
            if not self._waiting[client]:
                del self._waiting[client]
        gone = {job for job in self._jobs if job.gone}
        if gone:
            for batch in self._batches.values():
                self._drop(batch, gone)
            for job in gone:
                self._jobs.pop(job, None)
        self._batches = {model: batch for model, batch in self._batches.items() if not batch.idle}

    @staticmethod
    def _drop(batch: Batch, jobs: set[Job]) -> None:
        for reading in [reading for reading in batch.readings if reading.job in jobs]:
            reading.steps.close()
            batch.readings.remove(reading)
        streams = batch.texts.streams
        batch.texts.keep([row for row, stream in enumerate(streams) if stream.owner not in jobs])

    def _begin_what_fits(self) -> None:
        """Begin works in turn: first those of the client that has least at the moment, among those who asked first."""
        while self._waiting:
            busy = Counter[str]()
            for job in self._jobs:
                busy[job.client] += job.active
            client = min(self._waiting, key=lambda name: busy[name])
            job = self._waiting[client][0]
            work = job.works[0]
            if self.active + work.slots > self.limits.max_streams and self._jobs:
                return
            job.works.popleft()
            if not job.works:
                self._waiting[client].popleft()
                if not self._waiting[client]:
                    del self._waiting[client]
            job.begun = job.begun or time.monotonic()
            job.active += work.slots
            self._jobs[job] = None
            batch = self._batches.setdefault(job.model, Batch(job.model))
            batch.readings.append(Reading(job, work.slots, work.steps()))

    def _round(self) -> None:
        """A stretch of the prompts and a step of the texts, of every model."""
        busy = [batch for batch in self._batches.values() if batch.readings]
        for batch in list(self._batches.values()):
            try:
                self._read(batch, SLICE_SECONDS / max(1, len(busy)))
                if batch.texts.streams:
                    for stream in batch.texts.step():
                        self._close_part(stream.owner, 1)
            except Exception as problem:  # a model that fails takes those along who wanted it, nobody else
                jobs = {stream.owner for stream in batch.texts.streams}
                for job in [job for job in self._jobs if job in jobs]:
                    self._end(job, api_error(problem))
                batch.texts = Streams(batch.texts.model)

    def _read(self, batch: Batch, seconds: float) -> None:
        """Go on with the prompts, each a piece by turns, at least one piece."""
        end = time.monotonic() + seconds
        while batch.readings:
            reading = batch.readings.popleft()
            job = reading.job
            try:
                next(reading.steps)
                batch.readings.append(reading)
            except StopIteration as done:
                if done.value is not None:
                    batch.texts.enter(*done.value)
                    job.open += len(done.value[0])
                    job.active += len(done.value[0])
                self._close_part(job, reading.slots)
            except Exception as problem:
                self._end(job, api_error(problem))
            if time.monotonic() >= end:
                return

    def _close_part(self, job: Any, slots: int) -> None:
        """A work or a text of the job has ended, and does not take these slots any more."""
        job.open -= 1
        job.active -= slots
        if not job.open:
            self._end(job, None)

    def _end(self, job: Job, error: ApiError | None) -> None:
        """The last that a job sends; what it still has to do is dropped in the next round."""
        if job.gone:
            return
        job.send(Finished(error))
        job.gone = True
        if job.begun:
            seconds = time.monotonic() - job.begun
            self._mean_seconds = FORGETTING * self._mean_seconds + (1 - FORGETTING) * seconds
        self._ended.append(job)

    def _flush(self) -> None:
        """Deliver what the round has brought."""
        parcels = [(job, job.events) for job in dict.fromkeys([*self._jobs, *self._ended]) if job.events]
        self._ended = []
        for job, _ in parcels:
            job.events = []
        if parcels:
            self._deliver(parcels)


def api_error(problem: Exception) -> ApiError:
    """What a client is told of a failure that is not its own."""
    if isinstance(problem, ApiError):
        return problem
    if ran_out(problem):
        return ApiError("out of memory; ask for less at a time", code="out_of_memory", status=503)
    log.exception("a request failed", exc_info=problem)
    message = str(problem) if isinstance(problem, CharlmError) else "the server failed; its log says how"
    return ApiError(message, code="model_failed", status=500)
