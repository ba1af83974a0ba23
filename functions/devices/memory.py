"""MemoryPhone: a simulated phone in one SQLite file. The default device, and the fake for tests.

In: the verbs of a Device. Out: entries in the outbox, basket, orders, board and searches, shown by `dump`. Nothing
leaves the machine. What one call does is written in one piece when it ends well; a call that fails or is cut off
leaves only a line among `unfinished`. One phone may be used from several threads and processes.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import SMTP
from pathlib import Path
from types import TracebackType
from typing import Any

from octopus.core import Channel, Language
from octopus.device import Contact, Entry, Recipient
from octopus.errors import DeviceError
from octopus.functions.devices import contacts, mail
from octopus.settings import MEMORY, read_settings

LISTS = ("texts", "emails", "basket", "orders", "board", "searches")
"""What a phone keeps, besides `unfinished`."""

_VERSION = 1
_SCHEMA = """
CREATE TABLE contacts (id INTEGER PRIMARY KEY, contact TEXT NOT NULL);
CREATE TABLE entries (
    id INTEGER PRIMARY KEY, list TEXT NOT NULL, entry TEXT NOT NULL, photo BLOB, message BLOB
);
CREATE TABLE unfinished (
    id INTEGER PRIMARY KEY, function TEXT NOT NULL, arguments TEXT NOT NULL, time TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT 'interrupted'
);
"""


@dataclass(frozen=True)
class _Row:
    list: str
    entry: Entry
    photo: bytes | None
    message: bytes | None


class _State(threading.local):
    """What belongs to the request that this thread is carrying out."""

    photo: bytes | None = None
    language: Language = "en"
    pending: list[_Row] | None = None


class MemoryPhone:
    """A phone that records what it is told to do; see octopus.device.Device."""

    def __init__(self, path: str | Path | None = None) -> None:
        """Open or create the phone's file; ":memory:" keeps nothing, None means OCTOPUS_PHONE or the user's folder.

        Raises:
            DeviceError: The file cannot be opened or is not a phone.
        """
        self.path = str(path or read_settings().phone)
        self._lock = threading.RLock()
        self._state = _State()
        try:
            location = self.path if self.path == MEMORY else _private_file(Path(self.path).expanduser())
            self._connection = sqlite3.connect(location, timeout=10, isolation_level=None, check_same_thread=False)
        except (OSError, RuntimeError, sqlite3.Error) as error:  # RuntimeError: the home folder of nobody
            raise self._unusable(error) from error
        try:
            self._prepare()
        except DeviceError:
            self._connection.close()
            raise

    @property
    def photo(self) -> bytes | None:
        """The photo of the request that this thread is carrying out, as JPEG."""
        return self._state.photo

    @photo.setter
    def photo(self, jpeg: bytes | None) -> None:
        self._state.photo = jpeg

    @property
    def language(self) -> Language:
        """The language of the request that this thread is carrying out."""
        return self._state.language

    @language.setter
    def language(self, language: Language) -> None:
        self._state.language = language

    def resolve(self, given: str, channel: Channel) -> Recipient:
        """Who is meant by a name, e-mail address or number; an unknown name has neither contact nor address."""
        return contacts.resolve(given, channel, self.contacts())

    @contextmanager
    def underway(self, function: str, arguments: Mapping[str, Any]) -> Iterator[None]:
        """Record the verbs inside all together at the end, or else only that the call was not finished."""
        with self._transaction() as connection:
            row = connection.execute(
                "INSERT INTO unfinished (function, arguments, time) VALUES (?, ?, ?)",
                (function, json.dumps(dict(arguments)), _now()),
            ).lastrowid
        outer, self._state.pending = self._state.pending, []
        try:
            yield
            self._write(self._state.pending, finished=row)
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            with self._transaction() as connection:
                connection.execute("UPDATE unfinished SET reason = ? WHERE id = ?", (reason, row))
            raise
        finally:
            self._state.pending = outer

    def send_text(self, to: str, message: str) -> Entry:
        """Put a text message, and the photo, into the outbox."""
        recipient = self.resolve(to, "number")
        return self._record("texts", {"to": to, "message": message, **_reached(recipient)}, photo=True)

    def send_email(self, to: str, subject: str, body: str) -> Entry:
        """Put an e-mail with the photo attached into the outbox; `emails` gives the message itself."""
        recipient = self.resolve(to, "email")
        message = mail.compose(contacts.OWNER, recipient, subject, body, self.photo)
        entry = {
            "to": to,
            "subject": subject,
            "body": body,
            **_reached(recipient),
            "message_id": str(message["Message-ID"]),
        }
        return self._record("emails", entry, photo=True, message=message.as_bytes(policy=SMTP))

    def add_to_basket(self, item: str, quantity: int) -> Entry:
        """Put something into the grocery basket."""
        return self._record("basket", {"item": item, "quantity": quantity})

    def order(self, shop: str, arguments: Mapping[str, Any]) -> Entry:
        """Record an order; no money moves."""
        return self._record("orders", {"shop": shop, **arguments})

    def publish(self, item: str, location: str) -> Entry:
        """Put a notice, and the photo, on the lost-and-found board."""
        return self._record("board", {"item": item, "location": location}, photo=True)

    def search(self, topic: str, arguments: Mapping[str, Any]) -> Entry:
        """Record that something was looked up."""
        return self._record("searches", {"topic": topic, **arguments})

    def contacts(self) -> tuple[Contact, ...]:
        """The address book, in the order in which people were added."""
        rows = self._rows("SELECT contact FROM contacts ORDER BY id")
        return tuple(Contact(**{**json.loads(row[0]), "also": tuple(json.loads(row[0])["also"])}) for row in rows)

    def add_contact(self, contact: Contact) -> None:
        """Add a person to the address book."""
        with self._transaction() as connection:
            connection.execute("INSERT INTO contacts (contact) VALUES (?)", (json.dumps(asdict(contact)),))

    def dump(self) -> dict[str, list[dict[str, Any]]]:
        """Everything the phone did, oldest first: one list for each of LISTS, and `unfinished`.

        Each is a list of objects: the arguments as given, a time, and where they apply the resolved contact and whether
        there was a photo. JSON values only.
        """
        shown: dict[str, list[dict[str, Any]]] = {name: [] for name in (*LISTS, "unfinished")}
        for identity, name, entry in self._rows("SELECT id, list, entry FROM entries ORDER BY id"):
            shown[name].append({"id": identity, **json.loads(entry)})
        for identity, function, arguments, time, reason in self._rows(
            "SELECT id, function, arguments, time, reason FROM unfinished ORDER BY id"
        ):
            line = {"function": function, "arguments": json.loads(arguments), "reason": reason, "time": time}
            shown["unfinished"].append({"id": identity, **line})
        return shown

    def emails(self) -> list[EmailMessage]:
        """The e-mails as messages, oldest first."""
        rows = self._rows("SELECT message FROM entries WHERE list = 'emails' ORDER BY id")
        parser = BytesParser(_class=EmailMessage, policy=SMTP)
        return [parser.parsebytes(row[0]) for row in rows]

    def photo_of(self, identity: int) -> bytes | None:
        """The photo that went with the entry of this `id`, as JPEG."""
        rows = self._rows("SELECT photo FROM entries WHERE id = ?", (identity,))
        return rows[0][0] if rows else None

    def close(self) -> None:
        """Close the file; the phone cannot be used afterwards."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> MemoryPhone:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _record(
        self, name: str, entry: Mapping[str, Any], *, photo: bool = False, message: bytes | None = None
    ) -> Entry:
        shown = {**entry, "photo": self.photo is not None} if photo else dict(entry)
        row = _Row(name, {**shown, "time": _now()}, self.photo if photo else None, message)
        if self._state.pending is None:
            self._write([row])
        else:
            self._state.pending.append(row)
        return row.entry

    def _write(self, rows: list[_Row], finished: int | None = None) -> None:
        with self._transaction() as connection:
            for row in rows:
                connection.execute(
                    "INSERT INTO entries (list, entry, photo, message) VALUES (?, ?, ?, ?)",
                    (row.list, json.dumps(dict(row.entry)), row.photo, row.message),
                )
            connection.execute("DELETE FROM unfinished WHERE id = ?", (finished,))

    def _prepare(self) -> None:
        with self._transaction() as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if version == _VERSION:
                return
            if version or tables:
                raise DeviceError(f"{self.path} is not a phone of this version", "set OCTOPUS_PHONE to another file")
            for statement in filter(str.strip, _SCHEMA.split(";")):
                connection.execute(statement)
            for contact in contacts.SAMPLES:
                connection.execute("INSERT INTO contacts (contact) VALUES (?)", (json.dumps(asdict(contact)),))
            connection.execute(f"PRAGMA user_version = {_VERSION}")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                with self._connection:  # commits, or rolls back on an error
                    yield self._connection
            except sqlite3.Error as error:
                raise self._unusable(error) from error

    def _rows(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                return self._connection.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> DeviceError:
        return DeviceError(f"the phone's file {self.path} cannot be used: {error}", "set OCTOPUS_PHONE to another file")


def _private_file(path: Path) -> Path:
    """The same path; a new file, which will hold messages and photos, is nobody else's to read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.touch(mode=0o600)
    return path


def _reached(recipient: Recipient) -> dict[str, Any]:
    contact = recipient.contact
    known = None if contact is None else {"name": contact.name, "email": contact.email, "number": contact.number}
    return {"contact": known, "address": recipient.address}


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
