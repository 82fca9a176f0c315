"""Memory does not grow with the pictures: only their names are held."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.inference import tiny

JOB = """
import sys
from resight.commands.batch import predict_to_file
written = predict_to_file(*sys.argv[1:4], threads=2)
with open("/proc/self/status") as status:  # ru_maxrss would carry the parent's peak along
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024
print(written.number, written.failed, peak)
"""
NAME = 1500  # bytes: paths and what finds each file once; 600 to 850 were measured


def answered(run: Path, root: Path, number: int, ending: str) -> int:
    """Answers for ``number`` pictures, hard links of a few files; checks the answers and returns the peak, in bytes."""
    few = [tiny.write_picture(root / "few" / f"{k}.png", tiny.CLASSES[k], k) for k in range(3)]
    bad = root / "few" / "bad.png"
    bad.write_bytes(b"no picture")
    for k in range(number):
        place = root / "many" / f"{k // 1000}" / f"{k}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.hardlink_to(bad if k % 100 == 50 else few[k % 3])
    out = root / f"out.{ending}"
    command = [sys.executable, "-c", JOB, str(run), str(root / "many"), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stderr
    found, failed, peak = map(int, done.stdout.split())
    assert (found, failed) == (number, number // 100)
    if ending == "jsonl":
        with out.open() as lines:
            for k, line in enumerate(lines):
                answer = json.loads(line)
                assert Path(answer["source"]).stem == str(k)
                assert answer["label"] == (None if k % 100 == 50 else tiny.CLASSES[k % 3])
        assert k == number - 1
    else:
        parquet = pytest.importorskip("pyarrow.parquet")
        assert parquet.ParquetFile(out).metadata.num_rows == number
    return peak


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_three_hundred_pictures(tmp_path: Path) -> None:
    """The same with a few, so that the long one is known to work."""
    answered(tiny.make_run(tmp_path / "run").path, tmp_path, 300, "jsonl")


@pytest.mark.soak
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_a_hundred_thousand_pictures_in_the_memory_of_ten_thousand(ending: str, tmp_path: Path) -> None:
    run = tiny.make_run(tmp_path / "run").path
    small = answered(run, tmp_path / "small", 10_000, ending)
    large = answered(run, tmp_path / "large", 100_000, ending)
    print(f"\n{ending}: peak {small / 1e6:.0f} MB for 10,000 pictures, {large / 1e6:.0f} MB for 100,000")
    assert large - small < 90_000 * NAME
