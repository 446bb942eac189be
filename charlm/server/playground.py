"""The page at /, and the routes that it asks, which others may ask too.

GET  /api/models   the runs: name, architecture, tokenizer, parameters, bits per character
POST /api/expect   {models, text, cursor, since, top, temperature, …} -> for each model: bits of each character from
                   `since` on, total_bits, and `next`: the likeliest tokens at the cursor, each with its probability
                   and that of being drawn
POST /api/write    {models, prompt, seed, max_tokens, top, temperature, …} -> server-sent events: {model, tokens}
                   with each token's text, probability and alternatives; at last {model, finish_reason}
POST /api/beams    {model, prompt, beams, length, length_penalty} -> server-sent events: the nodes that each step adds
                   to the tree, and at last the texts found, best first
POST /api/why      {models, text, place, reach} -> for each model: bits of the character at `place`, what it costs
                   without_context, and `worths`: what the characters 1, 2, … before it save, in bits
POST /api/quotes   {model, text} -> passages that stand in the training text, with line number and line
"""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict
from functools import partial
from importlib.resources import files
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from charlm.checkpoint import read_card, result_of
from charlm.decoding.beam import BeamSettings, Node
from charlm.errors import CheckpointError
from charlm.server.completing import read_prompt, works
from charlm.server.errors import ApiError
from charlm.server.fields import Fields
from charlm.server.library import ServedModel
from charlm.server.openai import Choice, Completion, Scored, Usage, merged
from charlm.server.quotes import Sources
from charlm.server.replies import DONE, EventStream, event, json_response
from charlm.server.requests import SEEDS, parse_sampling
from charlm.server.scheduler import Finished, Job, Steps, Work
from charlm.server.search import search
from charlm.server.service import Service
from charlm.server.typed import Typed, expectation
from charlm.server.why import Asked, worths

TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
MAX_MODELS = 16  # of one request
MAX_LISTED = 50  # alternatives
MAX_WRITTEN = 4096  # tokens of each model
MAX_BEAMS_SHOWN, MAX_SEARCHED = 16, 200  # beams and characters

Planned = Callable[[Job], list[Work]]


