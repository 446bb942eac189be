"""What a client is told when its request cannot be answered, in the shape that OpenAI's API gives it."""

from collections.abc import Mapping
from typing import Any

TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
"""OpenAI's `type` of an error by its status; the others are of the request, or from 500 on of the server."""


class ApiError(Exception):
    """A request that is refused: its HTTP status, a sentence, and the field that is at fault."""

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        status: int = 400,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message, self.param, self.code, self.status = message, param, code, status
        self.headers = {"x-should-retry": "true" if status in (429, 503) else "false", **(headers or {})}

    def to_json(self) -> dict[str, Any]:
        """The body of the response."""
        usual = "invalid_request_error" if self.status < 500 else "server_error"
        kind = TYPES.get(self.status, usual)
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}
