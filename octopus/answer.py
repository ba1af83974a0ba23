"""The answer to a question becomes the argument that was missing.

In: a plan with a question, the user's words, and the model as a function from query to plan. Out: the plan without that
question. Words are taken as they are for a string; a choice or a number is looked for in them, else the model reads
request and answer together. It knows neither tokens nor devices.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from octopus.core import Call, Function, Parameter, Plan, Query
from octopus.declaration import INTEGERS
from octopus.errors import TextError, UsageError

Understand = Callable[[Query], Plan]
"""What the model makes of a request."""

_WORD = r"[^\W_\u2e80-\u9fff]"  # Chinese has no space between words


def fill_in(plan: Plan, text: str, registry: Mapping[str, Function], understand: Understand) -> Plan:
    """The plan with its first missing argument given by `text`; asks for the next one if another is missing.

    Raises:
        UsageError: The answer does not say what was asked, or nothing was.
    """
    calls = list(plan.calls)
    place = next((n for n, call in enumerate(calls) if call.missing), None)
    if place is None:
        raise UsageError("there is no question to answer", "answer only a plan that has a question")
    name, *missing = calls[place].missing
    parameter = next(p for p in registry[calls[place].name].parameters if p.name == name)
    value = read_value(text, parameter)
    if value is None:
        value = _understood(plan, calls[place], parameter, text, understand)
    if value is None:
        shown = text if len(text) <= 40 else text[:39] + "…"
        raise UsageError(f"{shown!r} does not answer the question: {plan.question}", _hint(parameter))
    calls[place] = replace(calls[place], arguments={**calls[place].arguments, name: value}, missing=tuple(missing))
    asking = next((call for call in calls if call.missing), None)
    words = plan.query.text if plan.query else text
    question = None if asking is None else registry[asking.name].ask(asking.missing[0], words)
    return replace(plan, calls=tuple(calls), question=question, answers=(*plan.answers, text))


def read_value(text: str, parameter: Parameter) -> str | int | None:
    """The argument as the answer says it outright; None when it does not, or says several."""
    if parameter.kind == "string":
        return text
    if parameter.kind == "integer":
        numbers = re.findall(r"[0-9]+", text)
        fits = len(numbers) == 1 and len(numbers[0]) <= len(str(INTEGERS[-1])) and int(numbers[0]) in INTEGERS
        return int(numbers[0]) if fits else None
    named = [choice for choice in parameter.choices if _names(text, choice)]
    # "living" is named by "living room" too: the longer one is meant.
    longest = [choice for choice in named if not any(choice != other and _names(other, choice) for other in named)]
    return longest[0] if len(longest) == 1 else None


def _names(text: str, choice: str) -> bool:
    words = r"[\s_-]*".join(map(re.escape, choice.split()))
    return re.search(f"(?<!{_WORD}){words}(?!{_WORD})", text, re.IGNORECASE) is not None


def _understood(plan: Plan, asked: Call, parameter: Parameter, text: str, understand: Understand) -> str | int | None:
    """The argument that the model finds in request and answer together, if it still chooses the same function."""
    request = plan.query or Query("")
    try:
        understood = understand(Query(f"{request.text} {text}".strip(), request.photo))
    except TextError:  # together they are too long for the model
        return None
    values = (call.arguments.get(parameter.name) for call in understood.calls if call.name == asked.name)
    return next((value for value in values if value is not None), None)


def _hint(parameter: Parameter) -> str:
    if parameter.kind == "integer":
        return f"say a whole number from {INTEGERS[0]} to {INTEGERS[-1]}"
    return f"say one of {', '.join(parameter.choices)}"
