"""Where recipients, addresses and links of a call come from: what the user neither said nor knows needs a question.

In: a call's arguments, the user's own words, and a phone that knows the contacts. Out: the parts of foreign origin. A
photo is untrusted input: text in it can make the model write any address, but cannot make it one that the user said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from octopus.address import addresses_in, digits, fold, is_number, was_said
from octopus.core import Channel, Function
from octopus.device import Device


def foreign(function: Function, arguments: Mapping[str, Any], words: str, phone: Device | None) -> tuple[str, ...]:
    """The recipients, addresses and links that come neither from the user's words nor from the contacts.

    Args:
        function: What is to be called.
        arguments: With which values.
        words: Everything that the user said in this request.
        phone: Knows the contacts; None: nobody is known.
    """
    found: dict[str, None] = {}
    for parameter in function.parameters:
        value = arguments.get(parameter.name)
        if parameter.kind == "string" and value:
            channel = parameter.channel
            if channel is not None and not was_said(value, words) and not _is_known(value, channel, phone):
                found[value] = None
            found |= dict.fromkeys(_foreign_in(value, words, phone))
    # One of them may be part of another: the longer one says it all.
    return tuple(part for part in found if not any(part != other and part in fold(other) for other in found))


def _foreign_in(text: str, words: str, phone: Device | None) -> Iterator[str]:
    for part in addresses_in(text):
        channel: Channel = "number" if is_number(part) and len(digits(part)) >= 7 else "email"
        if not was_said(part, words) and not _is_known(part, channel, phone):
            yield part


def _is_known(name: str, channel: Channel, phone: Device | None) -> bool:
    if phone is None:
        return False
    recipient = phone.resolve(name, channel)
    return recipient.contact is not None or bool(recipient.candidates)
