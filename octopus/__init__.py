"""octopus: a photo and a sentence become a phone call that is carried out.

    from octopus import Agent
    result = Agent().call("Text this to mom", image="cat.jpg")

Names load on first use: `import octopus` by itself imports none of the package's modules and no model runtime.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from octopus.agent import Agent as Agent
    from octopus.core import Call as Call
    from octopus.core import Effect as Effect
    from octopus.core import Function as Function
    from octopus.core import Outcome as Outcome
    from octopus.core import Parameter as Parameter
    from octopus.core import Plan as Plan
    from octopus.core import Query as Query
    from octopus.core import Result as Result
    from octopus.core import Timings as Timings
    from octopus.errors import DeviceError as DeviceError
    from octopus.errors import FunctionError as FunctionError
    from octopus.errors import ImageError as ImageError
    from octopus.errors import ModelError as ModelError
    from octopus.errors import OctopusError as OctopusError
    from octopus.errors import TextError as TextError
    from octopus.errors import UncertainError as UncertainError
    from octopus.errors import UsageError as UsageError
    from octopus.functions.devices.memory import MemoryPhone as MemoryPhone
    from octopus.registry import Registry as Registry
    from octopus.registry import function as function
    from octopus.runtime.scripted import ScriptedBackend as ScriptedBackend

__version__ = "0.1.0"

_HOMES = {
    "octopus.agent": ("Agent",),
    "octopus.core": (
        "Call",
        "Effect",
        "Function",
        "Outcome",
        "Parameter",
        "Plan",
        "Query",
        "Result",
        "Timings",
    ),
    "octopus.errors": (
        "DeviceError",
        "FunctionError",
        "ImageError",
        "ModelError",
        "OctopusError",
        "TextError",
        "UncertainError",
        "UsageError",
    ),
    "octopus.functions.devices.memory": ("MemoryPhone",),
    "octopus.registry": ("Registry", "function"),
    "octopus.runtime.scripted": ("ScriptedBackend",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Agent",
    "Call",
    "DeviceError",
    "Effect",
    "Function",
    "FunctionError",
    "ImageError",
    "MemoryPhone",
    "ModelError",
    "OctopusError",
    "Outcome",
    "Parameter",
    "Plan",
    "Query",
    "Registry",
    "Result",
    "ScriptedBackend",
    "TextError",
    "Timings",
    "UncertainError",
    "UsageError",
    "__version__",
    "function",
]


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'octopus' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
