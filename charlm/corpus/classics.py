"""The corpora that the field measures itself on, and getting them: once, verified, resumable."""

import json
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charlm.corpus.download import Transferred, download
from charlm.corpus.folders import data_folders, receiving_folder
from charlm.errors import DataError
from charlm.files import sha256_of, write_atomically

PINS = "sha256.json"
"""The file beside the corpora that keeps the SHA-256 of those whose first download decided it."""


@dataclass(frozen=True)
class Classic:
    """A corpus to download. `bytes` is the size of the text; `member` its name inside the zip that `url` gives."""

    about: str
    url: str
    bytes: int
    licence: str
    sha256: str | None = None
    member: str | None = None


CLASSICS: Mapping[str, Classic] = {
    "tinyshakespeare": Classic(
        about="40,000 lines of Shakespeare's plays (char-rnn, nanoGPT)",
        url="https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        bytes=1_115_394,
        licence="public domain",
        sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    ),
    "names": Classic(
        about="32,033 first names, one a line (makemore)",
        url="https://raw.githubusercontent.com/karpathy/makemore/master/names.txt",
        bytes=228_145,
        licence="MIT",
    ),
    "text8": Classic(
        about="English Wikipedia of 2006, only a to z and spaces",
        url="https://mattmahoney.net/dc/text8.zip",
        bytes=100_000_000,
        licence="GFDL, CC BY-SA 3.0",
        member="text8",
    ),
    "enwik8": Classic(
        about="English Wikipedia of 2006, the first 100 MB of its XML",
        url="https://mattmahoney.net/dc/enwik8.zip",
        bytes=100_000_000,
        licence="GFDL, CC BY-SA 3.0",
        member="enwik8",
    ),
}

_UNFINISHED = re.compile(rf"({'|'.join(CLASSICS)})\.txt\.((zip\.)?part(\.version)?|unpacked)")


def downloaded(name: str) -> Path | None:
    """Where a classic lies on this machine, if it does."""
    return next((path for folder in data_folders() if (path := folder / f"{name}.txt").is_file()), None)


def left_by_download(path: Path) -> bool:
    """Whether this is no corpus but what `fetch` keeps beside it: half of one, or the record of their SHA-256."""
    if path.name == PINS:
        try:
            return set(_pins(path.parent)) <= set(CLASSICS)
        except (DataError, OSError):
            return False
    return bool(_UNFINISHED.fullmatch(path.name))


def pinned(name: str, folder: Path) -> str | None:
    """The SHA-256 that a classic must have: known beforehand, or decided by the first download into `folder`."""
    return CLASSICS[name].sha256 or _pins(folder).get(name)


@dataclass(frozen=True)
class Fetched:
    """A corpus in its place. `pinned` says that its SHA-256 was decided just now and is not yet anybody's word."""

    path: Path
    sha256: str
    pinned: bool
    was_there: bool


def fetch(name: str, folder: Path | None = None, progress: Transferred | None = None) -> Fetched:
    """Download a classic into `folder` (default: `data_folders()`) as NAME.txt, unless it is there already.

    An interrupted download goes on where it stopped. Where no SHA-256 is known the first download decides it and
    `PINS` keeps it. Raises DataError for an unknown name, no connection, or a text with another SHA-256.
    """
    if name not in CLASSICS:
        raise DataError(f"{name}: no such corpus to download; there are {', '.join(CLASSICS)}")
    folder = folder or receiving_folder()
    target = folder / f"{name}.txt"
    try:
        was_there = target.exists()
        if not was_there:
            folder.mkdir(parents=True, exist_ok=True)
        beside = target if was_there else _received(CLASSICS[name], target, progress)
        sha256, expected = sha256_of(beside), pinned(name, folder)
        if expected not in (None, sha256):
            raise _mismatch(beside, was_there, sha256, str(expected))
        if expected is None:
            _pin(folder, name, sha256)
        beside.replace(target)
    except OSError as problem:
        raise DataError(f"{problem.filename or target}: {problem.strerror}; choose another folder for it") from None
    return Fetched(target, sha256, expected is None, was_there)


def _received(classic: Classic, target: Path, progress: Transferred | None) -> Path:
    """The text, complete but not yet trusted, in a file beside `target`."""
    part = target.with_name(target.name + (".zip.part" if classic.member else ".part"))
    download(classic.url, part, max_bytes=2 * classic.bytes, progress=progress)
    return _unpacked(part, classic, target) if classic.member else part


def _unpacked(archive: Path, classic: Classic, target: Path) -> Path:
    """Extract the corpus from a zip, no byte more than it should have, and remove the zip."""
    beside, left = target.with_name(target.name + ".unpacked"), classic.bytes
    try:
        with zipfile.ZipFile(archive) as bundle, bundle.open(str(classic.member)) as source, beside.open("wb") as sink:
            while block := source.read(1 << 20):
                left -= len(block)
                if left < 0:
                    break
                sink.write(block)
    except (zipfile.BadZipFile, zlib.error, KeyError, NotImplementedError, RuntimeError, EOFError) as problem:
        archive.unlink()
        beside.unlink(missing_ok=True)
        raise DataError(f"{classic.url}: not the zip file that was expected ({problem}); run it again") from None
    archive.unlink()
    if left:
        beside.unlink()
        raise DataError(f"{classic.url}: {classic.member} in it has not the {classic.bytes} bytes that it should have")
    return beside


def _mismatch(path: Path, was_there: bool, sha256: str, expected: str) -> DataError:
    if was_there:
        return DataError(f"{path}: changed since it was downloaded (SHA-256 {sha256}, not {expected}); delete it first")
    path.unlink()
    return DataError(f"{path.stem}: the download was thrown away: its SHA-256 is {sha256}, not {expected}")


def _pins(folder: Path) -> dict[str, Any]:
    try:
        pins = json.loads((folder / PINS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        pins = None
    if not isinstance(pins, dict):
        raise DataError(f"{folder / PINS}: damaged; delete it, and the corpora beside it will be pinned anew")
    return pins


def _pin(folder: Path, name: str, sha256: str) -> None:
    pins = json.dumps({**_pins(folder), name: sha256}, indent=2, sort_keys=True) + "\n"
    write_atomically(folder / PINS, pins.encode())
