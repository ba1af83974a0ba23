"""Every environment variable octopus reads, in one place.

In: the process environment. Out: a frozen `Settings`. A flag beats a variable, a variable beats the default; nothing
here knows what the values are used for.

OCTOPUS_MODEL    model name or folder                default: nano, the model that is shipped with the package
OCTOPUS_PHONE    SQLite file of the simulated phone  default: a file in the user's data folder; ":memory:" keeps nothing
OCTOPUS_THREADS  threads of the model runtime        default: as many as the runtime finds useful
OCTOPUS_CACHE    folder of what the vision encoder made of photos, at most 64 MB
                 default: the user's cache folder; "off" keeps nothing
OCTOPUS_DEBUG    any text: unexpected errors show their traceback
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from octopus.errors import UsageError

DEFAULT_MODEL = "nano"
MEMORY = ":memory:"
OFF = "off"


@dataclass(frozen=True)
class Settings:
    """What the environment says."""

    model: str = DEFAULT_MODEL
    phone: str = MEMORY  # path of the phone's SQLite file, or ":memory:"
    threads: int | None = None
    cache: str = ""  # folder of image embeddings; empty: none are kept


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """The settings of this process; empty variables count as unset.

    Raises:
        UsageError: OCTOPUS_THREADS is not a positive whole number.
    """
    values = os.environ if environment is None else environment
    return Settings(
        model=values.get("OCTOPUS_MODEL") or DEFAULT_MODEL,
        phone=values.get("OCTOPUS_PHONE") or str(default_phone()),
        threads=_threads(values.get("OCTOPUS_THREADS") or None),
        cache=_cache(values.get("OCTOPUS_CACHE") or str(default_cache())),
    )


def wants_traceback() -> bool:
    """Whether OCTOPUS_DEBUG is set; asked by itself, because it must be possible when other variables are wrong."""
    return bool(os.environ.get("OCTOPUS_DEBUG"))


def default_phone() -> Path:
    """Where the simulated phone lives when nobody says otherwise; the folder may not exist yet."""
    return Path(platformdirs.user_data_dir("octopus", appauthor=False)) / "phone.sqlite"


def default_cache() -> Path:
    """Where image embeddings are kept when nobody says otherwise; the folder may not exist yet."""
    return Path(platformdirs.user_cache_dir("octopus", appauthor=False)) / "images"


def _cache(text: str) -> str:
    return "" if text == OFF else text


def _threads(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 1024:
        raise UsageError(f"OCTOPUS_THREADS is {text!r}", "give a whole number from 1 to 1024, or unset it")
    return int(text)
