"""A conversation with the phone: one request a line, a photo for the next request, an answer to a question.

In: lines of text. Out: lines on stdout. An error ends a request, never the conversation. Understanding and acting are
the agent's; this file only remembers the photo and the question that is open, and carries out what was held back when
its time has come.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

import click

from octopus import presentation
from octopus.agent import Agent
from octopus.core import Plan
from octopus.errors import OctopusError, UsageError
from octopus.execution import undo

HELP = """\
Say what to do, in English or Chinese: text this to mom · 买两盒牛奶
/image PATH  send a photo along with the next request (path or URL)
/image       take the photo back
/phone       what has happened on the phone
/undo        stop what is waiting to be sent, or take back what can be taken back
/help        this text
an empty line drops a question that was asked
/quit        leave (so does Ctrl-D)"""


class Chat:
    """One conversation."""

    def __init__(self, agent: Agent, yes: bool = False, confirm: Callable[[str], bool] | None = None) -> None:
        self._agent = agent
        self._yes = yes
        self._confirm = confirm
        self._photo: str | None = None
        self._open: Plan | None = None  # waits for the answer to its question
        self._timers: list[threading.Timer] = []

    def run(self, lines: TextIO) -> None:
        """Answer every line until /quit or the end."""
        if lines.isatty():
            click.echo("octopus: /help says what can be typed", err=True)
        try:
            while True:
                if lines.isatty():
                    click.echo("📷 > " if self._photo else "> ", nl=False, err=True)
                line = lines.readline()
                if not line or line.strip() in ("/quit", "/exit"):
                    break
                self.hear(line.strip())
                sys.stdout.flush()
            self._leave(wait=lines.isatty())
        finally:
            for timer in self._timers:
                timer.cancel()

    def hear(self, line: str) -> None:
        """Answer one line; an error is told, not raised. An empty line drops the question that is open."""
        try:
            if line.startswith("/"):
                self._command(*line.split(maxsplit=1))
            elif line:
                self._request(line)
            elif self._open:
                self._open = None
                click.echo("octopus: never mind, then", err=True)
        except OctopusError as error:
            click.echo(f"octopus: {error}", err=True)
            if self._open:
                click.echo("octopus: the question is still open; an empty line drops it", err=True)

    def _command(self, command: str, argument: str = "") -> None:
        if command == "/image":
            self._photo = argument.strip("'\"") or None
        elif command == "/phone":
            dump = getattr(self._agent.phone, "dump", None)
            if dump is None:
                raise UsageError("this phone cannot be shown")
            for line in presentation.phone_lines(dump()):
                click.echo(line)
        elif command == "/undo":
            click.echo(presentation.outcome_line(undo(self._agent.registry, self._agent.phone)))
        elif command == "/help":
            click.echo(HELP)
        else:
            raise UsageError(f"there is no {command}", "/help lists what there is")

    def _request(self, text: str) -> None:
        photo, self._photo = self._photo, None
        if photo is not None:  # a new photo makes it a new request
            self._open = None
        # An answer that cannot be used is told, and the question stays open.
        plan = self._agent.answer(self._open, text) if self._open else self._agent.plan(text, photo)
        plan = self._agent.ask_who(plan)
        self._open = plan if plan.question else None
        hold = self._agent.config.send_after
        result = self._agent.run(plan, confirm=self._confirm, yes=self._yes, send_after=hold)
        for line in presentation.result_lines(result):
            click.echo(line)
        if any(outcome.status == "waiting" for outcome in result.results):
            timer = threading.Timer(hold, self._carry_out_due)
            timer.daemon = True
            timer.start()
            self._timers = [*(t for t in self._timers if t.is_alive()), timer]

    def _carry_out_due(self, moment: float | None = None) -> None:
        """Do what was held back and is due; if that fails it stays in the journal, and says so."""
        try:
            for outcome in self._agent.carry_out_due(moment):
                click.echo(presentation.outcome_line(outcome))
            sys.stdout.flush()
        except OctopusError as error:
            click.echo(f"octopus: {error}", err=True)

    def _leave(self, wait: bool) -> None:
        """Nothing that was agreed to is left behind: it goes out on time, or now when nobody is there to stop it."""
        last = max((a.due for a in self._agent.held_back()), default=0.0)
        seconds = last - time.time()
        if wait and seconds > 0:
            click.echo(f"octopus: in {seconds:.0f} s what is waiting goes out; Ctrl-C keeps it unsent", err=True)
            time.sleep(seconds)
        if last:
            self._carry_out_due(last)
