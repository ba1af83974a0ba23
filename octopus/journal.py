"""The journal: what becomes of each call, written down before it happens, so that nothing happens twice or gets lost.

    planned --> confirmed --> started --> done
       |            |            |
    (removed)     undone       failed --> started again, or undone

In: calls and what is agreed, begun and finished. Out: Actions. Each step is one transaction in the phone's file, and
only one process can take it. A process that dies leaves its action in the last step it reached; `doubt` then says who
may have carried it out all the same. The journal carries nothing out and asks nobody.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import uuid4

from octopus import process
from octopus.core import Call, Language
from octopus.errors import UsageError
from octopus.store import Store

State = Literal["planned", "confirmed", "started", "done", "failed", "undone"]

SCHEMA = """
CREATE TABLE IF NOT EXISTS journal (
    id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, function TEXT NOT NULL, arguments TEXT NOT NULL,
    language TEXT NOT NULL, photo BLOB, agreed TEXT NOT NULL, source TEXT NOT NULL, state TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT '', doubt TEXT NOT NULL DEFAULT '', due REAL NOT NULL DEFAULT 0,
    owner TEXT NOT NULL, time TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS journal_state ON journal (state);
"""
_COLUMNS = "id, key, function, arguments, language, photo, agreed, source, state, reason, doubt, due, owner, time"
_OPEN = ("confirmed", "started", "failed")


@dataclass(frozen=True)
class Action:
    """One call on its way from being understood to being done."""

    id: int
    key: str  # the same for every attempt, so that a receiver can tell a repetition
    function: str
    arguments: Mapping[str, Any]
    language: Language
    photo: bytes | None
    agreed: str  # what the user was told would happen
    source: str  # where the function's code is
    state: State
    reason: str
    doubt: str  # who may have done it although it was not finished; "" when nobody can have
    due: float  # not before this time (seconds since 1970)
    owner: str  # the process that works, or worked, on it
    time: str

    @property
    def call(self) -> Call:
        """The call, as it is carried out."""
        return Call(self.function, self.arguments, "", 1.0)

    @property
    def in_progress(self) -> bool:
        """Whether a process that still runs is carrying it out, or is waiting to."""
        return self.state in ("planned", "confirmed", "started") and process.is_running(self.owner)

    def why(self) -> str:
        """Why it is not done, in a few words."""
        if self.state == "failed":
            text = self.reason
        elif self.in_progress:
            return "waiting" if self.state == "confirmed" else "in progress"
        else:
            text = "interrupted" if self.state == "started" else "agreed to, but not begun"
        return f"{text}; {self.doubt} may have done it" if self.doubt else text


class Journal:
    """The journal in a phone's file."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def plan(
        self,
        calls: Sequence[Call],
        agreed: Sequence[str],
        sources: Sequence[str],
        photo: bytes | None = None,
        language: Language = "en",
        key: str | None = None,
    ) -> list[Action]:
        """Write down what is about to be asked. With the `key` of an earlier request: what became of that one.

        Raises:
            UsageError: The key belongs to another request.
        """
        keys = [f"{key or uuid4().hex}.{n}" for n in range(len(calls))]
        with self._store.transaction() as connection:
            self._forget_abandoned(connection)
            known = self._with_key(connection, key) if key else []
            if not known:
                for call, text, source, own in zip(calls, agreed, sources, keys, strict=True):
                    arguments = json.dumps(dict(call.arguments))
                    values = (own, call.name, arguments, language, photo, text, source, process.mark(), now())
                    connection.execute(
                        "INSERT INTO journal (key, function, arguments, language, photo, agreed, source, state, owner, "
                        "time) VALUES (?, ?, ?, ?, ?, ?, ?, 'planned', ?, ?)",
                        values,
                    )
                known = self._select(connection, f"key IN ({', '.join('?' * len(keys))})", tuple(keys))
        if [(a.function, dict(a.arguments)) for a in known] != [(c.name, dict(c.arguments)) for c in calls]:
            raise UsageError(f"the key {key!r} was used for another request", "use a new key for a new request")
        return known

    def decline(self, actions: Sequence[Action]) -> None:
        """Remove what was planned and not agreed to: nothing has happened."""
        with self._store.transaction() as connection:
            for action in actions:
                connection.execute("DELETE FROM journal WHERE id = ? AND state = 'planned'", (action.id,))

    def confirm(self, actions: Sequence[Action], due: Sequence[float] | None = None) -> None:
        """The user agrees to all of these, together; `due` says before when each must not begin."""
        with self._store.transaction() as connection:
            for action, at in zip(actions, due or [0.0] * len(actions), strict=True):
                connection.execute(
                    "UPDATE journal SET state = 'confirmed', due = ? WHERE id = ? AND state = 'planned'",
                    (at, action.id),
                )

    def start(self, action: Action, doubt: str = "") -> bool:
        """Begin, if it is still exactly as known: agreed to or failed, and nobody else has begun or undone it."""
        with self._store.transaction() as connection:
            done = connection.execute(
                "UPDATE journal SET state = 'started', reason = '', doubt = ?, owner = ? WHERE id = ? AND state = ? "
                "AND owner = ? AND state IN ('confirmed', 'started', 'failed')",
                (doubt, process.mark(), action.id, action.state, action.owner),
            )
            return done.rowcount == 1

    def begin(self, function: str, arguments: Mapping[str, Any], photo: bytes | None, language: Language) -> Action:
        """Plan, confirm and start in one step: for a call that comes from a program, not from a request."""
        (planned,) = self.plan([Call(function, arguments, "", 1.0)], [""], [""], photo, language)
        with self._store.transaction() as connection:
            connection.execute("UPDATE journal SET state = 'started' WHERE id = ?", (planned.id,))
        return self.action(planned.id)

    def doubt(self, identity: int, who: str, durable: bool = False) -> None:
        """From now on, should all end here, `who` may have done it; "" takes the doubt away."""
        with self._store.transaction(durable) as connection:
            connection.execute("UPDATE journal SET doubt = ? WHERE id = ?", (who, identity))

    def fail(self, identity: int, reason: str) -> None:
        """It was begun and is not done."""
        with self._store.transaction() as connection:
            statement = "UPDATE journal SET state = 'failed', reason = ? WHERE id = ? AND state = 'started'"
            connection.execute(statement, (" ".join(reason.split()), identity))

    def undo(self, action: Action) -> bool:
        """Drop what is not done, if it is still exactly as known."""
        with self._store.transaction() as connection:
            return undo_in(connection, action)

    def action(self, identity: int) -> Action:
        """The action with this number.

        Raises:
            UsageError: There is none.
        """
        found = self._find("id = ?", (identity,))
        if not found:
            raise UsageError(f"there is no action {identity}", "`octopus phone --json` shows the numbers")
        return found[0]

    def unfinished(self) -> list[Action]:
        """Everything that was agreed to and is not done, oldest first."""
        return self._find(f"state IN {_OPEN}", ())

    def settled(self, most: int = 100) -> list[Action]:
        """The latest of what is done, newest first."""
        statement = f"SELECT {_COLUMNS} FROM journal WHERE state = 'done' ORDER BY id DESC LIMIT ?"
        return _actions(self._store.rows(statement, (most,)))

    def due(self, moment: float | None = None) -> list[Action]:
        """What this process holds back and should carry out by now."""
        moment = time.time() if moment is None else moment
        return self._find("state = 'confirmed' AND owner = ? AND due > 0 AND due <= ?", (process.mark(), moment))

    def _find(self, condition: str, values: tuple[Any, ...]) -> list[Action]:
        return _actions(self._store.rows(f"SELECT {_COLUMNS} FROM journal WHERE {condition} ORDER BY id", values))

    def _select(self, connection: sqlite3.Connection, condition: str, values: tuple[Any, ...]) -> list[Action]:
        statement = f"SELECT {_COLUMNS} FROM journal WHERE {condition} ORDER BY id"
        return _actions(connection.execute(statement, values).fetchall())

    def _with_key(self, connection: sqlite3.Connection, key: str) -> list[Action]:
        """The calls of an earlier request with this key; `a.b` is not the key `a`."""
        found = self._select(connection, "key >= ? AND key < ?", (f"{key}.", f"{key}/"))
        return [action for action in found if action.key[len(key) + 1 :].isdigit()]

    def _forget_abandoned(self, connection: sqlite3.Connection) -> None:
        """Remove what processes planned and died before anybody agreed: it was never more than a question."""
        for action in self._select(connection, "state = 'planned'", ()):
            if not action.in_progress:
                connection.execute("DELETE FROM journal WHERE id = ?", (action.id,))


def finish_in(connection: sqlite3.Connection, identity: int) -> None:
    """Write down, as part of a larger transaction, that it is done; its photo is with what it recorded."""
    statement = "UPDATE journal SET state = 'done', reason = '', doubt = '', photo = NULL WHERE id = ?"
    connection.execute(statement, (identity,))


def undo_in(connection: sqlite3.Connection, action: Action) -> bool:
    """Write down, as part of a larger transaction, that it is undone, if it is still exactly as known."""
    statement = "UPDATE journal SET state = 'undone', photo = NULL WHERE id = ? AND state = ? AND owner = ?"
    return connection.execute(statement, (action.id, action.state, action.owner)).rowcount == 1


def now() -> str:
    """The time with its zone, to the second."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _actions(rows: Sequence[tuple[Any, ...]]) -> list[Action]:
    names = _COLUMNS.split(", ")
    named = (dict(zip(names, row, strict=True)) for row in rows)
    return [Action(**{**values, "arguments": json.loads(values["arguments"])}) for values in named]
