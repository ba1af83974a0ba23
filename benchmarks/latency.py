"""How long a call takes: warm, from a cold start of the command, and how much memory it needs.

    python benchmarks/latency.py [--model DIR] [--backend KIND] [--calls 100] [--starts 7] [--threads 2]
                                 [-o md|json|csv] [--picture FILE.png]

Each measurement runs in a process of its own: warm calls in one that loads the model once, cold starts as
`octopus run --json` from nothing to exit. Photos are decoded and encoded anew every time, as for a user with a new
photo. Runs on a Raspberry Pi with the base install (the picture needs matplotlib); says how hot the processor was and
whether it was slowed down, where the machine tells. Run it on a quiet machine.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
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
STAGES = ("image", "prefill", "first", "decode", "total")
"""Of a warm call: photo to embeddings, reading the prompt, both together (the first token), writing, everything."""
BOUNDS = {"warm": 150.0, "cold": 1500.0, "memory": 300.0}
"""Milliseconds a call, milliseconds from a cold start, megabytes."""


@click.command()
@click.option("--model", metavar="DIR", help="Model folder, or name of a packaged model.")
@click.option("--calls", type=click.IntRange(min=1), default=100, show_default=True, help="Warm calls.")
@click.option("--starts", type=click.IntRange(min=1), default=7, show_default=True, help="Cold starts.")
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--backend", type=click.Choice(["onnx", "gguf", "torch"]), help="Default: what the model's files are.")
@click.option("-o", "output", type=click.Choice(["md", "json", "csv"]), default="md", show_default=True)
@click.option("--picture", type=click.Path(path_type=Path), metavar="FILE.png", help="Draw the stages.")
@click.option("--inside", is_flag=True, hidden=True)
def latency(
    model: str | None,
    calls: int,
    starts: int,
    threads: int,
    backend: str | None,
    output: str,
    picture: Path | None,
    inside: bool,
) -> None:
    """Measure warm calls, cold starts and memory."""
    if inside:
        print(json.dumps(warm(calls, backend)))
        return
    environment = {**os.environ, "OCTOPUS_THREADS": str(threads), "OCTOPUS_PHONE": ":memory:", "OCTOPUS_CACHE": "off"}
    if model is not None:
        environment["OCTOPUS_MODEL"] = model
    chosen = ["--backend", backend] if backend else []
    this = [sys.executable, __file__, "--inside", "--calls", str(calls), *chosen]
    before = heat()
    started = cold(environment, starts, chosen)  # first: memory is that of the largest child so far
    found: dict[str, Any] = {
        "machine": f"{platform.machine()}, {threads} threads, Python {platform.python_version()}",
        **json.loads(run(this, environment)),
        "cold": started,
        "processor": {"before": before, "after": heat()},
    }
    found["within_bounds"] = {
        "warm": found["warm_ms"]["total"]["p50"] < BOUNDS["warm"],
        "cold": found["cold"]["start_ms"]["p50"] < BOUNDS["cold"],
        "memory": max(found["memory_mb"], found["cold"]["memory_mb"]) < BOUNDS["memory"],
    }
    if picture is not None:
        draw(found, picture)
    print({"json": json.dumps, "csv": comma_separated, "md": markdown}[output](found))


def warm(calls: int, backend: str | None = None) -> dict[str, Any]:
    """Milliseconds of each stage of calls on a loaded model, photo included, and this process's largest memory."""
    from octopus import Agent

    started = perf_counter()
    agent = Agent(backend=backend)
    loaded = perf_counter()
    jpeg = photo()
    for text in TEXTS:  # the first calls pay for memory and caches
        agent.plan(text, jpeg)
    plans = [replace(agent.plan(TEXTS[n % len(TEXTS)], jpeg), query=None) for n in range(calls)]  # no photo is kept
    timings = [
        {
            **{stage: getattr(plan.timings, stage) for stage in STAGES if stage != "first"},
            "first": plan.timings.image + plan.timings.prefill,
        }
        for plan in plans
    ]
    written = [
        len(agent.tokens.encode_calls(plan.calls, TEXTS[n % len(TEXTS)], agent.registry)) - 1
        for n, plan in enumerate(plans)
    ]  # the first token comes with the prompt
    return {
        "model": agent.model,
        "calls": calls,
        "load_ms": round(1000 * (loaded - started), 1),
        "backend": agent.backend.name,
        "warm_ms": {stage: spread([timing[stage] for timing in timings]) for stage in STAGES},
        "tokens_per_second": round(1000 * sum(written) / max(1e-9, sum(timing["decode"] for timing in timings)), 1),
        "memory_mb": megabytes(resource.RUSAGE_SELF),
    }


