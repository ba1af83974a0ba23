"""E-mail addresses, telephone numbers and links: is this text one, which ones does it hold, and did the user say it?

In: text. Out: yes and no, or the parts of the text. It is generous: what merely looks like a link counts as one,
because the price is one question too many, not a message to a stranger.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

JOINERS = "\u200c\u200d\ufe0f"
"""Parts of emoji and of some scripts; they print as nothing but hide nothing."""

_EMAIL = re.compile(r"[^@\s<>(),;:\"]{1,64}@[^@\s<>(),;:\"]{1,253}\.[^@\s<>(),;:\".]{2,63}")
_NUMBER = re.compile(r"\+?[0-9()][0-9\s().-]*")
_LOOKS_LIKE = (
    re.compile(r"[^@\s<>()\[\],;:\"]+@[^@\s<>()\[\],;:\"]+"),  # an address
    re.compile(r"(?:[a-z][a-z0-9+.-]*://|www\.|mailto:|tel:)[^\s<>\"]+"),  # a link
    re.compile(r"[^\W_][\w-]*(?:\.[\w-]+)*\.[^\W\d_]{2,}(?:[:/][^\s<>\"]*)?"),  # the name of a server
    re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?:[:/][^\s<>\"]*)?"),  # its number
)
_DIGITS = re.compile(r"[0-9][0-9\s().-]*[0-9]")
_FEWEST_DIGITS = 7  # fewer are a price, a year or a time more often than a number to call
_SCHEME = re.compile(r"\b(?:https?|ftp)://|\b(?:mailto|tel):")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060-\u2064\ufeff]")
_ENDS = ".,!?;:'。，！？；：、）)」』》"


def is_email(text: str) -> bool:
    """Whether the text has the form of one e-mail address."""
    return _EMAIL.fullmatch(text) is not None and ".." not in text and not text.startswith(".")


def is_number(text: str) -> bool:
    """Whether the text has the form of a telephone number: 3 to 15 digits."""
    return _NUMBER.fullmatch(text) is not None and 3 <= len(digits(text)) <= 15


def digits(text: str) -> str:
    """The digits of a number, without what is written between them."""
    return "".join(character for character in text if character in "0123456789")


def addresses_in(text: str) -> Iterator[str]:
    """Everything in the text that looks like an e-mail address, a link or a telephone number."""
    plain = fold(text)
    for pattern in _LOOKS_LIKE:
        for match in pattern.finditer(plain):
            yield match[0].rstrip(_ENDS)
        plain = pattern.sub(" ", plain)  # a part of an address is not another one
    for match in _DIGITS.finditer(plain):
        if len(digits(match[0])) >= _FEWEST_DIGITS:
            yield match[0]


def was_said(part: str, words: str) -> bool:
    """Whether the user's words hold this address, name or number as a whole, and not as a piece of a longer one."""
    said, part = _SCHEME.sub("", fold(words)), _SCHEME.sub("", fold(part)).strip().rstrip("/")
    if not part:
        return False
    # Chinese stands beside it without a space; letters, digits and signs of addresses would make it another one.
    alone = rf"(?<![a-z0-9._%+@/-]){re.escape(part)}(?!/?[a-z0-9_%+@-]|/[^\s/]|\.[a-z0-9])"
    if re.search(alone, said):
        return True
    return is_number(part) and digits(part) in (digits(match[0]) for match in _DIGITS.finditer(said))


def fold(text: str) -> str:
    """The text for comparing: full-width letters, capitals and invisible characters make no difference."""
    return " ".join(_INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).casefold().split())
