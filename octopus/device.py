"""What a phone can do, as seen by the functions, and how a deed leaves it: the two seams around the devices.

`Device` is what functions get: its verbs take the arguments of a call and return an entry, a plain mapping of what was
recorded (arguments as given, contact, time). `Outlet` is what acts on the world (SMTP, Android, webhook: one file each
in octopus.functions.devices): it gets one Deed at a time. Neither knows of models, tokens or consent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from octopus.core import Channel, Language
from octopus.journal import Action, Journal

Entry = Mapping[str, Any]
"""What a device recorded: JSON values only."""


@dataclass(frozen=True)
class Contact:
    """A person in the phone's address book."""

    name: str
    email: str = ""
    number: str = ""
    also: tuple[str, ...] = ()  # other names for the same person: "mum", "妈妈"
    relation: str = ""  # what they are to the owner: "mother"
    further: tuple[str, ...] = ()  # more e-mail addresses and numbers


@dataclass(frozen=True)
class Recipient:
    """A person named in a request, as far as the phone can tell who is meant."""

    given: str  # as the user said it
    contact: Contact | None = None  # None: not in the address book
    address: str | None = None  # where it would go; None: nowhere
    candidates: tuple[Contact, ...] = ()  # several people have this name: the user must say who

    def __str__(self) -> str:
        """`Mom (+1 202 555 0143)`, a bare address, or the name as given."""
        if self.contact is None:
            return self.address or f"{self.given} (not in contacts)"
        return f"{self.contact.name} ({self.address or 'no address'})"


@dataclass(frozen=True)
class Receipt:
    """What a function reports back: one line for people, data for programs."""

    summary: str
    data: Entry = field(default_factory=dict)


Verb = Literal["send_text", "send_email", "add_to_basket", "order", "publish", "search"]


@dataclass(frozen=True)
class Deed:
    """One thing to do in the world, with everything decided: who, what, which photo."""

    verb: Verb
    arguments: Mapping[str, Any]
    key: str  # the same for every attempt at this deed: whoever gets it twice must do it once
    recipient: Recipient | None = None
    photo: bytes | None = None  # JPEG
    language: Language = "en"


class Outlet(Protocol):
    """Does deeds in the world. One file in octopus.functions.devices each."""

    @property
    def name(self) -> str:
        """What the configuration calls it."""

    @property
    def verbs(self) -> frozenset[Verb]:
        """What it can do."""

    @property
    def repeatable(self) -> bool:
        """Whether the same deed done twice is as good as once; else an interrupted one is never done again unasked."""

    def do(self, deed: Deed) -> Entry:
        """Do it, and say what there is to say about it: `{"draft": True}` when the user still has to finish it.

        Raises:
            UncertainError: It may have been done.
            DeviceError: It was certainly not done.
        """

    def undo(self, deed: Deed, entry: Entry) -> None:
        """Take it back.

        Raises:
            DeviceError: It cannot be taken back.
        """


class Device(Protocol):
    """The verbs of a phone. Functions get one as their first parameter, `phone`."""

    @property
    def journal(self) -> Journal:
        """What has become of each call."""

    @property
    def photo(self) -> bytes | None:
        """The photo of the request being carried out, as JPEG; None without one."""

    @photo.setter
    def photo(self, jpeg: bytes | None) -> None: ...

    @property
    def language(self) -> Language:
        """The language of the request being carried out, in which functions report back; "en" without one."""

    @language.setter
    def language(self, language: Language) -> None: ...

    def resolve(self, given: str, channel: Channel) -> Recipient:
        """Who is meant by a name, e-mail address or number; changes nothing."""

    def underway(
        self, function: str, arguments: Mapping[str, Any], action: Action | None = None
    ) -> AbstractContextManager[None]:
        """Surrounds one call: whatever is not left normally stays behind as unfinished.

        Args:
            function: The function's name.
            arguments: Its arguments.
            action: The started action that this carries out; None: the call comes from a program, not from a request.
        """

    def take_back(self, action: Action) -> str:
        """Undo what the action did, all of it, and say what that was.

        Raises:
            DeviceError: It cannot be taken back; nothing was.
        """

    def send_text(self, to: str, message: str) -> Entry:
        """Send a text message, with the photo if there is one."""

    def send_email(self, to: str, subject: str, body: str) -> Entry:
        """Send an e-mail, with the photo attached if there is one."""

    def add_to_basket(self, item: str, quantity: int) -> Entry:
        """Put something into the grocery basket."""

    def order(self, shop: str, arguments: Mapping[str, Any]) -> Entry:
        """Order at a shop ("amazon", "doordash") and pay."""

    def publish(self, item: str, location: str) -> Entry:
        """Put a notice on the lost-and-found board, with the photo if there is one."""

    def search(self, topic: str, arguments: Mapping[str, Any]) -> Entry:
        """Look something up; `topic` says where ("google", "recycling")."""


@contextmanager
def request_on(phone: Device, photo: bytes | None, language: Language) -> Iterator[None]:
    """Hand photo and language of one request to the phone, and take them back when it has been carried out."""
    phone.photo, phone.language = photo, language
    try:
        yield
    finally:
        phone.photo, phone.language = None, "en"
