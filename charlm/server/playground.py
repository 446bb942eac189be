"""The page at /, and the routes that it uses, which other pages may use, too.

GET  /api/models   the runs: name, architecture, tokenizer, parameters, bits per character, and `held_out`, equal for
                   runs that held out the same text
POST /api/expect   {models, text, cursor, since, top, temperature, …} -> for each model: bits of each character from
                   `since` on, total_bits, and `next`: the likeliest tokens at the cursor, each with its probability
                   and the probability that it is drawn
POST /api/write    {models, prompt, seed, max_tokens, top, temperature, …} -> server-sent events: {model, tokens}
                   with each token's text, probability and alternatives; the last has {model, finish_reason}
POST /api/beams    {model, prompt, beams, length, length_penalty} -> server-sent events: the nodes that each step adds
                   to the tree; the last has the texts found, best first
POST /api/why      {models, text, place, reach} -> for each model: bits of the character at `place`, its bits
                   without_context, and `worths`: the bits that the characters 1, 2, … before it save; and by model
                   `gradients`, `attention`, `contexts` that were counted with `places` in the training text, `kinds` of
                   context, or `members`, see `evidence`
POST /api/quotes   {model, text} -> passages that occur in the training text, with line number and line
POST /api/passage  {model, seed, before, length} -> a `passage` of the model's held-out text, the characters `before`
                   it, and all `characters` of that text, most frequent first
POST /api/guesses  {models, text, begin} -> for each model and each character from `begin` on: its bits, and how many
                   `guesses` it takes, likeliest first; null where tokens are longer than characters
"""

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from charlm.checkpoint import read_card, result_of
from charlm.decoding.beam import BeamSettings, Node
from charlm.errors import CheckpointError
from charlm.server.completing import completion_tasks, read_prompt
from charlm.server.errors import ApiError
from charlm.server.expect import ExpectRequest, expect_tasks
from charlm.server.fields import Fields
from charlm.server.guessing import GuessesRequest, HeldOutTexts, guesses_tasks
from charlm.server.library import ServedModel
from charlm.server.openai import Choice, Completion, ScoredToken, Usage, merged
from charlm.server.quotes import TrainingTexts
from charlm.server.replies import DONE, EventStream, event, json_response
from charlm.server.requests import SEED_RANGE, parse_sampling
from charlm.server.scheduler import Finished, Job, Steps, Task
from charlm.server.search import search
from charlm.server.service import Service, TaskMaker
from charlm.server.why import WhyRequest, why_tasks

CONTENT_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
MAX_MODELS = 16  # of one request
MAX_ALTERNATIVES = 50
MAX_WRITTEN_TOKENS = 4096  # of each model
MAX_BEFORE_PASSAGE, MAX_PASSAGE = 1000, 400  # characters
MAX_TREE_BEAMS, MAX_SEARCHED_CHARACTERS = 16, 200


