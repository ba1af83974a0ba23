"""What the commands share: options with one meaning everywhere, data on stdout, questions on the terminal.

In: values and lines. Out: text. How things look is presentation.py; which command does what is cli.py and actions.py.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TextIO

import click

from octopus.errors import UsageError

if TYPE_CHECKING:
    from octopus.registry import Registry

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
functions_option = click.option(
    "--functions", "functions_file", metavar="FILE.py", help="Add the functions declared in this file, or replace."
)
model_option = click.option("--model", metavar="DIR", help="Model folder, GGUF file, or name of a packaged model.")
device_option = click.option(
    "--device",
    "devices",
    multiple=True,
    metavar="[FUNCTION=]DEVICE",
    help="Who does it, instead of the configured one.",
)


def print_lines(lines: Iterable[str]) -> None:
    """Lines of data."""
    for line in lines:
        click.echo(line)


def print_json(value: Any) -> None:
    """One JSON object, on one line."""
    utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    # A function of the user's may report anything; what it did is told all the same.
    click.echo(json.dumps(value, ensure_ascii=not utf8, default=str))


def confirm() -> Callable[[str], bool] | None:
    """Asks on the terminal; None, which means no, when nobody sits there."""
    if not (has_terminal(sys.stdin) and has_terminal(sys.stderr)):
        return None
    return lambda question: click.confirm(question, default=False, err=True)


def has_terminal(stream: TextIO | None) -> bool:
    """Whether somebody sits at the other end."""
    return stream is not None and stream.isatty()  # None: closed by whoever started the command


def registry(functions_file: str | None) -> Registry:
    """The functions that come with octopus, and those of the file."""
    from octopus.registry import Registry

    known = Registry.default()
    return known if functions_file is None else known | Registry.from_file(functions_file)


def device_flags(devices: Iterable[str]) -> dict[str, str]:
    """`send_text=adb` and `memory` as flags of the configuration."""
    flags = {}
    for given in devices:
        function, equals, device = given.rpartition("=")
        if equals and not function:
            raise UsageError(f"--device {given!r} names no function", "write FUNCTION=DEVICE or DEVICE")
        flags[f"devices.{function or 'default'}"] = device
    return flags
