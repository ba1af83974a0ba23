"""The contacts in a phone's file.

In: Contacts. Out: the same, in the order in which they were added, and who of them is meant (contacts.py decides).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from octopus.address import fold, is_email
from octopus.core import Channel
from octopus.device import Contact, Recipient
from octopus.functions.devices.contacts import resolve
from octopus.store import Store

MOST_REMEMBERED = 1000
"""Names and addresses whose person is remembered until the contacts change."""


@dataclass(frozen=True)
class _Known:
    version: int  # of the file, as far as others have written to it
    rows: tuple[str, ...]
    people: tuple[Contact, ...]
    resolved: dict[tuple[str, Channel], Recipient]


class AddressBook:
    """The people a phone knows."""

    def __init__(self, store: Store) -> None:
        self._store = store
        # A request asks several times who is meant; a thousand people are read and compared once.
        self._known: _Known | None = None

    def people(self) -> tuple[Contact, ...]:
        """Everybody, in the order in which they were added."""
        return self._current().people

    def resolve(self, given: str, channel: Channel) -> Recipient:
        """Who is meant by a name, e-mail address or number."""
        known = self._current()
        found = known.resolved.get((given, channel))
        if found is None:
            if len(known.resolved) >= MOST_REMEMBERED:
                known.resolved.clear()
            found = known.resolved[given, channel] = resolve(given, channel, known.people)
        return found

    def _current(self) -> _Known:
        version = self._store.rows("PRAGMA data_version")[0][0]
        known = self._known
        if known is not None and known.version == version:
            return known
        rows = tuple(row[0] for row in self._store.rows("SELECT contact FROM contacts ORDER BY id"))
        if known is not None and known.rows == rows:
            known = replace(known, version=version)
        else:
            known = _Known(version, rows, tuple(_contact(json.loads(row)) for row in rows), {})
        self._known = known
        return known

    def merge(self, people: Iterable[Contact]) -> tuple[int, int]:
        """Take people in, all or none. Who has a name that is known gets what is new added, and loses nothing.

        Returns:
            How many people are new, and how many learned something new.
        """
        new, changed = 0, 0
        with self._store.transaction() as connection:
            rows = connection.execute("SELECT id, contact FROM contacts ORDER BY id").fetchall()
            known = {
                fold(contact.name): (row, contact) for row, text in rows for contact in [_contact(json.loads(text))]
            }
            for person in people:
                row, before = known.get(fold(person.name), (None, person))
                merged = before if row is None else _merged(before, person)
                text = json.dumps(asdict(merged))
                if row is None:
                    row = connection.execute("INSERT INTO contacts (contact) VALUES (?)", (text,)).lastrowid
                    new += 1
                elif merged != before:
                    connection.execute("UPDATE contacts SET contact = ? WHERE id = ?", (text, row))
                    changed += 1
                known[fold(person.name)] = (row, merged)
        self._known = None
        return new, changed

    def add(self, contact: Contact) -> None:
        """Add a person."""
        with self._store.transaction() as connection:
            connection.execute("INSERT INTO contacts (contact) VALUES (?)", (json.dumps(asdict(contact)),))
        self._known = None


def _contact(stored: dict[str, Any]) -> Contact:
    known = {field.name for field in fields(Contact)}
    lists = {name: tuple(value) for name, value in stored.items() if isinstance(value, list)}
    return Contact(**{name: value for name, value in {**stored, **lists}.items() if name in known})


def _merged(known: Contact, person: Contact) -> Contact:
    """The known one with what the other adds: names, addresses, a relation. What is known stays where it is."""
    addresses = dict.fromkeys(filter(None, (known.email, known.number, *known.further)))
    addresses |= dict.fromkeys(filter(None, (person.email, person.number, *person.further)))
    email = known.email or next(filter(is_email, addresses), "")
    number = known.number or next((address for address in addresses if not is_email(address)), "")
    further = tuple(address for address in addresses if address not in (email, number))
    also = tuple(dict.fromkeys((*known.also, *person.also)))
    relation = known.relation or person.relation
    return replace(known, email=email, number=number, also=also, relation=relation, further=further)
