"""Killed at any point, a process sends nothing twice and loses nothing; two at once do not disturb each other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from octopus import MemoryPhone

TESTS = Path(__file__).resolve().parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kill -9 and fork are of POSIX systems")


def kill_run(*arguments: str) -> list[dict[str, Any]]:
    # What kill -9 leaves behind is the same in memory as on a disk, and a hundred times faster.
    quick = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with TemporaryDirectory(prefix="octopus-test-", dir=quick) as folder:
        command = [sys.executable, str(TESTS / "kill_run.py"), folder, *arguments]
        ended = subprocess.run(
            command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    assert ended.returncode == 0, ended.stderr
    cases: list[dict[str, Any]] = json.loads(ended.stdout)
    return cases


def check(case: dict[str, Any]) -> None:
    """What holds wherever the process was killed."""
    before, after = case["before"], case["after"]
    texts, basket = len(after["texts"]), len(after["basket"])
    # Nothing twice: not in the records, and not in the world.
    assert texts <= 1 and basket <= 1
    assert not case["doubled"] and case["delivered"] <= 1
    # Nothing lost silently: both calls were agreed to together, so both are recorded, named as unfinished, or neither.
    named = [line["function"] for line in before["unfinished"]]
    agreed = bool(named or before["texts"] or before["basket"])
    if agreed:  # a call may be named and recorded too: its deed is done, the call around it is not
        assert before["texts"] or "send_text" in named
        assert before["basket"] or "instacart_shopping" in named
    assert not case["delivered at death"] or agreed
    if case["finished"]:
        assert agreed and named == []
    # Resuming settles it: everything is done, except what may have been and cannot be repeated.
    assert basket == agreed
    if case["kind"] == "once" and case["left"]:
        (line,) = case["left"]
        assert line["function"] == "send_text" and "post may have done it" in line["reason"]
        assert ("send_text", "declined") in map(tuple, case["resumed"])
    else:
        assert texts == agreed
        assert case["delivered"] == (agreed and case["kind"] != "memory")


def test_killed_200_times_at_random() -> None:
    cases = kill_run("random", "200")
    assert len(cases) == 200
    for case in cases:
        check(case)
    # The moments were such that it mattered: some died with work to do, and some got through.
    assert sum(bool(case["before"]["unfinished"]) for case in cases) >= 5


def test_killed_at_each_step() -> None:
    cases = kill_run("steps")
    for case in cases:
        check(case)
    for kind in ("memory", "repeatable", "once"):
        own = [case for case in cases if case["kind"] == kind]
        assert own[-1]["finished"] and not any(case["finished"] for case in own[:-1])
        assert len(own) > 6
    # The one place that nobody can see from outside: delivered, and dead before it was written down.
    unclear = [case for case in cases if case["kind"] == "once" and case["left"]]
    assert {case["delivered"] for case in unclear} == {0, 1}
    repeated = [case for case in cases if case["kind"] == "repeatable" and case["delivered at death"]]
    assert any(case["before"]["unfinished"] for case in repeated)


COMPANY = """
import sys
from octopus import MemoryPhone, Registry
from octopus.core import Call, Plan, Query, Timings
from octopus.execution import Consent, perform
registry = Registry.default()
for n in range(int(sys.argv[2])):
    with MemoryPhone(sys.argv[1]) as phone:  # opened anew each time, as `octopus run` does
        call = Call("instacart_shopping", {"item": f"{sys.argv[3]} {n}"}, "", 1.0)
        (outcome,) = perform(Plan((call,), False, None, Timings(), 1.0, Query("")), registry, phone, Consent(yes=True))
        assert outcome.status == "done", outcome.summary
"""


def test_eight_processes_with_a_hundred_calls_each(tmp_path: Path) -> None:
    path = tmp_path / "phone.sqlite"  # not there yet: they also race to create it
    running = [
        subprocess.Popen(
            [sys.executable, "-c", COMPANY, str(path), "100", str(number)],
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(8)
    ]
    told = [process.communicate()[1] for process in running]
    assert [process.returncode for process in running] == [0] * 8, told
    with MemoryPhone(path) as phone:
        shown = phone.dump()
    assert {entry["item"] for entry in shown["basket"]} == {f"{p} {n}" for p in range(8) for n in range(100)}
    assert len(shown["basket"]) == 800 and shown["unfinished"] == []
