"""The phone functions that come with octopus, and the devices they act on.

A function file needs only what is named here:

    from octopus.functions import Device, Effect, Receipt, function
"""

from __future__ import annotations

from octopus.core import Effect
from octopus.device import Device, Receipt
from octopus.registry import function

__all__ = ["Device", "Effect", "Receipt", "function"]
