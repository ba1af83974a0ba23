"""Accuracy of a model as files: numbers, a table and two pictures under benchmarks/results/.

    python benchmarks/accuracy.py [--model DIR] [--data DIR] [--limit N] [-o DIR]

Writes accuracy-NAME.json, accuracy-NAME.md, confusion-matrix.png and reliability.png. Counting is `octopus eval`.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import matplotlib
import numpy as np

from octopus.agent import Agent
from octopus.training.evaluate import DATA, examine, mistakes, table
from octopus.training.scores import Report

matplotlib.use("Agg")
from matplotlib import pyplot

RESULTS = Path(__file__).resolve().parent / "results"


@click.command()
@click.option("--model", metavar="DIR", help="Model folder, or name of a packaged model.")
@click.option("--data", type=click.Path(path_type=Path), default=DATA, show_default=True, metavar="DIR")
@click.option("--requests", type=click.Path(path_type=Path), metavar="FILE", help="Other annotated requests (.tsv).")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only N cases, spread over all.")
@click.option("--wrong", type=click.Path(path_type=Path), metavar="FILE", help="Write what went wrong, as JSON lines.")
@click.option("-o", "out", type=click.Path(path_type=Path), default=RESULTS, show_default=True, metavar="DIR")
def accuracy(
    model: str | None, data: Path, requests: Path | None, limit: int | None, wrong: Path | None, out: Path
) -> None:
    """Score a model against all baselines, and write the results."""
    found, answers = examine(Agent(model), data, baseline=True, limit=limit, requests=requests)
    lines = "\n".join(table(found)) + "\n"
    write(found, lines, out)
    if wrong is not None:
        wrong.write_text("".join(mistakes(answers)), encoding="utf-8")
    print(lines)


def write(found: Report, lines: str, out: Path) -> None:
    """All four files of a report."""
    out.mkdir(parents=True, exist_ok=True)
    numbers = json.dumps(found.to_dict(), indent=1, ensure_ascii=False)
    (out / f"accuracy-{found.model}.json").write_text(numbers + "\n", encoding="utf-8")
    (out / f"accuracy-{found.model}.md").write_text(lines, encoding="utf-8")
    draw_confusion(found, out / "confusion-matrix.png")
    draw_reliability(found, out / "reliability.png")


def draw_confusion(found: Report, picture: Path) -> None:
    """Which function was chosen for which: each row in percent of the requests that mean it."""
    names = sorted({*found.confusion, *(name for row in found.confusion.values() for name in row)})
    counts = np.array([[found.confusion.get(meant, {}).get(name, 0) for name in names] for meant in names])
    shares = 100 * counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    figure, axis = pyplot.subplots(figsize=(9, 8))
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    for (y, x), share in np.ndenumerate(shares):
        if counts[y, x]:
            colour = "white" if share > 50 else "black"
            axis.text(x, y, f"{share:.0f}" if share >= 1 else "<1", ha="center", va="center", color=colour, fontsize=8)
    axis.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axis.set_yticks(range(len(names)), names)
    axis.set_xlabel("chosen")
    axis.set_ylabel("meant")
    axis.set_title(f"{found.model}: first function, % of {found.cases:,} unseen requests")
    save(figure, picture)


def draw_reliability(found: Report, picture: Path) -> None:
    """How often answers of a confidence are right; on the diagonal confidence says the truth."""
    bins = found.reliability
    figure, (above, below) = pyplot.subplots(2, 1, figsize=(6, 7), sharex=True, height_ratios=(3, 1))
    above.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle="--")
    above.plot([b.confidence for b in bins], [b.accuracy for b in bins], marker="o")
    above.set_ylabel("right")
    above.set_ylim(0, 1.02)
    above.set_title(f"{found.model}: expected calibration error {100 * found.calibration_error:.1f} %")
    below.bar([b.confidence for b in bins], [b.answers for b in bins], width=0.03)
    below.set_yscale("log")
    below.set_ylabel("requests")
    below.set_xlabel("confidence in the function")
    for axis in (above, below):
        axis.grid(alpha=0.3)
    save(figure, picture)


def save(figure: pyplot.Figure, picture: Path) -> None:
    figure.tight_layout()
    figure.savefig(picture, dpi=80)
    pyplot.close(figure)


if __name__ == "__main__":
    accuracy()
