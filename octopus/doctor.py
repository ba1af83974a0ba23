"""What works in this installation: one Check after the other, none of which changes anything.

In: the name of a model. Out: checks of versions, model, threads, phone, and one request that is understood but not
carried out. A failed check says how to mend it; the ones after it go on.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from octopus import __version__
from octopus.agent import Agent
from octopus.config import read_config
from octopus.errors import ModelError, OctopusError
from octopus.functions.devices.configured import make_outlet
from octopus.hub import find_model
from octopus.manifest import Manifest
from octopus.settings import MEMORY, read_settings

NEEDED = ("numpy", "pillow", "tokenizers", "pydantic", "click", "platformdirs", "onnxruntime")
OPTIONAL = ("torch", "transformers", "llama-cpp-python")
REQUEST = "what is a good name for a cat, search the web"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. `hint` says how to mend it."""

    name: str
    ok: bool
    detail: str
    hint: str = ""


def examine(model: str | None = None) -> Iterator[Check]:
    """All checks, in the order in which a request needs what they look at."""
    checks: tuple[tuple[str, Callable[[], str]], ...] = (
        ("python", lambda: f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        ("octopus", lambda: f"{__version__} in {Path(__file__).parent}"),
        ("packages", _packages),
        ("extras", _extras),
        ("threads", _threads),
        ("model", lambda: _model(model)),
        ("phone", _phone),
        ("config", _config),
        ("request", lambda: _request(model)),
    )
    for name, look in checks:
        try:
            yield Check(name, True, look())
        except OctopusError as error:
            yield Check(name, False, error.message, error.hint)
        except Exception as error:  # a broken installation may fail in any way; that is what we are here for
            yield Check(name, False, f"{type(error).__name__}: {error}")


def _packages() -> str:
    found = {name: _version(name) for name in NEEDED}
    missing = [name for name, number in found.items() if number is None]
    if missing:
        raise OctopusError(f"{', '.join(missing)} missing", "pip install octopus-edge")
    return ", ".join(f"{name} {number}" for name, number in found.items())


def _extras() -> str:
    found = [f"{name} {number}" for name in OPTIONAL if (number := _version(name))]
    return ", ".join(found) or "none (torch and others are only needed for training and export)"


def _threads() -> str:
    asked = read_settings().threads
    chosen = "the runtime decides" if asked is None else f"OCTOPUS_THREADS={asked}"
    return f"{os.cpu_count()} processors, {chosen}"


def _model(model: str | None) -> str:
    folder = find_model(model or read_settings().model)
    manifest = Manifest.load(folder)
    manifest.check_files(folder)
    if not manifest.files:
        raise ModelError(f"the manifest in {folder} names no files", "export the model again")
    size = sum((folder / name).stat().st_size for name in manifest.files)
    return f"{manifest.name}, {len(manifest.functions)} functions, {size / 1e6:.1f} MB, hashes right, in {folder}"


def _phone() -> str:
    """Looks without creating the file: a doctor leaves no traces."""
    place = read_settings().phone
    if place == MEMORY:
        return "in memory only"
    path = Path(place).expanduser()
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    writable = os.access(path if path.exists() else folder, os.W_OK)
    if path.is_dir() or not writable:
        raise OctopusError(f"{path} cannot be written", "set OCTOPUS_PHONE to a file that can")
    return f"{path}{'' if path.exists() else ' (made on first use)'}"


def _config() -> str:
    """What the configuration says, and that every device named in it can be made; none is reached."""
    config = read_config()
    for name in {*config.devices.values()}:
        make_outlet(name, config)
    shown = ", ".join(f"{function} by {device}" for function, device in config.devices.items())
    return f"{shown}; {config.path}{'' if config.exists else ' (not there: the default)'}"


def _request(model: str | None) -> str:
    plan = Agent(model).plan(REQUEST)
    chosen = ", ".join(call.name for call in plan.calls) or "refused"
    return f"{REQUEST!r}: {chosen}, {plan.timings.total:.0f} ms"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
