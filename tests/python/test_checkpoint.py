"""Gradients do not depend on what backward keeps: every policy against no checkpointing, bitwise, without ranks."""

import logging

import pytest
import torch
import torch.nn.functional as F
from conftest import tiny_llama, token_batch

import autosp

MIB = 2**20


class Dropped(torch.nn.Module):
    """Two blocks with dropout: what is drawn must be drawn once."""

    def __init__(self, width=32):
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Linear(width, width) for _ in range(3)])

    def forward(self, x):
        for layer in self.layers:
            x = x + F.dropout(torch.tanh(layer(x)), 0.3, self.training)
        return x.square().sum()


def step(model, call, **options):
    torch._dynamo.reset()
    torch.manual_seed(5)
    model.zero_grad()
    settings = {"sequence_parallel_size": 1, "inner_backend": "aot_eager", **options}
    loss = call(torch.compile(model, backend="autosp", options=settings))
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}


def assert_equal(ours, truth):
    assert torch.equal(ours[0], truth[0])
    assert ours[1].keys() == truth[1].keys()
    for name in truth[1]:
        assert torch.equal(ours[1][name], truth[1][name]), name


POLICIES = [
    {"checkpoint": "full"}, {"checkpoint": "sac"}, {"checkpoint": "auto", "memory_budget": 0.0},
    {"checkpoint": "auto", "memory_budget": 0.5}, {"checkpoint": "auto", "memory_budget": 1.0},
]  # fmt: skip


def test_gradients_of_a_llama_are_bitwise_equal_with_every_policy():
    model, batch = tiny_llama(2), token_batch(2, 32)
    call = lambda compiled: compiled(**batch).loss  # noqa: E731
    truth = step(model, call)
    for policy in POLICIES:
        assert_equal(step(model, call, **policy), truth)


@pytest.mark.slow
def test_inductor_follows_the_plan():
    """It fuses what is kept otherwise than what is not, so sums may round otherwise: not bitwise."""
    model, batch = tiny_llama(2), token_batch(2, 32)
    call = lambda compiled: compiled(**batch).loss  # noqa: E731
    loss, gradients = step(model, call, inner_backend="inductor")
    for policy in (POLICIES[1], POLICIES[3]):
        found, found_gradients = step(model, call, inner_backend="inductor", **policy)
        assert found.item() == pytest.approx(loss.item(), rel=1e-6)
        for name, exact in gradients.items():
            assert (found_gradients[name] - exact).norm() <= 1e-5 * exact.norm(), name


def test_gradients_with_dropout_are_bitwise_equal_with_every_policy():
    model, x = Dropped(), torch.randn(8, 32)
    truth = step(model, lambda compiled: compiled(x))
    for policy in POLICIES:
        assert_equal(step(model, lambda compiled: compiled(x), **policy), truth)


def plan_of(model, call, **options):
    plans = []
    from autosp import checkpoint

    original = checkpoint._tag
    checkpoint._tag = lambda nodes, plan: (plans.append(plan), original(nodes, plan))
    try:
        step(model, call, **options)
    finally:
        checkpoint._tag = original
    return plans[-1]


def test_plans_are_ordered_as_their_names_say():
    model, batch = tiny_llama(3), token_batch(1, 64)
    call = lambda compiled: compiled(**batch).loss  # noqa: E731
    full, sac = (plan_of(model, call, checkpoint=policy) for policy in ("full", "sac"))
    loose, tight = (plan_of(model, call, checkpoint="auto", memory_budget=b) for b in (1.0, 0.1))
    assert full["regions"] == 3
    assert full["kept_bytes"] < sac["kept_bytes"] < loose["kept_bytes"]
    assert full["recompute_seconds"] > sac["recompute_seconds"] > loose["recompute_seconds"] == 0
    assert tight["peak_bytes"] < loose["peak_bytes"] and tight["recompute_seconds"] > 0


def saved_bytes(model, call, **options):
    """What autograd holds between forward and backward, parameters and inputs left out, from outside the planner."""
    torch._dynamo.reset()
    settings = {"sequence_parallel_size": 1, "inner_backend": "aot_eager", **options}
    sizes = {}
    own = {p.untyped_storage().data_ptr() for p in [*model.parameters(), *model.buffers()]}

    def pack(tensor):
        storage = tensor.untyped_storage()
        # torch 2.11 saves a random state (u8[5056]) with every attention that is computed again, dropout or not.
        if storage.data_ptr() not in own and tensor.dtype != torch.uint8:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = call(torch.compile(model, backend="autosp", options=settings))
    loss.backward()
    return sum(sizes.values())


@pytest.mark.parametrize("policy", [{"checkpoint": "full"}, {"checkpoint": "sac"}])
def test_what_is_kept_is_what_was_planned(policy):
    model, batch = tiny_llama(4), token_batch(1, 128)
    call = lambda compiled: compiled(**batch).loss  # noqa: E731
    plan = plan_of(model, call, **policy)
    outside = sum(value.untyped_storage().nbytes() for value in batch.values())
    assert saved_bytes(model, call, **policy) == pytest.approx(plan["kept_bytes"], abs=outside + 4096)


def test_a_budget_that_nothing_fits_names_the_smallest():
    model, batch = tiny_llama(1), token_batch(1, 32)
    with pytest.raises(autosp.AutoSPError, match="ASP0310.*smallest predicted peak is"):
        step(model, lambda compiled: compiled(**batch).loss, checkpoint="auto", memory_budget=1000)


@pytest.mark.parametrize(
    "options",
    [
        {"checkpoint": "auto"}, {"memory_budget": 0.5}, {"checkpoint": "sac", "memory_budget": 10},
        {"checkpoint": "sac", "inner_backend": "eager"}, {"checkpoint": "auto", "memory_budget": 1.5},
    ],
)  # fmt: skip
def test_options_that_contradict_each_other_are_refused(options):
    with pytest.raises(autosp.AutoSPError, match="ASP0306"):
        step(Dropped(), lambda compiled: compiled(torch.randn(2, 32)), **options)


def test_the_plan_is_logged(caplog):
    with caplog.at_level(logging.INFO, logger="autosp"):
        step(Dropped(), lambda compiled: compiled(torch.randn(2, 32)), checkpoint="full")
    assert any("predicted peak" in record.getMessage() for record in caplog.records)
