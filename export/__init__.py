"""Exporters: a trained checkpoint becomes files that run without torch, and is compared with what it came from.

`python -m octopus.export CHECKPOINT FOLDER` does both. Importing this package is free; the exporters themselves need
the `export` extra (torch, transformers, onnx).
"""

from __future__ import annotations
