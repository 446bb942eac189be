"""The server as a process: its socket, its signals, and the timeouts of connections."""

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
from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol

from charlm.errors import CharlmError
from charlm.server.app import create_app
from charlm.server.errors import ApiError
from charlm.server.guard import Access, RequestRecord
from charlm.server.replies import to_bytes
from charlm.server.service import Service

HEADER_SECONDS = 4.0
"""The time in which a connection must send the headers of its first request."""
KEEP_ALIVE_SECONDS = 30
SWITCH_INTERVAL_SECONDS = 0.0005
"""The interval at which the computing thread hands the interpreter to the event loop. With Python's default of 5 ms,
each small write to a socket can take that long."""
MAX_PENDING_CONNECTIONS = 2048
INTERRUPT_GRACE_SECONDS = 0.5
"""The time after Ctrl-C for the responses that report it."""


class Protocol(H11Protocol):
    """HTTP/1.1 that answers malformed requests with the API's errors, and closes connections that send nothing."""

    _header_timeout: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._header_timeout = self.loop.call_later(HEADER_SECONDS, self._close_if_silent)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._header_timeout is not None:
            self._header_timeout.cancel()

    def _close_if_silent(self) -> None:
        if self.cycle is None:
            self.transport.close()

    @override
    def send_400_response(self, msg: str) -> None:
        body = to_bytes(ApiError(msg, code="invalid_http").to_json())
        headers = [
            ("content-type", "application/json"), ("connection", "close"), ("content-length", str(len(body))),
        ]  # fmt: skip
        for event in h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage():
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


class Server(uvicorn.Server):
    """After SIGTERM, requests may finish within `grace` seconds; SIGINT ends them at once."""

    def __init__(self, config: uvicorn.Config, service: Service, grace: float, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self.service, self.grace, self.on_start = service, grace, on_start
        self.signal = 0

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.on_start()

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.should_exit, self.signal = True, self.signal or sig
        seconds: Any = self.grace if sig == signal.SIGTERM else INTERRUPT_GRACE_SECONDS
        self.config.timeout_graceful_shutdown = seconds
        if sig == signal.SIGTERM:
            self.service.drain()
        else:
            self.service.stop()


def open_socket(host: str, port: int) -> socket.socket:
    """Listen on an address. Raises CharlmError if that is not possible.

    The protocol of the socket is IPPROTO_TCP (`socket.create_server` leaves it 0): only then asyncio sets TCP_NODELAY
    on its connections, without which every answer waits 40 ms for the acknowledgement of its headers.
    """
    listening = None
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, socket.IPPROTO_TCP)
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(MAX_PENDING_CONNECTIONS)
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
    on_request: Callable[[RequestRecord], None] = lambda _: None,
) -> Server:
    """A server that does not listen yet."""
    config = uvicorn.Config(
        create_app(service, access, on_request),
        http=Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # with which any client could pretend to be another
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
    return Server(config, service, grace, on_start)


def run(server: Server, listening: socket.socket) -> int:
    """Serve until a signal comes; returns its number. For a process that does nothing else."""
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    asyncio.run(server.serve(sockets=[listening]))
    return server.signal
