"""The layers of setup.cfg hold: a module imports only from rows below its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_modules_import_only_downwards(tmp_path: Path) -> None:
    pytest.importorskip("importlinter")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    code = "import sys; from importlinter.cli import lint_imports; " + (
        f"sys.exit(lint_imports(config_filename={str(ROOT / 'setup.cfg')!r}, cache_dir={str(tmp_path)!r}))"
    )
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "1 kept, 0 broken" in ended.stdout


def test_the_symlinks_show_the_two_packages_that_live_at_the_top() -> None:
    for name in ("export", "functions"):
        link = ROOT / "octopus" / name
        assert link.is_symlink()
        assert os.readlink(link) == f"../{name}"