def cold(environment: dict[str, str], starts: int, chosen: Sequence[str] = ()) -> dict[str, Any]:
    """Milliseconds of the whole command with a photo, from nothing to exit, and the largest memory of one of them."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "photo.jpg"
        path.write_bytes(photo())
        command = [sys.executable, "-m", "octopus", "run", "--json", "--dry-run", "--image", str(path)]
        command += [*chosen, TEXTS[0]]
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


def heat() -> dict[str, Any]:
    """Temperature of the processor in degrees Celsius, and whether it was slowed down; None where nobody says."""
    zones = sorted(Path("/sys/class/thermal").glob("thermal_zone*/temp"))
    readings = []
    for zone in zones:
        with contextlib.suppress(OSError, ValueError):
            readings.append(int(zone.read_text()) / 1000)
    throttled: str | None = None
    with contextlib.suppress(OSError):  # a Raspberry Pi: bit 0 under-voltage, 1 capped, 2 throttled; 16 up: since boot
        throttled = Path("/sys/devices/platform/soc/soc:firmware/get_throttled").read_text().strip()
    return {"celsius": max(readings, default=None), "throttled": throttled}


def comma_separated(found: dict[str, Any]) -> str:
    """One line a stage, for spreadsheets."""
    rows = ["model,backend,machine,stage,p50_ms,p95_ms,max_ms"]
    stages = {**found["warm_ms"], "cold_start": found["cold"]["start_ms"]}
    for stage, own in stages.items():
        machine = found["machine"].replace(",", ";")
        rows.append(f"{found['model']},{found['backend']},{machine},{stage},{own['p50']},{own['p95']},{own['max']}")
    return "\n".join(rows)


def draw(found: dict[str, Any], path: Path) -> None:
    """The stages of a warm call as one bar, medians."""
    try:
        import matplotlib
    except ModuleNotFoundError:
        raise SystemExit("the picture needs matplotlib: pip install 'octopus-edge[bench]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(7, 1.8))
    left = 0.0
    for stage in ("image", "prefill", "decode"):
        width = found["warm_ms"][stage]["p50"]
        axis.barh([found["model"]], [width], left=left, label=f"{stage} {width} ms")
        left += width
    axis.set_xlabel(f"milliseconds, median of {found['calls']} calls; {found['machine']}")
    axis.legend(loc="upper center", ncols=3, bbox_to_anchor=(0.5, 1.35))
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def megabytes(who: int) -> float:
    """Largest resident memory of this process, or of the largest of its children."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kibibytes elsewhere
    return round(resource.getrusage(who).ru_maxrss * unit / 1e6, 1)


def markdown(found: dict[str, Any]) -> str:
    """The results as a table."""
    rows = [
        f"{found['model']} ({found['backend']}) on {found['machine']}",
        "",
        "| ms | p50 | p95 | max |",
        "|---|---:|---:|---:|",
    ]
    measured = {f"warm call, {stage}": found["warm_ms"][stage] for stage in STAGES}
    measured["cold start of `octopus run --json`"] = found["cold"]["start_ms"]
    rows += [f"| {name} | {own['p50']} | {own['p95']} | {own['max']} |" for name, own in measured.items()]
    memory = f"Memory: {found['memory_mb']} MB warm, {found['cold']['memory_mb']} MB the command."
    missed = [name for name, kept in found["within_bounds"].items() if not kept]
    verdict = f"Over the bound: {', '.join(missed)}." if missed else "All within bounds."
    memory += f" Loading: {found['load_ms']} ms. Writing: {found['tokens_per_second']} tokens/s."
    after = found["processor"]["after"]
    if after["celsius"] is not None:
        memory += f" Processor: {after['celsius']:.0f} °C"
        memory += "." if after["throttled"] is None else f", throttled flag {after['throttled']}."
    return "\n".join([*rows, "", f"{memory} {verdict}"])


if __name__ == "__main__":
    latency()
