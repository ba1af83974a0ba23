"""Which process am I, and is that other one still running? Tells work in progress from work that was cut off.

In: nothing, or the mark of a process. Out: a mark, or yes and no. A number alone is not enough, because numbers are
given again: where the system tells, the mark also holds when the process started.
"""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from pathlib import Path


def mark() -> str:
    """This process: `4711:8230021`, its number and when it started."""
    return _mark_of(os.getpid())


@lru_cache(maxsize=1)
def _mark_of(number: int) -> str:
    return f"{number}:{_started(number)}"


def is_running(given: str) -> bool:
    """Whether the process with this mark still runs; what cannot be found out counts as running."""
    number, _, started = given.partition(":")
    if not number.isascii() or not number.isdigit():
        return False
    if started:
        return _started(int(number)) == started
    if sys.platform == "win32":  # there os.kill with signal 0 would end the process
        return int(number) == os.getpid() or _answers_on_windows(int(number))
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def _started(number: int) -> str:
    """Clock ticks from boot to the start of a process; nothing where the system does not tell, or it is dead."""
    try:
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]  # a zombie does nothing any more


def _answers_on_windows(number: int) -> bool:
    import ctypes

    kernel = getattr(ctypes, "windll").kernel32  # noqa: B009  # other systems' type stubs do not have it
    handle = kernel.OpenProcess(0x1000, False, number)
    if handle:
        kernel.CloseHandle(handle)
    return bool(handle)
