"""Between the routes, which wait in an event loop, and the scheduler's thread, which computes."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from anyio import fail_after
from starlette.requests import ClientDisconnect, Request

from charlm.server.errors import ApiError
from charlm.server.fields import parse_json
from charlm.server.guard import ClientGone, Record
from charlm.server.library import Library, ServedModel
from charlm.server.limits import Limits
from charlm.server.scheduler import Finished, Job, Scheduler, Work

LARGE = 1 << 16
"""Bytes of a body that is parsed, and its prompt cut into tokens, beside the event loop."""

Planned = Callable[[Job], Iterable[Work]]
Parcel = tuple[int, list[Any]] | None
"""The number of a job and its events; None: the client has gone."""


class Service:
    """Models, and one scheduler for as long as the server runs."""

    def __init__(self, library: Library, limits: Limits) -> None:
        self.library, self.limits = library, limits
        self._scheduler: Scheduler | None = None
        self._loader = ThreadPoolExecutor(1, "charlm loader")

    @property
    def scheduler(self) -> Scheduler:
        """The one that runs."""
        assert self._scheduler is not None, "the server has not started"
        return self._scheduler

    def start(self) -> None:
        """Begin to compute; events are delivered in the running event loop."""
        loop = asyncio.get_running_loop()

        def hand_out(parcels: list[tuple[Job, list[Any]]]) -> None:
            for job, events in parcels:
                job.receive(events)

        self._scheduler = Scheduler(self.limits, lambda parcels: _call(loop, hand_out, parcels))

    def close(self) -> None:
        """End; what is being computed fails."""
        if self._scheduler is not None:
            self._scheduler.close()
        self._loader.shutdown(wait=False, cancel_futures=True)

    def stop(self) -> None:
        """Fail what is being computed, now."""
        if self._scheduler is not None:
            self._scheduler.stop()

    def drain(self) -> None:
        """Refuse what is new; what has been taken in goes on."""
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
        return parse_json(content) if len(content) < LARGE else await asyncio.to_thread(parse_json, content)

    async def model(self, name: str) -> ServedModel:
        """A model, loaded beside the event loop if it is not loaded."""
        loop = asyncio.get_running_loop()
        if (model := self.library.loaded(name)) is not None:
            return model
        return await loop.run_in_executor(self._loader, self.library.load, name)

    async def events(self, request: Request, model: ServedModel, planned: Planned) -> AsyncIterator[list[Any]]:
        """What the scheduler sends for a request, a list a round. Raises the ApiError that ends it."""
        async for _, events in self.events_of_several(request, [(model, planned)]):
            if isinstance(events[-1], Finished) and (error := events.pop().error) is not None:
                raise error
            yield events

    async def events_of_several(
        self, request: Request, plans: Sequence[tuple[ServedModel, Planned]]
    ) -> AsyncIterator[tuple[int, list[Any]]]:
        """The same of several models at once: whose events, and they; the last of each is a Finished.

        Their work is dropped when the client goes away.
        """
        record: Record = request.scope["record"]
        record.model, begun = ", ".join(model.name for model, _ in plans), time.perf_counter()
        inbox = asyncio.Queue[Parcel]()
        jobs = [self._job(model, record.client, number, inbox) for number, (model, _) in enumerate(plans)]
        small = int(request.headers.get("content-length", LARGE)) < LARGE
        works = [
            planned(job) if small else await asyncio.to_thread(planned, job)
            for job, (_, planned) in zip(jobs, plans, strict=True)
        ]
        watcher, left = asyncio.create_task(_tell_when_gone(request, inbox)), len(jobs)
        try:
            for job, work in zip(jobs, works, strict=True):
                self.scheduler.submit(job, work)
            while left:
                for number, events in (await _all_there_is(inbox)).items():
                    if record.first_token_seconds is None:
                        record.first_token_seconds = time.perf_counter() - begun
                    if isinstance(finished := events[-1], Finished):
                        left -= 1
                        record.error = finished.error.message if finished.error else record.error
                    yield number, events
        finally:
            watcher.cancel()
            for job in jobs:
                self.scheduler.cancel(job)

    @staticmethod
    def _job(model: ServedModel, client: str, number: int, inbox: asyncio.Queue[Parcel]) -> Job:
        return Job(model, client, lambda events: inbox.put_nowait((number, events)))


async def _all_there_is(inbox: asyncio.Queue[Parcel]) -> dict[int, list[Any]]:
    """The events that have come since the last time, at least one, by the number of their job.

    Where the scheduler is faster than the network, several steps are sent together. Raises ClientGone.
    """
    found: dict[int, list[Any]] = {}
    parcel = await inbox.get()
    while True:
        if parcel is None:
            raise ClientGone
        found.setdefault(parcel[0], []).extend(parcel[1])
        if inbox.empty():
            return found
        parcel = inbox.get_nowait()


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[Any], None], argument: Any) -> None:
    try:
        loop.call_soon_threadsafe(function, argument)
    except RuntimeError:  # the loop has closed: nobody is left to receive anything
        return


async def _tell_when_gone(request: Request, inbox: asyncio.Queue[Parcel]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    inbox.put_nowait(None)
