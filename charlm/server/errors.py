"""The error that a client receives, in the shape of OpenAI's API."""

from collections.abc import Mapping
from typing import Any

TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
"""OpenAI's `type` of an error by its status; other errors are the request's, or from 500 on the server's."""


class ApiError(Exception):
    """A refused request: a sentence, the field at fault, a code, and the HTTP status."""

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
