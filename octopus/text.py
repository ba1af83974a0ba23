"""What a person typed or dictated becomes one clean line of text, or a clear TextError; and how values stand in it.

It knows nothing of tokens: `<nexa_3>` typed by a user is text like any other.
"""

from __future__ import annotations

import re
import unicodedata

from octopus.errors import TextError

LONGEST_TEXT = 4000
"""Characters."""

_REORDERING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # make text look other than it reads
_SCRIPTS_WITHOUT_SPACES = re.compile(
    "[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef\U00020000-\U0003ffff]"
)


def clean_text(text: str) -> str:
    """The request without control characters and marks that reorder text; line breaks become spaces.

    Raises:
        TextError: Nothing is left, or it is longer than 4,000 characters.
    """
    if not isinstance(text, str):
        raise TextError(f"the text is of type {type(text).__name__}", "give a str")
    if len(text) > LONGEST_TEXT:
        raise TextError(f"the text has {len(text):,} characters", f"use at most {LONGEST_TEXT:,}")
    spaced = " ".join(text.split())
    kept = (c for c in spaced if unicodedata.category(c) not in ("Cc", "Cs") and c not in _REORDERING)
    cleaned = "".join(kept).strip()
    if not any(c.isprintable() and not c.isspace() for c in cleaned):
        raise TextError("the text is empty", "say what to do, for example: text this to mom")
    return cleaned


def clean_value(text: str) -> str:
    """A string as it may stand in an argument: no control characters, no U+FFFD, no space around it."""
    text = text.encode("utf-8", "replace").decode("utf-8").replace("\ufffd", "")
    return "".join(" " if unicodedata.category(c) == "Cc" else c for c in text).strip()


def is_spaceless(text: str) -> bool:
    """Whether the text begins in a script that puts no spaces between words."""
    return bool(_SCRIPTS_WITHOUT_SPACES.match(text))


def is_spaced(value: str, query: str) -> bool:
    """Whether a space stands in front of the value where the request has it as whole words, or would have it."""
    if query.startswith(value) or " " + value in query:
        return True
    place = query.find(value)
    while place > 0 and in_word(query[place - 1]) and in_word(value[:1]):
        place = query.find(value, place + 1)
    return place < 0 and not is_spaceless(value)


def in_word(character: str) -> bool:
    """Whether this is a letter, mark or digit of a script that puts spaces between words."""
    return bool(character) and unicodedata.category(character)[0] in "LMN" and not is_spaceless(character)