class Playground:
    """The routes. The page's files are read when the server starts, so no path of a request is ever opened."""

    def __init__(self, service: Service) -> None:
        self.service, self.training_texts, self.held_out_texts = service, TrainingTexts(), HeldOutTexts()
        folder = files("charlm.server") / "static"
        self.files = {
            entry.name: entry.read_bytes() for entry in folder.iterdir() if _suffix(entry.name) in CONTENT_TYPES
        }

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
            Route("/api/passage", self.passage, methods=["POST"]),
            Route("/api/guesses", self.guesses, methods=["POST"]),
        ]

    async def file(self, name: str, _: Request) -> Response:
        """One of the page's files."""
        content_type = CONTENT_TYPES[_suffix(name)]
        return Response(self.files[name], media_type=content_type, headers={"Cache-Control": "no-cache"})

    async def models(self, _: Request) -> Response:
        """GET /api/models."""
        models = [_model_json(name, path) for name, path in self.service.library.paths().items()]
        return json_response({"models": [model for model in models if model is not None]})

    async def expect(self, request: Request) -> Response:
        """POST /api/expect."""
        fields = Fields(await self.service.json(request))
        models, text = await self._models(fields), self._text(fields, "text")
        cursor = fields.integer("cursor", len(text), 0, len(text))
        since = fields.integer("since", 0, 0, len(text))
        alternatives = fields.integer("top", 8, 1, MAX_ALTERNATIVES)
        asked = ExpectRequest(text, cursor, since, parse_sampling(fields), alternatives)
        fields.end()
        answers = await self._answers(request, models, [partial(expect_tasks, model, asked) for model in models])
        return json_response({"models": answers})

    async def why(self, request: Request) -> Response:
        """POST /api/why."""
        fields = Fields(await self.service.json(request))
        models, text = await self._models(fields), self._text(fields, "text")
        if not text:
            raise ApiError("text must hold the character that is asked about", param="text")
        place = fields.integer("place", len(text) - 1, 0, len(text) - 1)
        asked = WhyRequest(text, place, fields.integer("reach", 24, 1, 64))
        fields.end()
        answers = await self._answers(request, models, [partial(why_tasks, model, asked) for model in models])
        for model, answer in zip(models, answers, strict=True):
            if (context := answer.pop("matched", None)) is not None:
                answer |= await asyncio.to_thread(self._counted, model, context, text[place])
        return json_response({"models": answers})

    def _counted(self, model: ServedModel, context: str, character: str) -> dict[str, Any]:
        """The contexts that a counting model has matched, and places; the longest only if the text is not there."""
        try:
            contexts, places = self.training_texts.counted(model, context, character)
        except ApiError:
            return {"contexts": [{"text": context}], "places": []}
        return {"contexts": [asdict(one) for one in contexts], "places": [asdict(one) for one in places]}

    async def _answers(
        self, request: Request, models: Sequence[ServedModel], task_makers: Sequence[TaskMaker]
    ) -> list[Any]:
        """The answers of several models, each the one event of its tasks."""
        answers: list[Any] = [None] * len(models)
        requested = list(zip(models, task_makers, strict=True))
        async for number, events in self.service.events_of_several(request, requested):
            for answer in events:
                if not isinstance(answer, Finished):
                    answers[number] = answer
                elif answer.error is not None:
                    answers[number] = {"model": models[number].name, **answer.error.to_json()}
        return answers

    async def write(self, request: Request) -> Response:
        """POST /api/write."""
        fields = Fields(await self.service.json(request))
        models = await self._models(fields)
        asked = Completion(
            model="",
            prompts=(self._text(fields, "prompt"),),
            seed=fields.integer("seed", 0, *SEED_RANGE),
            max_tokens=fields.integer("max_tokens", 200, 1, MAX_WRITTEN_TOKENS),
            log_probs=fields.integer("top", 8, 1, MAX_ALTERNATIVES),
            sampling=parse_sampling(fields),
        )
        fields.end()
        requested = [(model, partial(self._write_tasks, model, asked)) for model in models]
        events = self.service.events_of_several(request, requested)
        return EventStream(_written(await anext(events), events, models))

    def _write_tasks(self, model: ServedModel, asked: Completion, job: Job) -> list[Task]:
        return completion_tasks(model, asked, job, Usage(), self.service.limits)

    async def beams(self, request: Request) -> Response:
        """POST /api/beams."""
        fields = Fields(await self.service.json(request))
        model, prompt = await self.service.model(fields.text("model")), self._text(fields, "prompt")
        beams = fields.integer("beams", 4, 1, MAX_TREE_BEAMS)
        length = fields.integer("length", 24, 1, MAX_SEARCHED_CHARACTERS)
        penalty = fields.number("length_penalty", 0.0, 0.0, 10.0)
        stop = ("\n",) if fields.boolean("to_line_end") else ()
        fields.end()
        settings = BeamSettings(length, beams, beams, penalty, stop)
        events = self.service.events(request, model, partial(_beam_tasks, model, prompt, settings))
        return EventStream(_as_events(await anext(events), events))

    async def quotes(self, request: Request) -> Response:
        """POST /api/quotes."""
        fields = Fields(await self.service.json(request))
        model, text = await self.service.model(fields.text("model")), self._text(fields, "text")
        fields.end()
        quotations = await asyncio.to_thread(self.training_texts.quotations, model, text)
        return json_response({"quotes": [asdict(quotation) for quotation in quotations]})

    async def passage(self, request: Request) -> Response:
        """POST /api/passage."""
        fields = Fields(await self.service.json(request))
        model, seed = await self.service.model(fields.text("model")), fields.integer("seed", 0, 0, SEED_RANGE[1])
        before = fields.integer("before", 160, 0, MAX_BEFORE_PASSAGE)
        length = fields.integer("length", 40, 1, MAX_PASSAGE)
        fields.end()
        passage = await asyncio.to_thread(self.held_out_texts.passage, model, seed, before, length)
        return json_response(asdict(passage))

    async def guesses(self, request: Request) -> Response:
        """POST /api/guesses."""
        fields = Fields(await self.service.json(request))
        models, text = await self._models(fields), self._text(fields, "text")
        asked = GuessesRequest(text, fields.integer("begin", 0, 0, len(text)))
        fields.end()
        answers = await self._answers(request, models, [partial(guesses_tasks, model, asked) for model in models])
        return json_response({"models": answers})

    async def _models(self, fields: Fields) -> list[ServedModel]:
        names = fields.take("models")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ApiError("models must be a list of names", param="models")
        if not 0 < len(names) <= MAX_MODELS:
            raise ApiError(f"models must name 1 to {MAX_MODELS} models, not {len(names)}", param="models")
        return [await self.service.model(name) for name in dict.fromkeys(names)]

    def _text(self, fields: Fields, name: str) -> str:
        text, limit = fields.text(name, ""), self.service.limits.typed_characters
        if len(text) > limit:
            raise ApiError(f"{name} must have at most {limit} characters, not {len(text)}", param=name)
        return text


