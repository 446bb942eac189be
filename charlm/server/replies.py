"""Responses: whole JSON, or a stream of server-sent events."""

import json
from collections.abc import AsyncIterator, Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from typing_extensions import override

DONE = b"data: [DONE]\n\n"


def to_bytes(content: object) -> bytes:
    """JSON in ASCII, which keeps half a surrogate pair, unlike UTF-8."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()


def json_response(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A response of JSON."""
    return Response(to_bytes(content), status, dict(headers or {}), "application/json")


def event(content: object) -> bytes:
    """One server-sent event."""
    return b"data: " + to_bytes(content) + b"\n\n"


class EventStream(Response):
    """Server-sent events, written as they are made."""

    media_type = "text/event-stream"

    def __init__(self, parts: AsyncIterator[bytes]) -> None:
        super().__init__(headers={"X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self.parts = parts

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # the iterator of the parts raises ClientGone when the client has gone
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for part in self.parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
