"""What tests of the command `octopus` share: its script, how it ended, and the promise for every bad input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from octopus import MemoryPhone
from scripted_model import Script, call

SCRIPT: Script = {
    "text this to mom": [call("send_text", to="mom")],
    "recycle this bottle": [call("smart_recycling", item="bottle", material="plastic")],
    "买两盒牛奶": [call("instacart_shopping", item="牛奶", quantity=2)],
    "email this": [call("send_email", "to")],
    "给我的房间出主意": [call("interior_design", "room")],
    "给我的房间出主意 厨房": [call("interior_design", room="kitchen")],
}


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Ended]
"""`command("run", "--yes", "text", stdin=b"")`."""


def phone() -> dict[str, list[dict[str, Any]]]:
    """What has happened on the test's phone."""
    with MemoryPhone() as opened:
        return opened.dump()


def refused_in_one_line(ended: Ended, code: int, *words: str) -> None:
    """Check that bad input led to one line on stderr with these words, to this exit code, and to nothing else."""
    assert ended.code == code
    assert ended.out == ""
    assert ended.err.startswith("octopus: ") and ended.err.count("\n") == 1 and ended.err.endswith("\n")
    assert len(ended.err) < 700
    assert "Traceback" not in ended.err
    for word in words:
        assert word in ended.err
    assert not any(phone().values())


def write_functions(folder: Path, signature: str, arguments: str = "", body: str = "pass") -> Path:
    """Write a function file that replaces one function of the catalogue."""
    path = folder / "mine.py"
    path.write_text(
        "from octopus.functions import Effect, function\n\n\n"
        "@function(effect=Effect.READ)\n"
        f"def instacart_shopping({signature}):\n"
        f'    """Put groceries into the basket.\n\n{arguments}    """\n'
        f"    {body}\n",
        encoding="utf-8",
    )
    return path
