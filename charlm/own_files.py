"""What charlm itself has written, known again by its content: runs, pages, exports, metrics.

None of it is ever part of a corpus, wherever it lies and whatever it is called now: a run is trained, and the next
corpus read from the same folder would hold its numbers. Each kind of file says in its first bytes that charlm wrote it:

    checkpoint.json   {"format": …, "charlm": …, the two keys that every card begins with
    metrics.jsonl     {"step": …, "steps": …, as every measurement does
    a page            a comment behind the doctype, `REPORT_MARK`
    an ARPA file      a comment in the first line, packed by gzip or not
    a folder for      config.json, whose first key is "charlm", and a comment in the second line of README.md
    Transformers
    compressed text   `COMPRESSED_MARK`
    JSON of compare   {"environment": {"charlm": …, wherever the shell has put it

A folder is an export if it has that config.json. A folder is a run if it has a card, or files with the names that
saves give them: those of a run that was killed before it had a card are known by these. A new kind of output says who
wrote it in its first `HEAD_BYTES` bytes and gets its line in `FIRST_BYTES`.
"""

import re
import zlib
from collections.abc import Collection
from pathlib import Path

CARD = "checkpoint.json"
METRICS = "metrics.jsonl"
RUN_FILE = re.compile(
    r"(weights|resume|tokenizer|files)-[0-9a-f]{12}\.\w+|\.(weights|resume|tokenizer|files|checkpoint).*\.part"
)
"""The names of the files that saves write, and of what is left of one that was killed."""

REPORT_MARK = "<!-- a report of charlm -->"
COMPRESSED_MARK = b"\x93CLM\r\n\x1a\n"
"""The first bytes of a compressed text: none of a text, and broken by whatever changes line ends, as those of PNG."""

HEAD_BYTES = 256  # bytes at the beginning of a file that tell
_GZIP = b"\x1f\x8b"

RUN_FOLDER = "a run of charlm"
EXPORT = "an export of charlm"
EXPORTED = "config.json"
"""The file by which the folder of an export is known."""

FIRST_BYTES = {  # what a file is: how it begins
    "the card of a run of charlm": re.compile(rb'\{\s*"format":\s*\d+,\s*"charlm":\s*"'),
    "the metrics of a run of charlm": re.compile(rb'\{"step": \d+, "steps": (\d+|null), "seconds": '),
    "a report of charlm": re.compile(rb"<!DOCTYPE html>\s*" + re.escape(REPORT_MARK.encode())),
    EXPORT: re.compile(rb'# charlm \S+: \d+-grams of |\{\s*"charlm":\s*"|---\n# charlm \S+: a model card'),
    "the figures of a comparison by charlm": re.compile(rb'\{"environment": \{"charlm": "'),
    "a text compressed by charlm": re.compile(re.escape(COMPRESSED_MARK)),
}


def written_by_charlm(path: Path) -> str | None:
    """What this file is if charlm wrote it: "a report of charlm", …; else None. Raises OSError as `open` does."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if head.startswith(_GZIP):
        try:
            head = zlib.decompressobj(31).decompress(head, HEAD_BYTES)
        except zlib.error:
            return None
    return next((kind for kind, begins in FIRST_BYTES.items() if begins.match(head)), None)


def own_folder(folder: Path, names: Collection[str]) -> str | None:
    """What a folder that holds these names is if charlm wrote it: a run, what is left of one, an export; else None.

    Raises OSError.
    """
    if any(RUN_FILE.fullmatch(name) for name in names) or _is_own(folder / CARD, names):
        return RUN_FOLDER
    return EXPORT if _is_own(folder / EXPORTED, names) else None


def _is_own(file: Path, names: Collection[str]) -> bool:
    return file.name in names and file.is_file() and written_by_charlm(file) is not None
