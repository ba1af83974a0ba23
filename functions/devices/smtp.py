"""smtp: real e-mails through the user's mail server, encrypted, with login, the photo attached.

In: a Deed to send an e-mail. Out: that the server has taken it. When the connection breaks after the message began to
flow nobody knows whether the server has it: that is an UncertainError, and it is not sent again unasked. The password
is read when it is needed and appears nowhere.
"""

from __future__ import annotations

import base64
import smtplib
import ssl
from collections.abc import Callable
from contextlib import suppress
from email.headerregistry import Address
from typing import Any

from octopus.device import Contact, Deed, Entry, Verb
from octopus.errors import DeviceError, UncertainError, UsageError
from octopus.functions.devices.mail import compose

_PORTS = {"tls": 465, "starttls": 587, "none": 25}
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class _Watching(smtplib.SMTP):
    """Remembers whether the message itself began to flow."""

    began = False

    def data(self, msg: Any) -> tuple[int, bytes]:
        self.began = True
        return super().data(msg)


class _WatchingTls(smtplib.SMTP_SSL, _Watching):
    """The same over TLS from the first byte."""


class Smtp:
    """Sends e-mails; see octopus.device.Outlet."""

    name = "smtp"
    verbs: frozenset[Verb] = frozenset({"send_email"})
    repeatable = False

    def __init__(
        self,
        host: str,
        sender: Contact,
        *,
        port: int = 0,
        security: str = "tls",
        user: str = "",
        password: Callable[[], str] = str,
        ca: str = "",
        timeout: float = 30.0,
    ) -> None:
        """Nothing is reached yet.

        Args:
            host: The mail server.
            sender: Whose name and address the e-mails come from.
            port: Default: the usual one of `security`.
            security: "tls", "starttls", or "none" for a server on this machine.
            user: Login name; none: no login.
            password: Gives the password when it is needed.
            ca: A file with the certificates to trust instead of the system's.
            timeout: Seconds for each step.

        Raises:
            UsageError: Something is missing or does not go together.
        """
        if not host:
            raise UsageError("smtp needs a host", "set host under [smtp] in the configuration")
        if security not in _PORTS:
            raise UsageError(f"smtp.security is {security!r}", f"use {', '.join(_PORTS)}")
        if security == "none" and host not in _LOOPBACK:
            raise UsageError("smtp without encryption is only for this machine itself", "use tls or starttls")
        try:
            Address(sender.name, addr_spec=sender.email)
        except (ValueError, IndexError, LookupError):
            raise UsageError(f"smtp.from is {sender.email!r}", "give the address that e-mails come from") from None
        self._host, self._port, self._security = host, port or _PORTS[security], security
        self._sender, self._user, self._password = sender, user, password
        self._ca, self._timeout = ca, timeout

    def do(self, deed: Deed) -> Entry:
        """Hand the e-mail to the server."""
        recipient = deed.recipient
        if recipient is None or recipient.address is None or "@" not in recipient.address:
            raise DeviceError(f"{recipient or 'nobody'} has no e-mail address", "add it to the contacts")
        message = compose(self._sender, recipient, deed)
        if not message["To"].addresses:
            raise DeviceError(f"{recipient.address} is no e-mail address that smtp can reach")
        server: _Watching | None = None
        try:
            server = self._connect()
            server.send_message(message)
        except (smtplib.SMTPException, ssl.SSLError, OSError, ValueError) as error:
            raise self._told(error, server is not None and server.began) from None
        finally:
            if server is not None:
                with suppress(smtplib.SMTPException, OSError):  # sent is sent, however badly it ends
                    server.quit()
        return {"server": f"{self._host}:{self._port}"}

    def undo(self, deed: Deed, entry: Entry) -> None:
        """E-mails cannot be called back."""
        raise DeviceError("an e-mail that was sent cannot be taken back")

    def _connect(self) -> _Watching:
        trusted = ssl.create_default_context(cafile=self._ca or None)
        if self._security == "tls":
            server: _Watching = _WatchingTls(self._host, self._port, timeout=self._timeout, context=trusted)
        else:
            server = _Watching(self._host, self._port, timeout=self._timeout)
        try:
            if self._security == "starttls":
                server.starttls(context=trusted)  # raises when the server offers none: never in the clear
            if self._user:
                _log_in(server, self._user, self._password())
        except BaseException:
            server.close()
            raise
        return server

    def _told(self, error: Exception, began: bool) -> DeviceError:
        place = f"{self._host}:{self._port}"
        if isinstance(error, smtplib.SMTPAuthenticationError):
            return DeviceError(f"{place} refuses the login of {self._user}", "check OCTOPUS_SMTP_PASSWORD")
        if isinstance(error, smtplib.SMTPRecipientsRefused):
            return DeviceError(f"{place} refuses the recipient {', '.join(error.recipients)}")
        if isinstance(error, smtplib.SMTPResponseException):
            words = (
                error.smtp_error if isinstance(error.smtp_error, str) else error.smtp_error.decode("utf-8", "replace")
            )
            return DeviceError(f"{place} refuses the e-mail: {error.smtp_code} {words}")
        if began and not isinstance(error, (smtplib.SMTPNotSupportedError, ValueError)):
            return UncertainError(f"the connection to {place} broke while the e-mail was being sent: {_words(error)}")
        return DeviceError(f"{place} cannot be reached: {_words(error)}", "check host, port and security")


def _log_in(server: smtplib.SMTP, user: str, password: str) -> None:
    if (user + password).isascii():
        server.login(user, password)
        return
    # smtplib knows only ASCII here; the standard (RFC 4616) says UTF-8.
    server.ehlo_or_helo_if_needed()
    packed = base64.b64encode(f"\0{user}\0{password}".encode()).decode("ascii")
    code, words = server.docmd("AUTH", f"PLAIN {packed}")
    if code != 235:
        raise smtplib.SMTPAuthenticationError(code, words)


def _words(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
