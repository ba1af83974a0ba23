"""Run by test_exactly_once.py: carries out calls in processes of its own and kills them with kill -9.

It forks, so that each of some hundred processes starts in a millisecond; everything slow is imported once, here. The
outside world is a folder: each delivery is one file there, which says whose deed it was.

    python kill_run.py FOLDER random COUNT    kill at COUNT random moments
    python kill_run.py FOLDER steps           kill before and after each write to the journal, and around the delivery
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from octopus import MemoryPhone, Plan, Query, Registry, Timings
from octopus.core import Call
from octopus.device import Deed, Entry, Outlet, Verb
from octopus.execution import Consent, perform, resume, undo
from octopus.store import Store

REGISTRY = Registry.default()
PLAN = Plan(
    (Call("instacart_shopping", {"item": "milk"}, "", 1.0), Call("send_text", {"to": "mom"}, "", 1.0)),
    False,
    None,
    Timings(),
    1.0,
    Query("milk, and text mom"),
)


class Post:
    """Delivers into a folder, like a mail server that cannot tell a repetition; or, `repeatable`, like one that can."""

    name = "post"
    verbs: frozenset[Verb] = frozenset({"send_text", "add_to_basket"})

    def __init__(self, folder: Path, repeatable: bool) -> None:
        self.folder = folder
        self.repeatable = repeatable

    def do(self, deed: Deed) -> Entry:
        at_step()
        name = deed.key if self.repeatable else f"{deed.key}-{uuid4().hex}"
        (self.folder / name).touch()
        at_step()
        return {}

    def undo(self, deed: Deed, entry: Entry) -> None:
        raise AssertionError("nothing is taken back here")


steps = 0
kill_at = -1


def at_step() -> None:
    """One more place where a process can die; it does so at the chosen one."""
    global steps
    steps += 1
    if steps == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)


class _Watched(Store):
    """Counts the moments just before and just after each write, and in the middle of it."""

    @contextmanager
    def transaction(self, durable: bool = False) -> Iterator[sqlite3.Connection]:
        at_step()
        with super().transaction(durable) as connection:
            yield connection
            at_step()
        at_step()


def request(file: Path, outlets: dict[str, Outlet], done: Callable[[], None] = lambda: None) -> None:
    """What `octopus run --yes` does once the model has understood."""
    with MemoryPhone(file, outlets) as phone:
        perform(PLAN, REGISTRY, phone, Consent(yes=True))
        done()


def in_child(work: Callable[[], None], kill_after: float | None = None) -> bool:
    """Do it in a process of its own; whether it came to its end."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 0


def settle(file: Path, outlets: dict[str, Outlet], again: bool) -> dict[str, Any]:
    """After the death: what `octopus phone` says, then resume, then drop what resume leaves alone."""
    with MemoryPhone(file, outlets) as phone:
        before = phone.dump()
        outcomes = [(o.call.name, o.status) for o in resume(REGISTRY, phone, again=again)]
        left = phone.dump()["unfinished"]
        for line in left:
            undo(REGISTRY, phone, line["id"])
        after = phone.dump()
    assert after["unfinished"] == []
    return {"before": before, "resumed": outcomes, "left": left, "after": after}


def case(folder: Path, kind: str, end: Callable[[Callable[[], None]], bool]) -> dict[str, Any]:
    """One phone, one request that is killed, and what became of it."""
    folder.mkdir(parents=True)
    world = folder / "world"
    world.mkdir()
    outlets: dict[str, Outlet] = {} if kind == "memory" else {"send_text": Post(world, kind == "repeatable")}
    file = folder / "phone.sqlite"
    shutil.copy(folder.parent / "new.sqlite", file)
    finished = end(lambda: request(file, outlets, done=lambda: (folder / "done").touch()))
    delivered = len(list(world.iterdir()))
    told = settle(file, outlets, again=False)
    return {
        "kind": kind,
        "finished": finished or (folder / "done").exists(),
        "delivered at death": delivered,
        "delivered": len(list(world.iterdir())),
        "doubled": max(Counter(path.name.split("-")[0] for path in world.iterdir()).values(), default=0) > 1,
        **told,
    }


def main() -> None:
    global kill_at
    folder, how = Path(sys.argv[1]), sys.argv[2]
    kinds = ("memory", "repeatable", "once")
    cases = []
    MemoryPhone(folder / "new.sqlite").close()
    for call in PLAN.calls:
        REGISTRY.validate(call.name, call.arguments)  # makes the models that check arguments, once for all children
    if how == "random":
        taken: list[float] = []

        def timed(work: Callable[[], None]) -> bool:
            began = time.perf_counter()
            ended = in_child(work)
            taken.append(time.perf_counter() - began)
            return ended

        for kind in kinds:  # how long a request takes here and now
            case(folder / f"first-{kind}", kind, timed)
        whole = 1.2 * max(taken)
        dice = random.Random(int(sys.argv[4]) if len(sys.argv) > 4 else None)
        for n in range(int(sys.argv[3])):
            moment = dice.uniform(0, whole)
            cases.append(case(folder / str(n), kinds[n % 3], lambda work, at=moment: in_child(work, at)))
    else:
        import octopus.functions.devices.memory as memory

        memory.Store = _Watched  # type: ignore[misc]
        for kind in kinds:
            for step in range(1, 200):

                def die(work: Callable[[], None], step: int = step) -> bool:
                    def counted() -> None:
                        global steps, kill_at
                        steps, kill_at = 0, step
                        work()

                    return in_child(counted)

                cases.append({**case(folder / f"{kind}-{step}", kind, die), "step": step})
                if cases[-1]["finished"]:
                    break
    sys.stdout.write(json.dumps(cases))


if __name__ == "__main__":
    main()
