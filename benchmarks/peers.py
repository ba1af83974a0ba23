"""octopus against what people use today: same weights, same machine, same requests and photo, runs interleaved.

    python benchmarks/peers.py --checkpoint DIR --shape NAME [--runs 7] [--threads 2] [--pause 0] [--peers a,b,c,e,f]
        [-o md|json]

Peers, by letter:
  a   llama.cpp, the ten functions as JSON schemas in the prompt, answer under a JSON-schema grammar
  a+  the same with the schemas' part of the prompt kept in its cache, as its server does from the second request on
  b   llama.cpp with the functional-token prompt, nothing else clever
  c   transformers eager, float32, functional-token prompt
  d   onnxruntime-genai, the decoder by its own model builder, int4; it has no LLaVA, so the photo is encoded by
      octopus's graph and placeholder ids are read in its place, which is as much work
  e   octopus, ONNX int8, which reads a prompt faster than int4 and is nearer to the weights
  f   octopus, GGUF Q4_0

The peers themselves are in `peer_engines.py`; every one must write the same call, whatever the weights say. a, a+ and b
see the photo through llama.cpp's own image code where the tower is a SigLIP; for any other, which it does not know,
octopus encodes. Writes results/peers-SHAPE.json, .md and .png with `--write`. Run it on a quiet machine; exports
are made beside the checkpoint when they are not there. Threads of torch and llama.cpp go on spinning for a while and
are in the way of who is next; where a call takes milliseconds, `--pause 0.3` keeps them apart.
"""

from __future__ import annotations

import io
import json
import platform
from collections.abc import Callable
from pathlib import Path
from time import sleep
from typing import Any

import click
import numpy as np
from latency import photo
from peer_engines import Request, Times, open_peer, requests

from octopus.errors import OctopusError
from octopus.image import load_photo
from octopus.tokens import Tokens

RESULTS = Path(__file__).resolve().parent / "results"


@click.command()
@click.option("--checkpoint", required=True, type=click.Path(path_type=Path, exists=True), metavar="DIR")
@click.option("--shape", required=True, metavar="NAME", help="Names the results, for instance nano or 0.58b.")
@click.option("--runs", type=click.IntRange(min=1), default=7, show_default=True, help="Of every request.")
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--pause", type=click.FloatRange(min=0), default=0, metavar="S", help="Seconds in front of every call.")
@click.option("--peers", "letters", default="a,a+,b,c,d,e,f", show_default=True)
@click.option("--write", is_flag=True, help="Write results/peers-SHAPE.json, .md and .png.")
@click.option("-o", "output", type=click.Choice(["md", "json"]), default="md", show_default=True)
def peers(
    checkpoint: Path, shape: str, runs: int, threads: int, pause: float, letters: str, write: bool, output: str
) -> None:
    """Measure the peers against each other."""
    opened: dict[str, Callable[[Request, Any], Times]] = {}
    missing: dict[str, str] = {}
    for letter in letters.split(","):
        try:
            opened[letter] = open_peer(letter, checkpoint, threads)
        except (OctopusError, ImportError, ValueError) as error:
            missing[letter] = str(error)
    picture = load_photo(io.BytesIO(photo()).getvalue())
    wanted = requests(Tokens.load(checkpoint))
    for peer in opened.values():  # warm-up
        peer(wanted[0], picture)
    times: dict[str, list[Times]] = {letter: [] for letter in opened}
    for _ in range(runs):
        for request in wanted:
            for letter, peer in opened.items():
                sleep(pause)
                times[letter].append(peer(request, picture))
    found = summary(shape, threads, times) | {"missing": missing}
    if write:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"peers-{shape}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        (RESULTS / f"peers-{shape}.md").write_text(markdown(found) + "\n", encoding="utf-8")
        draw(found, RESULTS / f"peers-{shape}.png")
    print(json.dumps(found) if output == "json" else markdown(found))


def summary(shape: str, threads: int, times: dict[str, list[Times]]) -> dict[str, Any]:
    """Medians of every peer, and how many times faster octopus is."""
    rows = []
    for letter, own in times.items():
        totals = [sum(t.values()) for t in own]
        row: dict[str, Any] = {"peer": letter, "runs": len(own)}
        row |= {"median_ms": round(float(np.median(totals)), 1), "p95_ms": round(float(np.percentile(totals, 95)), 1)}
        row |= {f"{stage}_ms": round(float(np.median([t[stage] for t in own])), 1) for stage in own[0]}
        rows.append(row)
    medians = {row["peer"]: row["median_ms"] for row in rows}
    ratios = {
        f"{other}/{own}": round(medians[other] / medians[own], 2)
        for own in ("e", "f")
        for other in medians
        if own in medians and other not in ("e", "f")
    }
    machine = f"{platform.machine()}, {threads} threads, Python {platform.python_version()}"
    return {"shape": shape, "machine": machine, "rows": rows, "ratios": ratios}


def markdown(found: dict[str, Any]) -> str:
    """The results as a table."""
    lines = [f"{found['shape']} on {found['machine']}", "", "| peer | median ms | p95 | image | prefill | decode |"]
    lines.append("|---|---:|---:|---:|---:|---:|")
    for row in found["rows"]:
        numbers = (row[key] for key in ("median_ms", "p95_ms", "image_ms", "prefill_ms", "decode_ms"))
        lines.append(f"| {row['peer']} | " + " | ".join(map(str, numbers)) + " |")
    lines += ["", ", ".join(f"{pair}: {ratio}" for pair, ratio in found["ratios"].items())]
    lines += [f"not measured: {letter}: {reason}" for letter, reason in found["missing"].items()]
    return "\n".join(lines)


def draw(found: dict[str, Any], path: Path) -> None:
    """Stacked bars, one a peer."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(7, 0.6 * len(found["rows"]) + 1.5))
    names, left = [row["peer"] for row in found["rows"]], np.zeros(len(found["rows"]))
    for stage in ("image", "prefill", "decode"):
        widths = np.array([row[f"{stage}_ms"] for row in found["rows"]])
        axis.barh(names, widths, left=left, label=stage)
        left += widths
    axis.invert_yaxis()
    axis.set_xlabel(f"milliseconds, {found['shape']}")
    axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


if __name__ == "__main__":
    peers()
