"""Where corpora and caches live on this machine."""

import os
import re
import sys
from pathlib import Path

CACHE_FILE = re.compile(r"[0-9a-f]{64}\.npy|\.[0-9a-f]{64}\.npy\..*\.part")
"""The names of the files in the cache, whole or left behind by a crash."""


def _user_folder(variable: str, unix: str, mac: str) -> Path:
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / mac
    else:
        base = os.environ.get(variable) or Path.home() / unix
    return Path(base) / "charlm"


def data_folders() -> list[Path]:
    """Where downloaded corpora are looked for, in this order: `./data`, then the user's data folder."""
    return [Path("data"), _user_folder("XDG_DATA_HOME", ".local/share", "Application Support")]


def receiving_folder() -> Path:
    """Where a download goes: `./data` if the working directory has such a folder, else the user's data folder."""
    local, user = data_folders()
    return local if local.is_dir() else user


def cache_folder() -> Path:
    """Where encoded corpora are kept: the environment's CHARLM_CACHE, or the user's cache folder. Safe to delete."""
    chosen = os.environ.get("CHARLM_CACHE")
    return Path(chosen) if chosen else _user_folder("XDG_CACHE_HOME", ".cache", "Caches") / "cache"
