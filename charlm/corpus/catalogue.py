"""Every corpus that has a name, and whether it is here."""

from dataclasses import dataclass

from charlm.corpus.builtin import BUILTINS, PREFIX
from charlm.corpus.classics import CLASSICS, downloaded, pinned
from charlm.corpus.folders import receiving_folder


@dataclass(frozen=True)
class Entry:
    """One corpus. `bytes` is approximate for the built-in ones; `path` is None where there is no file (yet).

    `sha256_from` says where the SHA-256 comes from: "catalogue", known beforehand; "download", pinned by the first one.
    """

    name: str
    bytes: int
    licence: str
    about: str
    here: bool
    path: str | None = None
    sha256: str | None = None
    sha256_from: str | None = None


def catalogue() -> list[Entry]:
    """All of them: first those that every Python brings, then those to download."""
    builtin = [Entry(PREFIX + name, b.bytes, b.licence, b.about, here=True) for name, b in BUILTINS.items()]
    return builtin + [_entry(name) for name in CLASSICS]


def _entry(name: str) -> Entry:
    classic, path = CLASSICS[name], downloaded(name)
    sha256 = pinned(name, path.parent if path else receiving_folder())
    return Entry(
        name=name,
        bytes=classic.bytes,
        licence=classic.licence,
        about=classic.about,
        here=path is not None,
        path=str(path) if path else None,
        sha256=sha256,
        sha256_from=("catalogue" if classic.sha256 else "download") if sha256 else None,
    )
