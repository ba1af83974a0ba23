"""Who is meant: finds a person in an address book by name, e-mail address or number, in any usual spelling.

In: a name as said by the user and the contacts. Out: a Recipient. Guesses nobody: an unknown name stays unknown.
Also the sample contacts of a new phone; their addresses and numbers are of the kinds reserved for examples.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from octopus.address import digits, is_email, is_number
from octopus.core import Channel
from octopus.device import Contact, Recipient

OWNER = Contact("Me", "me@example.com", "+1 202 555 0100", ("myself", "我", "我自己"))

SAMPLES = (
    Contact("Mom", "mom@example.com", "+1 202 555 0143", ("mum", "mama", "mommy", "mother", "妈妈", "妈", "老妈")),
    Contact("Dad", "dad@example.com", "+1 202 555 0144", ("daddy", "papa", "father", "爸爸", "爸", "老爸")),
    Contact("Grandma", "grandma@example.com", "+1 202 555 0145", ("gran", "granny", "nan", "nana", "奶奶", "外婆")),
    Contact("Boss", "boss@work.example", "+1 202 555 0146", ("the boss", "老板")),
    Contact("Ana", "ana@example.org", "+1 202 555 0147", ("安娜",)),
    Contact("Alex Kim", "alex.kim@example.org", "+1 202 555 0148", ("Alex",)),
    Contact("Priya Shah", "priya.shah@work.example", "+1 202 555 0149", ("Priya",)),
    Contact("陈思远", "chen.siyuan@example.org", "+1 202 555 0150", ("思远", "Chen Siyuan")),
    Contact("王经理", "wang@work.example", "+1 202 555 0151", ("Manager Wang",)),
    Contact("Landlord", "landlord@example.net", "+1 202 555 0152", ("the landlord", "房东")),
    Contact("Roommate", "roommate@example.net", "+1 202 555 0153", ("flatmate", "室友")),
)

_MINE = re.compile(r"^(my\s+|我的|我)(?=\S)")


def resolve(given: str, channel: Channel, contacts: Sequence[Contact]) -> Recipient:
    """The contact with this name or address, or the phone's owner, else the address itself, else nobody."""
    plain = unicodedata.normalize("NFKC", given).strip()
    for contact in (*contacts, OWNER):
        if _matches(plain, contact):
            # Never the spelling as said: what looks alike, or differs in case, may lead to somebody else.
            return Recipient(given, contact, getattr(contact, channel) or None)
    # An address of the other kind is kept too: a text to an e-mail address is still better than to nobody.
    return Recipient(given, None, plain if is_email(plain) or is_number(plain) else None)


def _matches(plain: str, contact: Contact) -> bool:
    if is_email(plain):
        return plain.casefold() == contact.email.casefold()
    if is_number(plain):
        return digits(plain) == digits(contact.number)
    said = _key(plain)
    names = {_key(name) for name in (contact.name, *contact.also)}
    return said in names or _MINE.sub("", said, count=1) in names


def _key(name: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())
