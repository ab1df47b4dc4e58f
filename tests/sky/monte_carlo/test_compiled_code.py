import os

from melotte.sky.monte_carlo.compiled_code import drop_stale_code


def test_code_older_than_any_source_goes(tmp_path):
    cache = tmp_path / "__pycache__"
    cache.mkdir()
    for name in ("a.py", "b.py", "__pycache__/a.nbi", "__pycache__/a.nbc", "__pycache__/a.pyc"):
        (tmp_path / name).write_text("x")
    for path in cache.iterdir():
        os.utime(path, (100, 100))
    os.utime(tmp_path / "a.py", (90, 90))
    os.utime(tmp_path / "b.py", (90, 90))
    assert drop_stale_code(tmp_path) == 0
    os.utime(tmp_path / "b.py", (110, 110))
    assert drop_stale_code(tmp_path) == 2
    assert [path.name for path in cache.iterdir()] == ["a.pyc"]
    assert drop_stale_code(tmp_path / "none") == 0
