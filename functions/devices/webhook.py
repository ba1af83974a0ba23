"""webhook: each deed is posted as JSON to a URL (Home Assistant, n8n, Node-RED), signed and with an idempotency key.

In: a Deed. Out: the receiver's status. Errors of the network and of the server are tried again, with growing pauses and
always the same key; so a receiver that drops keys it has seen does each deed once, however often it is posted. What is
posted and how the signature is checked: README.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import random
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from octopus.device import Deed, Entry, Verb
from octopus.errors import DeviceError, UncertainError, UsageError

_AGAIN = (408, 409, 425, 429)
"""Answers that mean: later. 409 is what a receiver says that is still at work on the same key."""

LONGEST_ANSWER = 64 << 10
LONGEST_PAUSE = 10.0


class Webhook:
    """Posts deeds; see octopus.device.Outlet."""

    name = "webhook"
    verbs: frozenset[Verb] = frozenset({"send_text", "send_email", "add_to_basket", "order", "publish", "search"})
    repeatable = True

    def __init__(self, url: str, secret: Callable[[], str], *, timeout: float = 10.0, attempts: int = 4) -> None:
        """Nothing is reached yet.

        Args:
            url: Where to post, http or https.
            secret: Gives the key of the signature when it is needed.
            timeout: Seconds for one attempt, from beginning to end.
            attempts: How often to try.

        Raises:
            UsageError: The URL cannot be used.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if not host or parts.scheme not in ("http", "https") or "@" in parts.netloc or not url.isprintable():
            raise UsageError("webhook.url is no http or https URL", "set url under [webhook] in the configuration")
        self._tls, self._host, self._port = parts.scheme == "https", host, port
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._secret, self._timeout, self._attempts = secret, max(timeout, 0.01), max(attempts, 1)

    def do(self, deed: Deed) -> Entry:
        """Post the deed until it is taken."""
        recipient = deed.recipient
        known = None if recipient is None else recipient.contact
        body: dict[str, Any] = {
            "deed": deed.verb,
            "arguments": dict(deed.arguments),
            "recipient": None if recipient is None else {"name": known and known.name, "address": recipient.address},
            "language": deed.language,
            "photo": None if deed.photo is None else base64.b64encode(deed.photo).decode("ascii"),
        }
        return {"status": self._deliver(deed.key, body)}

    def undo(self, deed: Deed, entry: Entry) -> None:
        """Post that the deed of this key is to be undone."""
        self._deliver(f"{deed.key}-undo", {"deed": "undo", "undo": deed.key, "arguments": dict(deed.arguments)})

    def _deliver(self, key: str, content: dict[str, Any]) -> int:
        secret = self._secret()
        if not secret:
            raise DeviceError(
                "the webhook's secret is not set", "set OCTOPUS_WEBHOOK_SECRET, or keep it in the keyring"
            )
        body = json.dumps({"key": key, **content}, ensure_ascii=False).encode("utf-8")
        problem, arrived = "", False
        for attempt in range(self._attempts):
            pause = 0.25 * 2**attempt * random.uniform(0.8, 1.2)
            try:
                status, asked_pause = self._post(key, body, secret)
            except (http.client.HTTPException, OSError) as error:
                problem = str(getattr(error, "strerror", None) or error) or type(error).__name__
                arrived = arrived or not isinstance(error, (ConnectionRefusedError, socket.gaierror))
            else:
                if 200 <= status < 300:
                    return status
                problem = f"status {status}"
                if status < 500 and status not in _AGAIN:
                    break
                arrived = arrived or status >= 500 or status == 409
                pause = max(pause, asked_pause)
            if attempt + 1 < self._attempts:
                time.sleep(min(pause, LONGEST_PAUSE))
        message = f"the webhook at {self._host} did not take it: {problem}"  # its path may be a secret
        raise UncertainError(message) if arrived else DeviceError(message)

    def _post(self, key: str, body: bytes, secret: str) -> tuple[int, float]:
        """One attempt: the status, and the pause that the receiver asks for."""
        make = http.client.HTTPSConnection if self._tls else http.client.HTTPConnection
        connection = make(self._host, self._port, timeout=self._timeout)
        connection.connect()
        # A receiver that sends one byte now and then would never run into the timeout of a single read.
        end = threading.Timer(self._timeout, _hang_up, [connection.sock])
        end.daemon = True
        end.start()
        try:
            connection.request("POST", self._path, body, self._headers(key, body, secret))
            response = connection.getresponse()
            response.read(LONGEST_ANSWER)
            asked = response.headers.get("Retry-After", "")
            return response.status, float(asked) if asked.isascii() and asked.isdigit() else 0.0
        finally:
            end.cancel()
            connection.close()

    def _headers(self, key: str, body: bytes, secret: str) -> dict[str, str]:
        now = str(int(time.time()))
        return {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "octopus",
            "Connection": "close",
            "Idempotency-Key": key,
            "X-Octopus-Timestamp": now,
            "X-Octopus-Signature": "sha256=" + signature(secret, now, body),
        }


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """The HMAC-SHA256 of `timestamp.body`, in hexadecimal."""
    return hmac.new(secret.encode("utf-8"), timestamp.encode("ascii") + b"." + body, hashlib.sha256).hexdigest()


def _hang_up(connected: socket.socket) -> None:
    with suppress(OSError):  # it is over already
        connected.shutdown(socket.SHUT_RDWR)
