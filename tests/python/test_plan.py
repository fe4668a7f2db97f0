"""autosp.plan: the policies of one model side by side, without ranks; its numbers against what the backend plans."""

import json

import pytest
import torch
from conftest import tiny_llama, token_batch

import autosp
from autosp import memory


@pytest.fixture(scope="module")
def report():
    return autosp.plan(
        tiny_llama(3), token_batch(1, 64), sequence_parallel_size=2, device="h200", memory=2**28, memory_budget=0.3
    )


def of(report, policy):
    return next(row for row in report.policies if row.policy == policy)


def test_policies_are_ordered(report):
    none, full, sac, auto = (of(report, policy) for policy in ("none", "full", "sac", "auto"))
    assert full.kept_bytes < sac.kept_bytes < none.kept_bytes
    assert none.recompute_share == 0 < sac.recompute_share < full.recompute_share < 0.5
    assert auto.peak_bytes <= none.peak_bytes and auto.recompute_share < sac.recompute_share
    assert sac.longest_sequence > none.longest_sequence > 0 and sac.longest_sequence % 2 == 0


def test_the_longest_sequence_is_the_longest(report):
    model, row = tiny_llama(3), of(report, "sac")
    room = 2**28 - sum(p.numel() * p.element_size() for p in model.parameters())
    torch._dynamo.reset()
    longer = autosp.plan(model, token_batch(1, 64), sequence_parallel_size=2, device="h200",
                         lengths=[row.longest_sequence, row.longest_sequence + 2])  # fmt: skip
    fits, too_long = (peak for _, peak in longer.curve["sac"])
    assert fits <= room < too_long


def test_two_ranks_need_less_than_one(report):
    torch._dynamo.reset()
    alone = autosp.plan(tiny_llama(3), token_batch(1, 64), device="h200")
    for policy in ("none", "full", "sac"):
        assert 0.4 * of(alone, policy).kept_bytes < of(report, policy).kept_bytes < 0.7 * of(alone, policy).kept_bytes


def test_the_forecast_for_another_length_is_what_a_step_of_that_length_takes():
    """Planned at 64 tokens, measured at 160, on one thread: kernels hold memory per thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch._dynamo.reset()
    model = tiny_llama(2)
    predicted = dict(autosp.plan(model, token_batch(1, 64), lengths=[160]).curve["sac"])[160]
    torch._dynamo.reset()
    batch = token_batch(1, 160)
    options = {"sequence_parallel_size": 1, "inner_backend": "aot_eager", "checkpoint": "sac"}
    forward = torch.compile(model, backend="autosp", options=options)
    for _ in range(2):  # The first call compiles.
        model.zero_grad(set_to_none=True)
        with memory.PeakMemory("cpu") as meter:
            output = forward(**batch)
            output.loss.backward()
            measured = meter.peak_bytes
    torch.set_num_threads(threads)
    assert predicted == pytest.approx(measured, rel=0.03)


def test_all_forms(report, tmp_path):
    text = str(report)
    assert "policy" in text and "recompute %" in text and "sac" in text
    assert json.loads(report.json())["sequence_parallel_size"] == 2
    report.plot(str(tmp_path / "peak.png"))
    assert (tmp_path / "peak.png").stat().st_size > 5000


def test_a_device_from_a_file(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("name=mine flops_low=1e14 flops_f32=1e13\nmemory_bandwidth=1e12 link_bandwidth=1e11 memory=8e10\n")
    torch._dynamo.reset()
    assert autosp.plan(tiny_llama(1), token_batch(1, 32), device=str(file)).policies
    with pytest.raises(autosp.AutoSPError, match="ASP0404"):
        autosp.plan(tiny_llama(1), token_batch(1, 32), device="./nothing.txt")
    torch._dynamo.reset()
    with pytest.raises(autosp.AutoSPError, match="no device is named"):
        autosp.plan(tiny_llama(1), token_batch(1, 32), device="h300")
