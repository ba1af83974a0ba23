"""How long a call takes: warm, from a cold start of the command, and how much memory it needs.

    python benchmarks/latency.py [--model DIR] [--calls 100] [--starts 7] [--threads 2] [-o md|json]

Each measurement runs in a process of its own: warm calls in one that loads the model once, cold starts as
`octopus run --json` from nothing to exit. Photos are decoded from JPEG every time, as for a user. Needs only the base
install; run it on a quiet machine.
"""

from __future__ import annotations

import io
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import numpy as np
from PIL import Image

TEXTS = (
    "text this to mom",
    "order two of these for delivery please",
    "which bin does this go in",
    "email this to dad, subject holiday photos, and say we land at six",
    "this was lying on the bus stop bench, somebody must miss it",
    "把这个发给妈妈，说我马上到家",
    "这个怎么回收",
    "帮我把这个加到购物车，要三份",
    "它最近总是掉毛，怎么办",
    "what a lovely day",
)
STAGES = ("image", "prefill", "decode", "total")
BOUNDS = {"warm": 150.0, "cold": 1500.0, "memory": 300.0}
"""Milliseconds a call, milliseconds from a cold start, megabytes."""


@click.command()
@click.option("--model", metavar="DIR", help="Model folder, or name of a packaged model.")
@click.option("--calls", type=click.IntRange(min=1), default=100, show_default=True, help="Warm calls.")
@click.option("--starts", type=click.IntRange(min=1), default=7, show_default=True, help="Cold starts.")
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("-o", "output", type=click.Choice(["md", "json"]), default="md", show_default=True)
@click.option("--inside", is_flag=True, hidden=True)
def latency(model: str | None, calls: int, starts: int, threads: int, output: str, inside: bool) -> None:
    """Measure warm calls, cold starts and memory."""
    if inside:
        print(json.dumps(warm(calls)))
        return
    environment = {**os.environ, "OCTOPUS_THREADS": str(threads), "OCTOPUS_PHONE": ":memory:"}
    if model is not None:
        environment["OCTOPUS_MODEL"] = model
    this = [sys.executable, __file__, "--inside", "--calls", str(calls)]
    started = cold(environment, starts)  # first: memory is that of the largest child so far
    found: dict[str, Any] = {
        "machine": f"{platform.machine()}, {threads} threads, Python {platform.python_version()}",
        **json.loads(run(this, environment)),
        "cold": started,
    }
    found["within_bounds"] = {
        "warm": found["warm_ms"]["total"]["p50"] < BOUNDS["warm"],
        "cold": found["cold"]["start_ms"]["p50"] < BOUNDS["cold"],
        "memory": max(found["memory_mb"], found["cold"]["memory_mb"]) < BOUNDS["memory"],
    }
    print(json.dumps(found) if output == "json" else markdown(found))


def warm(calls: int) -> dict[str, Any]:
    """Milliseconds of each stage of calls on a loaded model, photo included, and this process's largest memory."""
    from octopus import Agent

    started = perf_counter()
    agent = Agent()
    loaded = perf_counter()
    jpeg = photo()
    for text in TEXTS:  # the first calls pay for memory and caches
        agent.plan(text, jpeg)
    timings = [agent.plan(TEXTS[n % len(TEXTS)], jpeg).timings for n in range(calls)]
    return {
        "model": agent.model,
        "calls": calls,
        "load_ms": round(1000 * (loaded - started), 1),
        "warm_ms": {stage: spread([getattr(timing, stage) for timing in timings]) for stage in STAGES},
        "memory_mb": megabytes(resource.RUSAGE_SELF),
    }


def cold(environment: dict[str, str], starts: int) -> dict[str, Any]:
    """Milliseconds of the whole command with a photo, from nothing to exit, and the largest memory of one of them."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "photo.jpg"
        path.write_bytes(photo())
        command = [sys.executable, "-m", "octopus", "run", "--json", "--dry-run", "--image", str(path), TEXTS[0]]
        run(command, environment)  # reads the files from disk and writes Python's caches
        times = []
        for _ in range(starts):
            started = perf_counter()
            run(command, environment)
            times.append(1000 * (perf_counter() - started))
    return {"starts": starts, "start_ms": spread(times), "memory_mb": megabytes(resource.RUSAGE_CHILDREN)}


def run(command: Sequence[str], environment: dict[str, str]) -> str:
    """What a command prints; its complaint when it ends otherwise than done (0) or with no function that fits (3)."""
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode not in (0, 3):
        raise SystemExit(ended.stderr.strip() or f"exit code {ended.returncode}")
    return ended.stdout


def photo() -> bytes:
    """A JPEG as a telephone makes it for a chat: 1024 x 768, smooth shapes and some grain, always the same."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    picture = np.asarray(coarse.resize((1024, 768), Image.Resampling.BICUBIC), np.float64)
    picture += random.normal(0, 4, picture.shape)
    stream = io.BytesIO()
    Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=88)
    return stream.getvalue()


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, 95th percentile and worst."""
    return {
        "p50": round(float(np.percentile(values, 50)), 1),
        "p95": round(float(np.percentile(values, 95)), 1),
        "max": round(float(max(values)), 1),
    }


def megabytes(who: int) -> float:
    """Largest resident memory of this process, or of the largest of its children."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kibibytes elsewhere
    return round(resource.getrusage(who).ru_maxrss * unit / 1e6, 1)


def markdown(found: dict[str, Any]) -> str:
    """The results as a table."""
    rows = [f"{found['model']} on {found['machine']}", "", "| ms | p50 | p95 | max |", "|---|---:|---:|---:|"]
    measured = {f"warm call, {stage}": found["warm_ms"][stage] for stage in STAGES}
    measured["cold start of `octopus run --json`"] = found["cold"]["start_ms"]
    rows += [f"| {name} | {own['p50']} | {own['p95']} | {own['max']} |" for name, own in measured.items()]
    memory = f"Memory: {found['memory_mb']} MB warm, {found['cold']['memory_mb']} MB the command."
    missed = [name for name, kept in found["within_bounds"].items() if not kept]
    verdict = f"Over the bound: {', '.join(missed)}." if missed else "All within bounds."
    return "\n".join([*rows, "", f"{memory} Loading: {found['load_ms']} ms. {verdict}"])


if __name__ == "__main__":
    latency()
