"""The benchmark scripts run and say what they promise; their numbers are another matter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octopus import Call, Registry, ScriptedBackend
from octopus.tokens import Tokens
from scripted_model import write_model

ROOT = Path(__file__).resolve().parent.parent
NANO = ROOT / "octopus" / "models" / "nano" / "manifest.json"


def script(name: str, *arguments: str) -> str:
    if not NANO.is_file():
        pytest.skip("the nano model is not there")
    command = [sys.executable, str(ROOT / "benchmarks" / name), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_latency_in_every_form() -> None:
    found = json.loads(script("latency.py", "--calls", "2", "--starts", "1", "-o", "json"))
    assert found["backend"] == "onnx" and found["tokens_per_second"] > 0
    assert set(found["warm_ms"]) == {"image", "prefill", "first", "decode", "total"}
    assert set(found["processor"]["after"]) == {"celsius", "throttled"}
    lines = script("latency.py", "--calls", "1", "--starts", "1", "-o", "csv").splitlines()
    assert lines[0].startswith("model,backend,") and len(lines) == 7
    assert all(len(line.split(",")) == 7 for line in lines)


def test_ablation_has_a_line_for_every_switch() -> None:
    found = json.loads(script("ablation.py", "--runs", "1", "-o", "json"))
    names = {row["variant"] for row in found["rows"]}
    assert {"everything", "without drafting", "without prefix state", "photo seen before", "none of it"} <= names
    assert all(row["median_ms"] > 0 for row in found["rows"])


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import importlib

    yield importlib.import_module("peers")
    for name in ("peers", "peer_engines", "latency"):
        sys.modules.pop(name, None)


def test_steering_makes_any_weights_write_the_answer(peers: Any, tmp_path: Path) -> None:
    """What random weights say does not matter, but every pass is made."""
    from octopus import Query
    from octopus.decode import plan

    tokens, registry = Tokens.load(write_model(tmp_path / "model")), Registry.default()
    for request in peers.requests(tokens):
        inner = ScriptedBackend(lambda prompt: [tokens.manifest.special.end], tokens.vocab_size)
        steered = sys.modules["peer_engines"].Steered(inner)
        steered.answer = request.answer
        found = plan(Query(request.text, np.zeros((9, 9, 3), np.uint8)), steered, tokens, registry)
        assert [(c.name, dict(c.arguments)) for c in found.calls] == [(request.call.name, dict(request.call.arguments))]
        assert inner.passes


def test_ratios_say_how_many_times_faster(peers: Any) -> None:
    times = {
        "b": [{"image": 10.0, "prefill": 20.0, "decode": 30.0}] * 3,
        "e": [{"image": 5.0, "prefill": 5.0, "decode": 10.0}] * 3,
    }
    found = peers.summary("tiny", 2, times)
    assert found["ratios"] == {"b/e": 3.0}
    stages = {"image_ms": 10.0, "prefill_ms": 20.0, "decode_ms": 30.0}
    assert found["rows"][0] == {"peer": "b", "runs": 3, "median_ms": 60.0, "p95_ms": 60.0, **stages}
    assert "| b | 60.0 |" in peers.markdown(found | {"missing": {"d": "not there"}})


def test_every_request_of_the_peers_is_a_valid_call(peers: Any) -> None:
    registry = Registry.default()
    for _, name, arguments in sys.modules["peer_engines"].REQUESTS:
        assert isinstance(Call(name, registry.validate(name, arguments), "", 1.0), Call)
