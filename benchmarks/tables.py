"""Puts what was measured into the README and nano's model card, so that no number is copied by hand.

    python benchmarks/tables.py

Reads the files under benchmarks/results/; replaces what stands between `<!-- NAME -->` and `<!-- /NAME -->`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
SHOWN = {  # row of the report -> how the README says it, and what is aimed at
    "right function": ("right function", "≥ 91 %"),
    "refusals recalled": ("refusals recalled", "≥ 85 %"),
    "wrong refusals": ("wrong refusals", "≤ 4 %"),
    "all arguments right": ("all arguments right, given in the text", "≥ 75 %"),
    "enums from the text": ("enums from the text", "≥ 92 %"),
}
SEEN = {
    "rooms": ("room", "≥ 88 %"),
    "cat or dog": ("cat or dog", "≥ 88 %"),
    "waste material": ("waste material", "≥ 65 %"),
}
PEERS = {
    "a": "llama.cpp, functions as JSON schemas, JSON grammar",
    "a+": "the same, schemas kept in the cache",
    "c": "transformers, eager",
    "d": "onnxruntime-genai, int4",
    "b": "llama.cpp, functional tokens, Q4_0",
    "f": "octopus, GGUF Q4_0",
    "e": "octopus, ONNX int8",
}


def cells(report: str) -> dict[str, list[str]]:
    """First cell -> the others, without marks; of rows with the same name the floor follows what it is the floor of."""
    rows: dict[str, list[str]] = {}
    before = ""
    for line in report.splitlines():
        if line.startswith("| ") and not line.startswith("| ---"):
            name, *rest = (cell.strip(" ✗") for cell in line.strip("|").split("|"))
            key = f"{before}: floor" if name == "linear floor" and len(rest) == 4 else name
            rows.setdefault(key, rest)
            before = key
    return rows


def scores() -> str:
    """The README's two tables of accuracy."""
    report = (RESULTS / "accuracy-nano.md").read_text(encoding="utf-8")
    rows, plain = cells(report), cells((RESULTS / "independent-nano.md").read_text(encoding="utf-8"))
    lines = ["| | nano, en / zh | linear floor, en / zh | aim |", "| --- | ---: | ---: | ---: |"]
    for key, (said, aim) in SHOWN.items():
        lines.append(_row(said, rows, key, aim))
    for key in ("right function", "all arguments right"):
        lines.append(_row(f"{key}, plain independent requests", plain, key, SHOWN[key][1]))
    lines += ["", "| only the photo tells | nano | grey picture | majority answer | aim |"]
    lines.append("| --- | ---: | ---: | ---: | ---: |")
    for key, (said, aim) in SEEN.items():
        top1, grey, majority = rows[key][:3]
        lines.append(f"| {said} | {top1} | {grey} | {majority} | {aim} |")
    (fine,) = re.findall(r"Fine-grained domains on average: (.*?)\.$", report, re.MULTILINE)
    return "\n".join([*lines, f"| exact names, mean of the fine-grained domains | {fine} | | | ≥ 35 % |"])


def _row(said: str, rows: dict[str, list[str]], key: str, aim: str) -> str:
    floor = rows.get(f"{key}: floor")
    return f"| {said} | {' / '.join(rows[key][:2])} | {' / '.join(floor[:2]) if floor else ''} | {aim} |"


def accuracy() -> str:
    """The whole report."""
    return (RESULTS / "accuracy-nano.md").read_text(encoding="utf-8").strip()


def independent() -> str:
    """The first table of the report on independent requests."""
    report = (RESULTS / "independent-nano.md").read_text(encoding="utf-8")
    return report.split("\n\n")[1]


def latency() -> str:
    """The report of `latency.py`."""
    return (RESULTS / "latency-nano.md").read_text(encoding="utf-8").strip()


def peers() -> str:
    """Medians on the 0.58B shape, and how many times faster octopus is."""
    found = json.loads((RESULTS / "peers-0.58b.json").read_text(encoding="utf-8"))
    medians = {row["peer"]: row["median_ms"] for row in found["rows"]}
    lines = ["| | median | octopus (ONNX int8) is faster |", "|---|---:|---:|"]
    for letter, said in PEERS.items():
        if letter in medians:
            times = f"{medians[letter] / medians['e']:.1f} x" if letter != "e" else ""
            lines.append(f"| {said} | {medians[letter]:,.0f} ms | {times} |")
    return "\n".join(lines)


PLACES: dict[Path, tuple[Callable[[], str], ...]] = {
    ROOT / "README.md": (scores, latency, peers),
    ROOT / "octopus" / "models" / "nano" / "README.md": (accuracy, independent),
}


def filled(path: Path) -> str:
    """A document with its tables as they were measured."""
    text = path.read_text(encoding="utf-8")
    for made in PLACES[path]:
        start, end = f"<!-- {made.__name__} -->\n", f"<!-- /{made.__name__} -->"
        before, rest = text.split(start)
        after = rest.split(end)[1]
        text = f"{before}{start}\n{made()}\n\n{end}{after}"
    return text


if __name__ == "__main__":
    for place in PLACES:
        place.write_text(filled(place), encoding="utf-8")
