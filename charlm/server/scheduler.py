"""Scheduling of all requests: one queue, and one thread that steps all texts of a model together.

In each round every model reads parts of the prompts that wait for it, for PROMPT_SECONDS_PER_ROUND in all, and then
takes one step with all its streams. So a long prompt delays other requests by one part at most, texts that end free
their slots at once, and a cancelled request is dropped before the next round.
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

PROMPT_SECONDS_PER_ROUND = 0.01
"""How long prompts are read between two steps of the streams."""
DELIVERY_SECONDS = 0.02
"""Between two deliveries to one client: an event takes longer to send and to read than a character to write."""
MAX_RETRY_SECONDS = 60  # that a refused client is asked to wait
DURATION_DECAY = 0.8  # of the running mean of the requests' durations, from one request to the next

log = logging.getLogger("charlm.server")

NewStreams = tuple[Sequence[Stream], LogProbs, EngineState]
"""Streams that start together, the log-probabilities of their first tokens (B, V), and their state."""
Steps = Generator[None, None, NewStreams | None]
"""Work in short pieces: yields between them, and returns the streams that go on from there, if any."""


@dataclass(eq=False)
class Task:
    """A part of a request: a prompt to read. It takes as many slots as it then starts streams."""

    slots: int
    steps: Callable[[], Steps]


@dataclass
class Finished:
    """The last event of a request, with the error that ended it, if any."""

    error: ApiError | None = None


@dataclass(eq=False)
class Job:
    """One request. `receive` is called with lists of its events, the last of which is a Finished."""

    model: ServedModel
    client: str
    receive: Callable[[Any], None]
    tasks: deque[Task] = field(default_factory=deque)  # not started yet
    events: list[Any] = field(default_factory=list)  # not delivered yet
    unfinished: int = 0  # tasks and streams
    slots: int = 0  # in use now
    started_at: float = 0.0  # when its first prompt was read; 0 while it waits
    delivered_at: float = 0.0  # when events were last delivered
    closed: bool = False  # finished, or its client has gone

    def send(self, event: Any) -> None:
        """Deliver this to the client soon."""
        self.events.append(event)


@dataclass(eq=False)
class StartedTask:
    """A task that is running."""

    job: Job
    slots: int
    steps: Steps


class Batch:
    """The work of one model: tasks that take turns, and streams that step together."""

    def __init__(self, model: ServedModel) -> None:
        self.tasks: deque[StartedTask] = deque()
        self.streams = Streams(model)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self.tasks and not self.streams.rows


Deliver = Callable[[list[tuple[Job, list[Any]]]], None]


class Scheduler:
    """The queue and the thread. `deliver` is called in the thread, after a round, with new events of some jobs."""

    def __init__(self, limits: Limits, deliver: Deliver) -> None:
        self.limits, self._deliver = limits, deliver
        self._queue: dict[str, deque[Job]] = {}  # by client; a job leaves it when its last task has started
        self._changed = threading.Condition()
        self._started: dict[Job, None] = {}  # not ended; ordered by when they started
        self._batches: dict[ServedModel, Batch] = {}
        self._ended: list[Job] = []  # since events were last delivered
        self._closed = self._draining = False
        self._mean_seconds = 1.0  # running mean of the requests' durations
        self._thread = threading.Thread(target=self._run, name="charlm scheduler", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """The number of requests in the queue of which no task has started."""
        return sum(not job.started_at for jobs in list(self._queue.values()) for job in list(jobs))

    @property
    def active(self) -> int:
        """The number of slots in use: texts that are written and prompts that are read."""
        return sum(job.slots for job in list(self._started))

    def submit(self, job: Job, tasks: Iterable[Task]) -> None:
        """Put a request into the queue. Raises ApiError: 429 if it is full, 503 if the server is shutting down."""
        job.tasks.extend(tasks)
        job.unfinished = len(job.tasks)
        with self._changed:
            if self._closed or self._draining:
                raise ApiError("the server is shutting down", code="shutting_down", status=503)
            if self.waiting >= self.limits.max_waiting:
                seconds = min(MAX_RETRY_SECONDS, max(1, math.ceil(self._mean_seconds)))
                message = f"{self.limits.max_waiting} requests are waiting already; try again in {seconds} s"
                raise ApiError(message, code="queue_full", status=429, headers={"Retry-After": str(seconds)})
            self._queue.setdefault(job.client, deque()).append(job)
            self._changed.notify()

    def cancel(self, job: Job) -> None:
        """Drop a request, waiting or running, before the next round."""
        job.closed = True
        with self._changed:
            self._changed.notify()

    def drain(self) -> None:
        """Refuse new requests from now on."""
        self._draining = True

    def stop(self) -> None:
        """End after the current round; unfinished requests fail with a 503."""
        self._closed = True
        if self._changed.acquire(blocking=False):  # this may run in a signal handler of the thread that holds it
            self._changed.notify()
            self._changed.release()

    def close(self) -> None:
        """Stop, and wait for the thread to end."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed:
            with self._changed:
                self._end_overdue()
                self._drop_closed()
                self._start_what_fits()
                if not self._started and not self._ended:
                    self._changed.wait()
                    continue
            self._round()
            self._flush()
        stopping = ApiError("the server is shutting down", code="shutting_down", status=503)
        for job in [*self._started, *(job for jobs in self._queue.values() for job in jobs)]:
            self._end(job, stopping)
        self._flush()

    def _end_overdue(self) -> None:
        """End the requests that have taken too long."""
        earliest = time.monotonic() - self.limits.request_seconds
        for job in list(self._started):
            if job.started_at < earliest and not job.closed:
                message = f"not done after {self.limits.request_seconds:g} s; ask for less at a time"
                self._end(job, ApiError(message, code="time_limit", status=408))

    def _drop_closed(self) -> None:
        """Remove closed requests from the queue and the batches."""
        for client, jobs in list(self._queue.items()):
            self._queue[client] = deque(job for job in jobs if not job.closed)
            if not self._queue[client]:
                del self._queue[client]
        closed = {job for job in self._started if job.closed}
        if closed:
            for batch in self._batches.values():
                _drop(batch, closed)
            for job in closed:
                self._started.pop(job, None)
        self._batches = {model: batch for model, batch in self._batches.items() if not batch.idle}

    def _start_what_fits(self) -> None:
        """Start tasks while slots are free, always of the client that uses the fewest, first come, first served."""
        while self._queue:
            slots = Counter[str]()
            for job in self._started:
                slots[job.client] += job.slots
            client = min(self._queue, key=lambda name: slots[name])
            job = self._queue[client][0]
            task = job.tasks[0]
            if self.active + task.slots > self.limits.max_streams and self._started:
                return
            job.tasks.popleft()
            if not job.tasks:
                self._queue[client].popleft()
                if not self._queue[client]:
                    del self._queue[client]
            job.started_at = job.started_at or time.monotonic()
            job.slots += task.slots
            self._started[job] = None
            batch = self._batches.setdefault(job.model, Batch(job.model))
            batch.tasks.append(StartedTask(job, task.slots, task.steps()))

    def _round(self) -> None:
        """Read parts of the prompts, and step the streams, of every model."""
        reading = [batch for batch in self._batches.values() if batch.tasks]
        for batch in list(self._batches.values()):
            try:
                self._read(batch, PROMPT_SECONDS_PER_ROUND / max(1, len(reading)))
                if batch.streams.rows:
                    for stream in batch.streams.step():
                        self._finish_part(stream.owner, 1)
            except Exception as problem:  # a model that fails ends the requests for it, and no others
                owners = {stream.owner for stream in batch.streams.rows}
                for job in [job for job in self._started if job in owners]:
                    self._end(job, api_error(problem))
                batch.streams = Streams(batch.streams.model)

    def _read(self, batch: Batch, seconds: float) -> None:
        """Run the tasks for so many seconds, each a piece by turns, at least one piece."""
        end = time.monotonic() + seconds
        while batch.tasks:
            task = batch.tasks.popleft()
            job = task.job
            try:
                next(task.steps)
                batch.tasks.append(task)
            except StopIteration as done:
                if done.value is not None:
                    batch.streams.add(*done.value)
                    job.unfinished += len(done.value[0])
                    job.slots += len(done.value[0])
                self._finish_part(job, task.slots)
            except Exception as problem:
                self._end(job, api_error(problem))
            if time.monotonic() >= end:
                return

    def _finish_part(self, job: Any, slots: int) -> None:
        """A task or a stream of the job has ended and frees its slots."""
        job.unfinished -= 1
        job.slots -= slots
        if not job.unfinished:
            self._end(job, None)

    def _end(self, job: Job, error: ApiError | None) -> None:
        """Send the last event of a job; its remaining work is dropped before the next round."""
        if job.closed:
            return
        job.send(Finished(error))
        job.closed = True
        if job.started_at:
            seconds = time.monotonic() - job.started_at
            self._mean_seconds = DURATION_DECAY * self._mean_seconds + (1 - DURATION_DECAY) * seconds
        self._ended.append(job)

    def _flush(self) -> None:
        """Deliver what is due: the first events of a job and its last, and the others DELIVERY_SECONDS apart."""
        now = time.monotonic()
        due = [job for job in self._started if job.events and now - job.delivered_at >= DELIVERY_SECONDS]
        deliveries = [(job, job.events) for job in dict.fromkeys([*due, *self._ended])]
        self._ended = []
        for job, _ in deliveries:
            job.events, job.delivered_at = [], now
        if deliveries:
            self._deliver(deliveries)


def _drop(batch: Batch, jobs: set[Job]) -> None:
    """Remove the tasks and the streams of these jobs."""
    for task in [task for task in batch.tasks if task.job in jobs]:
        task.steps.close()
        batch.tasks.remove(task)
    batch.streams.keep([row for row, stream in enumerate(batch.streams.rows) if stream.owner not in jobs])


def api_error(problem: Exception) -> ApiError:
    """The error that a client receives for a failure of the server."""
    if isinstance(problem, ApiError):
        return problem
    if ran_out(problem):
        return ApiError("out of memory; ask for less at a time", code="out_of_memory", status=503)
    log.exception("a request failed", exc_info=problem)
    message = str(problem) if isinstance(problem, CharlmError) else "the server failed; its log says how"
    return ApiError(message, code="model_failed", status=500)
