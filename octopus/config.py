"""The user's configuration: which device serves which function, what is asked about, and how devices are reached.

In: one small TOML file, the environment, flags. Out: a frozen Config that also knows where each value comes from. A
flag beats a variable, a variable beats the file, the file beats the default. Secrets are not in here: secrets.py.
What cannot be understood is refused: a rule with a spelling mistake must not count as none.

OCTOPUS_CONFIG      the file                          default: config.toml in the user's configuration folder
OCTOPUS_DEVICES     send_email=smtp,default=memory    beats the file's [devices]
OCTOPUS_POLICY      send=ask,doordash_order=deny      beats the file's [policy]
OCTOPUS_SEND_AFTER  seconds for which `octopus chat` holds back what cannot be taken back
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import platformdirs

from octopus.core import Effect, Function
from octopus.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Verdict = Literal["allow", "ask", "deny"]

DEFAULT = "default"
"""Stands in [devices] for every function that is not named there."""

DEVICES = ("memory", "smtp", "browser", "termux", "adb", "webhook")

_RULES: dict[str, Verdict] = {
    "read": "allow",
    "write": "allow",
    "send": "ask",
    "spend": "ask",
    "publish": "ask",
    "none": "allow",
}
_OPTIONS: dict[str, dict[str, Any]] = {
    "smtp": {"host": "", "port": 0, "security": "tls", "user": "", "from": "", "name": "", "ca": "", "timeout": 30.0},
    "webhook": {"url": "", "timeout": 10.0, "attempts": 4},
    "adb": {"serial": ""},
    "termux": {},
    "browser": {},
    "chat": {"send_after": 5.0},
}
LONGEST_WAIT = 3600.0
"""Seconds."""


@dataclass(frozen=True)
class Rules:
    """What is allowed, asked about or denied: a verdict for each effect, and exceptions for single functions."""

    effects: Mapping[str, Verdict] = field(default_factory=lambda: dict(_RULES))
    functions: Mapping[str, Verdict] = field(default_factory=dict)

    def verdict(self, function: Function) -> Verdict:
        """The one for this function; an effect that no rule names is asked about."""
        return self.functions.get(function.name) or self.effects.get(function.effect.value, "ask")


@dataclass(frozen=True)
class Value:
    """One effective value, and where it comes from: "default", "file", a variable or "flag"."""

    name: str  # policy.send
    value: Any
    origin: str = "default"

    @property
    def shown(self) -> Any:
        """The value for people to see: of a webhook's URL only the server, because the rest may be a secret."""
        if self.name == "webhook.url" and self.value:
            parts = urlsplit(self.value)
            return f"{parts.scheme}://{parts.hostname}/…"
        return self.value


@dataclass(frozen=True)
class Config:
    """All effective values."""

    path: Path
    exists: bool
    values: tuple[Value, ...]

    @property
    def rules(self) -> Rules:
        """The [policy] part."""
        effects = {name: self.get("policy", name) for name in _RULES}
        return Rules(effects, {name: verdict for name, verdict in self.section("policy").items() if name not in _RULES})

    @property
    def devices(self) -> dict[str, str]:
        """Function -> device; "default" for the rest."""
        return self.section("devices")

    @property
    def send_after(self) -> float:
        """Seconds for which `octopus chat` holds back what cannot be taken back."""
        return float(self.get("chat", "send_after"))

    def section(self, name: str) -> dict[str, Any]:
        """The values of one part."""
        own = (v for v in self.values if v.name.startswith(f"{name}."))
        return {v.name.removeprefix(f"{name}."): v.value for v in own}

    def get(self, section: str, name: str) -> Any:
        """One value."""
        return self.section(section)[name]


def read_config(flags: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None) -> Config:
    """The configuration of this process.

    Args:
        flags: Values given on the command line, by full name: `{"devices.send_text": "adb"}`.
        environment: Instead of the process's own.

    Raises:
        UsageError: The file cannot be read, or something in file, variables or flags makes no sense.
    """
    environment = os.environ if environment is None else environment
    path = config_path(environment)
    values = {value.name: value for value in _defaults()}
    given = [(value, "file", str(path)) for value in _in_file(path, bool(environment.get("OCTOPUS_CONFIG")))]
    given += [(value, value.origin, value.origin) for value in _in_environment(environment)]
    given += [(Value(name, value), "flag", "the command line") for name, value in (flags or {}).items()]
    for value, origin, place in given:
        values[value.name] = Value(value.name, _checked(value, place), origin)
    return Config(path, path.is_file(), tuple(values.values()))


