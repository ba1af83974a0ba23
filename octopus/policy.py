"""Consent: may the calls of a request be carried out?

In: validated calls, the rules, what the user said and allowed beforehand, and a way to ask. Out: a Decision for the
request as a whole; every question comes before any deed. Executes nothing and prints nothing. Nobody to ask means no,
and so does whatever the rules do not name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from octopus.address import JOINERS
from octopus.config import Rules
from octopus.core import Call, Effect, Outcome, Parameter
from octopus.device import Device
from octopus.provenance import foreign
from octopus.registry import Registry

_CARRIES_PHOTO = frozenset({Effect.SEND, Effect.PUBLISH})


@dataclass(frozen=True)
class Decision:
    """Whether to carry the calls out; if not, `outcomes` says for each call why not."""

    execute: bool
    outcomes: tuple[Outcome, ...] = ()


def decide(
    calls: Sequence[Call],
    registry: Registry,
    *,
    yes: bool = False,
    dry_run: bool = False,
    confirm: Callable[[str], bool] | None = None,
    phone: Device | None = None,
    words: str = "",
    rules: Rules | None = None,
    thumbnail: Callable[[], str] | None = None,
) -> Decision:
    """Decide for all calls of a request together: declining one executes none.

    Args:
        calls: What the model chose.
        registry: Says what each function does to the world.
        yes: The user agreed beforehand to everything that the rules only ask about, and that is of the user's making.
        dry_run: Only tell what would happen; nobody is asked.
        confirm: Asks the user a question; None when nobody is there.
        phone: Resolves recipients for the question and says whether a photo goes along.
        words: Everything the user said in this request; addresses from elsewhere are always asked about.
        rules: What is allowed, asked about or denied; None: what cannot be taken back is asked about.
        thumbnail: Writes a small picture of the photo for the question and says where it is.

    Raises:
        FunctionError: A call's arguments do not fit its function.
    """
    rules = rules or Rules()
    descriptions = [describe(call, registry, phone) for call in calls]
    if dry_run:
        told = zip(calls, descriptions, strict=True)
        return Decision(False, tuple(Outcome(call, "dry-run", f"Would do: {text}") for call, text in told))
    verdicts = [rules.verdict(registry[call.name]) for call in calls]
    if "deny" in verdicts:
        position = verdicts.index("deny")
        return _declined(calls, position, f"Not done: the rules deny {calls[position].name} (`octopus config`)")
    for position, (call, text) in enumerate(zip(calls, descriptions, strict=True)):
        strange = foreign(registry[call.name], call.arguments, words, phone)
        if not strange and (verdicts[position] == "allow" or yes):
            continue
        if confirm is None:
            return _declined(calls, position, _nobody(strange))
        if not confirm(_question(text, strange, phone, thumbnail)):
            return _declined(calls, position, "Not done: you declined")
    return Decision(True)


def describe(call: Call, registry: Registry, phone: Device | None = None) -> str:
    """What the call would do, on one line: `Send text: to "mom" (Mom, +1 202 555 0143), message "hi", with the photo`.

    Everything is shown; characters that could disguise the text are escaped.
    """
    function = registry[call.name]
    arguments = registry.validate(call.name, call.arguments)
    parts = [f"{p.name} {_shown(p, arguments[p.name], phone)}" for p in function.parameters]
    if function.effect in _CARRIES_PHOTO and phone is not None:
        parts.append("without a photo" if phone.photo is None else "with the photo")
    if function.effect is Effect.SPEND:
        parts.append("price unknown")
    title = function.name.replace("_", " ").capitalize()
    return f"{title}: {', '.join(parts)}" if parts else title


def _question(text: str, strange: Sequence[str], phone: Device | None, thumbnail: Callable[[], str] | None) -> str:
    if strange:
        named = ", ".join(map(_quoted, strange))
        text = f"Careful: {named} is neither in your words nor in your contacts. {text}"
    if thumbnail is not None and phone is not None and phone.photo is not None and text.endswith("with the photo"):
        text += f" ({thumbnail()})"
    return f"{text}. Go ahead?"


def _nobody(strange: Sequence[str]) -> str:
    if strange:
        named = ", ".join(map(_quoted, strange))
        return f"Not done: {named} is neither in your words nor in your contacts, and nobody is there to be asked"
    return "Not done: nobody is there to agree, and --yes was not given"


def _shown(parameter: Parameter, value: Any, phone: Device | None) -> str:
    if not isinstance(value, str):
        return str(value)
    text = _quoted(value) if value else "(empty)"
    if parameter.channel is None or phone is None:
        return text
    recipient = phone.resolve(value, parameter.channel)
    if recipient.contact is not None:
        return f"{text} ({recipient.contact.name}, {recipient.address or 'no ' + parameter.channel})"
    return text if recipient.address else f"{text} (not in contacts)"


def _quoted(text: str) -> str:
    """In quotes, with everything unprintable (line breaks, terminal codes, right-to-left marks) escaped."""
    visible = (c if c.isprintable() or c in JOINERS else c.encode("unicode_escape").decode() for c in text)
    return '"' + "".join(visible).replace('"', '\\"') + '"'


def _declined(calls: Sequence[Call], position: int, reason: str) -> Decision:
    other = "Not done: another part of the request was declined"
    outcomes = (Outcome(call, "declined", reason if n == position else other) for n, call in enumerate(calls))
    return Decision(False, tuple(outcomes))
