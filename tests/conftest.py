"""What several test files share: a phone of their own, the command on a scripted model, torchvision without CUDA."""

from __future__ import annotations

import importlib.metadata
import io
import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from command import SCRIPT, Command, Ended
from octopus import ScriptedBackend
from octopus.cli import main
from scripted_model import scripted_backend, write_model


def _let_torchvision_import() -> None:
    """Declare the operators that torchvision's CUDA build describes but, beside a CPU-only torch, cannot load.

    Without them `import torchvision`, and with it timm, ends in an error. Nothing here runs these operators.
    """
    try:
        versions = importlib.metadata.version("torch"), importlib.metadata.version("torchvision")
    except importlib.metadata.PackageNotFoundError:
        return
    if ["+cpu" in version for version in versions] != [True, False]:
        return
    import torch

    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        for module in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[module]


_let_torchvision_import()


@pytest.fixture(autouse=True)
def _own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the phone, the settings or the folder of whoever runs it."""
    for name in [name for name in os.environ if name.startswith("OCTOPUS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OCTOPUS_PHONE", str(tmp_path / "phone.sqlite"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr("octopus.credentials._from_keyring", lambda name: "")
    monkeypatch.setenv("OCTOPUS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def scripted_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder for the eleven functions, without weights."""
    return write_model(tmp_path_factory.mktemp("models") / "scripted")


@pytest.fixture
def octopus(scripted_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `octopus ...` in this process on a scripted model; stdin is not a terminal."""

    def open_scripted(folder: Path, threads: int | None) -> ScriptedBackend:
        return scripted_backend(folder, SCRIPT)

    monkeypatch.setenv("OCTOPUS_MODEL", str(scripted_folder))
    monkeypatch.setattr("octopus.agent.open_backend", open_scripted)

    def command(*arguments: str | Path, stdin: bytes = b"") -> Ended:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        code = main([str(argument) for argument in arguments])
        written = capsys.readouterr()
        return Ended(code, written.out, written.err)

    return command


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A small JPEG."""
    path = tmp_path / "photo.jpg"
    Image.new("RGB", (50, 40), (180, 90, 30)).save(path)
    return path
