"""Consent: may the calls of a request be carried out?

In: validated calls, what the user allowed beforehand, and a way to ask. Out: a Decision for the request as a whole;
every question comes before any deed. Executes nothing and prints nothing. Nobody to ask means no.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from octopus.core import Call, Effect, Outcome, Parameter
from octopus.device import Device
from octopus.registry import Registry

ASKED = frozenset({Effect.SEND, Effect.SPEND, Effect.PUBLISH})
"""Effects that cannot be taken back."""

_CARRIES_PHOTO = frozenset({Effect.SEND, Effect.PUBLISH})
_JOINERS = "\u200c\u200d\ufe0f"  # parts of emoji and of some scripts; they print as nothing but hide nothing


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
) -> Decision:
    """Decide for all calls of a request together: declining one executes none.

    Args:
        calls: What the model chose.
        registry: Says what each function does to the world.
        yes: The user agreed beforehand to everything.
        dry_run: Only tell what would happen; nobody is asked.
        confirm: Asks the user a question; None when nobody is there.
        phone: Resolves recipients for the question and says whether a photo goes along.

    Raises:
        FunctionError: A call's arguments do not fit its function.
    """
    descriptions = [describe(call, registry, phone) for call in calls]
    if dry_run:
        told = zip(calls, descriptions, strict=True)
        return Decision(False, tuple(Outcome(call, "dry-run", f"Would do: {text}") for call, text in told))
    if yes:
        return Decision(True)
    for position, (call, text) in enumerate(zip(calls, descriptions, strict=True)):
        if registry[call.name].effect not in ASKED:
            continue
        if confirm is None:
            return _declined(calls, position, "Not done: nobody is there to agree, and --yes was not given")
        if not confirm(f"{text}. Go ahead?"):
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
    title = function.name.replace("_", " ").capitalize()
    return f"{title}: {', '.join(parts)}" if parts else title


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
    visible = (c if c.isprintable() or c in _JOINERS else c.encode("unicode_escape").decode() for c in text)
    return '"' + "".join(visible).replace('"', '\\"') + '"'


def _declined(calls: Sequence[Call], position: int, reason: str) -> Decision:
    other = "Not done: another part of the request was declined"
    outcomes = (Outcome(call, "declined", reason if n == position else other) for n, call in enumerate(calls))
    return Decision(False, tuple(outcomes))
