"""vCards, the format in which every phone and mail program gives away its contacts (RFC 6350, and 2.1 and 3.0).

In: the text of a .vcf file. Out: Contacts, and the other way round. Reads what phones really write: folded lines,
quoted-printable, groups, several numbers. Knows names, nicknames, e-mail addresses, numbers and relations; the rest of
a card is not kept.
"""

from __future__ import annotations

import quopri
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from octopus.address import digits, fold, is_email, is_number
from octopus.device import Contact
from octopus.errors import UsageError
from octopus.functions.devices.relations import RELATIONS

_LINE = re.compile(
    r"(?:[\w-]+\.)?(?P<name>[\w-]+)(?P<parameters>(?:;(?:\"[^\"]*\"|[^:\";])*)*):(?P<value>.*)", re.DOTALL
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_RELATION = "X-OCTOPUS-RELATION"
LONGEST = 32 << 20
"""Bytes of a file."""


@dataclass(frozen=True)
class _Property:
    name: str  # "TEL"
    parameters: str  # ";TYPE=CELL,PREF" in capitals
    value: str  # escapes not yet resolved

    @property
    def rank(self) -> int:
        """Preferred ones first, and of numbers those of mobiles."""
        return 2 * ("PREF" not in self.parameters) + ("CELL" not in self.parameters)


def read_vcards(content: bytes) -> list[Contact]:
    """The people in a file; a card without any name or address is left out.

    Raises:
        UsageError: It is no vCard file, or breaks off in the middle of a card.
    """
    people: list[Contact] = []
    card: list[_Property] | None = None
    for number, line in _lines(_text(content)):
        found = _property(line)
        if found is None:
            if card is not None and line.strip():
                raise UsageError(f"line {number} of the vCard file is no property", "is the file damaged?")
            continue
        if found.name == "BEGIN" and found.value.strip().upper() == "VCARD":
            if card is not None:
                raise UsageError(f"line {number} begins a card inside of a card", "is the file damaged?")
            card = []
        elif found.name == "END" and found.value.strip().upper() == "VCARD" and card is not None:
            person = _contact(card)
            if person is not None:
                people.append(person)
            card = None
        elif card is not None:
            card.append(found)
    if card is not None:
        raise UsageError("the vCard file breaks off in the middle of a card", "export the contacts again")
    if not people:
        raise UsageError("there is no contact in this file", "give a vCard file (.vcf)")
    return people


def write_vcards(people: Iterable[Contact]) -> str:
    """A file in version 3.0, which everything reads."""
    return "".join(f"{_folded(line)}\r\n" for contact in people for line in _card(contact))


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError("the vCard file is not UTF-8", "export the contacts as UTF-8") from None


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Logical lines with the number of their first one: folded and soft-broken lines put together."""
    lines = re.split("\r\n|\r|\n", text)
    row = 0
    while row < len(lines):
        first, line = row, lines[row]
        row += 1
        quoted = "QUOTED-PRINTABLE" in line.partition(":")[0].upper()
        while row < len(lines) and (lines[row][:1] in (" ", "\t") or (quoted and line.endswith("="))):
            line = line[:-1] + lines[row].lstrip() if quoted and line.endswith("=") else line + lines[row][1:]
            row += 1
        yield first + 1, line


def _property(line: str) -> _Property | None:
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    parameters, value = match["parameters"].upper(), match["value"]
    if "QUOTED-PRINTABLE" in parameters:
        charset = re.search(r"CHARSET=\"?([\w-]+)", parameters)
        octets = quopri.decodestring(value.encode("utf-8"))
        try:
            value = octets.decode(charset[1] if charset else "utf-8", "replace")
        except LookupError:
            value = octets.decode("utf-8", "replace")
    return _Property(match["name"].upper(), parameters, value)


def _contact(card: list[_Property]) -> Contact | None:
    emails, numbers = _addresses(card, "EMAIL"), _addresses(card, "TEL")
    names = list(dict.fromkeys(filter(None, [*_texts(card, "FN"), *_structured_names(card), *_texts(card, "ORG")])))
    also = [name for value in _values(card, "NICKNAME") for name in _list(value)]
    named = [*names, *also, *emails, *numbers]
    if not named:
        return None
    relation = next((value for value in _texts(card, _RELATION) if value in RELATIONS), "")
    others = [name for name in [*also, *_structured_names(card)] if fold(name) != fold(named[0])]
    return Contact(
        named[0],
        next(iter(emails), ""),
        next(iter(numbers), ""),
        tuple(dict.fromkeys(others)),
        relation,
        (*emails[1:], *numbers[1:]),
    )


def _values(card: list[_Property], name: str) -> list[str]:
    return [found.value for found in sorted(card, key=lambda found: found.rank) if found.name == name]


def _texts(card: list[_Property], name: str) -> list[str]:
    return [text for value in _values(card, name) if (text := _plain(_split(value, ";")[0]))]


def _structured_names(card: list[_Property]) -> list[str]:
    """`N:Kim;Alex` as "Alex Kim", `N:陈;思远` as 陈思远."""
    names = []
    for value in _values(card, "N"):
        family, given = [*(_plain(part) for part in _split(value, ";")), "", ""][:2]
        chinese = not (family + given).isascii() and all("\u3400" <= c <= "\u9fff" for c in family + given)
        names.append(family + given if chinese else f"{given} {family}".strip())
    return names


def _addresses(card: list[_Property], name: str) -> list[str]:
    """Each address once; what is no address (an empty field, a note) is left out."""
    found: dict[str, str] = {}
    for value in _values(card, name):
        text = re.sub(r"^(mailto|tel):", "", _plain(value), flags=re.IGNORECASE).partition(";")[0].strip()
        if name == "TEL" and is_number(text):
            found.setdefault(digits(text), text)
        elif name == "EMAIL" and is_email(text):
            found.setdefault(fold(text), text)
    return list(found.values())


def _list(value: str) -> list[str]:
    return [text for part in _split(value, ",") if (text := _plain(part))]


def _split(value: str, separator: str) -> list[str]:
    """At separators that are not escaped; the escapes stay."""
    parts, escaped = [""], False
    for character in value:
        if character == separator and not escaped:
            parts.append("")
            continue
        parts[-1] += character
        escaped = character == "\\" and not escaped
    return parts


def _plain(value: str) -> str:
    """Without escapes, as one clean line."""
    text = _ESCAPE.sub(lambda match: " " if match[1] in "nN" else match[1], value)
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _card(contact: Contact) -> Iterator[str]:
    yield "BEGIN:VCARD"
    yield "VERSION:3.0"
    yield f"FN:{_escaped(contact.name)}"
    yield f"N:{_escaped(contact.name)};;;;"
    if contact.also:
        yield f"NICKNAME:{','.join(map(_escaped, contact.also))}"
    for position, address in enumerate(filter(None, (contact.email, *filter(is_email, contact.further)))):
        yield f"EMAIL;TYPE=INTERNET{'' if position else ',PREF'}:{_escaped(address)}"
    numbers = (contact.number, *(address for address in contact.further if not is_email(address)))
    for position, address in enumerate(filter(None, numbers)):
        yield f"TEL;TYPE=CELL{'' if position else ',PREF'}:{_escaped(address)}"
    if contact.relation:
        yield f"{_RELATION}:{_escaped(contact.relation)}"
    yield "END:VCARD"


def _escaped(text: str) -> str:
    return re.sub(r"([\\,;])", r"\\\1", " ".join(text.split()))


def _folded(line: str) -> str:
    """At most 75 bytes a line, never in the middle of a character."""
    pieces, size = [""], 0
    for character in line:
        width = len(character.encode("utf-8"))
        if size + width > 74:
            pieces.append("")
            size = 1
        pieces[-1] += character
        size += width
    return "\r\n ".join(pieces)
