"""The tables of a phone's file, and how a file of an earlier version becomes one of this version.

In: an open Store. Out: the same, ready for a phone; a new one knows the sample contacts. A file that is not a phone is
refused and left alone.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict
from uuid import uuid4

from octopus.errors import DeviceError
from octopus.functions.devices import contacts
from octopus.journal import SCHEMA as JOURNAL
from octopus.store import Store

VERSION = 2

_TABLES = """
CREATE TABLE contacts (id INTEGER PRIMARY KEY, contact TEXT NOT NULL);
CREATE TABLE entries (
    id INTEGER PRIMARY KEY, list TEXT NOT NULL, entry TEXT NOT NULL, photo BLOB, message BLOB,
    action INTEGER, deed TEXT UNIQUE
);
"""
_FROM_1 = """
ALTER TABLE entries ADD COLUMN action INTEGER;
ALTER TABLE entries ADD COLUMN deed TEXT;
CREATE UNIQUE INDEX entries_deed ON entries (deed);
"""
_FIND_ACTION = "CREATE INDEX entries_action ON entries (action);"


def prepare(store: Store) -> None:
    """Make or bring up to date the tables.

    Raises:
        DeviceError: The file belongs to something else, or to a later version.
    """
    version, tables = _state(store)
    if version == VERSION:
        return
    if version not in (0, 1) or (version == 0 and tables):
        raise DeviceError(f"{store.path} is not a phone of this version", "set OCTOPUS_PHONE to another file")
    store.let_readers_and_writers_work_at_once()
    with store.transaction() as connection:
        version, tables = _state(store)
        if version == VERSION:  # another process was faster
            return
        _run(connection, JOURNAL)
        _run(connection, _FROM_1 if version else _TABLES)
        _run(connection, _FIND_ACTION)
        if version:
            _keep_unfinished(connection)
        else:
            for contact in contacts.SAMPLES:
                connection.execute("INSERT INTO contacts (contact) VALUES (?)", (json.dumps(asdict(contact)),))
        connection.execute(f"PRAGMA user_version = {VERSION}")


def _state(store: Store) -> tuple[int, int]:
    version = store.rows("PRAGMA user_version")[0][0]
    return version, store.rows("SELECT count(*) FROM sqlite_master")[0][0]


def _run(connection: sqlite3.Connection, statements: str) -> None:
    for statement in filter(str.strip, statements.split(";")):
        connection.execute(statement)


def _keep_unfinished(connection: sqlite3.Connection) -> None:
    """Version 1 kept what was not finished in a table of its own, without a photo."""
    for function, arguments, time, reason in connection.execute(
        "SELECT function, arguments, time, reason FROM unfinished ORDER BY id"
    ).fetchall():
        connection.execute(
            "INSERT INTO journal (key, function, arguments, language, agreed, source, state, reason, owner, time) "
            "VALUES (?, ?, ?, 'en', '', '', 'failed', ?, '', ?)",
            (f"{uuid4().hex}.0", function, arguments, reason, time),
        )
    connection.execute("DROP TABLE unfinished")
