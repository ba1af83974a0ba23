"""How results look to people: plain data in, lines of text out.

Nothing here prints, and nothing here knows how the data came about. Colours are ANSI codes; `click.echo` removes them
where the output is not a terminal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import click

from octopus.core import Call, Function, Outcome, Result

_MARKS = {
    "done": ("✓", "green"),
    "undone": ("✓", "green"),
    "waiting": ("…", "cyan"),
    "dry-run": ("○", "cyan"),
    "declined": ("–", "yellow"),
    "failed": ("✗", "red"),
}
_SECTIONS = {
    "texts": "Texts",
    "emails": "E-mails",
    "basket": "Basket",
    "orders": "Orders",
    "board": "Lost and found",
    "searches": "Searches",
    "unfinished": "Unfinished",
}
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_HIDDEN = ("id", "time", "message_id", "verb")  # shown by --json; time stands in front


def result_lines(result: Result) -> Iterator[str]:
    """Token, call and confidence of everything the model chose, then what was done."""
    if result.refused:
        yield click.style("No phone function fits this request.", fg="yellow")
    for call in result.calls:
        yield f"{click.style(call.token, fg='magenta')}  {call_text(call)}  {_percent(call.confidence)}"
    if result.question:
        yield click.style(result.question, fg="yellow")
    for outcome in result.results:
        yield outcome_line(outcome)


def outcome_line(outcome: Outcome) -> str:
    """`✓ text to mom: "on my way"`, marked by what happened."""
    mark, colour = _MARKS.get(outcome.status, ("?", "red"))
    return f"{click.style(mark, fg=colour)} {outcome.summary or outcome.status}"


def call_text(call: Call) -> str:
    """`send_text(to='mom', message='')`; an argument that is still to be asked for shows as `?`."""
    values = (f"{name}={'?' if name in call.missing else repr(value)}" for name, value in _arguments(call))
    return f"{click.style(call.name, bold=True)}({', '.join(values)})"


def timing_line(result: Result) -> str:
    """Where the time went, for stderr."""
    parts = result.to_dict()["timings_ms"]
    total = parts.pop("total")
    shown = " + ".join(f"{name} {value:.0f}" for name, value in parts.items() if value)
    return click.style(f"{total:.0f} ms ({shown or 'nothing measured'}) · {result.model}", dim=True)


def phone_lines(phone: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    """The phone's state, one heading for each kind of thing that is there."""
    if not any(phone.values()):
        yield "Nothing has happened on this phone yet."
    for key, rows in phone.items():
        if not rows:
            continue
        yield click.style(_SECTIONS.get(key, key.capitalize()), bold=True)
        numbered = key == "unfinished"  # their numbers are what `octopus resume` and `octopus undo` take
        yield from (f"  {row['id']}  {_row(row)}" if numbered else f"  {_row(row)}" for row in rows)


def function_lines(functions: Iterable[Function], tokens: Mapping[str, str]) -> Iterator[str]:
    """One line a function: token, signature, effect; then what it is for. `tokens` maps names to tokens."""
    for function in functions:
        token = tokens.get(function.name, "untrained")
        yield f"{click.style(f'{token:10}', fg='magenta')} {function.signature}  [{function.effect.value}]"
        yield click.style(f"{'':10} {function.description.splitlines()[0]}", dim=True)


def person_line(person: Mapping[str, Any]) -> str:
    """`Mom  +1 202 555 0143  mom@example.com  (mum, 妈妈)`."""
    reached = filter(None, (person["number"], person["email"], *person["further"]))
    also = ", ".join(filter(None, (person["relation"], *person["also"])))
    parts = [click.style(person["name"], bold=True), *reached, f"({also})" if also else ""]
    return "  ".join(one_line(part) if n else part for n, part in enumerate(parts) if part)


def config_lines(
    path: str, exists: bool, values: Iterable[tuple[str, Any, str]], secrets: Mapping[str, str]
) -> Iterator[str]:
    """Where the configuration is; each value (name, value, where it comes from); secrets only by where they are."""
    yield click.style(f"# {path}{'' if exists else ' (not there: all of this is the default)'}", dim=True)
    for name, value, origin in values:
        shown = f'"{one_line(value)}"' if isinstance(value, str) else f"{value:g}"
        yield f"{name} = {shown}" + click.style("" if origin == "default" else f"  # {origin}", dim=True)
    for name, origin in secrets.items():
        yield click.style(f"# secret {name}: {origin}", dim=True)


def check_lines(checks: Iterable[tuple[str, bool, str, str]]) -> Iterator[str]:
    """One line a check of the installation (name, whether it is well, what was found), and a hint where it is not."""
    for name, is_well, detail, hint in checks:
        mark, colour = _MARKS["done" if is_well else "failed"]
        yield f"{click.style(mark, fg=colour)} {name:9} {detail}"
        if hint:
            yield click.style(f"  {'':9} {hint}", dim=True)


def one_line(text: str) -> str:
    """Text without line breaks, terminal codes and marks that reorder it: it may come from a file or a server."""
    return " ".join(_CONTROLS.sub(" ", text).split())


def _arguments(call: Call) -> Iterator[tuple[str, Any]]:
    yield from call.arguments.items()
    yield from ((name, None) for name in call.missing if name not in call.arguments)


def _percent(probability: float) -> str:
    return click.style(f"{probability:.0%}", dim=True)


def _row(row: Mapping[str, Any]) -> str:
    """`2026-11-22 09:41  to=mom  contact=Mom  message=on my way  photo=yes`."""
    cells = [str(row["time"])[:16].replace("T", " ")] if row.get("time") else []
    shown = ((name, value) for name, value in row.items() if name not in _HIDDEN and value not in (None, "", {}))
    return "  ".join(
        [*cells, *(f"{name}={_cell(_person(value) if name == 'contact' else value)}" for name, value in shown)]
    )


def _person(contact: Any) -> Any:
    return contact.get("name", contact) if isinstance(contact, Mapping) else contact


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={_cell(inner)}" for name, inner in value.items())
    text = one_line(str(value))
    return text if len(text) <= 60 else text[:59] + "…"
