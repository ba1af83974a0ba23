"""The phone as the user configured it: which device does which function's deeds.

In: a Config. Out: the user's MemoryPhone with its outlets. Only what is named is made, and nothing is reached yet.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from octopus.config import DEFAULT, Config
from octopus.credentials import read_secret
from octopus.device import Contact, Outlet
from octopus.functions.devices.adb import Adb
from octopus.functions.devices.browser import Browser
from octopus.functions.devices.memory import ANY, MemoryPhone
from octopus.functions.devices.smtp import Smtp
from octopus.functions.devices.termux import Termux
from octopus.functions.devices.webhook import Webhook


def open_phone(config: Config, path: str | Path | None = None) -> MemoryPhone:
    """The phone's file, and the devices that the configuration names.

    Raises:
        UsageError: A device lacks what it needs.
        DeviceError: The phone's file cannot be opened.
    """
    made: dict[str, Outlet | None] = {name: make_outlet(name, config) for name in {*config.devices.values()}}
    outlets: dict[str, Outlet] = {}
    for function, name in config.devices.items():
        outlet = made[name]
        if outlet is not None:
            outlets[ANY if function == DEFAULT else function] = outlet
    keep = frozenset(function for function, name in config.devices.items() if made[name] is None)
    return MemoryPhone(path, outlets, only_recorded=keep)


def make_outlet(name: str, config: Config) -> Outlet | None:
    """The device of this name; None for "memory", which only records.

    Raises:
        UsageError: It lacks what it needs.
    """
    options = config.section(name)
    if name == "memory":
        return None
    if name == "browser":
        return Browser()
    if name == "termux":
        return Termux()
    if name == "adb":
        return Adb(options["serial"])
    if name == "webhook":
        secret = partial(read_secret, "webhook_secret")
        return Webhook(options["url"], secret, timeout=options["timeout"], attempts=options["attempts"])
    sender = Contact(options["name"], options["from"] or options["user"])
    return Smtp(
        options["host"],
        sender,
        port=options["port"],
        security=options["security"],
        user=options["user"],
        password=partial(read_secret, "smtp_password"),
        ca=options["ca"],
        timeout=options["timeout"],
    )
