"""Measured device descriptions: the planner reads them, they are measured once, files and faults."""

import os
import pathlib

import pytest
import torch
from conftest import tiny_llama, token_batch

import autosp
from autosp import device_speed

CPU = torch.device("cpu")


@pytest.fixture()
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def rates(text):
    return {key: float(value) for key, value in (word.split("=") for word in text.split()) if key != "name"}


def test_measured_rates_are_those_of_some_machine(cache):
    found = rates(device_speed.measure(CPU))
    assert 1e8 < found["flops_f32"] < 1e15 and 1e7 < found["flops_low"] < 1e15
    assert 1e8 < found["memory_bandwidth"] < 1e13
    assert found["memory"] == pytest.approx(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), rel=1e-3)
    assert 1e-8 < found["launch"] < 1e-2


def test_it_is_measured_once_and_the_plan_uses_it(cache, monkeypatch):
    calls = []
    slow = "name=slow flops_low=1e6 flops_f32=1e6 memory_bandwidth=1e12 link_bandwidth=1e9 memory=1e9"
    monkeypatch.setattr(device_speed, "measure", lambda device: calls.append(device) or slow)
    reports = []
    for _ in range(2):
        torch._dynamo.reset()
        reports.append(autosp.plan(tiny_llama(2), token_batch(1, 32), device="measured", lengths=[32]))
    assert len(calls) == 1 and [file.suffix for file in (cache / "autosp").iterdir()] == [".txt"]
    assert reports[0].device == slow
    torch._dynamo.reset()
    shipped = autosp.plan(tiny_llama(2), token_batch(1, 32), device="cpu", lengths=[32])
    share = [report.policies[1].recompute_share for report in (reports[0], shipped)]  # of full
    assert share[0] != share[1]


def test_the_command_writes_a_file_that_the_backend_takes(cache, capsys):
    file = cache / "mine.txt"
    assert device_speed.main(["--device", "cpu", "--output", str(file)]) == 0
    assert capsys.readouterr().out == file.read_text()
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    options = {"sequence_parallel_size": 1, "inner_backend": "aot_eager", "checkpoint": "full", "device": str(file)}
    torch.compile(model, backend="autosp", options=options)(torch.randn(4, 8)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("text, code", [(None, "ASP0307"), ("name=x flops_low=fast", "ASP0306")])
def test_a_bad_file_is_refused(tmp_path, text, code):
    file = pathlib.Path(tmp_path / "device.txt")
    if text is not None:
        file.write_text(text)
    with pytest.raises(autosp.AutoSPError) as caught:
        torch._dynamo.reset()
        autosp.plan(tiny_llama(1), token_batch(1, 32), device=str(file))
    assert caught.value.code == code or text is None and str(file) in str(caught.value)
