"""The contract between weights and code: `manifest.json` beside the weights, as frozen dataclasses.

A folder goes in; a checked `Manifest` comes out, or a `ModelError` that names what does not fit: an unknown format, a
file whose hash differs, a function whose signature changed since training. It holds numbers and names only: it knows
nothing of tokenizers, graphs or how a function runs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from octopus.core import Function
from octopus.errors import ModelError

FORMAT = 1
FILE_NAME = "manifest.json"


@dataclass(frozen=True)
class FunctionToken:
    """One functional token: which function it stands for, and the signature it was trained with."""

    token: str
    id: int
    name: str
    signature: str


@dataclass(frozen=True)
class SpecialIds:
    """Token ids with a meaning of their own."""

    arg: int
    missing: int
    end: int
    image: int
    pad: int
    bos: int


@dataclass(frozen=True)
class ImageSpec:
    """How a photo becomes pixels: "squash" resizes the whole picture, "crop" the short side, then cuts the centre."""

    size: int = 96
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    tokens: int = 9
    fit: Literal["squash", "crop"] = "squash"


@dataclass(frozen=True)
class Calibration:
    """Turns function logits into probabilities; below `threshold` the model refuses."""

    temperature: float = 1.0
    threshold: float = 0.0


@dataclass(frozen=True)
class DecoderSpec:
    """Shape of the language model, what a runtime needs to allocate its cache."""

    layers: int
    kv_heads: int
    head_dim: int
    hidden: int
    vocab: int
    context: int


@dataclass(frozen=True)
class Manifest:
    """Everything code must know about a set of weights. `files` maps a file name to `sha256:` and 64 hex digits.

    `copies`: trained on requests whose text arguments all stand in them letter for letter, or are one of the `names` of
    what photos show.
    """

    name: str
    template: str
    functions: tuple[FunctionToken, ...]
    special: SpecialIds
    image: ImageSpec
    decoder: DecoderSpec
    calibration: Calibration = Calibration()
    copies: bool = False
    names: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT

    def __post_init__(self) -> None:
        if self.template.count("{query}") != 1 or self.template.count("<image>") > 1:
            raise ModelError(
                f"prompt template {self.template!r} of model '{self.name}' cannot be used",
                "it needs {query} once, and <image> at most once",
            )
        for what in ("token", "id", "name"):
            values = [getattr(f, what) for f in self.functions]
            if len(set(values)) != len(values):
                raise ModelError(f"manifest of model '{self.name}' has the same function {what} twice")
        if self.calibration.temperature <= 0:
            raise ModelError(f"manifest of model '{self.name}' has a temperature that is not above zero")

    @classmethod
    def load(cls, folder: str | Path) -> Manifest:
        """Read `manifest.json` of a model folder; ModelError when it is missing, malformed or of another format."""
        path = Path(folder) / FILE_NAME
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ModelError(
                f"{folder} is not a model folder: no readable {FILE_NAME}", "give the folder with the weights"
            ) from error
        except ValueError as error:
            raise ModelError(f"{path} is not valid JSON", "download or export the model again") from error
        found = data.get("format") if isinstance(data, dict) else None
        if found != FORMAT:
            raise ModelError(
                f"{path} has format {found!r}, this octopus reads format {FORMAT}",
                "update octopus or export the model again",
            )
        return _parse(data, path)

    def save(self, folder: str | Path) -> Path:
        """Write `manifest.json` into a folder and return its path."""
        path = Path(folder) / FILE_NAME
        data = {"format": self.format, **asdict(self)}
        path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return path

    def with_files(self, folder: str | Path, names: Iterable[str]) -> Manifest:
        """The same manifest with the hashes of these files of a folder, as an exporter records them."""
        return replace(self, files={name: hash_file(Path(folder) / name) for name in sorted(names)})

    def check_files(self, folder: str | Path) -> None:
        """ModelError, naming the file, when a listed one is missing or differs, or a graph is not listed."""
        for name, expected in self.files.items():
            path = Path(folder) / name
            if Path(name).name != name:
                raise ModelError(f"manifest of model '{self.name}' names a file outside its folder: {name!r}")
            if not path.is_file():
                raise ModelError(f"{path} is missing", f"model '{self.name}' is incomplete; install it again")
            if hash_file(path) != expected:
                raise ModelError(
                    f"{path} was changed: its hash is not the one in {FILE_NAME}",
                    f"restore the file or install model '{self.name}' again",
                )
        for path in sorted([*Path(folder).glob("*.onnx*"), *Path(folder).glob("*.gguf")]):
            if path.name not in self.files:
                raise ModelError(f"{path} is not listed in {FILE_NAME}", "remove it or export the model again")

    def check_functions(self, registry: Mapping[str, Function]) -> None:
        """ModelError when the registered functions are not exactly those, with those signatures, of the training."""
        for entry in self.functions:
            if entry.name not in registry:
                raise ModelError(
                    f"model '{self.name}' calls {entry.name}, which is not registered",
                    "register the function, or use a model trained without it; `octopus functions` lists them",
                )
            if signature_hash(registry[entry.name]) != entry.signature:
                raise ModelError(
                    f"{entry.name} has another signature than the one model '{self.name}' was trained with",
                    f"registered is {registry[entry.name].signature}; restore the signature or train the model again",
                )
        trained = {entry.name for entry in self.functions}
        unknown = sorted(name for name in registry if name not in trained)
        if unknown:
            raise ModelError(
                f"model '{self.name}' was not trained for {', '.join(unknown)}",
                "train a model with it, or leave it out; `octopus functions` lists what the model knows",
            )

    def by_name(self, name: str) -> FunctionToken:
        """The functional token of a function; ModelError when the model has none for it."""
        for entry in self.functions:
            if entry.name == name:
                return entry
        raise ModelError(f"model '{self.name}' was not trained for {name}", "`octopus functions` lists what it knows")


def signature_hash(function: Function) -> str:
    """`sha256:` and 16 hex digits over the function's signature."""
    return "sha256:" + hashlib.sha256(function.signature.encode()).hexdigest()[:16]


def hash_file(path: str | Path) -> str:
    """`sha256:` and 64 hex digits over a file's bytes, read in pieces; ModelError when it cannot be read."""
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    except OSError as error:
        hint = "check the file and its permissions, or install the model again"
        raise ModelError(f"{path} cannot be read: {error.strerror or error}", hint) from error
    return "sha256:" + digest.hexdigest()


def _parse(data: object, path: Path) -> Manifest:
    # pydantic checks types and missing keys of the whole tree; unknown keys are left for newer writers.
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(Manifest).validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ModelError(
            f"{path} is malformed at {where}: {first['msg']}", "download or export the model again"
        ) from error
