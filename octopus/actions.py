"""The commands about what has happened and what is to happen: phone, resume, undo, config.

In: options. Out: text or one JSON object, and an exit code. cli.py adds them to `octopus`.
"""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

import click

from octopus import presentation
from octopus.core import Outcome
from octopus.terminal import (
    confirm,
    device_flags,
    device_option,
    functions_option,
    json_option,
    print_json,
    print_lines,
    registry,
)

if TYPE_CHECKING:
    from octopus.functions.devices.memory import MemoryPhone

DONE, DECLINED, FAILED = 0, 4, 5


@click.command()
@json_option
def phone(as_json: bool) -> None:
    """Show what has happened on the phone, and what is unfinished."""
    from octopus.functions.devices.memory import MemoryPhone

    with MemoryPhone() as opened:  # looking needs no device, and no configuration that makes sense
        state = opened.dump()
    if as_json:
        print_json(state)
        return
    print_lines(presentation.phone_lines(state))
    if state["unfinished"]:
        click.echo("octopus: `octopus resume` carries out what is unfinished, `octopus undo` drops it", err=True)


@click.command()
@click.argument("identities", metavar="[ID]...", nargs=-1, type=int)
@click.option("--again", is_flag=True, help="Also do again what may have been done already.")
@json_option
@device_option
@functions_option
def resume(
    identities: tuple[int, ...], again: bool, as_json: bool, devices: tuple[str, ...], functions_file: str | None
) -> int:
    """Carry out what was agreed to and is not done, all of it or the actions with these numbers.

    What may have been done already is not done again unasked.
    """
    from octopus.execution import resume as carry_on

    with _phone(devices) as opened:
        functions = registry(functions_file)
        with redirect_stdout(sys.stderr):  # what a function prints is talk
            outcomes = list(carry_on(functions, opened, identities, again=again, ask=confirm()))
    return _tell(outcomes, as_json, "octopus: nothing is unfinished")


@click.command()
@click.argument("identity", metavar="[ID]", required=False, type=int)
@json_option
@device_option
@functions_option
def undo(identity: int | None, as_json: bool, devices: tuple[str, ...], functions_file: str | None) -> int:
    """Undo the last action, or the one with this number: drop it if it is not done, take it back if it is."""
    from octopus.execution import undo as take_back

    with _phone(devices) as opened:
        outcome = take_back(registry(functions_file), opened, identity)
    return _tell([outcome], as_json)


@click.command()
@json_option
@device_option
def config(as_json: bool, devices: tuple[str, ...]) -> None:
    """Show where the configuration is, every effective value, and where each comes from.

    A flag beats a variable, a variable beats the file, the file beats the default. Secrets are not shown.
    """
    from octopus import credentials
    from octopus.config import read_config, unknown_functions

    effective = read_config(device_flags(devices))
    secrets: dict[str, str] = {name: credentials.origin(name) for name in credentials.SECRETS}
    if as_json:
        values = {value.name: {"value": value.shown, "origin": value.origin} for value in effective.values}
        print_json({"path": str(effective.path), "exists": effective.exists, "values": values, "secrets": secrets})
    else:
        rows = [(value.name, value.shown, value.origin) for value in effective.values]
        print_lines(presentation.config_lines(str(effective.path), effective.exists, rows, secrets))
    for name in unknown_functions(effective, registry(None)):
        click.echo(f"octopus: {name} is none of the functions that come with octopus", err=True)


def _phone(devices: tuple[str, ...] = ()) -> MemoryPhone:
    from octopus.config import read_config
    from octopus.functions.devices.configured import open_phone

    return open_phone(read_config(device_flags(devices)))


def _tell(outcomes: list[Outcome], as_json: bool, nothing: str = "") -> int:
    if as_json:
        rows = [{"name": o.call.name, "status": o.status, "summary": o.summary, "data": dict(o.data)} for o in outcomes]
        print_json({"results": rows})
    else:
        print_lines(map(presentation.outcome_line, outcomes))
        if not outcomes:
            click.echo(nothing, err=True)
    statuses = {outcome.status for outcome in outcomes}
    return FAILED if "failed" in statuses else DECLINED if "declined" in statuses else DONE
