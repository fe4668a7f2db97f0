"""Each known failure of sequence-parallel rewrites on real ranks: the loss and every gradient of one process, or a refusal.

docs/upstream-failures.md lists the failures and the test of each; a test here holds the page to that.
"""

import pathlib
import re
import subprocess
import sys

import pytest

import probes
from launch import launch

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "upstream-failures.md"
# Name -> codes with which it may be refused; without any it must be exact.
CASES = {
    "attention called with keywords": (),
    "attention written out": (),
    "table cut to the length": (),
    "summed loss": (),
    "labels of a shard ignored": (),
    "roll": (),
    "token shift": ("ASP0205",),
    "token shift by pad and slice": (),
    "running sum": (),
    "causal convolution": ("ASP0201",),
    "mean over the sequence": (),
    "keys and values shared across layers": (),
    "keys used as values": (),
    "queries and keys read outside attention": (),
    "checkpointed blocks": (),
    "batch as large as the sequence": (),
    "hidden size as large as the sequence": (),
    "vocabulary as large as the sequence": (),
    "all sizes alike": (),
    "three heads": ("ASP0202",),
    "mask, bool": (),
    "mask, bool, tagged on its queries": (),
    "mask, float, tagged on its keys": (),
    "mask, bool, per head": (),
    "mask, float, per head, tagged on its queries": (),
}
REFUSED = {"graph break": ("ASP0101", "ASP0104")}


# Ranks


def difference(model, compiled, name, batches, ranks):
    """Largest relative difference of the losses and of any gradient from the unsharded model."""
    import torch
    import torch.distributed as dist

    def run(forward, prepare):
        model.zero_grad()
        losses = []
        for batch in batches:
            losses.append(forward(**prepare(batch)))
            losses[-1].backward()
        return torch.stack(losses).detach(), [None if p.grad is None else p.grad.clone() for p in model.parameters()]

    truth, exact = run(model, lambda batch: batch)
    losses, found = run(compiled, lambda batch: probes.tag(name, batch))
    worst = ((losses - truth).norm() / truth.norm()).item()
    whole = torch.stack([gradient.norm() for gradient in exact if gradient is not None]).norm()
    for ours, theirs in zip(found, exact, strict=True):
        assert (ours is None) == (theirs is None), "a gradient on one side only"
        if ours is None:
            continue
        dist.all_reduce(ours)
        assert theirs.norm() == 0 or ours.norm() > 0, "a gradient of exactly zero"
        # What is zero by mathematics is rounding on both sides, and is measured against the whole gradient.
        worst = max(worst, ((ours / ranks - theirs).norm() / torch.maximum(theirs.norm(), 1e-6 * whole)).item())
    return worst


def run_probes(names):
    import torch
    import torch.distributed as dist

    import autosp

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    answers = {}
    for name in names:
        torch._dynamo.reset()
        model, batch = probes.build(name)
        options = {"sequence_parallel_size": dist.get_world_size(), "inner_backend": "aot_eager", "deadline_s": 60.0}
        try:
            answers[name] = difference(model, torch.compile(model, backend="autosp", options=options), name, [batch], 2)
        except autosp.AutoSPError as error:
            answers[name] = [error.code, str(error)]
        except Exception as error:  # noqa: BLE001: a case that fails must not hide the others
            answers[name] = ["not an AutoSPError", f"{type(error).__name__}: {error}"]
    return answers


# Tests


@pytest.fixture(scope="module")
def answers():
    return [result.value for result in launch(__file__, "run_probes", 2, {"names": [*CASES, *REFUSED]}, timeout=600)]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_is_exact(answers, name):
    for answer in answers:
        if isinstance(answer[name], list):
            assert answer[name][0] in CASES[name], answer[name][1]
            assert "probes.py:" in answer[name][1]
        else:
            assert answer[name] < 1e-11


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_is_refused(answers, name):
    for answer in answers:
        assert isinstance(answer[name], list), "trained"
        assert answer[name][0] in REFUSED[name], answer[name][1]
