"""Composes real RFC 5322 e-mails.

In: sender, recipient, words and photo. Out: an EmailMessage that any mail program opens. Sends nothing. A recipient
without an address becomes an empty group with the name, the standard's way to name somebody who cannot be reached.
"""

from __future__ import annotations

from email.errors import MessageError
from email.headerregistry import Address, Group
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import localtime

from octopus.address import JOINERS
from octopus.device import Contact, Deed, Recipient


def compose(sender: Contact, recipient: Recipient, deed: Deed) -> EmailMessage:
    """The e-mail as a message; a photo (JPEG) is attached as photo.jpg.

    Every attempt at one deed has the same Message-ID, so that a mail program can drop a repetition.
    """
    subject, body = (str(deed.arguments.get(name, "")) for name in ("subject", "body"))
    message = EmailMessage(policy=SMTP)
    message["From"] = Address(sender.name, addr_spec=sender.email)
    message["To"] = _header_address(recipient)
    message["Subject"] = _one_line(subject)
    message["Date"] = localtime()
    message["Message-ID"] = f"<{deed.key}@phone.example>"
    message.set_content(body)
    if deed.photo is not None:
        message.add_attachment(deed.photo, maintype="image", subtype="jpeg", filename="photo.jpg")
    return message


def _header_address(recipient: Recipient) -> Address | Group:
    name = recipient.contact.name if recipient.contact else ""
    address = recipient.address or ""
    if "@" in address and address.isascii():
        try:
            return Address(_one_line(name), addr_spec=address)
        except (MessageError, ValueError, IndexError):  # looks like an address and is none
            pass
    return Group(_one_line(name or recipient.given), ())


def _one_line(text: str) -> str:
    """Line breaks would start a new header."""
    return " ".join("".join(c if c.isprintable() or c in JOINERS else " " for c in text).split())
