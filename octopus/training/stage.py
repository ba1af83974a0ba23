"""What every training stage shares: a folder that remembers how far it got.

A stage has a folder with `begun.json`, `checkpoint.pt` (or the Trainer's own checkpoints), `curve.jsonl` and, once it
is complete, `curve.png` and `done.json` with its configuration, the hashes of its inputs, versions and results. A stage
whose `done.json` matches is skipped; a killed one goes on from its last checkpoint. Knows nothing about models or data.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

PACKAGES = ("torch", "transformers", "open_clip_torch", "timm", "tokenizers", "numpy")


def is_main_process() -> bool:
    """Whether this process writes files and talks; under `accelerate launch` all others only compute."""
    return os.environ.get("RANK", "0") == "0"


def precision() -> str:
    """What to train in, as accelerate names it: "bf16" where the processor computes in it, else "no" (float32).

    A CPU without instructions for bfloat16 emulates it, many times slower than float32.
    """
    able = torch.cuda.is_available() or torch.cpu.get_capabilities().get("avx512_bf16", False)
    return "bf16" if able or torch.cpu.get_capabilities().get("amx_bf16", False) else "no"


def autocast(device: torch.device) -> torch.autocast:
    """Mixed precision for code outside a trainer, if this machine gains by it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision() == "bf16")


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file, or of the names and contents of all files in a folder."""
    digest = hashlib.sha256()
    for part in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        if part != path:
            digest.update(part.relative_to(path).as_posix().encode())
        with part.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


@dataclass
class Stage:
    """One training stage in `folder`, configured by `config`, reading the files `inputs`."""

    name: str
    folder: Path
    config: Mapping[str, Any]
    inputs: tuple[Path, ...] = ()
    started: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def identity(self) -> dict[str, Any]:
        """Configuration and input hashes: what must be equal for earlier work to count."""
        return {"config": dict(self.config), "inputs": {path.name: sha256(path) for path in self.inputs}}

    def is_done(self) -> bool:
        """Whether this very stage, with this configuration and these inputs, is complete."""
        path = self.folder / "done.json"
        if not path.exists():
            return False
        done = json.loads(path.read_text(encoding="utf-8"))
        return bool({key: done[key] for key in ("config", "inputs")} == self.identity())

    def begin(self, resumed: bool) -> None:
        """Remember what the work in this folder began with; say so when a resumed run goes on with something else."""
        path, identity = self.folder / "begun.json", self.identity()
        if not is_main_process():
            return
        if not resumed:
            path.write_text(json.dumps(identity, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        elif path.exists() and json.loads(path.read_text(encoding="utf-8")) != identity:
            self.say(f"goes on with work of another configuration or other inputs; remove {self.folder} to start over")

    def save(self, state: Mapping[str, Any]) -> None:
        """Write a checkpoint so that a kill at any moment leaves the old or the new one, never half of it."""
        temporary = self.folder / "checkpoint.tmp"
        torch.save(dict(state), temporary)
        os.replace(temporary, self.folder / "checkpoint.pt")

    def load(self) -> dict[str, Any] | None:
        """The last checkpoint, or None."""
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return None
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=False)
        return state

    def log(self, step: int, **values: float) -> None:
        """Append one row to the curve."""
        if not is_main_process():
            return
        row = {"step": step, **{key: round(float(value), 5) for key, value in values.items()}}
        with (self.folder / "curve.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def say(self, text: str) -> None:
        """Talk to the person watching (stderr, above a running progress bar)."""
        if is_main_process():
            tqdm.write(f"[{self.name}] {text}", file=sys.stderr)
            sys.stderr.flush()

    def progress(self, total: int, initial: int = 0) -> tqdm[Any]:
        """A progress bar, on terminals only."""
        return tqdm(
            total=total, initial=initial, desc=self.name, disable=not (is_main_process() and sys.stderr.isatty())
        )

    def finish(self, **results: Any) -> None:
        """Draw the curve and write `done.json`; the other processes wait until it is there."""
        if is_main_process():
            self._finish(results)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.barrier()

    def _finish(self, results: Mapping[str, Any]) -> None:
        draw(self.folder / "curve.jsonl", self.folder / "curve.png", self.name)
        done = {
            "stage": self.name,
            **self.identity(),
            "results": results,
            "seconds": round(time.time() - self.started),
            "versions": {"python": platform.python_version(), **versions(PACKAGES)},
        }
        (self.folder / "done.json").write_text(json.dumps(done, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Installed versions of the packages that shape a training result."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def read_curve(path: Path) -> list[dict[str, float]]:
    """Rows of a curve; where a resumed run wrote a step again, the later row counts."""
    if not path.exists():
        return []
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    latest: dict[tuple[float, tuple[str, ...]], dict[str, float]] = {(r["step"], tuple(sorted(r))): r for r in rows}
    return sorted(latest.values(), key=lambda row: row["step"])


def draw(curve: Path, picture: Path, title: str) -> None:
    """Plot every series of a curve file, one panel each."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = read_curve(curve)
    series = sorted({key for row in rows for key in row} - {"step"})
    if not series:
        return
    figure, axes = pyplot.subplots(len(series), 1, figsize=(8, 2.4 * len(series)), squeeze=False, sharex=True)
    for axis, key in zip(axes[:, 0], series, strict=True):
        points = [(row["step"], row[key]) for row in rows if key in row]
        axis.plot(*zip(*points, strict=True))
        axis.set_ylabel(key)
        axis.grid(alpha=0.3)
    axes[0, 0].set_title(title)
    axes[-1, 0].set_xlabel("step")
    figure.tight_layout()
    figure.savefig(picture, dpi=80)
    pyplot.close(figure)
