"""What each way of being fast is worth: everything on, then one thing off at a time. The calls never change.

    python benchmarks/ablation.py [--model DIR] [--backend KIND] [--steer] [--runs 10] [--threads 2] [-o md|json]

Runs are interleaved. `--steer` is for random weights: each request has one right answer, which is put on top of the
scores after every pass, as in `peers.py`. "photo seen before" is the image cache, which every other line leaves out.
Run it on a quiet machine. Needs only the base install.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import numpy as np
from latency import TEXTS, photo
from peer_engines import Steered, requests

from octopus import Agent, Query
from octopus.cache import ImageCache
from octopus.core import Plan
from octopus.decode import FULL_SPEED, Memory, Speed, plan
from octopus.image import load_photo
from octopus.runtime import Backend


@dataclass(frozen=True)
class Variant:
    """One line of the table. `every_row`: scores for all positions of the prompt; `fresh`: nothing is remembered."""

    name: str
    speed: Speed = FULL_SPEED
    every_row: bool = False
    fresh: bool = False
    cache: bool = False


VARIANTS = (
    Variant("everything"),
    Variant("photo seen before", cache=True),
    Variant("without prefix state", replace(FULL_SPEED, prefix=False)),
    Variant("without drafting", replace(FULL_SPEED, draft_tokens=0)),
    Variant("without riding along", replace(FULL_SPEED, forced=False)),
    Variant("first request", fresh=True),
    Variant("first request, nothing in parallel", replace(FULL_SPEED, parallel=False), fresh=True),
    Variant("scores of all positions", every_row=True),
    Variant("none of it", Speed(prefix=False, images=False, forced=False, draft_tokens=0, parallel=False), True, True),
)


@click.command()
@click.option("--model", metavar="DIR", help="Model folder, or name of a packaged model.")
@click.option("--backend", type=click.Choice(["onnx", "gguf", "torch"]))
@click.option("--steer", is_flag=True, help="For random weights: the same answers as in peers.py.")
@click.option("--runs", type=click.IntRange(min=1), default=10, show_default=True, help="Of every request.")
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("-o", "output", type=click.Choice(["md", "json"]), default="md", show_default=True)
def ablation(model: str | None, backend: str | None, steer: bool, runs: int, threads: int, output: str) -> None:
    """Measure every variant on the same requests."""
    os.environ |= {"OCTOPUS_THREADS": str(threads), "OCTOPUS_CACHE": "off"}
    agent, picture = Agent(model, backend=backend), load_photo(photo())
    running: Backend = agent.backend
    asked: list[tuple[str, list[int]]] = [(text, []) for text in TEXTS]
    if steer:
        running, asked = Steered(agent.backend), [(r.text, r.answer) for r in requests(agent.tokens)]
    times: dict[str, list[float]] = {variant.name: [] for variant in VARIANTS}
    expected: dict[str, Plan] = {}
    with tempfile.TemporaryDirectory() as folder:
        memories = {v.name: Memory(ImageCache(Path(folder)) if v.cache else None, agent.model) for v in VARIANTS}
        for run in range(runs + 1):  # the first one warms up
            for text, answer in asked:
                if isinstance(running, Steered):
                    running.answer = answer
                for variant in VARIANTS:
                    memory = Memory() if variant.fresh else memories[variant.name]
                    if hasattr(agent.backend, "every_row"):
                        agent.backend.every_row = variant.every_row
                    started = perf_counter()
                    query = Query(text, picture)
                    found = plan(query, running, agent.tokens, agent.registry, speed=variant.speed, memory=memory)
                    if run:
                        times[variant.name].append(1000 * (perf_counter() - started))
                    same(expected.setdefault(text, found), found, variant.name)
    base = float(np.median(times["everything"]))
    rows = [
        {
            "variant": name,
            "median_ms": round(float(np.median(own)), 2),
            "p95_ms": round(float(np.percentile(own, 95)), 2),
            "times": round(float(np.median(own)) / base, 2),
        }
        for name, own in times.items()
    ]
    machine = f"{platform.machine()}, {threads} threads, Python {platform.python_version()}"
    result = {"model": agent.model, "backend": agent.backend.name, "machine": machine, "runs": runs, "rows": rows}
    print(json.dumps(result) if output == "json" else markdown(result))


def same(one: Plan, other: Plan, name: str) -> None:
    """Stop if a variant says anything else."""
    said = [[(c.name, dict(c.arguments), c.missing) for c in found.calls] for found in (one, other)]
    if said[0] != said[1] or one.refused != other.refused:
        raise SystemExit(f"{name} changes the answer: {said[0]} and {said[1]}")


def markdown(found: dict[str, Any]) -> str:
    """The results as a table."""
    lines = [f"{found['model']} ({found['backend']}) on {found['machine']}, photo included", ""]
    lines += ["| | median ms | p95 | times |", "|---|---:|---:|---:|"]
    lines += [f"| {r['variant']} | {r['median_ms']} | {r['p95_ms']} | {r['times']} |" for r in found["rows"]]
    return "\n".join(lines)


if __name__ == "__main__":
    ablation()
