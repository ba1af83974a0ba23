"""`make demo`: two real photos and a few sentences in two languages, on a simulated phone of their own.

It types the commands a user would type, shows what they print, and ends with what happened on the phone. The photos, a
cat and a cup of coffee, are CC0 and come inside scikit-image's wheel.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PHOTOS = {"cat.png": "chelsea.png", "coffee.png": "coffee.png"}
REQUESTS = (
    ("cat.png", "Text this to mom"),
    ("cat.png", "它最近总是掉毛，怎么办"),
    ("coffee.png", "Order two of these for delivery"),
    ("coffee.png", "把这张照片发邮件给爸爸，主题写早安"),
    (None, "put 3 cartons of oat milk in my basket"),
    (None, "What a lovely day!"),
)
UNDERSTOOD = (0, 3)  # done, or no function fits


def main() -> int:
    """Run the demo; 0 when every command ended as it should."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for photo, original in PHOTOS.items():
            shutil.copy(photo_folder() / original, folder / photo)
        codes = [
            octopus(folder, "run", "--yes", *(("--image", photo) if photo else ()), text) for photo, text in REQUESTS
        ]
        codes.append(octopus(folder, "phone"))
    return 0 if all(code in UNDERSTOOD for code in codes) else 1


def octopus(folder: Path, *arguments: str) -> int:
    """Show a command, run it, and return its exit code."""
    print(f"\n$ octopus {shlex.join(arguments)}", flush=True)
    environment = {**os.environ, "OCTOPUS_PHONE": str(folder / "phone.sqlite")}
    command = [str(Path(sys.executable).parent / "octopus"), *arguments]
    return subprocess.run(command, cwd=folder, env=environment, stderr=subprocess.STDOUT, check=False).returncode


def photo_folder() -> Path:
    """Where scikit-image keeps its photos; the package itself, and what it needs, is not imported."""
    found = importlib.util.find_spec("skimage")
    if found is None or found.origin is None:
        raise SystemExit("the demo's photos are in scikit-image: pip install --no-deps scikit-image")
    return Path(found.origin).parent / "data"


if __name__ == "__main__":
    raise SystemExit(main())
