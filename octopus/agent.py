"""The whole flow: a sentence and a photo go in, a phone call that was carried out comes out.

    text, photo --plan--> the calls the model chose --run--> what the phone did

`plan` understands and touches nothing; `run` asks for consent and acts. The agent knows neither tokens nor graphs
(decode.py and a backend do), nor how a function does its work (functions/ and a phone do).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeAlias

from octopus import decode
from octopus.answer import fill_in
from octopus.cache import ImageCache
from octopus.config import Config, read_config
from octopus.core import Outcome, Plan, Query, Result, language_of
from octopus.decode import Memory, Speed
from octopus.device import Device, request_on
from octopus.execution import Consent, carry_out_with_its_photo, perform
from octopus.hub import find_model, open_backend, weights_of
from octopus.image import load_photo, to_jpeg
from octopus.journal import Action
from octopus.recipients import ask_who
from octopus.registry import Registry
from octopus.runtime import Backend
from octopus.settings import read_settings
from octopus.text import clean_text
from octopus.thumbnail import thumbnail_of
from octopus.tokens import Tokens

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    Photo: TypeAlias = str | Path | bytes | Image.Image | np.ndarray[Any, Any]

Confirm: TypeAlias = Callable[[str], bool]


class Agent:
    """A model, the functions it may call and the phone they act on, loaded once and used for many requests."""

    def __init__(
        self,
        model: str | Path | None = None,
        registry: Registry | None = None,
        phone: Device | None = None,
        backend: Backend | str | None = None,
        config: Config | None = None,
    ) -> None:
        """Load the model.

        Args:
            model: Name of a packaged model or a model folder; default: OCTOPUS_MODEL, else "nano".
            registry: The functions; default: the eleven that come with octopus.
            phone: The device they act on; default: the simulated phone of this user, with the devices of `config`.
            backend: "onnx", "gguf" or "torch" instead of what fits the folder; or what runs the model instead of the
                folder's own files (whose hashes are then not checked).
            config: What is asked about and who does what; default: the user's configuration file.

        Raises:
            ModelError: The folder is missing, damaged, or made for other functions.
        """
        settings = read_settings()
        folder = find_model(model or settings.model)
        self.registry = Registry.default() if registry is None else registry
        self.tokens = Tokens.load(folder)
        self.tokens.manifest.check_functions(self.registry)
        self._memory, self.speed = Memory(), Speed()
        if backend is None or isinstance(backend, str):
            self.tokens.manifest.check_files(folder)
            kind = {"kind": backend} if backend else {}
            # What the vision encoder makes of a photo is kept on disk, under the hashes of the model's files.
            images = ImageCache(Path(settings.cache)) if settings.cache and self.tokens.manifest.files else None
            self._memory = Memory(images, key=" ".join(sorted(self.tokens.manifest.files.values())))
            backend = open_backend(weights_of(model or settings.model), settings.threads, **kind)
        self.backend = backend
        self.config = read_config() if config is None else config
        self._phone = phone

    @property
    def model(self) -> str:
        """The model's name."""
        return self.tokens.manifest.name

    @property
    def phone(self) -> Device:
        """The device the functions act on; the user's own is opened on first use."""
        if self._phone is None:
            from octopus.functions.devices.configured import open_phone

            self._phone = open_phone(self.config)
        return self._phone

    def call(
        self,
        text: str,
        image: Photo | None = None,
        dry_run: bool = False,
        confirm: Confirm | None = None,
        yes: bool = False,
    ) -> Result:
        """Understand a request and carry it out: `plan`, then `run`."""
        return self.run(self.plan(text, image), dry_run=dry_run, confirm=confirm, yes=yes)

    def plan(self, text: str, image: Photo | None = None) -> Plan:
        """What the request asks for. Nothing is executed.

        Args:
            text: What the user says, in English or Chinese; at most 4,000 characters.
            image: A path, http(s) URL, encoded bytes, PIL image or `[H, W, 3]` array.

        Raises:
            TextError: The text is empty or too long.
            ImageError: The picture cannot be read.
        """
        started = perf_counter()
        query = Query(clean_text(text), None if image is None else load_photo(image))
        loading = 1000 * (perf_counter() - started)
        plan = self._understand(query)
        times = plan.timings
        return replace(plan, timings=replace(times, image=times.image + loading, total=times.total + loading))

    def answer(self, plan: Plan, text: str) -> Plan:
        """The plan with its question answered: `text` becomes the missing argument. Another one may be missing then.

        Raises:
            TextError: The answer is empty or too long.
            UsageError: The answer does not say what was asked, or the plan asks nothing.
        """
        return fill_in(plan, clean_text(text), self.registry, self._understand)

    def ask_who(self, plan: Plan) -> Plan:
        """The plan, or one with a question when it names a person who is not known or is one of several."""
        return ask_who(plan, self.registry, self.phone) if plan.calls else plan

    def run(
        self,
        plan: Plan,
        dry_run: bool = False,
        confirm: Confirm | None = None,
        yes: bool = False,
        send_after: float = 0.0,
        key: str | None = None,
    ) -> Result:
        """Carry a plan out, all of it or, when consent to a part of it is missing, none of it.

        Args:
            plan: What `plan` returned.
            dry_run: Only tell what would be done.
            confirm: Asks the user a question before anything is sent, bought or published; None: nobody is there.
            yes: The user agreed beforehand, as far as the configuration allows.
            send_after: Seconds to hold back what cannot be taken back; `carry_out_due` then does it.
            key: Two runs with one key are one: the second does nothing and tells what became of the first.
        """
        plan = self.ask_who(plan)
        outcomes: tuple[Outcome, ...] = ()
        if plan.calls and plan.question is None:
            query = plan.query or Query("")
            photo = None if query.photo is None else to_jpeg(query.photo)
            with request_on(self.phone, photo, language_of(query.text)), thumbnail_of(query.photo) as shown:
                consent = Consent(yes, dry_run, confirm, self.config.rules, shown)
                outcomes = perform(plan, self.registry, self.phone, consent, send_after=send_after, key=key)
        executed = any(outcome.status == "done" for outcome in outcomes)
        return Result(plan.calls, plan.refused, plan.question, executed, outcomes, plan.timings, self.model)

    def held_back(self) -> list[Action]:
        """What this process still holds back, due or not."""
        return self.phone.journal.due(inf)

    def carry_out_due(self, moment: float | None = None) -> list[Outcome]:
        """Carry out what was held back and is due now (or at `moment`, in seconds since 1970)."""
        actions = self.phone.journal.due(moment)
        return [carry_out_with_its_photo(action, self.registry, self.phone) for action in actions]

    def _understand(self, query: Query) -> Plan:
        found = decode.plan(query, self.backend, self.tokens, self.registry, speed=self.speed, memory=self._memory)
        return replace(found, query=query)
