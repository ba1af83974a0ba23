"""Secrets: read from the environment or the system's keyring when they are needed, and never written anywhere.

In: the name of a secret. Out: its text, or nothing. The keyring is used when the `keyring` package is installed.

OCTOPUS_SMTP_PASSWORD   password of the mail account
OCTOPUS_WEBHOOK_SECRET  signs what is posted to the webhook
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal

Secret = Literal["smtp_password", "webhook_secret"]

SECRETS: tuple[Secret, ...] = ("smtp_password", "webhook_secret")
SERVICE = "octopus"
"""Under which name the keyring has them: `keyring set octopus smtp_password`."""


def read_secret(name: Secret, environment: Mapping[str, str] | None = None) -> str:
    """The secret; "" when there is none."""
    return _look_up(name, environment)[0]


def origin(name: Secret, environment: Mapping[str, str] | None = None) -> str:
    """Where the secret comes from, without the secret."""
    return _look_up(name, environment)[1]


def _look_up(name: Secret, environment: Mapping[str, str] | None) -> tuple[str, str]:
    variable = f"OCTOPUS_{name.upper()}"
    value = (os.environ if environment is None else environment).get(variable)
    if value:
        return value, variable
    value = _from_keyring(name)
    return (value, "keyring") if value else ("", "not set")


def _from_keyring(name: Secret) -> str:
    try:
        import keyring
    except ImportError:
        return ""
    try:
        return keyring.get_password(SERVICE, name) or ""
    except Exception:  # a keyring may be locked, missing or broken in ways of its own; then there is no secret in it
        return ""
