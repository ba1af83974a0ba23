"""The command `octopus`. stdout is data, stderr is talk, and the exit code says how it ended.

In: arguments, stdin, the environment. Out: text, or one JSON object with --json. Errors are raised elsewhere and
printed only here, each as one line. How things look is presentation.py; this file only wires.

Exit codes: 0 done, 1 error, 2 usage, 3 no function fits, 4 declined, 5 function failed.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib import import_module
from typing import TYPE_CHECKING

import click

from octopus import __version__, actions, people, presentation
from octopus.core import Result
from octopus.errors import ModelError, OctopusError, TextError, UsageError
from octopus.settings import DEFAULT_MODEL, read_settings, wants_traceback
from octopus.terminal import confirm as _confirm
from octopus.terminal import device_flags, device_option
from octopus.terminal import functions_option as _functions_option
from octopus.terminal import has_terminal as _has_terminal
from octopus.terminal import json_option as _json_option
from octopus.terminal import model_option as _model_option
from octopus.terminal import print_json as _print_json
from octopus.terminal import print_lines as _print
from octopus.terminal import registry as _registry

if TYPE_CHECKING:
    from octopus.agent import Agent

DONE, ERROR, USAGE, NOTHING_FITS, DECLINED, FAILED = range(6)
INTERRUPTED = 130
LARGEST_INPUT = 64 << 20  # bytes of a photo or text read from stdin

_PASSED_ON = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
_backend_option = click.option(
    "--backend",
    type=click.Choice(["onnx", "gguf", "torch"]),
    help="Run the model by this; default: what its files are.",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Prints every error as one line on stderr."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without UTF-8 shows "?", and the command goes on
    try:
        code = octopus.main(arguments, prog_name="octopus", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else DONE
    except click.ClickException as error:
        return _complain(error.format_message(), "octopus --help", USAGE)
    except OctopusError as error:
        return _complain(error.message, error.hint, error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return _complain("interrupted", "", INTERRUPTED)
    except BrokenPipeError:  # the reader went away, as in `octopus functions | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ERROR
    except Exception as error:
        if wants_traceback():
            raise
        return _complain(f"unexpected {type(error).__name__}: {error}", "OCTOPUS_DEBUG=1 shows where", ERROR)


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True)
@click.version_option(__version__, prog_name="octopus")
@click.pass_context
def octopus(context: click.Context) -> int | None:
    """A photo and a sentence become a phone call that is carried out."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        return USAGE
    return None


@octopus.command()
@click.argument("text", nargs=-1)
@click.option("--image", metavar="PATH|URL|-", help='A photo; "-" reads it from stdin.')
@_json_option
@click.option("--dry-run", is_flag=True, help="Only tell what would be done.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask before sending, buying or publishing.")
@click.option("--key", metavar="TEXT", help="The same key again: the same request, which is done only once.")
@device_option
@_functions_option
@_model_option
@_backend_option
def run(
    text: tuple[str, ...],
    image: str | None,
    as_json: bool,
    dry_run: bool,
    yes: bool,
    key: str | None,
    devices: tuple[str, ...],
    functions_file: str | None,
    model: str | None,
    backend: str | None,
) -> int:
    """Carry out TEXT (or stdin), with a photo if there is one.

    Without a terminal nobody can be asked, so sending, buying and publishing need --yes.
    """
    request = _request(text, image)
    photo = _read_stdin("the photo") if image == "-" else image
    with redirect_stdout(sys.stderr):  # what a function prints is talk
        agent = _agent(model, functions_file, backend, devices)
        result = agent.run(agent.plan(request, photo), dry_run=dry_run, confirm=_confirm(), yes=yes, key=key)
    if as_json:
        _print_json(result.to_dict())
    else:
        _print(presentation.result_lines(result))
        click.echo(presentation.timing_line(result), err=True)
    return exit_code(result)


@octopus.command()
@_json_option
@_functions_option
@_model_option
def functions(as_json: bool, functions_file: str | None, model: str | None) -> None:
    """List the functions with their tokens, arguments and effects."""
    registry, tokens = _registry(functions_file), _function_tokens(model)
    if as_json:
        rows = [
            {
                "name": function.name,
                "token": tokens.get(function.name),
                "effect": function.effect.value,
                "description": function.description,
                "parameters": registry.schema(function.name),
            }
            for function in registry.values()
        ]
        _print_json({"functions": rows})
    else:
        _print(presentation.function_lines(registry.values(), tokens))


@octopus.command()
@click.option("--yes", "-y", is_flag=True, help="Do not ask before sending, buying or publishing.")
@click.option(
    "--send-after", metavar="SECONDS", help="How long /undo can stop what cannot be taken back; 0: not at all."
)
@device_option
@_functions_option
@_model_option
@_backend_option
def chat(
    yes: bool,
    send_after: str | None,
    devices: tuple[str, ...],
    functions_file: str | None,
    model: str | None,
    backend: str | None,
) -> None:
    """Talk with the phone, one request a line.

    /help says what else can be typed: a photo, the state of the phone, /undo.
    """
    from octopus.chat import Chat

    agent = _agent(model, functions_file, backend, devices, send_after)
    Chat(agent, yes=yes, confirm=_confirm()).run(sys.stdin)