def _suffix(name: str) -> str:
    return name.rpartition(".")[2]


def _model_json(name: str, path: Path) -> dict[str, Any] | None:
    """The facts about a run for GET /api/models; None if its card is damaged."""
    try:
        card = read_card(path)
    except CheckpointError:
        return None
    result = result_of(path, card)
    facts = {"architecture": card.architecture, "tokenizer": card.tokenizer, "parameters": card.parameters}
    facts["held_out"] = card.history.sha256("held_out")
    return {"name": name, **facts, "bits_per_character": result and result.bits_per_character}


def _beam_tasks(model: ServedModel, prompt: str, settings: BeamSettings, job: Job) -> list[Task]:
    def send_nodes(nodes: Sequence[Node]) -> None:
        job.send({"nodes": [{**asdict(node), "token": model.names[node.token]} for node in nodes]})

    def steps() -> Steps:
        log_probs, state = yield from read_prompt(model, model.encode(prompt))
        hypotheses = yield from search(model, log_probs, state, settings, send_nodes)
        job.send({"found": [asdict(hypothesis) for hypothesis in hypotheses]})
        return None

    return [Task(settings.beams, steps)]


async def _as_events(first: list[Any], events: AsyncIterator[list[Any]]) -> AsyncIterator[bytes]:
    """The events of one model as server-sent events."""
    batch: list[Any] | None = first
    try:
        while batch is not None:
            yield b"".join(map(event, batch))
            batch = await anext(events, None)
    except ApiError as problem:
        yield event(problem.to_json())
    yield DONE


async def _written(
    first: tuple[int, list[Any]], events: AsyncIterator[tuple[int, list[Any]]], models: Sequence[ServedModel]
) -> AsyncIterator[bytes]:
    """The texts of several models as server-sent events."""
    batch: tuple[int, list[Any]] | None = first
    while batch is not None:
        number, of_model = batch
        model = models[number]
        for choice in merged(part for part in of_model if isinstance(part, Choice)):
            tokens = [_token_json(model, token) for token in choice.scored]
            yield event({"model": model.name, "tokens": tokens, "finish_reason": choice.finish_reason})
        if isinstance(last := of_model[-1], Finished) and last.error is not None:
            yield event({"model": model.name, **last.error.to_json()})
        batch = await anext(events, None)
    yield DONE


def _token_json(model: ServedModel, token: ScoredToken) -> dict[str, Any]:
    assert token.log_prob is not None
    return {
        "text": model.names[token.id],
        "offset": token.offset,
        "probability": math.exp(token.log_prob),
        "alternatives": [{"text": model.names[id], "probability": math.exp(log_prob)} for id, log_prob in token.top],
    }
