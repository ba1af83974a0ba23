"""termux: octopus on the Android phone itself, through the commands of Termux:API.

In: a Deed. Out: a text message that is sent, or `draft` for what Android lets other apps only prepare: e-mails, and
everything with a photo. Each word of the user's is one argument of its own; no shell is used.
"""

from __future__ import annotations

from pathlib import Path

import platformdirs

from octopus.address import digits, is_email
from octopus.device import Deed, Entry, Verb
from octopus.errors import DeviceError
from octopus.functions.devices.links import link_of, mailto
from octopus.functions.devices.program import run_program

_INSTALL = "pkg install termux-api, and the app Termux:API"


class Termux:
    """Sends texts and opens drafts and links on this phone; see octopus.device.Outlet."""

    name = "termux"
    verbs: frozenset[Verb] = frozenset({"send_text", "send_email", "search", "order", "add_to_basket"})
    repeatable = False

    def do(self, deed: Deed) -> Entry:
        """Send it, or open it as a draft or link."""
        if deed.verb not in ("send_text", "send_email"):
            link = link_of(deed)
            run_program(["termux-open-url", link], _INSTALL)
            return {"link": link, "opened": True, **({} if deed.verb == "search" else {"draft": True})}
        address = (deed.recipient and deed.recipient.address) or ""
        if not address or is_email(address) != (deed.verb == "send_email"):
            kind = "e-mail address" if deed.verb == "send_email" else "number"
            raise DeviceError(f"{deed.recipient or 'nobody'} has no {kind}", "add it to the contacts")
        words = str(deed.arguments.get("body", deed.arguments.get("message", "")))
        if deed.photo is not None:
            return self._share(deed, words)
        if deed.verb == "send_email":
            subject = str(deed.arguments.get("subject", ""))
            run_program(["termux-open-url", mailto(address, subject, words)], _INSTALL)
            return {"draft": True}
        number = ("+" if address.startswith("+") else "") + digits(address)
        if not words:
            raise DeviceError("a text message without words or photo cannot be sent", "say what it should say")
        run_program(["termux-sms-send", "-n", number, "--", words], _INSTALL)
        return {}

    def undo(self, deed: Deed, entry: Entry) -> None:
        """Remove the photo that was prepared for the draft."""
        if entry.get("file"):
            Path(entry["file"]).unlink(missing_ok=True)

    def _share(self, deed: Deed, words: str) -> Entry:
        """Let the user choose the app that takes the photo; Android wants it in a file that stays for a while."""
        assert deed.photo is not None
        folder = Path(platformdirs.user_cache_dir("octopus", False)) / "shared"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = folder / f"{deed.key}.jpg"
        file.write_bytes(deed.photo)
        title = words.splitlines()[0] if words.strip() else "octopus"
        run_program(["termux-share", "-a", "send", "-c", "image/jpeg", "-t", title, str(file)], _INSTALL)
        return {"draft": True, "file": str(file)}
