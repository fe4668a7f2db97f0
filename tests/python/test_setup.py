"""The set-up scripts say what is wrong in one sentence, and the lints find what they are for."""
import importlib.metadata
import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def shell(command, **environment):
    return subprocess.run(
        ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, env={**os.environ, **environment}, timeout=60
    )


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "command, environment, sentence",
    [
        ("./tests/run.sh --slow", {}, "unknown argument '--slow': known are --quick, -k PATTERN and --help"),
        (
            "./benchmarks/autosp/run_autosp.sh",
            {"AUTOSP_PYTHON": "/nowhere/python"},
            "AUTOSP_PYTHON=/nowhere/python is not a program",
        ),
        ("source tests/setup/setup.sh; AUTOSP_REQUIRED_MB=999999999; _check_disk", {}, "too little disk space"),
        (
            "source tests/setup/setup.sh; autosp_choose_python; autosp_ensure_build train",
            {"CXX": "no-such-compiler"},
            "no-such-compiler does not compile C++20",
        ),
    ],
)
def test_a_failing_set_up_ends_with_one_sentence(command, environment, sentence):
    result = shell(command, **environment)
    assert result.returncode != 0
    assert result.stderr.startswith("autosp: ") and sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "before, configures",
    [
        (None, True),
        ("Ninja -DAUTOSP_BUILD_TESTS=OFF -DAUTOSP_WITH_TORCH=OFF", True),  # of an older checkout: it lacks the torch ops
        ("Ninja -DAUTOSP_BUILD_TESTS=ON -DAUTOSP_WITH_TORCH=ON", False),
    ],
)
def test_training_builds_all_that_the_benchmark_loads(tmp_path, before, configures):
    """The benchmark's worker imports the passes, and meters memory through the library of the torch ops."""
    (tmp_path / "cmake").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    (tmp_path / "cmake").chmod(0o755)
    build = tmp_path / "build"
    build.mkdir()
    if before is not None:
        (build / "CMakeCache.txt").touch()
        (build / ".autosp-configured").write_text(before)
    command = f"source tests/setup/setup.sh; AUTOSP_PY=python AUTOSP_BUILD={build}; autosp_ensure_build train"
    assert shell(command, PATH=f"{tmp_path}:{os.environ['PATH']}").returncode == 0
    *configured, built = (tmp_path / "calls").read_text().splitlines()
    assert len(configured) == configures and all("-DAUTOSP_WITH_TORCH=ON" in call for call in configured)
    assert built.startswith(f"--build {build}") and built.endswith("--target _core autosp_torch")


def test_every_pin_of_the_set_up_is_read():
    result = shell("source tests/setup/setup.sh; _pins test", AUTOSP_TORCH="2.11.0")
    pins = result.stdout.split()
    assert "torch==2.11.0" in pins and "pytest" in {pin.split("==")[0] for pin in pins}
    assert all(pin.count("==") == 1 for pin in pins)


def test_the_backend_is_an_entry_point(tmp_path):
    subprocess.run([sys.executable, ROOT / "tests/setup/link_package.py", "--dist-info-in", tmp_path], check=True)
    (distribution,) = importlib.metadata.distributions(path=[str(tmp_path)])
    (entry,) = distribution.entry_points.select(group="torch_dynamo_backends")
    assert (distribution.metadata["Name"], entry.name, entry.value) == ("autosp", "autosp", "autosp.backend:autosp")


@pytest.mark.parametrize(
    "room, line, problem",
    [
        ("src/ir/a.cpp", "#include <autosp/pass/pass.h>", "room 'ir' includes <autosp/pass/pass.h> of room 'pass'"),
        ("src/interp/a.cpp", "#include <autosp/sharding/rule.h>", "room 'interp' includes <autosp/sharding/rule.h>"),
        ("src/sharding/a.cpp", "#include <ATen/ATen.h>", "the torch-free room 'sharding' includes <ATen/ATen.h>"),
        ("include/autosp/ir/a.h", "#include <fmt/format.h>", "a public header includes <fmt/format.h>"),
        ("passes/split_loss.cpp", '#include "merge_loss.h"', "pass split_loss includes pass merge_loss"),
        ("src/ir/a.cpp", "#include <autosp/ir/gone.h>", "<autosp/ir/gone.h> does not exist"),
        ("src/pass/a.cpp", "#include <autosp/sharding/rule.h>", None),
        ("src/interp/a.cpp", "#include <ATen/ATen.h>", None),
        ("passes/split_loss.cpp", '#include "split_loss.h"', None),
    ],
)
def test_the_layering_lint(tmp_path, monkeypatch, capsys, room, line, problem):
    headers = ("include/autosp/pass/pass.h", "include/autosp/sharding/rule.h", "passes/split_loss.h", "passes/merge_loss.h")
    files = dict.fromkeys(headers, "")
    files["passes/passes.def"] = 'AUTOSP_PASS(A, "split-loss")\nAUTOSP_PASS(B, "merge-loss")\n'
    for name, text in {**files, room: line + "\n"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    lint = load(ROOT / "tests/lint/check_layering.py")
    monkeypatch.setattr(lint, "ROOT", tmp_path)
    assert lint.main() == (1 if problem else 0)
    output = capsys.readouterr().out
    if problem:
        assert output.startswith(f"{room}:1: {problem}")
