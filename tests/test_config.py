"""The configuration: what beats what, what is refused, that secrets show nowhere, and that the phone follows it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command import Command, phone, refused_in_one_line
from octopus import UsageError, credentials
from octopus.config import read_config
from octopus.functions.devices.configured import make_outlet, open_phone

FULL = """
[devices]
default = "browser"
send_email = "smtp"
send_text = "webhook"

[policy]
write = "ask"
doordash_order = "deny"

[smtp]
host = "mail.example.org"
port = 2465
user = "zoe@example.org"

[webhook]
url = "https://home.example/api/webhook/a-secret-path"
timeout = 3

[chat]
send_after = 10
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config" / "octopus" / "config.toml"
    path.parent.mkdir(parents=True)
    return path


def test_without_a_file_everything_is_the_default() -> None:
    config = read_config()
    assert not config.exists and config.path.name == "config.toml"
    assert config.devices == {"default": "memory"}
    assert {value.origin for value in config.values} == {"default"}
    assert config.send_after == 5.0


def test_a_flag_beats_a_variable_beats_the_file_beats_the_default(file: Path) -> None:
    file.write_text(FULL)
    variables = {"OCTOPUS_DEVICES": "send_text=adb, send_email=memory", "OCTOPUS_POLICY": "write=deny"}
    config = read_config({"devices.send_text": "termux"}, {**variables, "OCTOPUS_CONFIG": str(file)})
    found = {value.name: (value.value, value.origin) for value in config.values}
    assert found["devices.send_text"] == ("termux", "flag")
    assert found["devices.send_email"] == ("memory", "OCTOPUS_DEVICES")
    assert found["devices.default"] == ("browser", "file")
    assert found["policy.write"] == ("deny", "OCTOPUS_POLICY")
    assert found["policy.doordash_order"] == ("deny", "file")
    assert found["policy.send"] == ("ask", "default")
    assert found["smtp.port"] == (2465, "file") and found["webhook.timeout"] == (3.0, "file")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("policy = 1", "'policy'"),
        ("[policy]\nsend = 'alow'", "policy.send"),
        ("[policy]\nsend = true", "policy.send"),
        ("[devices]\nsend_text = 'fax'", "'fax'"),
        ("[device]\nsend_text = 'adb'", "'device'"),
        ("[smtp]\npasword = 'x'", "pasword"),
        ("[smtp]\npassword = 'x'", "password"),
        ("[smtp]\nport = 'x'", "smtp.port"),
        ("[smtp]\nport = 2.5", "smtp.port"),
        ("[smtp]\nhost = 1", "smtp.host"),
        ("[chat]\nsend_after = -1", "chat.send_after"),
        ("[chat]\nsend_after = nan", "chat.send_after"),
        ("[termux]\nx = 1", "termux"),
        ("[devices\n", "cannot be read"),
    ],
)
def test_what_makes_no_sense_is_refused_by_every_command_that_acts(
    octopus: Command, file: Path, content: str, words: str
) -> None:
    file.write_text(content)
    for command in (["config"], ["run", "--yes", "text this to mom"], ["chat"], ["resume"], ["undo"]):
        refused_in_one_line(octopus(*command), 2, words)
    assert octopus("phone").code == 0  # looking is always possible


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OCTOPUS_DEVICES", "send_text"),
        ("OCTOPUS_DEVICES", "send_text=fax"),
        ("OCTOPUS_POLICY", "send=maybe"),
        ("OCTOPUS_SEND_AFTER", "soon"),
        ("OCTOPUS_CONFIG", "/nowhere/config.toml"),
    ],
)
def test_variables_that_make_no_sense(
    octopus: Command, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    refused_in_one_line(octopus("run", "--yes", "text this to mom"), 2, value.rpartition("=")[2])


def test_config_shows_path_values_origins_and_no_secret(
    octopus: Command, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(FULL)
    monkeypatch.setenv("OCTOPUS_SMTP_PASSWORD", "hunter2")
    monkeypatch.setattr("octopus.credentials._from_keyring", lambda name: "hunter3")
    shown = octopus("config", "--device", "amazon_purchase=browser")
    assert shown.code == 0 and shown.out.startswith(f"# {file}\n")
    assert 'devices.send_email = "smtp"  # file\n' in shown.out
    assert 'devices.amazon_purchase = "browser"  # flag\n' in shown.out
    assert 'policy.send = "ask"\n' in shown.out and "chat.send_after = 10  # file\n" in shown.out
    assert "# secret smtp_password: OCTOPUS_SMTP_PASSWORD\n" in shown.out
    assert "# secret webhook_secret: keyring\n" in shown.out
    told = octopus("config", "--json")
    values = json.loads(told.out)
    assert values["path"] == str(file) and values["exists"] is True
    assert values["values"]["webhook.url"] == {"value": "https://home.example/…", "origin": "file"}
    for text in (shown.out, shown.err, told.out, told.err):
        assert "hunter" not in text and "a-secret-path" not in text


def test_a_name_that_is_no_function_is_pointed_out(octopus: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTOPUS_POLICY", "send_txet=deny")
    assert "send_txet is none of the functions" in octopus("config").err


def test_the_rules_hold_at_the_command_line(octopus: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTOPUS_POLICY", "send=deny,instacart_shopping=ask")
    ended = octopus("run", "--yes", "text this to mom")
    assert ended.code == 4 and "the rules deny send_text" in ended.out
    assert octopus("run", "买两盒牛奶").code == 4
    assert octopus("run", "--yes", "买两盒牛奶").code == 0
    monkeypatch.setenv("OCTOPUS_POLICY", "send=allow")
    assert octopus("run", "text this to mom").code == 0
    assert len(phone()["texts"]) == len(phone()["basket"]) == 1


def test_the_device_flag_chooses_for_one_request(octopus: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    ended = octopus("run", "--device", "browser", "买两盒牛奶")
    assert ended.code == 0 and "https://www.instacart.com" in ended.out
    octopus("run", "--device", "browser", "--device", "instacart_shopping=memory", "买两盒牛奶")
    assert [entry.get("device") for entry in phone()["basket"]] == ["browser", None]
    assert octopus("run", "--device", "=adb", "买两盒牛奶").code == 2
    assert octopus("run", "--device", "fax", "买两盒牛奶").code == 2


def test_a_device_that_lacks_what_it_needs_is_refused(octopus: Command) -> None:
    for device, words in (("smtp", "host"), ("webhook", "url")):
        ended = octopus("run", "--device", device, "--yes", "text this to mom")
        assert ended.code == 2 and words in ended.err and ended.err.count("\n") == 1
    assert not any(phone().values())


def test_the_doctor_says_what_a_device_lacks(octopus: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "✓ config    default by memory; " in octopus("doctor").out
    monkeypatch.setenv("OCTOPUS_DEVICES", "send_email=smtp")
    ended = octopus("doctor")
    assert ended.code == 1 and "✗ config    smtp needs a host" in ended.out


def test_the_phone_follows_the_configuration(file: Path) -> None:
    file.write_text(FULL)
    config = read_config()
    made = [make_outlet(name, config) for name in ("memory", "smtp", "browser", "termux", "adb", "webhook")]
    assert [outlet and outlet.name for outlet in made] == [None, "smtp", "browser", "termux", "adb", "webhook"]
    with open_phone(config, ":memory:") as opened:
        chosen = [opened._outlet(name, verb) for name, verb in (("send_email", "send_email"), ("x", "search"))]
        assert [outlet and outlet.name for outlet in chosen] == ["smtp", "browser"]
        assert opened._outlet("lost_and_found", "publish") is None  # which the browser cannot do


def test_secrets_come_from_the_environment_or_the_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (credentials.read_secret("smtp_password"), credentials.origin("smtp_password")) == ("", "not set")
    monkeypatch.setattr("octopus.credentials._from_keyring", lambda name: f"{name} of the keyring")
    assert credentials.read_secret("webhook_secret") == "webhook_secret of the keyring"
    assert credentials.read_secret("webhook_secret", {"OCTOPUS_WEBHOOK_SECRET": "mine"}) == "mine"


def test_a_keyring_that_fails_has_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    from types import ModuleType

    monkeypatch.undo()  # the real look-up, on a keyring of the test's
    broken = ModuleType("keyring")

    def get_password(service: str, name: str) -> str:
        if name == "smtp_password":
            raise RuntimeError("locked")
        return f"{service} {name}"

    broken.get_password = get_password  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", broken)
    assert credentials._from_keyring("smtp_password") == ""
    assert credentials._from_keyring("webhook_secret") == "octopus webhook_secret"


def test_an_unreadable_file_is_refused(file: Path) -> None:
    file.mkdir()
    with pytest.raises(UsageError, match="cannot be read"):
        read_config()
    with pytest.raises(UsageError, match="cannot be read"):
        read_config(environment={"OCTOPUS_CONFIG": str(file / "none")})
