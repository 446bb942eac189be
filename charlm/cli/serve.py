"""`charlm serve`: runs behind an HTTP API, and a page to play with them."""

import ipaddress
import json
import time
import webbrowser
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from charlm import checkpoint
from charlm.cli.live import errors
from charlm.cli.options import GroupedCommand, device_option, option, threads_option
from charlm.cli.runs import RUN
from charlm.errors import CharlmError, DataError, UsageError
from charlm.training import choose_device

SIGNALLED = 128  # an exit code beyond this is the number of a signal
NEEDED = ("starlette", "uvicorn", "prometheus_client")


@click.command("serve", cls=GroupedCommand)
@click.argument("runs", nargs=-1, type=RUN)
@option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 is every one there is.")
@option(
    "--port",
    type=click.IntRange(min=0, max=65535),
    default=8000,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
@option("--api-key", default=None, help="Ask for this key, or the one in @FILE.  [default: ask for none]")
@option("--open", "opened", is_flag=True, help="Open the playground in a browser.")
@option(
    "--allow-origin",
    multiple=True,
    help="Let web pages of this origin ask, such as http://localhost:3000.  [default: none but the playground]",
)
@option(
    "--max-waiting",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Requests in the queue; another is refused with status 429.",
    rare=True,
)
@option(
    "--max-streams",
    type=click.IntRange(min=1, max=4096),
    default=64,
    show_default=True,
    help="Texts written at the same time.",
    rare=True,
)
@option(
    "--grace",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="Seconds in which requests may finish after SIGTERM.",
    rare=True,
)
@device_option(rare=True)
@threads_option(rare=True)
def command(runs: tuple[Path, ...], host: str, port: int, opened: bool, **values: Any) -> int:
    """Serve RUNS, by default every run in checkpoints/, to programs that speak OpenAI's API, and to a browser.

    The models read and write text at /v1/completions; the page at / shows what they expect. Wants starlette:
    pip install 'charlm[serve]'.
    """
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise CharlmError(f"{', '.join(missing)} missing: pip install 'charlm[serve]' brings what a server needs")
    from charlm.server.guard import LOOPBACK, Access
    from charlm.server.library import Library
    from charlm.server.limits import Limits
    from charlm.server.running import make_server, open_socket, run
    from charlm.server.service import Service

    if not runs:
        checkpoint.newest()  # raises CheckpointError where there is none
    library = Library(runs or None, choose_device(values["device"]))
    limits = Limits(max_waiting=values["max_waiting"], max_streams=values["max_streams"])
    loopback = _is_loopback(host)
    access = Access(_key(values["api_key"]), LOOPBACK | {host} if loopback else None, values["allow_origin"])
    listening = open_socket(host, port)
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{listening.getsockname()[1]}"
    if not loopback and access.key is None:
        errors.print(
            f"{host}: whoever reaches this machine can use these models; --api-key asks for a key", style="yellow"
        )

    def on_start() -> None:
        errors.print(f"serving {', '.join(library.paths())} at {url}", style="green", soft_wrap=True)
        if opened:
            webbrowser.open(url)

    server = make_server(Service(library, limits), access, grace=values["grace"], on_start=on_start, on_request=_log)
    number = run(server, listening)
    return SIGNALLED + number if number else 0


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _key(given: str | None) -> str | None:
    """The key itself, or the first line of the file after @."""
    if given is None:
        return None
    key = given
    if given.startswith("@"):
        try:
            key = Path(given[1:]).read_text(encoding="utf-8").partition("\n")[0].strip()
        except (OSError, UnicodeDecodeError, ValueError) as problem:
            reason = getattr(problem, "strerror", None) or "not a text"
            raise DataError(f"{given[1:]}: cannot be read: {reason}; --api-key @FILE names a file with a key") from None
    if not key:
        raise UsageError("--api-key must not be empty; leave it out to ask for none")
    return key


def _log(record: Any) -> None:
    """A line a request: for people on a terminal, JSON elsewhere."""
    if not errors.is_terminal:
        line = {"time": round(time.time(), 3), **{k: v for k, v in vars(record).items() if v not in ("", None)}}
        line["seconds"] = round(record.seconds, 4)
        click.echo(json.dumps(line), err=True)
        return
    color = "red" if record.status >= 500 else "yellow" if record.status >= 400 else "green"
    tokens = f"  {record.prompt_tokens:,} + {record.completion_tokens:,} tokens" if record.model else ""
    rest = f"{record.method} {record.path}  {record.model}{tokens}  {record.seconds:.2f} s  {record.error}"
    errors.print(f"[{color}]{record.status}[/]", rest, markup=True, soft_wrap=True, style="dim")
