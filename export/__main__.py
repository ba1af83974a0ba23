"""`python -m octopus.export CHECKPOINT FOLDER`: `octopus export` to ONNX under its first name."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from octopus.errors import OctopusError


@click.command()
@click.argument("checkpoint", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--quant", type=click.Choice(["fp32", "fp16", "int8", "int4"]), default="int8", show_default=True)
def main(checkpoint: Path, folder: Path, quant: str) -> None:
    """Write the ONNX form of CHECKPOINT into FOLDER, checked against PyTorch."""
    try:
        from octopus.export.command import export

        click.echo(export(checkpoint, folder, quant=quant)["report"], nl=False)
    except OctopusError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        click.echo(f"error: {error.name} is not installed (pip install 'octopus-edge[export]')", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
