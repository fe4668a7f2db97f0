"""autosp.explain: a plan without ranks, with its collectives and reasons."""

import json

import pytest
import torch
from conftest import tiny_llama, token_batch

import autosp


@pytest.fixture(scope="module")
def report():
    model = tiny_llama(1)
    before = [parameter.clone() for parameter in model.parameters()]
    report = autosp.explain(model, token_batch(2, 32), sequence_parallel_size=2)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    return report


def test_collectives_have_bytes(report):
    exchanges = [c for c in report.collectives if c.op.endswith("all_to_all_single")]
    assert exchanges
    # The output of attention, f32[2, 32/2, 64], is exchanged once more; half of it leaves the rank.
    assert exchanges[-1].sent_bytes == 2 * 16 * 64 * 4 // 2


def test_all_three_forms(report, tmp_path):
    text = str(report)
    assert "all_to_all_single" in text and "decisions:" in text and "capture" in text
    data = json.loads(report.json())
    assert data["sequence_parallel_size"] == 2 and data["plan_hash"] == report.plan_hash
    report.html(str(tmp_path / "report.html"))
    assert "partitioned graph" in (tmp_path / "report.html").read_text()


def test_the_same_plan_twice(report):
    torch._dynamo.reset()
    again = autosp.explain(tiny_llama(1), token_batch(2, 32), sequence_parallel_size=2)
    assert again.plan_hash == report.plan_hash


def test_a_refusal_reaches_the_caller():
    with pytest.raises(autosp.AutoSPError) as caught:
        autosp.explain(tiny_llama(1, hidden_size=48, num_attention_heads=3, num_key_value_heads=3), token_batch(2, 32),
                       sequence_parallel_size=4)
    assert caught.value.code.startswith("ASP02")
