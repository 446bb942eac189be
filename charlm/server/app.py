"""The routes: OpenAI's API, the tokenizer, what operators look at, and the playground."""

import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp

from charlm import __version__
from charlm.config import BOUNDARY
from charlm.server import openai
from charlm.server.completing import completion_tasks
from charlm.server.errors import ApiError
from charlm.server.fields import Fields
from charlm.server.guard import Access, Guard, RequestRecord
from charlm.server.library import BOUNDARY_NAME, Library, ServedModel
from charlm.server.metrics import Metrics
from charlm.server.openai import Choice, Completion, Header, Usage
from charlm.server.playground import Playground
from charlm.server.replies import DONE, EventStream, event, json_response
from charlm.server.requests import parse_chat, parse_completion
from charlm.server.scheduler import Job, Task
from charlm.server.service import Service

ChoiceJson = Callable[[Choice, Header], dict[str, Any]]


class Api:
    """OpenAI's routes, and those of the tokenizer."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("/v1/completions", self.completions, methods=["POST"]),
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/v1/models", self.models),
            Route("/v1/models/{name:path}", self.model),
            Route("/tokenize", self.tokenize, methods=["POST"]),
            Route("/detokenize", self.detokenize, methods=["POST"]),
            Route("/tokenizer_info", self.tokenizer_info),
        ]

    async def completions(self, request: Request) -> Response:
        """POST /v1/completions."""
        asked = parse_completion(await self.service.json(request), self.service.limits)
        kinds = ("text_completion", "text_completion")
        return await self._answer(request, asked, "cmpl", kinds, openai.completion_choice, openai.completion_choice)

    async def chat(self, request: Request) -> Response:
        """POST /v1/chat/completions: the messages are the lines of the prompt, the answer is the next line."""
        asked = parse_chat(await self.service.json(request), self.service.limits)
        kinds = ("chat.completion", "chat.completion.chunk")
        return await self._answer(request, asked, "chatcmpl", kinds, openai.chat_choice, openai.chat_part)

    async def _answer(
        self,
        request: Request,
        asked: Completion,
        prefix: str,
        kinds: tuple[str, str],
        whole: ChoiceJson,
        part: ChoiceJson,
    ) -> Response:
        model, usage = await self.service.model(asked.model), Usage()
        header = Header(
            f"{prefix}-{uuid.uuid4().hex}", int(time.time()), model.name, model.fingerprint, model.names,
            asked.log_probs is not None,
        )  # fmt: skip

        def make_tasks(job: Job) -> list[Task]:
            return completion_tasks(model, asked, job, usage, self.service.limits)

        events = self._counted(request, usage, self.service.events(request, model, make_tasks))
        if asked.stream:
            first = await anext(events)  # an error before it still gets a status of its own
            return EventStream(_parts(first, events, asked, header, kinds[1], part, usage))
        choices = [Choice(index) for index in range(len(asked.prompts) * asked.n)]
        async for batch in events:
            for piece in batch:
                choices[piece.index].add(piece)
        return json_response(
            header.response(kinds[0], [whole(choice, header) for choice in choices], usage=usage.to_json())
        )

    @staticmethod
    async def _counted(request: Request, usage: Usage, events: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """The events, with the tokens counted in the request's record at the end."""
        record: RequestRecord = request.scope["record"]
        try:
            async for batch in events:
                yield batch
        finally:
            record.prompt_tokens, record.completion_tokens = usage.prompt_tokens, usage.completion_tokens

    async def models(self, _: Request) -> Response:
        """GET /v1/models."""
        library = self.service.library
        return json_response({"object": "list", "data": [_model_json(library, name) for name in library.paths()]})

    async def model(self, request: Request) -> Response:
        """GET /v1/models/NAME."""
        return json_response(_model_json(self.service.library, request.path_params["name"]))

    async def tokenize(self, request: Request) -> Response:
        """POST /tokenize: the ids of a text."""
        fields = Fields(await self.service.json(request))
        model, text = await self._named(fields), fields.text("prompt")
        fields.boolean("add_special_tokens")  # has no effect: the boundary is added when a prompt is read
        fields.end()
        ids = model.encode(text)
        return json_response({"tokens": ids, "count": len(ids), "max_model_len": self.service.limits.prompt_tokens})

    async def detokenize(self, request: Request) -> Response:
        """POST /detokenize: the text of ids."""
        fields = Fields(await self.service.json(request))
        model, ids = await self._named(fields), fields.take("tokens")
        fields.end()
        if not isinstance(ids, list) or not all(type(id) is int and 0 <= id < model.engine.vocab_size for id in ids):
            raise ApiError(f"tokens must be a list of ids below {model.engine.vocab_size}", param="tokens")
        return json_response({"prompt": model.decode(ids)})

    async def tokenizer_info(self, request: Request) -> Response:
        """GET /tokenizer_info[?model=NAME]."""
        model = await self._named(Fields({"model": request.query_params.get("model")}))
        return json_response(
            {
                "tokenizer_class": f"charlm {model.tokenizer.kind}",
                "vocab_size": model.tokenizer.vocab_size,
                "bos_token": BOUNDARY_NAME,
                "eos_token": BOUNDARY_NAME,
                "bos_token_id": BOUNDARY,
                "eos_token_id": BOUNDARY,
                "chat_template": None,
                "model_max_length": self.service.limits.prompt_tokens,
            }
        )

    async def _named(self, fields: Fields) -> ServedModel:
        """The model that is named, or the only one that is served."""
        return await self.service.model(fields.text("model", "") or self.service.library.only())


async def _parts(
    first: Any,
    events: AsyncIterator[Any],
    asked: Completion,
    header: Header,
    kind: str,
    shape: ChoiceJson,
    usage: Usage,
) -> AsyncIterator[bytes]:
    """The server-sent events of an answer."""
    more = {"usage": None} if asked.include_usage else {}
    batch = first
    try:
        while batch is not None:
            yield b"".join(
                event(header.response(kind, [shape(piece, header)], **more)) for piece in openai.merged(batch)
            )
            batch = await anext(events, None)
        if asked.include_usage:
            yield event(header.response(kind, [], usage=usage.to_json()))
    except ApiError as problem:
        yield event(problem.to_json())
        return
    yield DONE


def _model_json(library: Library, name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": library.created(name), "owned_by": "charlm"}


def create_app(service: Service, access: Access, on_request: Callable[[RequestRecord], None]) -> ASGIApp:
    """The whole application; `on_request` is called after every request."""
    metrics = Metrics(service)

    @asynccontextmanager
    async def running(_: object) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            service.close()

    async def health(_: Request) -> Response:
        return json_response({"status": "ok", "charlm": __version__})

    def after_request(record: RequestRecord) -> None:
        metrics.record(record)
        on_request(record)

    routes = [
        *Playground(service).routes(),
        *Api(service).routes(),
        Route("/health", health),
        Route("/metrics", metrics.page),
    ]
    guarded: ASGIApp = Guard(Router(routes, redirect_slashes=False, lifespan=running), access, after_request)
    if access.origins:
        guarded = CORSMiddleware(
            guarded, allow_origins=access.origins, allow_methods=["GET", "POST"], allow_headers=["*"]
        )
    return guarded
