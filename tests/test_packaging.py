"""What pip installs: every package, the default model, and nothing but `octopus`."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import octopus

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def metadata() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built from a copy, because building leaves folders behind."""
    pytest.importorskip("setuptools", minversion="77")
    copy = tmp_path_factory.mktemp("wheel") / "octopus"
    ignore = shutil.ignore_patterns(".*", "requests", "tests", "benchmarks", "build", "*.egg-info", "runs", "data")
    shutil.copytree(ROOT, copy, symlinks=True, ignore=ignore)
    command = [sys.executable, "-c", "import setuptools; setuptools.setup()", "-q", "bdist_wheel"]
    ended = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    (path,) = copy.glob("dist/*.whl")
    return zipfile.ZipFile(path)


def folders_with_code() -> set[str]:
    """Every folder with an `__init__.py`, by the name it is imported under."""
    inside = {"octopus": ROOT / "octopus", "octopus.export": ROOT / "export", "octopus.functions": ROOT / "functions"}
    found = set()
    for name, top in inside.items():
        for file in top.rglob("__init__.py"):
            relative = file.parent.relative_to(top)
            if not any((top / part).is_symlink() for part in relative.parts[:1]):
                found.add(".".join([name, *relative.parts]))
    return found


def test_the_list_of_packages_is_the_folders(metadata: configparser.ConfigParser) -> None:
    assert set(metadata["options"]["packages"].split()) == folders_with_code()


def test_the_wheel_holds_the_packages_and_only_octopus(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    for package in folders_with_code():
        assert package.replace(".", "/") + "/__init__.py" in names
    assert {name.split("/")[0] for name in names} == {"octopus", f"octopus_edge-{octopus.__version__}.dist-info"}
    assert "octopus/py.typed" in names
    assert not any(name.endswith((".tsv", ".sqlite")) for name in names)


def test_the_wheel_holds_every_file_of_the_default_model(wheel: zipfile.ZipFile) -> None:
    nano = ROOT / "octopus" / "models" / "nano"
    if not nano.is_dir():
        pytest.skip("the nano model is not there")
    names = {name.removeprefix("octopus/models/nano/") for name in wheel.namelist() if "/models/" in name}
    assert names == {path.name for path in nano.iterdir() if path.is_file()}  # `checkpoint/` is for training further


def test_the_wheel_holds_the_recipes(wheel: zipfile.ZipFile) -> None:
    for path in (ROOT / "octopus" / "training" / "recipes").iterdir():
        assert f"octopus/training/recipes/{path.name}" in wheel.namelist()


def test_the_wheel_names_its_command_licence_and_needs(wheel: zipfile.ZipFile) -> None:
    folder = f"octopus_edge-{octopus.__version__}.dist-info"
    assert "octopus = octopus.cli:main" in wheel.read(f"{folder}/entry_points.txt").decode()
    assert f"{folder}/licenses/LICENSE" in wheel.namelist()
    text = wheel.read(f"{folder}/METADATA").decode()
    lines = [line for line in text.splitlines() if line.startswith("Requires-Dist") and "extra ==" not in line]
    needed = {re.split(r"[<>=]", line.split()[1])[0] for line in lines}
    assert needed == {"numpy", "pillow", "tokenizers", "pydantic", "click", "platformdirs", "onnxruntime", "tomli"}
    assert any("tomli" in line and "python_version <" in line for line in lines)
    for extra in ("gguf", "train", "export", "serve", "mcp", "bench", "keyring", "test", "dev"):
        assert f"Provides-Extra: {extra}\n" in text
