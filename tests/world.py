"""Stand-ins for the world that tests of devices share: recorded programs, a mail server, a web server."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

NASTY = (
    "plain words",
    'it\'s "quoted" `id` $(id) $HOME',
    "line one\nline two\n",
    "; rm -rf ~ && echo gone | cat > /tmp/x",
    "emoji 🐙👨‍👩‍👧 and -n --es -- -",
    "妈妈，我马上到。“引号”",
    "50% & a=b?c#d \\ back\\slash *",
    "-leading dash",
)
"""What a user may say, and what no device may misunderstand."""


class Programs:
    """Fake programs on PATH that write down exactly with which arguments they were run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._record = folder / "record"
        folder.mkdir()

    def add(self, name: str, then: str = "") -> None:
        """A program of this name; `then` is what it does after writing down its arguments."""
        path = self.folder / name
        record = f'printf \'%s\\0\' {name} "$#" "$@" >> "{self._record}"'
        path.write_text(f"#!/bin/sh\n{record}\n{then}\n")
        path.chmod(0o755)

    def runs(self) -> list[list[str]]:
        """Name and arguments of each run so far."""
        if not self._record.exists():
            return []
        fields = self._record.read_bytes().decode().split("\0")
        found, place = [], 0
        while place < len(fields) - 1:
            count = int(fields[place + 1])
            found.append([fields[place], *fields[place + 2 : place + 2 + count]])
            place += 2 + count
        return found


class Mailbox:
    """Handler of aiosmtpd that keeps what arrives; `refuse` is answered instead, `hook` runs before the answer."""

    def __init__(self, refuse: str = "", hook: Callable[[Any], None] = lambda server: None) -> None:
        self.envelopes: list[Any] = []
        self.encrypted: list[bool] = []
        self.refuse = refuse
        self.hook = hook

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.hook(server)
        if self.refuse:
            return self.refuse
        self.envelopes.append(envelope)
        self.encrypted.append(session.ssl is not None or server.transport.get_extra_info("ssl_object") is not None)
        return "250 OK"

    @property
    def messages(self) -> list[EmailMessage]:
        """What arrived, parsed."""
        parsed = [message_from_bytes(envelope.content, policy=SMTP) for envelope in self.envelopes]
        assert all(isinstance(message, EmailMessage) for message in parsed)
        return parsed  # type: ignore[return-value]


class Receiver:
    """A web server that keeps what is posted, drops keys it has seen, and answers as each test wants."""

    def __init__(self, *answers: int | str) -> None:
        self.answers = list(answers)  # a status, "hang", "drip", "twice" or "drop"; afterwards 200
        self.requests: list[tuple[Mapping[str, str], bytes]] = []
        self.done: dict[str, Any] = {}
        self.closing = threading.Event()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        self.requests.append((dict(handler.headers), body))
        wanted = self.answers.pop(0) if self.answers else 200
        if wanted in (200, "hang", "drip", "twice", "drop"):  # done, however the answer goes
            self.done.setdefault(handler.headers["Idempotency-Key"], json.loads(body))
        if wanted == "hang":
            self.closing.wait(20)
        elif wanted == "drip":
            for _ in range(400):
                try:
                    handler.wfile.write(b"H")
                except OSError:
                    break
                time.sleep(0.05)
        elif wanted == "twice":
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" * 2)
        elif isinstance(wanted, int):
            handler.send_response(wanted)
            handler.send_header("Content-Length", "0")
            if 300 <= wanted < 400:
                handler.send_header("Location", "http://127.0.0.1:9/elsewhere")
            handler.end_headers()


@contextmanager
def serving(receiver: Receiver) -> Iterator[str]:
    """Run it, and give its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.close_connection = True
            receiver.answer(self)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/hook/secret-path"
    finally:
        receiver.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def mail_server(mailbox: Mailbox, **options: Any) -> Iterator[tuple[str, int]]:
    """Run aiosmtpd on a free port, and give host and port."""
    import socket

    from aiosmtpd.controller import Controller

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    controller = Controller(mailbox, hostname="127.0.0.1", port=port, ready_timeout=60, **options)
    controller.start()
    try:
        yield "127.0.0.1", port
    finally:
        controller.stop()
