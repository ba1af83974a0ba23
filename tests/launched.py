"""`octopus train` as `accelerate launch` starts it in a test: python launched.py REQUESTS HELD_OUT ARGUMENT..."""

from __future__ import annotations

import sys
from pathlib import Path

import conftest  # noqa: F401  (torchvision beside a CPU-only torch)
from octopus.training import build, train

if __name__ == "__main__":
    build.REQUESTS = Path(sys.argv[1])
    train.HELD_OUT_DOCUMENTS = int(sys.argv[2])
    train.main(sys.argv[3:])
