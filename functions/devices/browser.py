"""browser: searches, shops and look-ups open in the user's browser; without a display the link is told instead.

In: a Deed. Out: `link`, whether it was `opened`, and `draft` where the user still has to choose and pay. Opening the
same link twice does no harm.
"""

from __future__ import annotations

import os
import sys
import webbrowser

from octopus.device import Deed, Entry, Verb
from octopus.functions.devices.links import link_of


class Browser:
    """Opens links; see octopus.device.Outlet."""

    name = "browser"
    verbs: frozenset[Verb] = frozenset({"search", "order", "add_to_basket"})
    repeatable = True

    def do(self, deed: Deed) -> Entry:
        """Open the link if there is a display, and say which it is."""
        link = link_of(deed)
        entry = {"link": link, "opened": has_display() and _opens(link)}
        return entry if deed.verb == "search" else {**entry, "draft": True}

    def undo(self, deed: Deed, entry: Entry) -> None:
        """Nothing was changed by looking."""


def has_display() -> bool:
    """Whether a browser would be seen; without a display a text browser would take over the terminal."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _opens(link: str) -> bool:
    try:
        return webbrowser.open(link)
    except (webbrowser.Error, OSError):
        return False
