"""The command: what it prints where, and how it exits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from command import Command, phone, refused_in_one_line, write_functions
from octopus import hub
from scripted_model import write_model

ROOT = Path(__file__).resolve().parent.parent


def test_run_shows_token_call_and_what_was_done(octopus: Command, photo: Path) -> None:
    ended = octopus("run", "--yes", "--image", photo, "text this to mom")
    assert ended.code == 0
    assert "<nexa_1>  send_text(to='mom', message='')  100%" in ended.out
    assert "✓ Text to Mom (+1 202 555 0143), with the photo" in ended.out
    assert " ms (" in ended.err
    assert phone()["texts"][0]["photo"] is True


def test_run_prints_exactly_one_json_object(octopus: Command) -> None:
    ended = octopus("run", "--json", "--yes", "买两盒牛奶")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.count("\n") == 1 and "牛奶" in ended.out
    result = json.loads(ended.out)
    assert list(result) == ["calls", "refused", "question", "executed", "results", "timings_ms", "model"]
    assert result["calls"] == [
        {
            "name": "instacart_shopping",
            "arguments": {"item": "牛奶", "quantity": 2},
            "token": "<nexa_7>",
            "confidence": 1.0,
        }
    ]
    assert result["executed"] is True and result["refused"] is False and result["question"] is None
    assert result["results"][0]["status"] == "done"
    assert set(result["timings_ms"]) == {"image", "prefill", "decode", "total"}
    assert result["model"] == "scripted"


def test_text_may_come_from_stdin(octopus: Command) -> None:
    assert octopus("run", stdin="\ufeff买两盒牛奶\r\n".encode()).code == 0
    assert octopus("run", "-", stdin="买两盒牛奶".encode()).code == 0
    assert len(phone()["basket"]) == 2


def test_the_photo_may_come_from_stdin(octopus: Command, photo: Path) -> None:
    assert octopus("run", "--yes", "--image", "-", "text", "this", "to", "mom", stdin=photo.read_bytes()).code == 0
    assert phone()["texts"][0]["photo"] is True


def test_a_refusal_exits_with_3(octopus: Command) -> None:
    assert octopus("run", "--yes", "hello there").code == 3
    ended = octopus("run", "--json", "--yes", "hello there")
    assert ended.code == 3
    result = json.loads(ended.out)
    assert (result["calls"], result["refused"], result["executed"]) == ([], True, False)


def test_without_a_terminal_sending_is_declined(octopus: Command) -> None:
    ended = octopus("run", "text this to mom")
    assert ended.code == 4
    assert "--yes" in ended.out
    assert not any(phone().values())


def test_a_dry_run_changes_nothing(octopus: Command) -> None:
    ended = octopus("run", "--dry-run", "--json", "text this to mom")
    assert ended.code == 0
    assert json.loads(ended.out)["results"][0]["status"] == "dry-run"
    assert not any(phone().values())


def test_a_question_back_is_not_done(octopus: Command) -> None:
    ended = octopus("run", "--yes", "email this")
    assert ended.code == 2
    assert "Who should get the e-mail?" in ended.out
    assert not any(phone().values())


def test_a_function_that_fails_exits_with_5(octopus: Command, tmp_path: Path) -> None:
    path = write_functions(
        tmp_path,
        "phone, item: str, quantity: int = 1",
        "    Args:\n        item: The grocery item.\n        quantity: How many.\n",
        "raise OSError('no shop')",
    )
    ended = octopus("run", "--functions", path, "买两盒牛奶")
    assert ended.code == 5
    assert "no shop" in ended.out
    assert [row["function"] for row in phone()["unfinished"]] == ["instacart_shopping"]


@pytest.mark.parametrize(
    "body", ["raise SystemExit(0)", "return {1j: object()}", "print('hello'); return {'at': object()}"]
)
def test_a_function_cannot_spoil_the_answer(octopus: Command, tmp_path: Path, body: str) -> None:
    arguments = "    Args:\n        item: The grocery item.\n        quantity: How many.\n"
    path = write_functions(tmp_path, "phone, item: str, quantity: int = 1", arguments, body)
    ended = octopus("run", "--json", "--functions", path, "买两盒牛奶")
    assert ended.code == (5 if "SystemExit" in body else 0)
    assert len(json.loads(ended.out)["results"]) == 1


def test_functions_lists_all_with_their_tokens(octopus: Command) -> None:
    ended = octopus("functions")
    assert ended.code == 0
    assert "<nexa_3>   amazon_purchase(item: string, quantity: integer = 1)  [spend]" in ended.out
    rows = json.loads(octopus("functions", "--json").out)["functions"]
    assert [row["token"] for row in rows] == [f"<nexa_{n}>" for n in range(11)]
    assert rows[3]["parameters"]["required"] == ["item"]


def test_a_model_that_was_asked_for_must_be_there(octopus: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "MODELS", Path("/nowhere"))
    refused_in_one_line(octopus("functions", "--model", "./nowhere"), 1, "./nowhere")
    refused_in_one_line(octopus("functions", "--model", "nano"), 1, "nano")
    monkeypatch.setenv("OCTOPUS_MODEL", "./elsewhere")
    refused_in_one_line(octopus("functions"), 1, "./elsewhere")
    monkeypatch.delenv("OCTOPUS_MODEL")  # nobody asked: a checkout without weights still lists its functions
    ended = octopus("functions")
    assert ended.code == 0 and ended.out.count("untrained") == 11


def test_phone_shows_what_happened(octopus: Command) -> None:
    assert "Nothing has happened" in octopus("phone").out
    octopus("run", "买两盒牛奶")
    ended = octopus("phone")
    assert "Basket" in ended.out and "item=牛奶  quantity=2" in ended.out
    state = json.loads(octopus("phone", "--json").out)
    assert list(state) == ["texts", "emails", "basket", "orders", "board", "searches", "unfinished"]
    assert state["basket"][0]["item"] == "牛奶"


def test_chat_keeps_photo_and_question_for_the_next_line(octopus: Command, photo: Path) -> None:
    lines = f"/image {photo}\nemail this\nMom\n\n/nonsense\nrecycle this bottle\n/phone\n/quit\nhello\n"
    ended = octopus("chat", "--yes", stdin=lines.encode())
    assert ended.code == 0
    assert "Who should get the e-mail?" in ended.out
    assert "octopus: there is no /nonsense" in ended.err
    assert "No phone function" not in ended.out  # nothing is read after /quit
    state = phone()
    assert (state["emails"][0]["to"], state["emails"][0]["photo"]) == ("Mom", True)
    assert state["searches"][0]["material"] == "plastic"


def test_an_empty_line_drops_the_question(octopus: Command) -> None:
    ended = octopus("chat", "--yes", stdin=b"email this\n\nrecycle this bottle\n")
    assert "never mind" in ended.err
    assert [name for name, rows in phone().items() if rows] == ["searches"]


def test_after_an_answer_that_says_nothing_the_question_stays_open(octopus: Command) -> None:
    ended = octopus("chat", stdin="给我的房间出主意\n月亮\n厨房\nrecycle this bottle\n".encode())
    assert "'月亮' does not answer the question: 是哪个房间？ (say one of bedroom, kitchen," in ended.err
    assert "an empty line drops it" in ended.err
    assert [(row["topic"], row.get("room")) for row in phone()["searches"]] == [
        ("interior design", "kitchen"),
        ("recycling", None),
    ]
    ended = octopus("chat", stdin=f"给我的房间出主意\n{'x' * 5000}\nthe Kitchen, please\n".encode())
    assert len(phone()["searches"]) == 3


def test_chat_goes_on_after_a_broken_photo(octopus: Command, tmp_path: Path) -> None:
    ended = octopus(
        "chat", stdin=f"/image {tmp_path / 'none.jpg'}\nrecycle this bottle\nrecycle this bottle\n".encode()
    )
    assert ended.err.count("octopus: ") == 1
    assert len(phone()["searches"]) == 1


def test_doctor_names_what_is_wrong(octopus: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = octopus("doctor", "--model", "./nowhere")
    assert ended.code == 1
    assert "✗ model" in ended.out and "✓ packages" in ended.out
    report = json.loads(octopus("doctor", "--json", "--model", "./nowhere").out)
    assert report["ok"] is False
    assert {"name", "ok", "detail", "hint"} == set(report["checks"][0])


@pytest.mark.parametrize("command", ["eval", "train", "data build"])
def test_training_commands_say_what_is_not_installed(
    command: str, octopus: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_module(name: str) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr("octopus.cli.import_module", no_module)
    refused_in_one_line(octopus(*command.split(), "--anything"), 1, "torch", "octopus-edge[train]")


def test_the_command_as_a_process() -> None:
    """The real thing, once: a missing model, a pipe, a terminal that knows no UTF-8."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "latin-1", "OCTOPUS_MODEL": "./nowhere"}
    command = [sys.executable, "-m", "octopus"]
    ended = subprocess.run([*command, "run", "妈妈"], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stdout == "" and ended.stderr.count("\n") == 1 and "./nowhere" in ended.stderr
    ended = subprocess.run([*command, "doctor"], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 1 and "? model" in ended.stdout
    assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 2
    version = subprocess.run([*command, "--version"], env=environment, capture_output=True, text=True, check=True)
    assert version.stdout.startswith("octopus, version ")


def test_a_packaged_model_is_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "MODELS", tmp_path)
    write_model(tmp_path / "small")
    assert hub.packaged_models() == ("small",)
    assert hub.find_model("small") == tmp_path / "small"
