"""One file over HTTP, resumable: what has arrived is kept in a .part file with the validator of its version."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from charlm.errors import DataError

if TYPE_CHECKING:
    from requests import Response, Session

MAX_FAILURES = 4  # in a row without a single new byte
PAUSE_SECONDS = 0.5  # after the first failure; doubles with each
_TIMEOUT_SECONDS = (10, 30)  # seconds to connect, and without a byte
_BYTES_PER_BLOCK = 1 << 14  # bytes; a connection that breaks loses less than one block

Transferred = Callable[[int, int | None], None]
"""Told the bytes that have arrived and, where the server says so, all there are."""


class _TryAgainError(Exception):
    """This attempt failed in a way that the next may not."""


def download(url: str, part: Path, max_bytes: int, progress: Transferred | None = None) -> None:
    """Fetch `url` into `part`, going on where an earlier call stopped if the server still has the same version.

    Failed attempts are repeated, with a pause that doubles, until `MAX_FAILURES` in a row have brought nothing. Raises
    DataError for no connection, an HTTP error, a body that ends early for good, or more than `max_bytes`.
    Source: HTTP range requests, RFC 9110 sections 13.1.5 (If-Range) and 14.
    """
    import requests

    failures = best = 0
    with requests.Session() as session:
        while True:
            try:
                return _attempt(session, url, part, max_bytes, progress)
            except (requests.RequestException, _TryAgainError) as problem:
                failures = failures + 1 if _size(part) <= best else 1
                best = max(best, _size(part))
                if failures == MAX_FAILURES:
                    raise DataError(_explanation(url, problem, part)) from None
                time.sleep(PAUSE_SECONDS * 2 ** (failures - 1))


def _attempt(session: "Session", url: str, part: Path, max_bytes: int, progress: Transferred | None) -> None:
    """One request. Returns when `part` is complete."""
    validator = part.with_name(part.name + ".version")
    have, version = _size(part), validator.read_text(encoding="utf-8") if validator.exists() else ""
    headers = {"Accept-Encoding": "identity"}  # ranges count the bytes that are stored
    if have and version:
        headers |= {"Range": f"bytes={have}-", "If-Range": version}
    with session.get(url, headers=headers, stream=True, timeout=_TIMEOUT_SECONDS) as response:
        if response.status_code in (408, 429) or response.status_code >= 500:
            raise _TryAgainError(f"the server answered {response.status_code} {response.reason}")
        if response.status_code not in (200, 206, 416):
            raise DataError(f"{url}: the server answered {response.status_code} {response.reason}")
        start, total = _extent(response)
        now = _version(response) or (version if start else "")
        if start not in (0, have) or (start and now != version):
            part.unlink(missing_ok=True)
            raise _TryAgainError("the server sent something else than the part that it was asked for")
        validator.write_text(now, encoding="utf-8")
        done = _receive(response, part, start, total, max_bytes, progress)
    if done > max_bytes:
        part.unlink()
        validator.unlink()
        raise DataError(f"{url}: larger than it can be ({max_bytes} bytes); this is not the file that was expected")
    if total is not None and done != total:
        raise _TryAgainError(f"the connection broke after {done} of {total} bytes")
    validator.unlink()


def _receive(
    response: "Response", part: Path, start: int, total: int | None, max_bytes: int, progress: Transferred | None
) -> int:
    """Write the body behind the `start` bytes that are there; returns how many there are then."""
    done = start
    with part.open("r+b" if start else "wb") as file:
        file.seek(start)
        for block in response.iter_content(_BYTES_PER_BLOCK):
            file.write(block)
            done += len(block)
            if progress:
                progress(done, total)
            if done > max_bytes:
                break
    return done


def _extent(response: "Response") -> tuple[int, int | None]:
    """Where in the file the body begins, -1 if nowhere that helps, and how long the whole file is."""
    if response.status_code == 200:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None
    extent = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
    return (int(extent[1]), int(extent[2])) if extent else (-1, None)


def _version(response: "Response") -> str:
    """What tells this version of the file from another: a strong ETag, else the date, else nothing."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified", "")


def _explanation(url: str, problem: Exception, part: Path) -> str:
    import requests

    if isinstance(problem, requests.exceptions.SSLError):
        what = "the server's certificate is not trusted here"
    elif isinstance(problem, requests.ConnectTimeout | requests.ConnectionError) and not _size(part):
        what = "no connection; are you offline? builtin:python-reference needs none"
    else:
        what = str(problem) if isinstance(problem, _TryAgainError) else "the connection broke"
    advice = f"; {_size(part)} bytes are kept, run it again to go on" if _size(part) else ""
    return f"{url}: {what}{advice}"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
