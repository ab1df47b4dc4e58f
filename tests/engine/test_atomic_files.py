"""Files are written whole, and never over what was read."""

from __future__ import annotations

from pathlib import Path

import pytest

from melotte.engine.atomic_files import check_outputs, write_atomically
from melotte.errors import MelotteFileError, MelotteValueError


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a.txt", b"all")
    assert (tmp_path / "a.txt").read_bytes() == b"all"
    with pytest.raises(MelotteFileError, match="cannot be written"):
        write_atomically(tmp_path / "nowhere" / "a.txt", b"all")
    assert [one.name for one in tmp_path.iterdir()] == ["a.txt"]


def test_outputs_are_apart_from_inputs_and_from_each_other(tmp_path: Path) -> None:
    image, table = tmp_path / "image.fits", tmp_path / "table.fits"
    (tmp_path / "link.fits").symlink_to(image)
    image.write_bytes(b"light")
    check_outputs({"-o": table, "--maps": tmp_path / "m.fits", "--stars": None}, [image, None])
    for same in (image, tmp_path / "." / "image.fits", tmp_path / "link.fits"):
        with pytest.raises(MelotteValueError, match=r"--maps .* is an input, which would be lost"):
            check_outputs({"-o": table, "--maps": same}, [str(image)])
    with pytest.raises(MelotteValueError, match=r"--maps .* is what -o writes"):
        check_outputs({"-o": table, "--maps": table}, [image])
