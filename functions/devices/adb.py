"""adb: an Android phone on a cable or in the network, through Debian's `adb`. Opens drafts; the user presses send.

In: a Deed. Out: `draft`, which is what an intent opens on the phone. `adb shell` hands its arguments to a shell on the
phone, whatever one does: each of them is quoted for it, so that it comes out as exactly one argument. Nothing goes
through a shell here.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

from octopus.address import digits, is_email
from octopus.device import Deed, Entry, Verb
from octopus.errors import DeviceError
from octopus.functions.devices.links import link_of, mailto
from octopus.functions.devices.program import run_program

_INSTALL = "apt install adb"
_INTENT = "android.intent.action."
_EXTRA = "android.intent.extra."
_FOLDER = "/sdcard/Download"


class Adb:
    """Opens drafts and links on an Android phone; see octopus.device.Outlet."""

    name = "adb"
    verbs: frozenset[Verb] = frozenset({"send_text", "send_email", "search", "order", "add_to_basket"})
    repeatable = True  # a draft opened twice is still one that nobody has sent

    def __init__(self, serial: str = "") -> None:
        """`serial` names the phone when several are connected."""
        self._adb = ["adb", *(["-s", serial] if serial else [])]

    def do(self, deed: Deed) -> Entry:
        """Open the draft or the link."""
        if deed.verb not in ("send_text", "send_email"):
            link = link_of(deed)
            self._start(["-a", _INTENT + "VIEW", "-d", link])
            return {"link": link, "opened": True, **({} if deed.verb == "search" else {"draft": True})}
        address = (deed.recipient and deed.recipient.address) or ""
        if not address or is_email(address) != (deed.verb == "send_email"):
            kind = "e-mail address" if deed.verb == "send_email" else "number"
            raise DeviceError(f"{deed.recipient or 'nobody'} has no {kind}", "add it to the contacts")
        subject = str(deed.arguments.get("subject", ""))
        words = str(deed.arguments.get("body", deed.arguments.get("message", "")))
        if deed.photo is None:
            self._start(_sendto(deed.verb, address, subject, words))
            return {"draft": True}
        place = self._push(deed)
        self._start(_send(deed.verb, address, subject, words, place))
        return {"draft": True, "file": place}

    def undo(self, deed: Deed, entry: Entry) -> None:
        """Remove the photo from the phone; a draft that nobody sends is nothing more."""
        if entry.get("file"):
            self._shell(["rm", "-f", str(entry["file"])])

    def _push(self, deed: Deed) -> str:
        assert deed.photo is not None
        place = f"{_FOLDER}/octopus-{deed.key}.jpg"
        with TemporaryDirectory(prefix="octopus-") as folder:
            file = Path(folder) / "photo.jpg"
            file.write_bytes(deed.photo)
            run_program([*self._adb, "push", str(file), place], _INSTALL)
        return place

    def _start(self, intent: Sequence[str]) -> None:
        output = self._shell(["am", "start", *intent])
        problem = next((line for line in output.splitlines() if line.startswith("Error")), None)
        if problem is not None:  # am ends well even then
            raise DeviceError(f"the phone cannot open it: {problem}")

    def _shell(self, command: Sequence[str]) -> str:
        return run_program([*self._adb, "shell", *map(shlex.quote, command)], _INSTALL)


def _sendto(verb: Verb, address: str, subject: str, words: str) -> list[str]:
    if verb == "send_email":
        return ["-a", _INTENT + "SENDTO", "-d", mailto(address, subject, words)]
    number = quote(("+" if address.startswith("+") else "") + digits(address), safe="+")
    return ["-a", _INTENT + "SENDTO", "-d", f"smsto:{number}", "--es", "sms_body", words]


def _send(verb: Verb, address: str, subject: str, words: str, place: str) -> list[str]:
    """SEND takes a photo along; which app takes it, the user chooses on the phone."""
    to = [_EXTRA + "EMAIL", address] if verb == "send_email" else ["address", address]
    extras = ["--es" if verb == "send_text" else "--esa", *to]
    if subject:
        extras += ["--es", _EXTRA + "SUBJECT", subject]
    if words:
        extras += ["--es", _EXTRA + "TEXT", words]
    stream = ["--eu", _EXTRA + "STREAM", f"file://{place}", "--grant-read-uri-permission"]
    return ["-a", _INTENT + "SEND", "-t", "image/jpeg", *extras, *stream]
