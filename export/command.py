"""`octopus export`: a checkpoint becomes ONNX or GGUF files that were compared with it, or nothing.

In: a checkpoint folder and a precision. Out: a model folder with its report on stdout. Everything is made in a
temporary folder beside the target; only an export that passes verification is moved there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from octopus.errors import ModelError, UsageError
from octopus.export.verify import DROPS, FLOORS, REPORT, SAME_AS, check, check_scores, write_report
from octopus.manifest import Manifest
from octopus.runtime import Backend

EXTRA = "pip install 'octopus-edge[export,gguf]'"
ONNX_QUANTS = ("fp32", "fp16", "int8", "int4")
GGUF_QUANTS = tuple(SAME_AS)


def export(
    checkpoint: Path, out: Path, *, to: str = "onnx", quant: str = "int8", mmproj: bool | None = None,
    cases: Path | None = None, limit: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Export, verify, publish; sizes and agreement.

    Args:
        checkpoint: What `octopus build` or training left.
        out: The folder to write; it appears when all is verified.
        to: "onnx" or "gguf".
        quant: One of `ONNX_QUANTS` or `GGUF_QUANTS`.
        mmproj: GGUF only: also write llama.cpp's multimodal file; None: where the tower has one.
        cases: A folder of `octopus data build`: the development set's scores are compared as well.
        limit: Only so many development cases.

    Raises:
        ModelError: The checkpoint cannot be exported, or the export differs too much from it.
        UsageError: That precision does not exist in that format.
    """
    known = ONNX_QUANTS if to == "onnx" else GGUF_QUANTS
    if quant not in known:
        raise UsageError(f"there is no {quant} in {to}", f"one of {', '.join(known)}")
    backend = _runtime(to)  # before hours of work are done for something that cannot be verified here
    staging: Any
    if to == "onnx":
        from octopus.export.to_onnx import staged_onnx

        staging = staged_onnx(checkpoint, out, quant)  # type: ignore[arg-type]
    else:
        from octopus.export.to_gguf import staged_gguf

        staging = staged_gguf(checkpoint, out, quant, mmproj)
    with staging as folder:
        return _judge(checkpoint, folder, backend(folder), quant, cases, limit)


def _runtime(to: str) -> Callable[[Path], Backend]:
    try:
        if to == "onnx":
            from octopus.runtime.onnx import OnnxBackend

            return OnnxBackend
        from octopus.runtime.gguf import GgufBackend

        return GgufBackend
    except ImportError as error:
        raise ModelError(f"{error.name} is not installed, and nothing else verifies {to}", EXTRA) from error


def _judge(
    checkpoint: Path, folder: Path, exported: Backend, quant: str, cases: Path | None, limit: int | None
) -> dict[str, Any]:
    """Compare what was made with what it was made from, and write the report beside it."""
    from octopus.runtime.torch import TorchBackend

    manifest = Manifest.load(folder)
    floors = FLOORS[SAME_AS.get(quant, quant)]
    parity = check(TorchBackend(checkpoint), exported, manifest, floors, "the temporary folder")
    scores: Mapping[str, Any] = {}
    if cases is not None:
        scores = check_scores(checkpoint, folder, cases, DROPS[SAME_AS.get(quant, quant)], limit)
    names = list(manifest.files)
    text = write_report(folder, quant, parity, scores, names)
    sizes = {name: (folder / name).stat().st_size for name in names}
    return {"quant": quant, "bytes": sizes, "parity": asdict(parity), "scores": scores, "report": text}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("checkpoint", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--to", type=click.Choice(["onnx", "gguf"]), default="onnx", show_default=True)
@click.option("--quant", metavar="QUANT", help="onnx: fp32, fp16, int8, int4; gguf: F16, Q8_0, Q5_K_M, Q4_K_M, Q4_0.")
@click.option("-o", "out", required=True, type=click.Path(path_type=Path), metavar="OUT")
@click.option("--mmproj/--no-mmproj", default=None, help="gguf: llama.cpp's own image file; default: where possible.")
@click.option("--dev", "cases", type=click.Path(path_type=Path), metavar="DATA", help="Compare scores on it as well.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only N development cases.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    checkpoint: Path, to: str, quant: str | None, out: Path, mmproj: bool | None, cases: Path | None,
    limit: int | None, as_json: bool,
) -> None:  # fmt: skip
    """Turn the checkpoint in DIR into files that run without torch, and compare them with it."""
    if mmproj is not None and to != "gguf":
        raise UsageError("--mmproj belongs to --to gguf", "leave it out")
    quant = quant or ("int8" if to == "onnx" else "Q4_0")
    found = export(checkpoint, out, to=to, quant=quant, mmproj=mmproj, cases=cases, limit=limit)
    if as_json:
        click.echo(json.dumps({key: value for key, value in found.items() if key != "report"} | {"folder": str(out)}))
    else:
        click.echo(found["report"], nl=False)
        click.echo(f"in {out}; this table is {REPORT} there", err=True)


def main(arguments: Sequence[str]) -> int:
    """Run the command; its exit code."""
    command.main(list(arguments), prog_name="octopus export", standalone_mode=False)
    return 0


__all__ = ["GGUF_QUANTS", "ONNX_QUANTS", "export"]
