"""The rules of the house that a machine can judge: imports, lengths, captions, nothing done by an import."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).resolve().parent.parent
FILE_LINES = 400
FUNCTION_LINES = 60
LINE_LENGTH = 120
PACKAGES: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
FILES = MODULES + sorted((ROOT / "tests").rglob("*.py"))


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


# -- imports -----------------------------------------------------------------------------------------------------------


def test_import_contracts(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", list(sys.path))
    broken = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True, no_logo=True)
    report = capsys.readouterr().out
    assert not broken, report
    assert " 0 broken" in report


def test_every_package_stands_under_the_contracts() -> None:
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert folders - {"tests"} == set(PACKAGES)


# -- lengths and captions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_file_is_short(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= FILE_LINES, f"{relative(path)} has {len(lines)} lines; split it by subject"


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_functions_are_short(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines <= FUNCTION_LINES, f"{relative(path)}: {node.name} has {lines} lines"


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_module_has_a_caption(path: Path) -> None:
    caption = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n")[0]
    assert caption, f"{relative(path)} has no docstring"
    assert len(caption) <= LINE_LENGTH
    assert caption.rstrip().endswith((".", ":", "?")), (
        f"{relative(path)}: the first line is no whole sentence: {caption}"
    )


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_no_path_of_a_machine_and_no_reminder_stands_in_the_code(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for word in ("TO" + "DO", "FIX" + "ME", "XX" + "X", "/wo" + "rk/", "/ro" + "ot/", "/ho" + "me/", "sys.path"):
        assert word not in text, f"{relative(path)} holds {word}"


def named_in_the_readme() -> set[str]:
    """The files of the README's captioned tree."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (tree,) = re.findall(r"^```\n(MatterSim/.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    folders: list[str] = []
    files = set()
    for line in tree.splitlines():
        depth, name = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        del folders[depth:]
        if name.endswith("/"):
            folders.append(name)
        else:
            files.add("".join(folders) + name)
    return files


def test_the_tree_of_the_readme_is_that_of_the_folders() -> None:
    """All files but the packages' `__init__.py`, of which MatterSim's alone holds more than names."""
    modules = {relative(path) for path in MODULES if path.name != "__init__.py"}
    assert named_in_the_readme() == modules | {"MatterSim/__init__.py"}


# -- importing does nothing --------------------------------------------------------------------------------------------

LOOK = """
import os, random, signal, sys, threading
def look():
    import numpy, torch
    return {
        "torch": [torch.get_default_dtype(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(),
                  torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark, torch.is_grad_enabled(),
                  torch.cuda.is_initialized(), torch.get_rng_state().tolist()],
        "numpy": [part.tolist() if hasattr(part, "tolist") else part for part in numpy.random.get_state()],
        "numpy errors": numpy.geterr(),
        "random": random.getstate(),
        "arguments": list(sys.argv),
        "folder": os.getcwd(),
        "signals": [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)],
        "threads": threading.active_count(),
    }
"""
IMPORT_ALL = (
    LOOK
    + """
import importlib, rich.progress  # rich draws a random number when it is imported
before = look()
for name in sys.argv[2:]:
    importlib.import_module(name)
after = look()
changed = [name for name in before if before[name] != after[name]]
assert not changed, changed
"""
)
IMPORT_WITHOUT_TORCH = """
import importlib, json, sys
for name in sys.argv[2:]:
    importlib.import_module(name)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def python(code: str, folder: Path, modules: list[Path]) -> subprocess.CompletedProcess[str]:
    """Runs code in an empty folder with an argument that no parser knows, then the names of the modules."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(folder), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", "-c", code, "--no-such-flag", *map(module_name, modules)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_importing_does_nothing(tmp_path: Path) -> None:
    """No file, no output, no warning; no seed, thread count, default type or signal handler is set."""
    result = python(IMPORT_ALL, tmp_path, MODULES)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert [path.name for path in tmp_path.rglob("*")] == []


def test_the_simulator_imports_no_torch(tmp_path: Path) -> None:
    modules = [path for path in MODULES if module_name(path).partition(".")[0] in {"envs", "MatterSim"}]
    assert len(modules) > 15
    result = python(IMPORT_WITHOUT_TORCH, tmp_path, modules)
    assert (result.returncode, result.stderr) == (0, "")
    loaded = set(json.loads(result.stdout))
    assert {"numpy", "gymnasium", "envs", "MatterSim"} <= loaded
    assert not loaded & {"torch", "open_clip", "transformers", "matplotlib", "clip_core", "agent"}
