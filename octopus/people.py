"""The commands about people: contacts, contacts import, contacts export.

In: a vCard file, or stdin. Out: the contacts as text, JSON or vCards. Nobody is ever removed by an import.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click

from octopus import presentation
from octopus.errors import OctopusError, UsageError
from octopus.terminal import json_option, print_json, print_lines


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def contacts(context: click.Context, as_json: bool) -> None:
    """Show the people that the phone knows: contacts import, contacts export."""
    if context.invoked_subcommand is not None:
        return
    from octopus.functions.devices.memory import MemoryPhone

    with MemoryPhone() as phone:
        people = [asdict(contact) for contact in phone.contacts()]
    if as_json:
        print_json({"contacts": people})
    else:
        print_lines(map(presentation.person_line, people))


@contacts.command("import")
@click.argument("file", metavar="FILE.vcf|-")
@json_option
def import_(file: str, as_json: bool) -> None:
    """Add the people of a vCard file; who is known already gets what is new added."""
    from octopus.functions.devices.memory import MemoryPhone
    from octopus.functions.devices.vcard import LONGEST, read_vcards

    try:
        with sys.stdin.buffer if file == "-" else Path(file).open("rb") as stream:
            content = stream.read(LONGEST + 1)
    except (OSError, ValueError) as error:
        raise UsageError(f"{file}: {getattr(error, 'strerror', None) or error}", "give a vCard file (.vcf)") from None
    if len(content) > LONGEST:
        raise UsageError(f"{file} is larger than {LONGEST >> 20} MB", "photos in it can be left out when exporting")
    people = read_vcards(content)
    with MemoryPhone() as phone:
        new, changed = phone.address_book.merge(people)
    if as_json:
        print_json({"read": len(people), "new": new, "changed": changed})
    else:
        click.echo(f"{len(people)} read: {new} new, {changed} with something new")


@contacts.command()
@click.argument("file", metavar="[FILE.vcf]", required=False)
def export(file: str | None) -> None:
    """Write everybody as vCards, to a new file or to stdout."""
    from octopus.functions.devices.memory import MemoryPhone
    from octopus.functions.devices.vcard import write_vcards

    with MemoryPhone() as phone:
        text = write_vcards(phone.contacts())
    if file is None or file == "-":
        sys.stdout.buffer.write(text.encode("utf-8"))
        return
    try:
        with Path(file).open("x", encoding="utf-8", newline="") as stream:
            stream.write(text)
    except FileExistsError:
        raise UsageError(f"{file} is there already", "give the name of a new file") from None
    except (OSError, ValueError) as error:
        raise OctopusError(f"{file} cannot be written: {getattr(error, 'strerror', None) or error}") from None
