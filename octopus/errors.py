"""Every error octopus raises on purpose. Raised deep, printed only in cli.py: one line, `message` and `hint`.

OctopusError                exit 1   something octopus can name went wrong
├── UsageError              exit 2   the request itself cannot be used
│   ├── TextError           exit 2   empty or far too long text
│   ├── ImageError          exit 2   missing, broken, huge or unsupported picture
│   └── FunctionError       exit 2   a function file that cannot be registered
├── ModelError              exit 1   model folder missing, tampered with, or made for other functions
└── DeviceError             exit 5   the function ran and failed
    └── UncertainError      exit 5   it broke off at a point where it may have been done all the same

Exit codes of the command: 0 done, 1 error, 2 usage, 3 no function fits, 4 declined, 5 function failed.
"""

from __future__ import annotations


class OctopusError(Exception):
    """Base class: a one-line message and a hint that says how to fix it."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UsageError(OctopusError):
    """The request cannot be used as given."""

    exit_code = 2


class TextError(UsageError):
    """The sentence is empty or too long."""


class ImageError(UsageError):
    """The picture cannot be read."""


class FunctionError(UsageError):
    """A function cannot be registered."""


class ModelError(OctopusError):
    """A model folder cannot be loaded."""


class DeviceError(OctopusError):
    """The phone could not do it."""

    exit_code = 5


class UncertainError(DeviceError):
    """The phone tried, and cannot tell whether it was done."""
