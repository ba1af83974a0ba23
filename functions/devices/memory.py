"""MemoryPhone: a phone in one SQLite file: contacts, outbox, basket, orders, board. The default device, and the fake.

In: the verbs of a Device. Out: entries, shown by `dump`. By itself it only records, and nothing leaves the machine;
with outlets a function's deeds go out into the world first and are recorded then. What a call records is written in
one piece when it ends well; a call that fails or is cut off leaves a line among `unfinished`. One phone may be used
from several threads and processes.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import SMTP
from pathlib import Path
from types import TracebackType
from typing import Any

from octopus.core import Channel, Language
from octopus.device import Contact, Deed, Entry, Outlet, Recipient, Verb
from octopus.errors import DeviceError, UncertainError
from octopus.functions.devices import contacts, mail
from octopus.functions.devices.address_book import AddressBook
from octopus.functions.devices.schema import prepare
from octopus.journal import Action, Journal, finish_in, now, undo_in
from octopus.settings import read_settings
from octopus.store import Store

LISTS = ("texts", "emails", "basket", "orders", "board", "searches")
"""What a phone keeps, besides `unfinished`."""

ANY = "*"
"""Stands for every function, where outlets are given."""

_TAKEN_BACK = ("basket", "board", "searches")
"""Lists whose entries are undone by removing them; so are drafts in the others."""


@dataclass(frozen=True)
class _Row:
    list: str
    entry: Entry
    photo: bytes | None
    message: bytes | None
    deed: str  # its key


@dataclass
class _Call:
    """The call that a thread is carrying out."""

    action: Action
    pending: list[_Row] = field(default_factory=list)
    deeds: int = 0


class _State(threading.local):
    """What belongs to the request that this thread is carrying out."""

    photo: bytes | None = None
    language: Language = "en"
    call: _Call | None = None


class MemoryPhone:
    """A phone that records what it is told to do; see octopus.device.Device."""

    def __init__(
        self,
        path: str | Path | None = None,
        outlets: Mapping[str, Outlet] | None = None,
        only_recorded: frozenset[str] = frozenset(),
    ) -> None:
        """Open or create the phone's file.

        Args:
            path: ":memory:" keeps nothing; None means OCTOPUS_PHONE or the user's folder.
            outlets: Who does the deeds of which function in the world; "*" for all others it can do. None: nobody.
            only_recorded: Functions whose deeds have no outlet, whatever "*" says.

        Raises:
            DeviceError: The file cannot be opened or is not a phone.
        """
        self.path = str(path or read_settings().phone)
        self._outlets = dict(outlets or {})
        self._only_recorded = only_recorded
        self._state = _State()
        self._store = Store(self.path)
        try:
            prepare(self._store)
        except DeviceError:
            self._store.close()
            raise
        self._journal = Journal(self._store)
        self.address_book = AddressBook(self._store)

    @property
    def journal(self) -> Journal:
        """What has become of each call."""
        return self._journal

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
        return self.address_book.resolve(given, channel)

    @contextmanager
    def underway(self, function: str, arguments: Mapping[str, Any], action: Action | None = None) -> Iterator[None]:
        """Record the verbs inside all together at the end, or else only that the call was not finished."""
        action = action or self._journal.begin(function, arguments, self.photo, self.language)
        outer, self._state.call = self._state.call, _Call(action)
        try:
            yield
            self._finish(self._state.call)
        except BaseException as error:
            told = (str(error) or type(error).__name__) if isinstance(error, Exception) else "interrupted"
            self._journal.fail(action.id, told)
            raise
        finally:
            self._state.call = outer

    def take_back(self, action: Action) -> str:
        """Remove what a finished action recorded, where that makes it undone; outlets take their part back first."""
        rows = self._store.rows(
            "SELECT list, entry, photo, deed FROM entries WHERE action = ? ORDER BY id DESC", (action.id,)
        )
        recorded = [(name, json.loads(entry), photo, deed) for name, entry, photo, deed in rows]
        if not recorded:
            raise DeviceError(f"{action.function} left nothing that could be taken back")
        for name, entry, _, _ in recorded:
            if name not in _TAKEN_BACK and not entry.get("draft"):
                raise DeviceError(f"{action.function} is done and cannot be taken back", "what has been sent is gone")
        for _, entry, photo, deed in recorded:
            outlet = self._outlet(action.function) if entry.get("device") else None
            if outlet is not None:
                outlet.undo(Deed(entry["verb"], action.arguments, deed, None, photo, action.language), entry)
        with self._store.transaction() as connection:
            if not undo_in(connection, action):
                raise DeviceError(f"{action.function} was undone by somebody else")
            connection.execute("DELETE FROM entries WHERE action = ?", (action.id,))
        return action.agreed or action.function

    def send_text(self, to: str, message: str) -> Entry:
        """Put a text message, and the photo, into the outbox."""
        recipient = self.resolve(to, "number")
        return self._do("send_text", "texts", {"to": to, "message": message}, recipient, photo=True)

    def send_email(self, to: str, subject: str, body: str) -> Entry:
        """Put an e-mail with the photo attached into the outbox; `emails` gives the message itself."""
        recipient = self.resolve(to, "email")
        arguments = {"to": to, "subject": subject, "body": body}
        return self._do("send_email", "emails", arguments, recipient, photo=True)

    def add_to_basket(self, item: str, quantity: int) -> Entry:
        """Put something into the grocery basket."""
        return self._do("add_to_basket", "basket", {"item": item, "quantity": quantity})

    def order(self, shop: str, arguments: Mapping[str, Any]) -> Entry:
        """Record an order; no money moves."""
        return self._do("order", "orders", {"shop": shop, **arguments})

    def publish(self, item: str, location: str) -> Entry:
        """Put a notice, and the photo, on the lost-and-found board."""
        return self._do("publish", "board", {"item": item, "location": location}, photo=True)

    def search(self, topic: str, arguments: Mapping[str, Any]) -> Entry:
        """Record that something was looked up."""
        return self._do("search", "searches", {"topic": topic, **arguments})

    def contacts(self) -> tuple[Contact, ...]:
        """The address book, in the order in which people were added."""
        return self.address_book.people()

    def add_contact(self, contact: Contact) -> None:
        """Add a person to the address book."""
        self.address_book.add(contact)

    def dump(self) -> dict[str, list[dict[str, Any]]]:
        """Everything the phone did, oldest first: one list for each of LISTS, and `unfinished`.

        Each is a list of objects: the arguments as given, a time, and where they apply the resolved contact and whether
        there was a photo. JSON values only.
        """
        shown: dict[str, list[dict[str, Any]]] = {name: [] for name in (*LISTS, "unfinished")}
        for identity, name, entry in self._store.rows("SELECT id, list, entry FROM entries ORDER BY id"):
            shown[name].append({"id": identity, **json.loads(entry)})
        for action in self._journal.unfinished():
            line = {"function": action.function, "arguments": dict(action.arguments), "reason": action.why()}
            shown["unfinished"].append({"id": action.id, **line, "time": action.time})
        return shown

    def emails(self) -> list[EmailMessage]:
        """The e-mails as messages, oldest first."""
        rows = self._store.rows("SELECT message FROM entries WHERE list = 'emails' ORDER BY id")
        parser = BytesParser(_class=EmailMessage, policy=SMTP)
        return [parser.parsebytes(row[0]) for row in rows]

    def photo_of(self, identity: int) -> bytes | None:
        """The photo that went with the entry of this `id`, as JPEG."""
        rows = self._store.rows("SELECT photo FROM entries WHERE id = ?", (identity,))
        return rows[0][0] if rows else None

    def close(self) -> None:
        """Close the file; the phone cannot be used afterwards."""
        self._store.close()

    def __enter__(self) -> MemoryPhone:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _do(
        self,
        verb: Verb,
        name: str,
        arguments: dict[str, Any],
        recipient: Recipient | None = None,
        photo: bool = False,
    ) -> Entry:
        """Do one deed in the world, if there is an outlet for it, and record it in the list of this name."""
        if self._state.call is None:  # a verb used by itself is a call of its own
            with self.underway(verb, arguments):
                return self._do(verb, name, arguments, recipient, photo)
        call = self._state.call
        key = f"{call.action.key}.{call.deeds}"
        call.deeds += 1
        done = self._store.rows("SELECT entry FROM entries WHERE deed = ?", (key,))
        if done:  # by an earlier attempt, which broke off later
            entry: Entry = json.loads(done[0][0])
            return entry
        deed = Deed(verb, arguments, key, recipient, self.photo if photo else None, self.language)
        shown = {**arguments, **({} if recipient is None else _reached(recipient))}
        if photo:
            shown["photo"] = deed.photo is not None
        message = None
        if verb == "send_email" and recipient is not None:
            composed = mail.compose(contacts.OWNER, recipient, deed)
            shown["message_id"], message = str(composed["Message-ID"]), composed.as_bytes(policy=SMTP)
        outlet = self._outlet(call.action.function, verb)
        if outlet is not None:
            shown |= {"device": outlet.name, "verb": verb, **self._let_out(outlet, deed, call.action)}
        row = _Row(name, {**shown, "time": now()}, deed.photo, message, key)
        if outlet is None:
            call.pending.append(row)
        else:
            with self._store.transaction() as connection:
                self._insert(connection, row, call.action.id)
                connection.execute("UPDATE journal SET doubt = ? WHERE id = ?", (call.action.doubt, call.action.id))
        return row.entry

    def _let_out(self, outlet: Outlet, deed: Deed, action: Action) -> Entry:
        """Let the outlet do it. Before, the journal says on disk that it may happen now; after, whether it did."""
        if deed.verb not in outlet.verbs:
            raise DeviceError(f"{outlet.name} cannot do {action.function}", "`octopus config` shows who does what")
        doubt = action.doubt if outlet.repeatable else outlet.name
        self._journal.doubt(action.id, doubt, durable=True)
        try:
            return outlet.do(deed)
        except UncertainError:
            raise
        except DeviceError:
            self._journal.doubt(action.id, action.doubt)
            raise

    def _outlet(self, function: str, verb: Verb | None = None) -> Outlet | None:
        if function in self._outlets or function in self._only_recorded:
            return self._outlets.get(function)
        others = self._outlets.get(ANY)
        return others if others is not None and (verb is None or verb in others.verbs) else None

    def _finish(self, call: _Call) -> None:
        with self._store.transaction() as connection:
            for row in call.pending:
                self._insert(connection, row, call.action.id)
            finish_in(connection, call.action.id)

    @staticmethod
    def _insert(connection: sqlite3.Connection, row: _Row, action: int) -> None:
        values = (row.list, json.dumps(dict(row.entry)), row.photo, row.message, action, row.deed)
        connection.execute(
            "INSERT INTO entries (list, entry, photo, message, action, deed) VALUES (?, ?, ?, ?, ?, ?)", values
        )


def _reached(recipient: Recipient) -> dict[str, Any]:
    contact = recipient.contact
    known = None if contact is None else {"name": contact.name, "email": contact.email, "number": contact.number}
    return {"contact": known, "address": recipient.address}
