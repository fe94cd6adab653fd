"""The benchmark command on small benchmarks: what it finds, prints and writes. No time is judged here."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parent / "bench"
GOOD = """
def run():
    return [
        {"name": "fast", "value": 300.0, "unit": "steps/s", "reference": "slow code", "reference_value": 100.0},
        {"name": "short", "value": 2.0, "unit": "s", "reference": "long code", "reference_value": 9.0, "floor": "half"},
        {"name": "alone", "value": 1.0, "unit": "paths/s", "reference": "-", "reference_value": None},
        {"name": "error", "value": 4.0, "unit": "m", "reference_value": 2.0, "lower_is_better": True},
    ]
"""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """tests/bench/__main__.py, looking for benchmarks in an empty folder."""
    spec = importlib.util.spec_from_file_location("bench_command", FOLDER / "__main__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_command", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    return module


def test_table_and_file(command: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bench_good.py").write_text(GOOD)
    out = tmp_path / "out" / "bench.json"
    assert command.main(["--json", str(out)]) == 0
    printed = capsys.readouterr().out
    lines = {line.split()[1]: line.split("│") for line in printed.splitlines() if line.startswith("│")}
    assert [lines[name][4].strip() for name in ("fast", "short", "alone", "error")] == ["3.00", "4.50", "-", "0.50"]
    assert lines["fast"][2].strip() == "300 steps/s"
    assert lines["short"][6].strip() == "half"
    written = json.loads(out.read_text())
    assert [row["name"] for row in written["rows"]] == ["fast", "short", "alone", "error"]
    assert written["machine"]["cores"] >= 1


def test_a_benchmark_that_fails_does_not_stop_the_others(
    command: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bench_bad.py").write_text("def run():\n    raise ValueError('CLIPNAV_DATA is not set')\n")
    (tmp_path / "bench_good.py").write_text(GOOD)
    assert command.main([]) == 1
    printed = capsys.readouterr().out
    assert "bad could not run: ValueError: CLIPNAV_DATA is not set" in printed
    assert "300 steps/s" in printed
    assert command.main(["--only", "good"]) == 0
    with pytest.raises(ValueError, match="no benchmark is called ugly; known: bad, good"):
        command.main(["--only", "ugly"])


def test_every_benchmark_of_the_house_has_a_run() -> None:
    files = sorted(FOLDER.glob("bench_*.py"))
    assert len(files) >= 4
    assert all("\ndef run(" in file.read_text() for file in files)
