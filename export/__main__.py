"""`python -m octopus.export CHECKPOINT FOLDER`: export a checkpoint to ONNX and compare it with the original."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from octopus.errors import OctopusError


@click.command()
@click.argument("checkpoint", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--quant", type=click.Choice(["int8", "fp32"]), default="int8", show_default=True)
def main(checkpoint: Path, folder: Path, quant: str) -> None:
    """Write the ONNX form of CHECKPOINT into FOLDER, then check it against PyTorch."""
    try:
        from octopus.export.to_onnx import export_onnx
        from octopus.export.verify import verify_onnx

        for path in export_onnx(checkpoint, folder, "fp32" if quant == "fp32" else "int8"):
            click.echo(f"{path.stat().st_size / 1e6:7.1f} MB  {path}", err=True)
        click.echo(verify_onnx(checkpoint, folder).describe())
    except OctopusError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        click.echo(f"error: {error.name} is not installed (pip install 'octopus-edge[export]')", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
