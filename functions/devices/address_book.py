"""The contacts in a phone's file.

In: Contacts. Out: the same, in the order in which they were added. Who is meant by a name is contacts.py's business.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import Any

from octopus.device import Contact
from octopus.store import Store


class AddressBook:
    """The people a phone knows."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def people(self) -> tuple[Contact, ...]:
        """Everybody, in the order in which they were added."""
        return tuple(
            _contact(json.loads(row[0])) for row in self._store.rows("SELECT contact FROM contacts ORDER BY id")
        )

    def add(self, contact: Contact) -> None:
        """Add a person."""
        with self._store.transaction() as connection:
            connection.execute("INSERT INTO contacts (contact) VALUES (?)", (json.dumps(asdict(contact)),))


def _contact(stored: dict[str, Any]) -> Contact:
    known = {field.name for field in fields(Contact)}
    lists = {name: tuple(value) for name, value in stored.items() if isinstance(value, list)}
    return Contact(**{name: value for name, value in {**stored, **lists}.items() if name in known})
