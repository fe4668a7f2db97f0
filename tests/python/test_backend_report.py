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
    exchanges = [c for c in report.collectives if c.op == "autosp_rt.all_to_all"]
    assert len(exchanges) == 4  # query, key, value, output
    # The output of attention, f32[2, 32/2, 64], is exchanged once more; half of it leaves the rank.
    assert exchanges[-1].sent_bytes == 2 * 16 * 64 * 4 // 2


def test_functional_collectives_are_counted_too(report):
    torch._dynamo.reset()
    other = autosp.explain(tiny_llama(1), token_batch(2, 32), sequence_parallel_size=2, collectives="functional")
    exchanges = [c for c in other.collectives if c.op == "_c10d_functional.all_to_all_single"]
    # The program itself repeats key and value heads, which are exchanged before that: each of them, the query, the output.
    assert len(exchanges) == 4
    assert sum(c.sent_bytes for c in other.collectives) == sum(c.sent_bytes for c in report.collectives)


def test_all_three_forms(report, tmp_path):
    text = str(report)
    assert "autosp_rt.all_to_all" in text and "decisions:" in text and "capture" in text
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
        autosp.explain(tiny_llama(1, attention_dropout=0.1), token_batch(2, 32), sequence_parallel_size=4)
    assert caught.value.code == "ASP0203"


MIXER = """hints {s0=64}
graph @g(%ids: i64[1, s0] tag=1, %w: f32[32, 16] grad, %v: f32[16, 16] grad) form=captured {
  %x = aten.embedding(%w, %ids) : f32[1, s0, 16] grad
  %h = aten.linear(%x, %v) : f32[1, s0, 16] grad
  %y = aten.cumsum(%h, 1) : f32[1, s0, 16] grad
  %l = aten.sum(%y) : f32[] grad
  return %l
}
"""


@pytest.mark.parametrize(("on_gather", "warned"), [("allow", 0), ("warn", 1)])
def test_gathers_are_warnings_when_asked_for(on_gather, warned):
    from autosp import _core

    done = _core.run_passes(_core.Graph.parse(MIXER), "autosp", {"sequence_parallel_size": 2, "on_gather": on_gather})
    warnings = [remark for remark in done["remarks"] if remark["warning"]]
    assert len(warnings) == warned and all("gathering it sends" in remark["text"] for remark in warnings)


@pytest.mark.parametrize(("limit", "refused"), [("2047 B", True), ("2 KiB", False), ("all of it", True)])
def test_a_gather_above_the_limit_is_refused(limit, refused):
    from autosp import _core

    options = {"sequence_parallel_size": 2, "gather_limit": limit}
    if not refused:
        _core.run_passes(_core.Graph.parse(MIXER), "autosp", options)
        return
    with pytest.raises(autosp.AutoSPError, match=f"gather_limit is .{{0,2}}{limit}") as failure:
        _core.run_passes(_core.Graph.parse(MIXER), "autosp", options)
    assert failure.value.code == ("ASP0306" if limit == "all of it" else "ASP0204")


def test_a_checkpoint_plan_is_explained():
    torch._dynamo.reset()
    report = autosp.explain(tiny_llama(2), token_batch(2, 32), sequence_parallel_size=2, checkpoint="full")
    handed_on = [value for value in report.checkpoint["kept"] if value["module"] in ("model.layers.0", "model.layers.1")]
    assert len(handed_on) == 2 and report.checkpoint["regions"] == 2
    assert "checkpoint full: predicted peak" in str(report) and handed_on[0]["name"] in str(report)
    assert json.loads(report.json())["checkpoint"]["computed_again"] > 50


class _Flattened(torch.nn.Module):
    """Its labels meet the logits only as one dim of batch and sequence."""

    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(32, 8)

    def forward(self, ids, labels):
        logits = self.embedding(ids) @ self.embedding.weight.T
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())


def test_a_batch_size_that_varies_is_told_from_the_sequence():
    ids, labels = torch.zeros(3, 12, dtype=torch.long), torch.zeros(3, 12, dtype=torch.long)
    autosp.prepare_auto_sp_inputs(ids, labels)
    for tensor in (ids, labels):
        torch._dynamo.mark_dynamic(tensor, 0)
    report = autosp.explain(_Flattened(), {"ids": ids, "labels": labels}, sequence_parallel_size=2)
    assert [collective.op for collective in report.collectives] == ["autosp_rt.all_reduce"]
