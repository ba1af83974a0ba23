"""Who is meant: finds people in an address book by name, nickname, relation, e-mail address or number.

In: a name as said by the user, in any usual spelling, and the contacts. Out: a Recipient. Guesses nobody: an unknown
name stays unknown, and a name of several people comes back with all of them. Also the sample contacts of a new phone;
their addresses and numbers are of the kinds reserved for examples.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

from octopus.address import digits, fold, is_email, is_number
from octopus.core import Channel
from octopus.device import Contact, Recipient
from octopus.functions.devices.relations import relations_of

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

_MINE = re.compile(r"^((my|the|our)\s+|我们?的?|咱们?的?|俺)(?=\S)")
_CHINESE = re.compile("[\u3400-\u9fff]+")


def resolve(given: str, channel: Channel, contacts: Sequence[Contact]) -> Recipient:
    """The contact with this name or address, or the phone's owner, else the address itself, else nobody.

    A name that fits several people equally well names none of them: they are the `candidates`.
    """
    plain = " ".join(fold(given).split())
    literal = is_email(plain) or is_number(plain)
    found = _fitting(plain, literal, (*contacts, OWNER))
    if len(found) > 1:
        return Recipient(given, candidates=found)
    if found:
        # Never the spelling as said: what looks alike, or differs in case, may lead to somebody else.
        return Recipient(given, found[0], _address(found[0], channel, plain if literal else ""))
    # An address of the other kind is kept too: a text to an e-mail address is still better than to nobody.
    return Recipient(given, None, _as_typed(given) if literal else None)


def _fitting(plain: str, literal: bool, people: Sequence[Contact]) -> tuple[Contact, ...]:
    """Those whose name, or else whose nickname, relation or part of the name it is."""
    if literal:
        return _each(people, lambda contact: any(_is_address(plain, address) for address in addresses(contact)))
    said = {plain, _MINE.sub("", plain, count=1)}
    meant = frozenset[str]().union(*map(relations_of, said))
    exactly = _each(people, lambda contact: fold(contact.name) in said)
    return exactly or _each(
        people,
        lambda contact: (
            bool(said & _names(contact) or meant & _relations(contact))
            # "mom" is not also Jake's mom, nor 妈妈 小明妈妈
            or (not meant and any(_is_part(part, name) for part in said for name in _names(contact)))
        ),
    )


def addresses(contact: Contact) -> tuple[str, ...]:
    """All e-mail addresses and numbers of a person."""
    return tuple(filter(None, (contact.email, contact.number, *contact.further)))


def _each(people: Sequence[Contact], fits: Callable[[Contact], bool]) -> tuple[Contact, ...]:
    return tuple(dict.fromkeys(contact for contact in people if fits(contact)))


def _address(contact: Contact, channel: Channel, said: str) -> str | None:
    """Where to reach them: the address that was said, as the contacts have it, else their first one for the channel."""
    named = next((address for address in addresses(contact) if said and _is_address(said, address)), None)
    usual: str = getattr(contact, channel)
    return named if named in contact.further else usual or None


def _is_address(plain: str, address: str) -> bool:
    if is_email(plain):
        return plain == fold(address)
    return not is_email(address) and digits(plain) == digits(address) != ""


def _names(contact: Contact) -> set[str]:
    return {fold(name) for name in (contact.name, *contact.also)}


def _relations(contact: Contact) -> frozenset[str]:
    words = {fold(contact.relation), *_names(contact)}
    return frozenset[str]().union(*map(relations_of, words))


def _is_part(said: str, name: str) -> bool:
    """First name or family name; in Chinese the given name (思远 of 陈思远) or what somebody is (经理 of 王经理)."""
    if _CHINESE.fullmatch(said):
        return len(said) >= 2 and name != said and name.endswith(said) and _CHINESE.fullmatch(name) is not None
    return said in name.split()


def _as_typed(given: str) -> str:
    """An address of no contact: as it was typed, but in plain letters and digits."""
    return unicodedata.normalize("NFKC", given).strip()
