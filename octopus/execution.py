"""From what was agreed to what was done: carries out actions of the journal, once each; resumes and undoes them.

In: actions, the functions and a phone. Out: Outcomes. What may have happened already is never done again unless the
user says so. Asks nobody for consent (policy.py does); `ask` only decides what to do with an unclear past.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from octopus.config import Rules
from octopus.core import Call, Effect, Function, Outcome, Plan
from octopus.device import Device, request_on
from octopus.errors import DeviceError, OctopusError, UsageError
from octopus.journal import Action
from octopus.policy import decide, describe
from octopus.process import mark
from octopus.registry import CATALOGUE, Registry

FINAL = frozenset({Effect.SEND, Effect.SPEND, Effect.PUBLISH})
"""Effects that cannot be taken back."""

_HARMLESS = (Effect.READ, Effect.NONE)

Ask = Callable[[str], bool]


@dataclass(frozen=True)
class Consent:
    """What the user allowed beforehand, and how they are asked for the rest."""

    yes: bool = False
    dry_run: bool = False
    confirm: Ask | None = None
    rules: Rules = field(default_factory=Rules)
    thumbnail: Callable[[], str] | None = None


def perform(
    plan: Plan,
    registry: Registry,
    phone: Device,
    consent: Consent,
    *,
    send_after: float = 0.0,
    key: str | None = None,
) -> tuple[Outcome, ...]:
    """Ask for consent to a plan and carry it out, call by call; each step stands in the journal before it is taken.

    Args:
        plan: Without a question; its photo and language are set on the phone.
        registry: The functions.
        phone: Where it happens.
        consent: What the user says to it.
        send_after: Seconds for which everything that cannot be taken back is held back, so that it still can be undone.
        key: Two requests with one key are one request: the second only tells what became of the first.
    """
    told = [describe(call, registry, phone) for call in plan.calls]  # refuses what does not fit before anything else
    if consent.dry_run:
        return decide(plan.calls, registry, dry_run=True, phone=phone).outcomes
    sources = [source(registry[call.name]) for call in plan.calls]
    actions = phone.journal.plan(plan.calls, told, sources, phone.photo, phone.language, key)
    if any(action.state != "planned" or action.owner != mark() for action in actions):
        return tuple(_became_of(action, call) for action, call in zip(actions, plan.calls, strict=True))
    decision = decide(
        plan.calls,
        registry,
        yes=consent.yes,
        confirm=consent.confirm,
        phone=phone,
        words=plan.words,
        rules=consent.rules,
        thumbnail=consent.thumbnail,
    )
    if not decision.execute:
        phone.journal.decline(actions)
        return decision.outcomes
    held_back = [send_after > 0 and registry[call.name].effect in FINAL for call in plan.calls]
    due = time.time() + send_after
    phone.journal.confirm(actions, [due if held else 0.0 for held in held_back])
    return tuple(
        Outcome(call, "waiting", f"In {send_after:g} s: {action.agreed}")
        if held
        else replace(carry_out(phone.journal.action(action.id), registry, phone), call=call)
        for action, call, held in zip(actions, plan.calls, held_back, strict=True)
    )


def source(function: Function) -> str:
    """Where the function's code is: nothing for the catalogue's, else its file."""
    if function.body.__module__ == CATALOGUE:
        return ""
    return str(inspect.unwrap(function.body).__code__.co_filename)


def carry_out(action: Action, registry: Registry, phone: Device) -> Outcome:
    """Do what was agreed to, unless somebody else has begun or undone it."""
    function = registry[action.function]
    own_code = source(function)
    # Whatever else code of the user's does, nobody can tell how far it came.
    doubt = own_code if function.effect not in _HARMLESS else ""
    if not phone.journal.start(action, doubt):
        return Outcome(action.call, "declined", "Not done: it has been carried out or undone elsewhere")
    return registry.execute(action.call, phone, phone.journal.action(action.id))


def carry_out_with_its_photo(action: Action, registry: Registry, phone: Device) -> Outcome:
    """The same for an action whose request is over: with the photo and in the language of then.

    What it would do now must be what the user agreed to: the address book may have changed since.
    """
    try:
        function = registry[action.function]
        if source(function) != action.source:
            hint = f"give --functions {action.source}" if action.source else "leave --functions away"
            raise UsageError(f"{action.function} is another function than the one agreed to", hint)
        with request_on(phone, action.photo, action.language):
            meant = describe(action.call, registry, phone)
            if action.agreed not in ("", meant):
                raise UsageError(f"it would be something else now: {meant}", "undo it, and ask for it again")
            return carry_out(action, registry, phone)
    except OctopusError as error:
        return Outcome(action.call, "failed", f"{action.function} failed: {error}")


def resume(
    registry: Registry,
    phone: Device,
    identities: Sequence[int] = (),
    *,
    again: bool = False,
    ask: Ask | None = None,
) -> Iterator[Outcome]:
    """Carry out what was agreed to and is not done, oldest first.

    Args:
        registry: The functions.
        phone: The phone with the journal.
        identities: Numbers of actions; none means all.
        again: Also do what may have been done already.
        ask: Decides about those instead, one by one.
    """
    for action in _chosen(phone, identities):
        if action.in_progress:
            yield Outcome(action.call, "waiting", f"{action.function}: {action.why()}, in a process that still runs")
            continue
        if action.doubt and not again:
            question = f"{_told(action)} may have been done already by {action.doubt}. Do it again?"
            if ask is None or not ask(question):
                hint = f"octopus resume --again {action.id} does it again, octopus undo {action.id} leaves it at that"
                yield Outcome(action.call, "declined", f"Not done: {action.doubt} may have done it already ({hint})")
                continue
        yield carry_out_with_its_photo(action, registry, phone)


def undo(registry: Registry, phone: Device, identity: int | None = None) -> Outcome:
    """Undo one action: drop it when it is not done, take it back when it is.

    Args:
        registry: The functions.
        phone: The phone with the journal.
        identity: Number of the action; None means the last one that did, or was to do, more than look something up.

    Raises:
        DeviceError: It cannot be undone.
        UsageError: There is none.
    """
    action = _last(registry, phone) if identity is None else phone.journal.action(identity)
    if action.state in ("planned", "undone"):
        raise UsageError(f"action {action.id} is {action.state}: there is nothing to undo")
    if action.state == "started" and action.in_progress:
        raise DeviceError(f"{action.function} is being carried out at this moment", "try again in a while")
    if action.state == "done":
        if action.source:
            raise DeviceError(f"only {action.source} knows how to undo {action.function}")
        return Outcome(action.call, "undone", f"Undone: {phone.take_back(action)}")
    if not phone.journal.undo(action):
        raise DeviceError(f"{action.function} has just been carried out or undone elsewhere", "look with octopus phone")
    told = f"Dropped: {_told(action)}"
    return Outcome(action.call, "undone", f"{told}; but {action.doubt} may have done it" if action.doubt else told)


def _chosen(phone: Device, identities: Sequence[int]) -> list[Action]:
    unfinished = phone.journal.unfinished()
    if not identities:
        return unfinished
    known = {action.id: action for action in unfinished}
    for identity in identities:
        if identity not in known:
            raise UsageError(f"action {identity} is not unfinished", "`octopus phone --json` shows the numbers")
    return [known[identity] for identity in identities]


def _last(registry: Registry, phone: Device) -> Action:
    candidates = [*phone.journal.unfinished(), *phone.journal.settled()]
    changing = [a for a in candidates if a.function not in registry or registry[a.function].effect not in _HARMLESS]
    if not changing:
        raise UsageError("there is nothing to undo", "`octopus phone` shows what has happened")
    return max(changing, key=lambda action: action.id)


def _became_of(action: Action, call: Call) -> Outcome:
    if action.state == "done":
        return Outcome(call, "done", f"Done already at {action.time}, with the same key")
    if action.state == "undone":
        return Outcome(call, "declined", "Not done: the request with this key was undone")
    return Outcome(call, "waiting", f"Not finished yet: {action.why()} (octopus resume, octopus undo)")


def _told(action: Action) -> str:
    return action.agreed or action.function
