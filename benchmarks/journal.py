"""What consent and the journal add to a call, in milliseconds: the path from call to effect, without the model.

    python benchmarks/journal.py [--calls 300] [--phone FILE] [-o md|json]

Three ways of doing the same: the function's body alone on an open phone file; the whole path (descriptions, policy,
provenance, planned, confirmed, started, done); and the whole path to a device that leaves the machine, for which the
journal is forced to disk before the deed: that part is the disk's. Run it on a quiet machine; on a busy one only the
column `processor`, the time that was really computed, says something. The phone knows a thousand people.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import click

from octopus import MemoryPhone, Plan, Query, Registry, Timings
from octopus.config import Rules
from octopus.core import Call
from octopus.device import Contact, Deed, Entry, Outlet, Verb
from octopus.execution import Consent, perform

BOUND = 10.0
REGISTRY = Registry.default()
CALL = Call("send_text", {"to": "mom", "message": "I land at six, see https://a.example/b"}, "<nexa_1>", 1.0)
PLAN = Plan((CALL,), False, None, Timings(), 1.0, Query("text mom that I land at six, see https://a.example/b"))
PEOPLE = [Contact(f"Person {n}", f"person{n}@example.org", f"+1 303 555 {n:04}", (f"P{n}",)) for n in range(1000)]
PHOTO = bytes(80_000)  # about what a photo of 640 pixels takes


class Nowhere:
    """A device that does nothing, as fast as possible."""

    name = "nowhere"
    verbs: frozenset[Verb] = frozenset({"send_text"})
    repeatable = False

    def do(self, deed: Deed) -> Entry:
        """Nothing."""
        return {}

    def undo(self, deed: Deed, entry: Entry) -> None:
        """Nothing."""


def measure(work: Callable[[], object], calls: int) -> dict[str, float]:
    """Milliseconds of one call, after some to warm up: by the clock, and of the processor alone."""
    taken, computed = [], []
    for n in range(calls + 20):
        began, processor = perf_counter(), process_time()
        work()
        if n >= 20:
            taken.append(1000 * (perf_counter() - began))
            computed.append(1000 * (process_time() - processor))
    taken.sort()
    return {
        "p50": median(taken),
        "p95": taken[int(len(taken) * 0.95)],
        "max": taken[-1],
        "processor": median(computed),
    }


def measurements(file: Path, calls: int) -> dict[str, dict[str, float]]:
    """All three, each on a phone file of its own beside `file`."""
    found = {}
    ways: dict[str, dict[str, Outlet]] = {"memory": {}, "a device outside": {"send_text": Nowhere()}}
    with MemoryPhone(f"{file}-plain") as phone:
        phone.photo = PHOTO

        def plain() -> None:
            REGISTRY.validate(CALL.name, CALL.arguments)
            entry = json.dumps({**CALL.arguments, "contact": str(phone.resolve("mom", "number"))})
            with phone._store.transaction() as connection:
                connection.execute("INSERT INTO entries (list, entry, photo) VALUES ('texts', ?, ?)", (entry, PHOTO))

        found["recording alone"] = measure(plain, calls)
    for name, outlets in ways.items():
        with MemoryPhone(f"{file}-{name.split()[-1]}", outlets) as phone:
            phone.address_book.merge(PEOPLE)
            phone.photo = PHOTO
            consent = Consent(yes=True, rules=Rules())

            def whole(phone: MemoryPhone = phone, consent: Consent = consent) -> None:
                (outcome,) = perform(PLAN, REGISTRY, phone, consent)
                assert outcome.status == "done", outcome.summary

            found[f"policy, journal and recording: {name}"] = measure(whole, calls)
    return found


@click.command()
@click.option("--calls", default=300, show_default=True)
@click.option("--phone", type=click.Path(path_type=Path), help="Beside which file to measure; default: a new folder.")
@click.option("-o", "output", type=click.Choice(["md", "json"]), default="md", show_default=True)
def main(calls: int, phone: Path | None, output: str) -> None:
    """Measure, print, and end with 1 when the bound is not kept."""
    with tempfile.TemporaryDirectory(dir=None if phone is None else phone.parent) as folder:
        found = measurements(Path(folder) / "phone.sqlite", calls)
    base, *whole = found.values()
    added = max(way["p95"] - base["p50"] for way in whole)
    if output == "json":
        click.echo(json.dumps({"ms": found, "added_p95": added, "bound": BOUND}))
    else:
        click.echo(f"{platform.machine()}, Python {platform.python_version()}, {os.cpu_count()} cores, {calls} calls\n")
        columns = ("p50", "p95", "max", "processor")
        click.echo(f"| ms a call | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}")
        for name, times in found.items():
            click.echo(f"| {name} | {' | '.join(f'{times[column]:.2f}' for column in columns)} |")
        click.echo(f"\nAdded by policy and journal, 95 of 100 calls: at most {added:.1f} ms (bound {BOUND:g} ms)")
    sys.exit(added > BOUND)


if __name__ == "__main__":
    main()
