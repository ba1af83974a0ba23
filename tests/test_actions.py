"""The commands resume, undo and run --key, and what the chat holds back until its time has come."""

from __future__ import annotations

import io
import json
import time
from contextlib import nullcontext
from pathlib import Path

import pytest

from command import Command, phone, refused_in_one_line
from octopus import Agent, MemoryPhone, Plan, Query, Registry, Timings
from octopus.chat import Chat
from octopus.config import read_config
from octopus.execution import Consent, perform
from octopus.functions.devices.webhook import Webhook
from scripted_model import call, scripted_backend

TEXT = call("send_text", to="mom", message="hi")
PLAN = Plan((TEXT,), False, None, Timings(), 1.0, Query("text mom"))


def test_a_key_at_the_command_line(octopus: Command) -> None:
    assert octopus("run", "--key", "7", "买两盒牛奶").code == 0
    ended = octopus("run", "--key", "7", "买两盒牛奶")
    assert ended.code == 0 and "Done already" in ended.out
    assert len(phone()["basket"]) == 1
    assert octopus("run", "--key", "7", "--yes", "text this to mom").code == 2
    assert phone()["texts"] == []


def test_resume_and_undo_at_the_command_line(octopus: Command, tmp_path: Path) -> None:
    refused_in_one_line(octopus("undo"), 2, "nothing to undo")
    refused_in_one_line(octopus("undo", "7"), 2, "7")
    refused_in_one_line(octopus("resume", "7"), 2, "7")
    assert octopus("resume").err == "octopus: nothing is unfinished\n"
    unreachable = Webhook("http://127.0.0.1:9/", lambda: "secret", attempts=1)
    with MemoryPhone(tmp_path / "phone.sqlite", {"send_text": unreachable}) as opened:
        for _ in range(2):
            perform(PLAN, Registry.default(), opened, Consent(yes=True))
    shown = octopus("phone")
    assert "  1  " in shown.out and "reason=the webhook at 127.0.0.1 did not take it: Connection" in shown.out
    assert "octopus resume" in shown.err and "octopus undo" in shown.err
    ended = octopus("resume", "1")
    assert ended.code == 0 and "✓ Text to Mom (+1 202 555 0143): hi" in ended.out
    ended = octopus("undo", "--json", "2")
    assert ended.code == 0 and json.loads(ended.out)["results"][0]["status"] == "undone"
    state = phone()
    assert len(state["texts"]) == 1 and state["unfinished"] == []
    refused = octopus("undo")
    assert refused.code == 5 and "cannot be taken back" in refused.err


def test_chat_holds_back_and_undo_stops_it(octopus: Command) -> None:
    ended = octopus("chat", "--yes", stdin="text this to mom\n/undo\n买两盒牛奶\n/undo\n/undo\n".encode())
    assert ended.code == 0
    assert "… In 5 s: Send text" in ended.out and "✓ Dropped: Send text" in ended.out and "✓ Undone: " in ended.out
    assert "nothing to undo" in ended.err
    assert not any(phone().values())


def test_chat_sends_what_nobody_stopped(octopus: Command) -> None:
    assert "✓ Text to Mom" in octopus("chat", "--yes", stdin=b"text this to mom\n/quit\n").out
    ended = octopus("chat", "--yes", "--send-after", "0", stdin=b"text this to mom\n/undo\n")
    assert "cannot be taken back" in ended.err
    assert len(phone()["texts"]) == 2 and phone()["unfinished"] == []
    for wrong in ("-1", "soon", "nan"):
        assert octopus("chat", f"--send-after={wrong}", stdin=b"").code == 2


def test_chat_sends_on_time_while_it_goes_on(scripted_folder: Path) -> None:
    script = {"text this to mom": [TEXT]}
    with MemoryPhone(":memory:") as opened:
        config = read_config({"chat.send_after": 0.2})
        backend = scripted_backend(scripted_folder, script)
        chat = Chat(Agent(scripted_folder, phone=opened, backend=backend, config=config), yes=True)
        chat.hear("text this to mom")
        deadline = time.monotonic() + 30
        while not opened.dump()["texts"] and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(opened.dump()["texts"]) == 1


class Terminal(io.StringIO):
    """Lines that somebody types."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("impatient", [False, True])
def test_leaving_the_chat_waits_for_what_is_held_back_and_ctrl_c_keeps_it_unsent(
    scripted_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, impatient: bool
) -> None:
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if impatient:
            raise KeyboardInterrupt

    monkeypatch.setattr("octopus.chat.time.sleep", sleep)
    with MemoryPhone(tmp_path / "phone.sqlite") as opened:
        backend = scripted_backend(scripted_folder, {"text this to mom": [TEXT]})
        config = read_config({"chat.send_after": 600})
        chat = Chat(Agent(scripted_folder, phone=opened, backend=backend, config=config), yes=True)
        with pytest.raises(KeyboardInterrupt) if impatient else nullcontext():
            chat.run(Terminal("text this to mom\n/quit\n"))
        assert len(waited) == 1 and 0 < waited[0] <= 600
        assert len(opened.dump()["texts"]) == (not impatient)
        assert len(opened.dump()["unfinished"]) == impatient
