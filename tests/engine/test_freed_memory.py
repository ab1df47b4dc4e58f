"""Freed memory: with it kept, a second use of the same size asks the kernel for no page."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from melotte.engine.freed_memory import keep_freed_memory

PROGRAM = """
import resource, sys
import numpy as np
from melotte.engine.freed_memory import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(2):
    np.ones(1 << 24)
before = faults()
for _ in range(8):
    np.ones(1 << 24)
print(faults() - before)
"""


def page_faults(case: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, case], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs the C library glibc")
def test_large_arrays_are_made_again_without_new_pages() -> None:
    plain, kept = page_faults("plain"), page_faults("kept")
    # Eight arrays of 128 MiB: 262,144 pages of 4 KiB, or 512 of 2 MiB.
    assert plain >= 512
    assert kept < plain / 10


def test_other_c_libraries_are_left_alone(monkeypatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("musl", "1.2"))
    assert not keep_freed_memory()
