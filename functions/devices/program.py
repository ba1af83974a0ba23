"""Runs another program with exact arguments: a list, never a line for a shell.

In: the program and its arguments. Out: what it printed, or a DeviceError in words. It reads nothing from the terminal.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from octopus.errors import DeviceError, UncertainError

TIMEOUT = 30.0


def run_program(command: Sequence[str], install: str, timeout: float = TIMEOUT) -> str:
    """What the program prints.

    Args:
        command: The program's name and its arguments.
        install: Where it comes from, for the hint when it is missing.
        timeout: Seconds.

    Raises:
        UncertainError: It did not end in time; what it had to do may be done.
        DeviceError: It is missing or fails.
    """
    name = command[0]
    if any("\0" in argument for argument in command):
        raise DeviceError(f"{name} cannot be given a zero character")
    try:
        ended = subprocess.run(
            list(command), stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False
        )
    except FileNotFoundError:
        raise DeviceError(f"{name} is not installed", install) from None
    except subprocess.TimeoutExpired:
        raise UncertainError(f"{name} did not answer within {timeout:g} s") from None
    except OSError as error:
        raise DeviceError(f"{name} cannot be run: {error.strerror or error}", install) from None
    output = ended.stdout.decode("utf-8", "replace")
    if ended.returncode != 0:
        words = (ended.stderr.decode("utf-8", "replace").strip() or output.strip()).splitlines()
        raise DeviceError(f"{name} failed: {words[-1] if words else f'exit code {ended.returncode}'}")
    return output