class Playground:
    """The routes. The page's files are read when the server starts, so no path of a request is ever opened."""

    def __init__(self, service: Service) -> None:
        self.service, self.sources = service, Sources()
        folder = files("charlm.server") / "static"
        self.files = {entry.name: entry.read_bytes() for entry in folder.iterdir() if _ending(entry.name) in TYPES}

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("/", partial(self.file, "index.html")),
            *(Route(f"/static/{name}", partial(self.file, name)) for name in self.files),
            Route("/api/models", self.models),
            Route("/api/expect", self.expect, methods=["POST"]),
            Route("/api/write", self.write, methods=["POST"]),
            Route("/api/beams", self.beams, methods=["POST"]),
            Route("/api/why", self.why, methods=["POST"]),
            Route("/api/quotes", self.quotes, methods=["POST"]),
        ]

    async def file(self, name: str, _: Request) -> Response:
        """One of the page's files."""
        return Response(self.files[name], media_type=TYPES[_ending(name)], headers={"Cache-Control": "no-cache"})

    async def models(self, _: Request) -> Response:
        """GET /api/models."""
        paths = self.service.library.paths()
        return json_response({"models": [found for name in paths if (found := self._described(name)) is not None]})

    def _described(self, name: str) -> dict[str, Any] | None:
        path = self.service.library.paths()[name]
        try:
            card = read_card(path)
        except CheckpointError:
            return None
        result = result_of(path, card)
        known = {"architecture": card.architecture, "tokenizer": card.tokenizer, "parameters": card.parameters}
        return {"name": name, **known, "bits_per_character": result and result.bits_per_character}

    async def expect(self, request: Request) -> Response:
        """POST /api/expect."""
        fields = Fields(await self.service.json(request))
        models, text = await self._models(fields), self._text(fields, "text")
        cursor = fields.integer("cursor", len(text), 0, len(text))
        since = fields.integer("since", 0, 0, len(text))
        typed = Typed(text, cursor, since, parse_sampling(fields), fields.integer("top", 8, 1, MAX_LISTED))
        fields.end()
        return await self._answers(request, models, [partial(expectation, model, typed) for model in models])

    async def why(self, request: Request) -> Response:
        """POST /api/why."""
        fields = Fields(await self.service.json(request))
        models, text = await self._models(fields), self._text(fields, "text")
        if not text:
            raise ApiError("text must hold the character that is asked about", param="text")
        asked = Asked(
            text, fields.integer("place", len(text) - 1, 0, len(text) - 1), fields.integer("reach", 24, 1, 64)
        )
        fields.end()
        return await self._answers(request, models, [partial(worths, model, asked) for model in models])

    async def _answers(self, request: Request, models: list[ServedModel], planned: Sequence[Planned]) -> Response:
        """The one event of each model's work."""
        plans = list(zip(models, planned, strict=True))
        answers: list[Any] = [None] * len(models)
        async for number, events in self.service.events_of_several(request, plans):
            for found in events:
                if not isinstance(found, Finished):
                    answers[number] = found
                elif found.error is not None:
                    answers[number] = {"model": models[number].name, **found.error.to_json()}
        return json_response({"models": answers})

    async def write(self, request: Request) -> Response:
        """POST /api/write."""
        fields = Fields(await self.service.json(request))
        models = await self._models(fields)
        asked = Completion(
            model="",
            prompts=(self._text(fields, "prompt"),),
            seed=fields.integer("seed", 0, *SEEDS),
            max_tokens=fields.integer("max_tokens", 200, 1, MAX_WRITTEN),
            log_probs=fields.integer("top", 8, 1, MAX_LISTED),
            sampling=parse_sampling(fields),
        )
        fields.end()
        plans: list[tuple[ServedModel, Planned]] = [(model, partial(self._works, model, asked)) for model in models]
        events = self.service.events_of_several(request, plans)
        return EventStream(_written(await anext(events), events, models))

    def _works(self, model: ServedModel, asked: Completion, job: Job) -> list[Work]:
        return works(model, asked, job, Usage(), self.service.limits)

    async def beams(self, request: Request) -> Response:
        """POST /api/beams."""
        fields = Fields(await self.service.json(request))
        model, prompt = await self.service.model(fields.text("model")), self._text(fields, "prompt")
        beams = fields.integer("beams", 4, 1, MAX_BEAMS_SHOWN)
        length = fields.integer("length", 24, 1, MAX_SEARCHED)
        penalty = fields.number("length_penalty", 0.0, 0.0, 10.0)
        stop = ("\n",) if fields.boolean("to_line_end") else ()
        fields.end()
        sought = BeamSettings(length, beams, beams, penalty, stop)
        events = self.service.events(request, model, partial(_searched, model, prompt, sought))
        return EventStream(_as_events(await anext(events), events))

    async def quotes(self, request: Request) -> Response:
        """POST /api/quotes."""
        fields = Fields(await self.service.json(request))
        model, text = await self.service.model(fields.text("model")), self._text(fields, "text")
        fields.end()
        found = await asyncio.to_thread(self.sources.quotations, model, text)
        return json_response({"quotes": [asdict(quotation) for quotation in found]})

    async def _models(self, fields: Fields) -> list[ServedModel]:
        names = fields.take("models")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ApiError("models must be a list of names", param="models")
        if not 0 < len(names) <= MAX_MODELS:
            raise ApiError(f"models must name 1 to {MAX_MODELS} models, not {len(names)}", param="models")
        return [await self.service.model(name) for name in dict.fromkeys(names)]

    def _text(self, fields: Fields, name: str) -> str:
        text, longest = fields.text(name, ""), self.service.limits.typed_characters
        if len(text) > longest:
            raise ApiError(f"{name} must have at most {longest} characters, not {len(text)}", param=name)
        return text


def _searched(model: ServedModel, prompt: str, sought: BeamSettings, job: Job) -> list[Work]:
    def told(nodes: Sequence[Node]) -> None:
        job.send({"nodes": [{**asdict(node), "token": model.names[node.token]} for node in nodes]})

    def steps() -> Steps:
        log_probs, state = yield from read_prompt(model, model.encode(prompt))
        found = yield from search(model, log_probs, state, sought, told)
        job.send({"found": [asdict(hypothesis) for hypothesis in found]})
        return None

    return [Work(sought.beams, steps)]


async def _as_events(first: list[Any], events: AsyncIterator[list[Any]]) -> AsyncIterator[bytes]:
    parcel: list[Any] | None = first
    try:
        while parcel is not None:
            yield b"".join(map(event, parcel))
            parcel = await anext(events, None)
    except ApiError as problem:
        yield event(problem.to_json())
    yield DONE


def _ending(name: str) -> str:
    return name.rpartition(".")[2]


async def _written(
    first: tuple[int, list[Any]], events: AsyncIterator[tuple[int, list[Any]]], models: Sequence[ServedModel]
) -> AsyncIterator[bytes]:
    parcel: tuple[int, list[Any]] | None = first
    while parcel is not None:
        model = models[parcel[0]]
        for choice in merged(found for found in parcel[1] if isinstance(found, Choice)):
            tokens = [_token(model, token) for token in choice.scored]
            yield event({"model": model.name, "tokens": tokens, "finish_reason": choice.finish_reason})
        if isinstance(last := parcel[1][-1], Finished) and last.error is not None:
            yield event({"model": model.name, **last.error.to_json()})
        parcel = await anext(events, None)
    yield DONE


def _token(model: ServedModel, token: Scored) -> dict[str, Any]:
    assert token.log_prob is not None
    return {
        "text": model.names[token.id],
        "offset": token.offset,
        "probability": math.exp(token.log_prob),
        "alternatives": [{"text": model.names[id], "probability": math.exp(log_prob)} for id, log_prob in token.top],
    }
