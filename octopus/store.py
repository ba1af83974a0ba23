"""One SQLite file, used by several threads and processes at once: opened, written in whole pieces, never half.

In: a path and SQL. Out: rows, or a DeviceError in words. A write waits for its turn instead of failing with "database
is locked". What was written survives the death of the process; with `durable` also that of the machine.
"""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from octopus.errors import DeviceError
from octopus.settings import MEMORY

PATIENCE = 60.0
"""Seconds to wait for other processes before giving up."""

_HINT = "set OCTOPUS_PHONE to another file"


class Store:
    """The file, open."""

    def __init__(self, path: str) -> None:
        """Open or create the file; ":memory:" keeps nothing.

        Raises:
            DeviceError: It cannot be opened or is no database.
        """
        self.path = path
        self._lock = threading.RLock()
        try:
            location = path if path == MEMORY else _private_file(Path(path).expanduser())
            self._connection = sqlite3.connect(location, PATIENCE, isolation_level=None, check_same_thread=False)
        except (OSError, RuntimeError, sqlite3.Error) as error:  # RuntimeError: the home folder of nobody
            raise self._unusable(error) from error
        try:
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            self._connection.close()
            raise self._unusable(error) from error

    def let_readers_and_writers_work_at_once(self) -> None:
        """Switch to the write-ahead log: for good, and only done once the file is known to be ours."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with self._lock:
                    self._connection.execute("PRAGMA journal_mode = WAL")
                    # 32 MB: copying the log back waits for the disk, and should do so once in hundreds of calls.
                    self._connection.execute("PRAGMA wal_autocheckpoint = 8000")
                return
            except sqlite3.OperationalError as error:  # this one statement does not wait for its turn by itself
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise self._unusable(error) from error
                time.sleep(random.uniform(0.005, 0.05))

    @contextmanager
    def transaction(self, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """All of it is written, or nothing; `durable` waits until the disk has it."""
        with self._lock:
            try:
                self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                self._connection.execute("BEGIN IMMEDIATE")
                with self._connection:  # commits, or rolls back on an error
                    yield self._connection
            except sqlite3.Error as error:
                raise self._unusable(error) from error

    def rows(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """What a query finds."""
        with self._lock:
            try:
                return self._connection.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise self._unusable(error) from error

    def close(self) -> None:
        """Close the file; it cannot be used afterwards."""
        with self._lock:
            self._connection.close()

    def _unusable(self, error: Exception) -> DeviceError:
        return DeviceError(f"the phone's file {self.path} cannot be used: {error}", _HINT)


def _private_file(path: Path) -> Path:
    """The same path; a new file, which will hold messages and photos, is nobody else's to read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.touch(mode=0o600)
    return path
