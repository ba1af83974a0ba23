"""`octopus train` as `accelerate launch` starts it in a test: python launched.py REQUESTS HELD_OUT RUN ARGUMENT...

The run folder comes without its option, which the launcher would take for one of its own.
"""

from __future__ import annotations

import sys
from pathlib import Path

import conftest  # noqa: F401  (torchvision beside a CPU-only torch)
from octopus.training import build, train

if __name__ == "__main__":
    build.REQUESTS = Path(sys.argv[1])
    train.HELD_OUT_DOCUMENTS = int(sys.argv[2])
    train.main([*sys.argv[4:], "--run", sys.argv[3]])
