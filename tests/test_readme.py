"""The README is true: its commands exist, its Python runs, its tables and its file tree are the real ones."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image

from octopus import Registry, ScriptedBackend, cli, errors
from scripted_model import call, scripted_backend, write_model

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
UNLISTED = {"__init__.py", "__main__.py", "py.typed"}


def blocks(language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [content for name, content in fenced if name == language]


def table(heading: str) -> list[list[str]]:
    """The rows of the table whose first column has this heading."""
    lines = README.split(f"| {heading} |", 1)[1].splitlines()[2:]
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return rows


def resolve(words: list[str]) -> tuple[click.Command, list[str]]:
    """The click command of a command line, and the rest of it."""
    command: click.Command = cli.octopus
    while isinstance(command, click.Group) and words and words[0] in command.commands:
        command, words = command.commands[words[0]], words[1:]
    return command, words


def test_every_command_line_is_one_that_octopus_takes() -> None:
    lines = re.findall(r"^\$ octopus (.*)$", README, re.MULTILINE) + re.findall(r"`octopus ([^`\[]+)`", README)
    assert len(lines) > 8
    for line in lines:
        command, rest = resolve(shlex.split(line))
        assert command is not cli.octopus, line
        command.make_context("octopus", list(rest), resilient_parsing=True)
        known = {name for parameter in command.params for name in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= known, line


def test_the_synopsis_of_run_names_all_its_options() -> None:
    synopsis = next(row[1] for row in table("command") if row[0] == "`octopus run`")
    options = {name for p in cli.run.params if isinstance(p, click.Option) for name in p.opts if name.startswith("--")}
    assert set(re.findall(r"--[a-z-]+", synopsis)) == options


def test_the_command_table_is_complete() -> None:
    assert {row[0].strip("`").removeprefix("octopus ") for row in table("command")} == set(cli.octopus.commands)


def test_the_exit_codes_are_the_real_ones() -> None:
    codes = {int(row[0]) for row in table("exit code")}
    assert codes == {cli.DONE, cli.ERROR, cli.USAGE, cli.NOTHING_FITS, cli.DECLINED, cli.FAILED}
    raised = {value.exit_code for value in vars(errors).values() if isinstance(value, type)}
    assert raised <= codes


def test_the_variables_are_the_ones_that_are_read() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "octopus").rglob("*.py"))
    assert {row[0].strip("`") for row in table("variable")} == set(re.findall(r"OCTOPUS(?:_[A-Z]+)+", source))


def test_the_python_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_model(tmp_path / "model")
    script = {"Text this to mom": [call("send_text", to="mom")]}

    def open_scripted(folder: Path, threads: int | None) -> ScriptedBackend:
        return scripted_backend(folder, script)

    monkeypatch.setenv("OCTOPUS_MODEL", str(folder))
    monkeypatch.setattr("octopus.agent.open_backend", open_scripted)
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save("cat.png")
    call_agent, declare = blocks("python")

    exec(call_agent, {})
    assert capsys.readouterr().out.startswith("send_text {'to': 'mom', 'message': ''}\n<nexa_1> ")

    Path("lamp.py").write_text(declare, encoding="utf-8")
    assert list(Registry.from_file("lamp.py")) == ["switch_lamp"]


def test_the_make_targets_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake (demo|test|check|format|clean)\b", README)) <= targets


def test_the_file_tree_is_the_real_one() -> None:
    (tree,) = (block for block in blocks("") if block.startswith("octopus/ "))
    listed: list[Path] = []
    folders: list[str] = []
    for line in tree.splitlines():
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        folders[depth:] = [name]
        listed.append(Path("".join(folders)))
    for path in listed:
        # the model is put there by training and export, and is not part of every checkout
        assert (ROOT / path).exists() or "models" in path.parts, path
    for folder in ("octopus", "octopus/runtime", "export", "functions", "functions/devices"):
        real = {path.name for path in (ROOT / folder).glob("*.py")} - UNLISTED
        shown = {path.name for path in listed if path.parent == Path(folder) and path.suffix == ".py"}
        assert shown == real, folder


def test_the_tables_are_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import tables

    for document in tables.PLACES:
        assert tables.filled(document) == document.read_text(encoding="utf-8"), "run python benchmarks/tables.py"


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists() or "models/nano" in target, target
