"""`charlm serve`: runs behind an HTTP API, and a page to play with them."""

import ipaddress
import json
import time
import webbrowser
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from charlm import checkpoint
from charlm.cli.options import (
    GroupedCommand,
    device_option,
    integer_option,
    option,
    seconds_option,
    threads_option,
)
from charlm.cli.runs import RUN
from charlm.cli.terminal import print_message, stderr
from charlm.errors import DataError, UsageError
from charlm.training import choose_device

SIGNALLED = 128  # an exit code beyond this is the number of a signal


@click.command("serve", cls=GroupedCommand)
@click.argument("runs", nargs=-1, type=RUN)
@option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 is every one there is.")
@integer_option("--port", low=0, high=65535, default=8000, help="Port to listen on; 0 takes a free one.")
@option("--api-key", default=None, help="Ask for this key, or the one in @FILE.  [default: ask for none]")
@option("--open", "opened", is_flag=True, help="Open the playground in a browser.")
@option(
    "--allow-origin",
    multiple=True,
    help="Answer web pages of this origin, such as http://localhost:3000.  [default: the playground only]",
)
@integer_option(
    "--max-waiting", low=1, default=64, rare=True, help="Requests in the queue; more are refused with status 429."
)
@integer_option("--max-streams", low=1, high=4096, default=64, rare=True, help="Texts written at the same time.")
@seconds_option("--grace", low=0.0, default=10.0, rare=True, help="Seconds in which requests may finish after SIGTERM.")
@device_option(rare=True)
@threads_option(rare=True)
def command(runs: tuple[Path, ...], host: str, port: int, opened: bool, **values: Any) -> int:
    """Serve RUNS, by default every run in checkpoints/, to programs that speak OpenAI's API, and to a browser.

    The models read and write text at /v1/completions; the page at / shows what they expect.
    """
    from charlm.server.guard import LOOPBACK, Access
    from charlm.server.library import Library
    from charlm.server.limits import Limits
    from charlm.server.running import make_server, open_socket, run
    from charlm.server.service import Service

    if not runs:
        checkpoint.newest()  # raises CheckpointError if there is none
    library = Library(runs or None, choose_device(values["device"]))
    limits = Limits(max_waiting=values["max_waiting"], max_streams=values["max_streams"])
    loopback = _is_loopback(host)
    access = Access(_key(values["api_key"]), LOOPBACK | {host} if loopback else None, values["allow_origin"])
    listening = open_socket(host, port)
    url = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
    if not loopback and access.key is None:
        print_message(
            f"{host}: anyone who reaches this machine can use these models; --api-key asks for a key", "yellow"
        )

    def on_start() -> None:
        print_message(f"serving {', '.join(library.paths())} at {url}", "green")
        if opened:
            webbrowser.open(url)

    server = make_server(
        Service(library, limits), access, grace=values["grace"], on_start=on_start, on_request=_print_request
    )
    number = run(server, listening)
    return SIGNALLED + number if number else 0


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _key(value: str | None) -> str | None:
    """The key itself, or the first line of the file after @."""
    if value is None:
        return None
    key = value
    if value.startswith("@"):
        try:
            key = Path(value[1:]).read_text(encoding="utf-8").partition("\n")[0].strip()
        except (OSError, UnicodeDecodeError, ValueError) as problem:
            reason = getattr(problem, "strerror", None) or "not a text"
            raise DataError(f"{value[1:]}: cannot be read: {reason}; --api-key @FILE names a file with a key") from None
    if not key:
        raise UsageError("--api-key must not be empty; leave it out to ask for none")
    return key


def _print_request(record: Any) -> None:
    """Print a line a request: for people on a terminal, as JSON elsewhere."""
    if not stderr.is_terminal:
        line = {"time": round(time.time(), 3), **{k: v for k, v in vars(record).items() if v not in ("", None)}}
        line["seconds"] = round(record.seconds, 4)
        click.echo(json.dumps(line), err=True)
        return
    color = "red" if record.status >= 500 else "yellow" if record.status >= 400 else "green"
    tokens = f"  {record.prompt_tokens:,} + {record.completion_tokens:,} tokens" if record.model else ""
    rest = f"{record.method} {record.path}  {record.model}{tokens}  {record.seconds:.2f} s  {record.error}"
    stderr.print(Text.assemble((str(record.status), color), f" {rest}"), soft_wrap=True, style="dim")
