"""Run every benchmark that needs no data of yours, on a small budget: ``make bench``.

A benchmark is a script beside this one. It needs data when its ``--help`` names ``--data``, and
has a small budget when its ``--help`` names ``--quick``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path


def options_of(script: Path) -> str:
    """What a benchmark's ``--help`` prints."""
    done = subprocess.run(
        [sys.executable, str(script), "--help"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{script.name} --help failed:\n{done.stderr}")
    return done.stdout


def main() -> None:
    """Run them in the order of their names; the exit code counts the failures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="the benchmarks' own budgets")
    arguments = parser.parse_args()

    here = Path(__file__).resolve()
    failed = []
    for script in sorted(here.parent.glob("*.py")):
        if script == here:
            continue
        options = options_of(script)
        if not options:
            # A part of another benchmark: it has no command line.
            continue
        if "--data" in options:
            print(f"-- {script.name}: skipped, needs --data DIR", flush=True)
            continue
        quick = ["--quick"] if "--quick" in options and not arguments.full else []
        print(f"-- {script.name} {' '.join(quick)}".rstrip(), flush=True)
        if subprocess.run([sys.executable, str(script), *quick], check=False).returncode:
            failed.append(script.name)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