@octopus.command()
@_json_option
@_model_option
def doctor(as_json: bool, model: str | None) -> int:
    """Check the installation and say what is wrong.

    Versions, model, phone, and one request that is understood but not carried out.
    """
    from octopus.doctor import examine

    checks = list(examine(model))
    if as_json:
        _print_json({"ok": all(check.ok for check in checks), "checks": [vars(check) for check in checks]})
    else:
        _print(presentation.check_lines((check.name, check.ok, check.detail, check.hint) for check in checks))
    return DONE if all(check.ok for check in checks) else ERROR


@octopus.command("eval", context_settings=_PASSED_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def evaluate(arguments: tuple[str, ...]) -> int:
    """Score a model on the development set."""
    return _pass_on("octopus.training.evaluate", arguments)


@octopus.command(context_settings=_PASSED_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def train(arguments: tuple[str, ...]) -> int:
    """Run one training stage, or go on where it was stopped."""
    return _pass_on("octopus.training.train", arguments)


@octopus.command("build", context_settings=_PASSED_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def assemble(arguments: tuple[str, ...]) -> int:
    """Fuse a vision tower and a language model into one checkpoint."""
    return _pass_on("octopus.build", arguments)


@octopus.command(context_settings=_PASSED_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def export(arguments: tuple[str, ...]) -> int:
    """Turn a checkpoint into files that run without torch: ONNX or GGUF."""
    return _pass_on("octopus.export.command", arguments)


@octopus.group(no_args_is_help=False)
def data() -> None:
    """Work with training data: data build."""


@data.command(context_settings=_PASSED_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def build(arguments: tuple[str, ...]) -> int:
    """Make the training and development sets from a data folder."""
    return _pass_on("octopus.training.build", arguments)


for _command in (actions.phone, actions.resume, actions.undo, people.contacts, actions.config):
    octopus.add_command(_command)


def exit_code(result: Result) -> int:
    """What the result means to a script. A question back counts as usage: something is missing in the request."""
    statuses = {outcome.status for outcome in result.results}
    if result.refused:
        return NOTHING_FITS
    if result.question:
        return USAGE
    return FAILED if "failed" in statuses else DECLINED if "declined" in statuses else DONE


def _request(words: tuple[str, ...], image: str | None) -> str:
    """The sentence from the command line, or from stdin when there is none (or it is "-")."""
    if words and words != ("-",):
        return " ".join(words)
    if image == "-":
        raise UsageError("text and photo cannot both come from stdin", "give the text as an argument")
    if _has_terminal(sys.stdin):
        raise TextError("the text is empty", "say what to do, for example: octopus run text this to mom")
    try:
        return _read_stdin("the text").decode("utf-8-sig")
    except UnicodeDecodeError:
        raise TextError("the text on stdin is not UTF-8", "convert it, for example with iconv") from None


def _read_stdin(what: str) -> bytes:
    content = sys.stdin.buffer.read(LARGEST_INPUT + 1) if sys.stdin else b""
    if len(content) > LARGEST_INPUT:
        raise UsageError(f"{what} on stdin is larger than {LARGEST_INPUT >> 20} MB")
    return content


def _agent(
    model: str | None,
    functions_file: str | None,
    backend: str | None = None,
    devices: Sequence[str] = (),
    send_after: str | None = None,
) -> Agent:
    from octopus.agent import Agent
    from octopus.config import read_config

    held_back = {} if send_after is None else {"chat.send_after": send_after}
    config = read_config({**device_flags(devices), **held_back})
    return Agent(model, registry=_registry(functions_file), backend=backend, config=config)


def _function_tokens(model: str | None) -> dict[str, str]:
    """Token of each function the model was trained for; none when nobody asked for a model and there is none."""
    from octopus.hub import find_model
    from octopus.manifest import Manifest

    wanted = read_settings().model if model is None else model
    try:
        manifest = Manifest.load(find_model(wanted))
    except ModelError:
        if model is not None or wanted != DEFAULT_MODEL:
            raise
        return {}
    return {entry.name: entry.token for entry in manifest.functions}


def _pass_on(module: str, arguments: tuple[str, ...]) -> int:
    """Hand the rest of the command line to a module of octopus.training: `main(arguments) -> exit code`."""
    try:
        entry = import_module(module).main
    except ModuleNotFoundError as error:
        hint = 'pip install "octopus-edge[train]"'
        raise OctopusError(f"this command needs {error.name}, which is not installed", hint) from error
    return int(entry(list(arguments)) or DONE)


def _complain(message: str, hint: str, code: int) -> int:
    line = f"octopus: {message} ({hint})" if hint else f"octopus: {message}"
    click.echo(presentation.one_line(line), err=True)
    return code
