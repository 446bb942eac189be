"""Responses: JSON as a whole, or as a stream of server-sent events."""

import json
from collections.abc import AsyncIterator, Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

DONE = b"data: [DONE]\n\n"


def to_bytes(content: object) -> bytes:
    """JSON in ASCII, so that half a surrogate, which no UTF-8 holds, arrives as it was sent."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()


def json_response(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A whole response."""
    return Response(to_bytes(content), status, dict(headers or {}), "application/json")


def event(content: object) -> bytes:
    """One server-sent event."""
    return b"data: " + to_bytes(content) + b"\n\n"


class EventStream(Response):
    """Server-sent events, written as they come."""

    media_type = "text/event-stream"

    def __init__(self, parts: AsyncIterator[bytes]) -> None:
        super().__init__(headers={"X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self.parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Write all parts; whoever makes them notices that the client has gone."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for part in self.parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