def config_path(environment: Mapping[str, str] | None = None) -> Path:
    """Where the file is, or would be."""
    named = (os.environ if environment is None else environment).get("OCTOPUS_CONFIG")
    return Path(named).expanduser() if named else Path(platformdirs.user_config_dir("octopus", False)) / "config.toml"


def _defaults() -> Iterator[Value]:
    yield Value(f"devices.{DEFAULT}", "memory")
    yield from (Value(f"policy.{name}", verdict) for name, verdict in _RULES.items())
    for section, options in _OPTIONS.items():
        yield from (Value(f"{section}.{name}", value) for name, value in options.items())


def _in_file(path: Path, must_exist: bool) -> Iterator[Value]:
    if not path.exists() and not must_exist:
        return
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(
            f"the configuration {path} cannot be read: {error}", "`octopus config` shows its path"
        ) from None
    for section, options in content.items():
        if not isinstance(options, dict):
            raise UsageError(f"{path}: {section!r} stands outside of a section", f"use {_names(_sections())}")
        yield from (Value(f"{section}.{name}", value) for name, value in options.items())


def _in_environment(environment: Mapping[str, str]) -> Iterator[Value]:
    for variable, section in (("OCTOPUS_DEVICES", "devices"), ("OCTOPUS_POLICY", "policy")):
        for part in filter(None, (part.strip() for part in environment.get(variable, "").split(","))):
            name, equals, value = part.partition("=")
            if not equals:
                raise UsageError(f"{variable}: {part!r} is not NAME=VALUE", "separate several with commas")
            yield Value(f"{section}.{name.strip()}", value.strip(), variable)
    if environment.get("OCTOPUS_SEND_AFTER"):
        yield Value("chat.send_after", environment["OCTOPUS_SEND_AFTER"], "OCTOPUS_SEND_AFTER")


def _checked(value: Value, place: str) -> Any:
    """The value in its proper type."""
    section, _, name = value.name.partition(".")
    if section == "devices":
        return _one_of(value, DEVICES, place)
    if section == "policy":
        return _one_of(value, ("allow", "ask", "deny"), place)
    if section not in _OPTIONS:
        raise UsageError(f"{place}: there is no section {section!r}", f"use {_names(_sections())}")
    if name not in _OPTIONS[section]:
        known = f"use {_names(_OPTIONS[section])}" if _OPTIONS[section] else "it needs none"
        raise UsageError(f"{place}: {section} has no option {name!r}", known)
    default = _OPTIONS[section][name]
    if isinstance(default, str):
        if not isinstance(value.value, str):
            raise UsageError(f"{place}: {value.name} is {value.value!r}", "give a text in quotes")
        return value.value
    largest = {"send_after": LONGEST_WAIT, "port": 65535, "attempts": 20}.get(name, 600)
    try:
        number = float("nan") if isinstance(value.value, bool) else float(value.value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    whole = isinstance(default, int)
    if not 0 <= number <= largest or (whole and number != int(number)):
        raise UsageError(f"{place}: {value.name} is {value.value!r}", f"give a number from 0 to {largest:g}")
    return int(number) if whole else number


def _one_of(value: Value, choices: tuple[str, ...], place: str) -> str:
    if not isinstance(value.value, str) or value.value not in choices:
        raise UsageError(f"{place}: {value.name} is {value.value!r}", f"use {_names(choices)}")
    return value.value


def _sections() -> tuple[str, ...]:
    return ("devices", "policy", *_OPTIONS)


def _names(names: Any) -> str:
    return ", ".join(names)


def unknown_functions(config: Config, known: Mapping[str, Function]) -> list[str]:
    """Names in [devices] and [policy] that are neither functions nor effects: most likely spelling mistakes."""
    effects = {effect.value for effect in Effect}
    named = {**config.devices, **config.section("policy")}
    return [name for name in named if name not in known and name not in effects and name != DEFAULT]
