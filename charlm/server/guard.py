"""What every request passes: access checks, response headers, errors as JSON, and a record for the log."""

import hmac
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from charlm.server.errors import ApiError
from charlm.server.replies import json_response

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
PUBLIC_PATHS = ("/", "/health")  # that need no key
PUBLIC_PREFIX = "/static/"
CLIENT_GONE = 499
"""The status in the log of a request whose client went away, as in nginx."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
log = logging.getLogger("charlm.server")


@dataclass(frozen=True)
class Access:
    """Which requests are answered: those with `key`, if there is one, one of these Host headers, and an origin of
    these or none.
    """

    key: str | None = None
    hosts: frozenset[str] | None = LOOPBACK  # None: any
    origins: Sequence[str] = ()

    def check(self, path: str, headers: Headers) -> None:
        """Raises ApiError for a request that must not be answered."""
        host = _host(headers.get("host", ""))
        if self.hosts is not None and host not in self.hosts:
            raise ApiError(
                "this server answers to localhost only; start it with another `host` to change that",
                code="host_not_allowed",
                status=403,
            )
        origin = headers.get("origin")
        same = origin is not None and _host_of_origin(origin) == headers.get("host", "")
        if origin is not None and not same and origin not in self.origins and "*" not in self.origins:
            raise ApiError(
                "pages of other origins may not ask; `allow_origin` lets one", code="origin_not_allowed", status=403
            )
        if self.key is not None and not (path in PUBLIC_PATHS or path.startswith(PUBLIC_PREFIX)):
            self._check_key(headers.get("authorization", ""))

    def _check_key(self, given: str) -> None:
        scheme, _, key = given.partition(" ")
        right = hmac.compare_digest(key.strip().encode("utf-8", "replace"), (self.key or "").encode())
        if scheme.lower() != "bearer" or not right:
            raise ApiError(
                "a key is needed: Authorization: Bearer KEY",
                code="invalid_api_key",
                status=401,
                headers={"WWW-Authenticate": "Bearer"},
            )


def _host(header: str) -> str:
    """The name in a Host header, without its port."""
    name = header.rpartition(":")[0] if header.rpartition(":")[2].isdecimal() else header
    return name.removeprefix("[").removesuffix("]").lower()


def _host_of_origin(origin: str) -> str:
    """The host and port of an origin; "" if it is malformed."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


@dataclass
class RequestRecord:
    """What is logged of a request."""

    client: str
    method: str
    path: str
    route: str = "none"
    status: int = 0
    seconds: float = 0.0
    model: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    first_token_seconds: float | None = None
    error: str = ""


@dataclass
class Guard:
    """The outermost application: checks access, adds headers, turns errors into JSON, and reports every request."""

    app: ASGIApp
    access: Access
    on_request: Callable[[RequestRecord], None]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, or the start and end of the server."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        client = scope["client"][0] if scope.get("client") else ""
        record = RequestRecord(client, scope["method"], scope["path"])
        scope["record"], started_at = record, time.perf_counter()
        scope["app"] = self.app  # so that starlette's routes raise HTTPException instead of answering it

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._answer(scope, receive, send_guarded, record)
        finally:
            record.status = record.status or CLIENT_GONE
            record.seconds = time.perf_counter() - started_at
            endpoint = scope.get("endpoint")
            record.route = "none" if endpoint is None else getattr(endpoint, "__name__", "file")
            self.on_request(record)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, record: RequestRecord) -> None:
        try:
            self.access.check(scope["path"], Headers(scope=scope))
            await self.app(scope, receive, send)
            return
        except ApiError as problem:
            error = problem
        except HTTPException as problem:
            error = ApiError(problem.detail, status=problem.status_code, code="no_such_route", headers=problem.headers)
        except ClientGone:
            record.status = CLIENT_GONE
            return
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            error = ApiError("the server failed; its log says how", status=500, code="internal_error")
        record.error = error.message
        if not record.status:
            await json_response(error.to_json(), error.status, error.headers)(scope, receive, send)


class ClientGone(Exception):  # noqa: N818 - not an error of the server
    """The client has closed the connection before its answer."""
