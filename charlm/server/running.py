"""The server as a process: its socket, its signals, and how patient it is with connections."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from charlm.errors import CharlmError
from charlm.server.app import create_app
from charlm.server.errors import ApiError
from charlm.server.guard import Access, Record
from charlm.server.replies import to_bytes
from charlm.server.service import Service

HEADER_SECONDS = 4.0
"""How long a connection may take to send its first request's headers."""
KEEP_ALIVE_SECONDS = 30
SWITCH_SECONDS = 0.0005
"""After which the thread that computes lets the event loop have the interpreter. With Python's 5 ms each small write to
a socket can cost that much."""
BACKLOG = 2048
STOPPING_SECONDS = 0.5
"""After Ctrl-C, for the responses that say so."""


class Protocol(H11Protocol):
    """HTTP/1.1 that answers what is no HTTP in the API's shape, and closes connections that send nothing."""

    _impatience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request, but not for ever."""
        super().connection_made(transport)
        self._impatience = self.loop.call_later(HEADER_SECONDS, self._close_if_silent)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        super().connection_lost(exc)
        if self._impatience is not None:
            self._impatience.cancel()

    def _close_if_silent(self) -> None:
        if self.cycle is None:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, and close."""
        body = to_bytes(ApiError(msg, code="invalid_http").to_json())
        headers = [
            ("content-type", "application/json"), ("connection", "close"), ("content-length", str(len(body))),
        ]  # fmt: skip
        for event in h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage():
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


class Server(uvicorn.Server):
    """SIGTERM lets requests finish for `grace` seconds; SIGINT fails them at once."""

    def __init__(self, config: uvicorn.Config, service: Service, grace: float, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self.service, self.grace, self.on_start = service, grace, on_start
        self.signal = 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        if self.started:
            self.on_start()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """What to do when a signal comes."""
        self.should_exit, self.signal = True, self.signal or sig
        patience: Any = self.grace if sig == signal.SIGTERM else STOPPING_SECONDS
        self.config.timeout_graceful_shutdown = patience
        if sig == signal.SIGTERM:
            self.service.drain()
        else:
            self.service.stop()


def open_socket(host: str, port: int) -> socket.socket:
    """Listen there. Raises CharlmError for an address that cannot be had.

    The socket says that it speaks TCP (`socket.create_server` leaves that open): only then asyncio sets TCP_NODELAY on
    its connections, without which every answer waits 40 ms for the acknowledgement of its headers.
    """
    listening = None
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, socket.IPPROTO_TCP)
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
        return listening
    except (OSError, OverflowError) as problem:
        if listening is not None:
            listening.close()
        reason = getattr(problem, "strerror", None) or str(problem)
        raise CharlmError(f"cannot listen on {host} port {port}: {reason}; choose another `host` or `port`") from None


def make_server(
    service: Service,
    access: Access,
    *,
    grace: float = 0.0,
    on_start: Callable[[], None] = lambda: None,
    on_request: Callable[[Record], None] = lambda _: None,
) -> Server:
    """A server that has not begun to listen."""
    config = uvicorn.Config(
        create_app(service, access, on_request),
        http=Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # or any client could say that it is another
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
    return Server(config, service, grace, on_start)


def run(server: Server, listening: socket.socket) -> int:
    """Serve until a signal asks for an end; returns its number. For a process that does nothing else."""
    sys.setswitchinterval(SWITCH_SECONDS)
    asyncio.run(server.serve(sockets=[listening]))
    return server.signal
