"""The connection between the routes, which run in the event loop, and the scheduler, which runs in a thread."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from anyio import fail_after
from starlette.requests import ClientDisconnect, Request

from charlm.server.errors import ApiError
from charlm.server.fields import parse_json
from charlm.server.guard import ClientGone, RequestRecord
from charlm.server.library import Library, ServedModel
from charlm.server.limits import Limits
from charlm.server.scheduler import Finished, Job, Scheduler, Task

LARGE_BODY_BYTES = 1 << 16
"""From this size on, a body is parsed and its prompts are tokenized in another thread than the event loop's."""

TaskMaker = Callable[[Job], Iterable[Task]]
Delivery = tuple[int, list[Any]] | None
"""The number of a job and its events; None if the client has gone."""


class Service:
    """The models, and the scheduler while the server runs."""

    def __init__(self, library: Library, limits: Limits) -> None:
        self.library, self.limits = library, limits
        self._scheduler: Scheduler | None = None
        self._loader = ThreadPoolExecutor(1, "charlm loader")

    @property
    def scheduler(self) -> Scheduler:
        """The running scheduler."""
        assert self._scheduler is not None, "the server has not started"
        return self._scheduler

    def start(self) -> None:
        """Start the scheduler, which delivers events in the running event loop."""
        loop = asyncio.get_running_loop()

        def deliver(deliveries: list[tuple[Job, list[Any]]]) -> None:
            for job, events in deliveries:
                job.receive(events)

        self._scheduler = Scheduler(self.limits, lambda deliveries: _call(loop, deliver, deliveries))

    def close(self) -> None:
        """Stop, and wait for the scheduler to end."""
        if self._scheduler is not None:
            self._scheduler.close()
        self._loader.shutdown(wait=False, cancel_futures=True)

    def stop(self) -> None:
        """End all requests with an error."""
        if self._scheduler is not None:
            self._scheduler.stop()

    def drain(self) -> None:
        """Refuse new requests; those that were accepted go on."""
        if self._scheduler is not None:
            self._scheduler.drain()

    async def json(self, request: Request) -> object:
        """The request's body, within the limits of size and time."""
        body = bytearray()
        try:
            with fail_after(self.limits.body_seconds):
                async for part in request.stream():
                    body += part
                    if len(body) > self.limits.body_bytes:
                        message = f"the body is larger than {self.limits.body_bytes} bytes"
                        raise ApiError(message, code="too_large", status=413, headers={"Connection": "close"})
        except TimeoutError:
            message = f"the body did not arrive within {self.limits.body_seconds:g} s"
            raise ApiError(message, code="too_slow", status=408, headers={"Connection": "close"}) from None
        except ClientDisconnect:
            raise ClientGone from None
        content = bytes(body)
        return parse_json(content) if len(content) < LARGE_BODY_BYTES else await asyncio.to_thread(parse_json, content)

    async def model(self, name: str) -> ServedModel:
        """A model, loaded in another thread if it is not loaded yet."""
        loop = asyncio.get_running_loop()
        if (model := self.library.loaded(name)) is not None:
            return model
        return await loop.run_in_executor(self._loader, self.library.load, name)

    async def events(self, request: Request, model: ServedModel, make_tasks: TaskMaker) -> AsyncIterator[list[Any]]:
        """The events of a request, in lists as they come. Raises the ApiError that ends it."""
        async for _, events in self.events_of_several(request, [(model, make_tasks)]):
            if isinstance(events[-1], Finished) and (error := events.pop().error) is not None:
                raise error
            yield events

    async def events_of_several(
        self, request: Request, requested: Sequence[tuple[ServedModel, TaskMaker]]
    ) -> AsyncIterator[tuple[int, list[Any]]]:
        """The events of a request to several models, each list with the number of its model; its last is a Finished.

        When the client goes away, the work is cancelled.
        """
        record: RequestRecord = request.scope["record"]
        record.model, started_at = ", ".join(model.name for model, _ in requested), time.perf_counter()
        inbox = asyncio.Queue[Delivery]()
        jobs = [self._job(model, record.client, number, inbox) for number, (model, _) in enumerate(requested)]
        is_small = int(request.headers.get("content-length", LARGE_BODY_BYTES)) < LARGE_BODY_BYTES
        tasks = [
            make_tasks(job) if is_small else await asyncio.to_thread(make_tasks, job)
            for job, (_, make_tasks) in zip(jobs, requested, strict=True)
        ]
        watcher, unfinished = asyncio.create_task(_watch_for_disconnect(request, inbox)), len(jobs)
        try:
            for job, of_job in zip(jobs, tasks, strict=True):
                self.scheduler.submit(job, of_job)
            while unfinished:
                for number, events in (await _next_events(inbox)).items():
                    if record.first_token_seconds is None:
                        record.first_token_seconds = time.perf_counter() - started_at
                    if isinstance(finished := events[-1], Finished):
                        unfinished -= 1
                        record.error = finished.error.message if finished.error else record.error
                    yield number, events
        finally:
            watcher.cancel()
            for job in jobs:
                self.scheduler.cancel(job)

    @staticmethod
    def _job(model: ServedModel, client: str, number: int, inbox: asyncio.Queue[Delivery]) -> Job:
        return Job(model, client, lambda events: inbox.put_nowait((number, events)))


async def _next_events(inbox: asyncio.Queue[Delivery]) -> dict[int, list[Any]]:
    """All events that have been delivered since the last call, at least one, by the number of their job.

    If the scheduler is faster than the network, several steps are sent together. Raises ClientGone.
    """
    by_job: dict[int, list[Any]] = {}
    delivery = await inbox.get()
    while True:
        if delivery is None:
            raise ClientGone
        by_job.setdefault(delivery[0], []).extend(delivery[1])
        if inbox.empty():
            return by_job
        delivery = inbox.get_nowait()


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[Any], None], argument: Any) -> None:
    try:
        loop.call_soon_threadsafe(function, argument)
    except RuntimeError:  # the loop has closed, and with it all connections
        return


async def _watch_for_disconnect(request: Request, inbox: asyncio.Queue[Delivery]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    inbox.put_nowait(None)
