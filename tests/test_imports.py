"""What importing costs: the base package runs where torch, transformers and the other heavy ones are not installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "torchvision", "transformers", "timm", "open_clip", "llama_cpp", "onnx", "sklearn", "matplotlib")

FLOW = """
from pathlib import Path
import sys, tempfile
from scripted_model import call, scripted_backend, write_model
import octopus
folder = write_model(Path(tempfile.mkdtemp()))
backend = scripted_backend(folder, {"text this to mom": [call("send_text", to="mom")]})
agent = octopus.Agent(folder, phone=octopus.MemoryPhone(":memory:"), backend=backend)
print(agent.call("text this to mom", yes=True).results[0].summary)
"""


def python(code: str) -> str:
    """Run code in a fresh interpreter and return what it prints."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    command = [sys.executable, "-W", "error::ImportWarning", "-c", code]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_importing_octopus_imports_next_to_nothing() -> None:
    code = "import sys, octopus; print(*sorted(m for m in sys.modules if m.split('.')[0] in {modules!r}))"
    heavy = (*HEAVY, "onnxruntime", "numpy", "PIL", "tokenizers", "pydantic", "click")
    assert python(code.format(modules=heavy)) == ""


@pytest.mark.parametrize("module", ["octopus.cli", "octopus.agent", "octopus.functions.catalogue", "octopus.runtime"])
def test_no_runtime_is_imported_before_a_model_is_opened(module: str) -> None:
    code = "import sys, {module}; print(*sorted(m for m in sys.modules if m.split('.')[0] in {modules!r}))"
    assert python(code.format(module=module, modules=(*HEAVY, "onnxruntime"))) == ""


def test_the_whole_flow_runs_where_nothing_heavy_is_installed() -> None:
    blocked = f"import sys\nfor name in {HEAVY!r}: sys.modules[name] = None  # importing one fails\n"
    assert python(blocked + FLOW) == "Text to Mom (+1 202 555 0143)"


def test_the_onnx_runtime_needs_no_torch() -> None:
    blocked = f"import sys\nfor name in {HEAVY!r}: sys.modules[name] = None\n"
    assert python(blocked + "import octopus.runtime.onnx\nprint('fine')") == "fine"
