"""Gradients do not depend on what backward keeps: every policy against no checkpointing, bitwise, without ranks."""

import logging
import re

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


@torch.library.custom_op("autosp_test::noisy", mutates_args=())
def noisy(x: torch.Tensor) -> torch.Tensor:
    """Another result at each call, and torch does not know."""
    noisy.calls += 1
    return x * noisy.calls


noisy.calls = 0
noisy.register_fake(torch.empty_like)
noisy.register_autograd(
    lambda ctx, gradient: gradient * ctx.saved_tensors[0].sign(),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(output),
)


class Block(torch.nn.Module):
    """Norm after the sum, dropout, a buffer that the forward overwrites, an operator of somebody else's."""

    def __init__(self, width, custom):
        super().__init__()
        self.linear, self.norm = torch.nn.Linear(width, width), torch.nn.LayerNorm(width)
        self.custom = custom
        self.register_buffer("scale", torch.ones(width))

    def forward(self, x):
        y = torch.sin(self.linear(x)) * torch.exp(self.scale)
        with torch.no_grad():
            self.scale.mul_(0.5).add_(y.detach().sin().mean(0))
        y = noisy(y) if self.custom else y
        return self.norm(x + F.dropout(torch.tanh(y), 0.3))


class Blocks(torch.nn.Module):
    def __init__(self, width=32, custom=True):
        super().__init__()
        self.layers = torch.nn.ModuleList([Block(width, custom) for _ in range(3)])

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x.square().sum()


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


def test_what_happens_once_happens_once():
    """Computed again, each would give other gradients: what reads a buffer that the forward overwrites, an operator with
    a state, random numbers. The truth is eager: PyTorch's own partitioner reads the overwritten buffer in backward."""
    torch.manual_seed(0)
    model, x = Blocks(), torch.randn(8, 32)
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def fresh(**options):
        model.load_state_dict(before)
        noisy.calls = 0
        return *step(model, lambda compiled: compiled(x), **options), model.layers[1].scale.clone()

    torch.manual_seed(5)
    loss = model(x)
    loss.backward()
    truth = loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}
    scale = model.layers[1].scale.clone()
    for policy in POLICIES:
        *found, found_scale = fresh(**policy)
        assert_equal(found, truth)
        assert torch.equal(found_scale, scale) and noisy.calls == 3, policy


class Conjugated(torch.nn.Module):
    """A view that is no kernel (the conjugate) of a buffer that the forward overwrites."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(8, 8)
        self.register_buffer("phase", torch.randn(8, dtype=torch.complex64))

    def forward(self, x):
        # Small, with much made of it: what a plan would keep is the conjugate.
        waves = self.phase.conj()[:, None].expand(8, 64).exp().real
        y = torch.tanh(self.linear(x))[:, :, None] * waves
        with torch.no_grad():
            self.phase.mul_(0.5)
        return y.square().sum()


def test_what_is_read_through_a_view_of_an_overwritten_buffer_is_kept():
    torch.manual_seed(0)
    model, x = Conjugated(), torch.randn(4, 8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model(x).backward()
    truth = {name: p.grad.clone() for name, p in model.named_parameters()}
    for policy in POLICIES:
        model.load_state_dict(before)
        _, found = step(model, lambda compiled: compiled(x), **policy)
        for name, exact in truth.items():
            assert torch.equal(found[name], exact), (name, policy)


def view_operators():
    """Operators of this torch whose result shares its operand's memory, by their schema, and that joint graphs can hold."""
    elsewhere = ("sparse", "nested", "_indices", "_values", "_test_", "_dual", "_fw_primal")
    arrays = ("indices", "crow_indices", "ccol_indices", "col_indices", "row_indices", "values")  # of sparse tensors
    for schema in torch._C._jit_get_all_schemas():
        namespace, _, name = schema.name.partition("::")
        if namespace not in ("aten", "prims") or name in arrays or any(word in name for word in elsewhere):
            continue
        writes = any(argument.alias_info is not None and argument.alias_info.is_write for argument in schema.arguments)
        if writes or all(result.alias_info is None for result in schema.returns):
            continue
        full = f"{schema.name}.{schema.overload_name}".rstrip(".")
        composite = "CompositeImplicitAutograd"  # Taken apart before a joint graph is made.
        if torch._C._dispatch_has_kernel(full) and not torch._C._dispatch_has_kernel_for_dispatch_key(full, composite):
            yield f"{namespace}.{name}"


def test_the_memory_model_knows_every_view_of_this_torch():
    """A view that it takes for memory of its own is kept where its base should be, which may be overwritten by then."""
    from autosp import _core

    names = set(view_operators())
    assert {"aten.view", "aten.t", "aten._conj", "aten.split"} <= names and len(names) > 20
    unknown = sorted(name for name in names if not _core.is_view_op(name))
    assert not unknown, f"torch {torch.__version__}: {unknown} belong in kViews of src/analysis/op_cost.cpp"
    assert not _core.is_view_op("aten.clone") and not _core.is_view_op("aten.sin")


def test_a_transformer_encoder_with_dropout_is_bitwise_equal_with_every_policy():
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True)
    model, x = torch.nn.TransformerEncoder(layer, 3, enable_nested_tensor=False), torch.randn(2, 16, 32)
    call = lambda compiled: compiled(x).square().mean()  # noqa: E731
    truth = step(model, call)
    for policy in POLICIES:
        assert_equal(step(model, call, **policy), truth)


class Stages(torch.nn.Module):
    """Blocks with attention in two stages, of one and of two blocks; each stage is a member of a list itself."""

    def __init__(self, width=16):
        super().__init__()
        self.stages = torch.nn.ModuleList(
            [torch.nn.ModuleList([Attending(width) for _ in range(count)]) for count in (1, 2)]
        )

    def forward(self, x):
        for stage in self.stages:
            for block in stage:
                x = block(x)
        return x.square().sum()


class Attending(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.parts = torch.nn.ModuleList([torch.nn.Linear(width, width, bias=False) for _ in range(2)])

    def forward(self, x):
        y = self.parts[0](x)[:, None]  # One head: torch 2.11 takes attention of three dims apart.
        return x + torch.tanh(self.parts[1](F.scaled_dot_product_attention(y, y, y)[:, 0]))


def test_blocks_are_found_in_stages_and_at_the_top(caplog):
    x = torch.randn(2, 8, 16)
    assert plan_of(Stages(), lambda compiled: compiled(x), checkpoint="full")["regions"] == 3
    top = torch.nn.Sequential(*[Attending(16) for _ in range(3)])
    assert plan_of(top, lambda compiled: compiled(x).sum(), checkpoint="full")["regions"] == 3
    with caplog.at_level(logging.WARNING, logger="autosp"):
        alone = plan_of(torch.nn.Linear(16, 16), lambda compiled: compiled(x).sum(), checkpoint="full")
    assert alone["regions"] == 0 and "computes nothing again" in caplog.text


def test_the_users_hook_for_joint_graphs_is_called_first():
    from torch._functorch import config

    seen = []

    def hook(gm, _inputs):
        seen.append([node.meta.get("recompute") for node in gm.graph.nodes])
        return gm

    with config.patch(joint_custom_pass=hook):
        step(Blocks(custom=False), lambda compiled: compiled(torch.randn(4, 32)), checkpoint="full")
    assert len(seen) == 1 and not any(seen[0])


@pytest.mark.parametrize("demand", ["MUST_SAVE", "MUST_RECOMPUTE"])
def test_what_a_hook_demands_of_single_values_holds_in_every_plan(demand):
    from torch._functorch import config
    from torch.utils.checkpoint import CheckpointPolicy

    def hook(gm, _inputs):
        for node in gm.graph.nodes:
            if node.target is torch.ops.aten.sin.default:
                node.meta["recompute"] = CheckpointPolicy[demand]
        return gm

    torch.manual_seed(0)
    model, x = Regions(), torch.randn(16, 64, requires_grad=True)
    model.forward = lambda x: sum(layer(x).sin().square().sum() for layer in model.layers)
    truth = step(model, lambda compiled: compiled(x))
    value = 16 * 64 * 4
    with config.patch(joint_custom_pass=hook):
        for policy in POLICIES:
            assert_equal(step(model, lambda compiled: compiled(x), **policy), truth)
            plan = plan_of(model, lambda compiled: compiled(x), **policy)
            if demand == "MUST_SAVE":
                assert plan["kept_bytes"] >= 3 * value, policy
            else:
                assert plan["recompute_seconds"] > 0, policy


def test_a_budget_in_bytes_holds_for_longer_sequences_too():
    """One program serves many lengths; where its plan would need more than the budget, another one is made."""
    torch.manual_seed(0)
    model = tiny_llama(3)
    budget = round(1.05 * plan_of(model, lambda c: c(**tagged(48)).loss, checkpoint="auto", memory_budget=0.5)["peak_bytes"])
    plans = []
    from autosp import checkpoint

    original = checkpoint._tag
    checkpoint._tag = lambda nodes, plan: (plans.append(plan), original(nodes, plan))
    try:
        torch._dynamo.reset()
        settings = {"sequence_parallel_size": 1, "inner_backend": "aot_eager", "checkpoint": "auto", "memory_budget": budget}
        compiled = torch.compile(model, backend="autosp", options=settings)
        for length in (24, 26, 48, 49, 64):
            compiled(**tagged(length)).loss.backward()
    finally:
        checkpoint._tag = original
    assert len(plans) >= 2
    assert all(plan["peak_bytes"] <= budget for plan in plans)
    assert plans[-1]["recompute_seconds"] > plans[0]["recompute_seconds"]
    assert plans[0]["bounds"][0][1] < 64


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


def keeps_matrix_products():
    from torch.utils.checkpoint import create_selective_checkpoint_contexts

    return create_selective_checkpoint_contexts([torch.ops.aten.mm.default])


class Regions(torch.nn.Module):
    """Three blocks, each a torch.utils.checkpoint region; `save`: the contexts of the user's own policy."""

    def __init__(self, save=None, width=64):
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Linear(width, width, bias=False) for _ in range(3)])
        self.save = save

    def forward(self, x):
        from torch.utils import checkpoint

        def block(layer, x):
            return x + torch.tanh(torch.sin(layer(x)))

        named = {} if self.save is None else {"context_fn": self.save}
        for layer in self.layers:
            x = checkpoint.checkpoint(block, layer, x, use_reentrant=False, **named)
        return x.square().sum()


def test_regions_of_the_user_are_computed_again_whatever_the_budget():
    torch.manual_seed(0)
    model, x = Regions(), torch.randn(16, 64, requires_grad=True)
    call = lambda compiled: compiled(x)  # noqa: E731
    truth = step(model, call)
    value = 16 * 64 * 4
    for policy in POLICIES:
        assert_equal(step(model, call, **policy), truth)
        # Of each block at most its input, and what the loss needs: not one of the three values inside of a block.
        assert plan_of(model, call, **policy)["kept_bytes"] <= 4 * value, policy
        assert 0 < saved_bytes(model, call, **policy) <= 5 * value, policy  # With x, which is no value of the planner's.


def test_what_the_users_own_policy_saves_is_kept_by_every_plan():
    torch.manual_seed(0)
    x = torch.randn(16, 64, requires_grad=True)
    call = lambda compiled: compiled(x)  # noqa: E731
    model = Regions(keeps_matrix_products)
    truth = step(model, call)
    value = 16 * 64 * 4
    for policy in POLICIES:
        assert_equal(step(model, call, **policy), truth)
        # The three products at least, whose outputs no plan would choose beside the inputs of the blocks.
        assert plan_of(model, call, **policy)["kept_bytes"] >= 5 * value, policy
        assert saved_bytes(model, call, **policy) >= 5 * value, policy


def test_the_joint_hook_of_this_torch_is_called_once_per_compilation():
    """What the planner hangs on: which torch changed it shows here."""
    from autosp import private_torch

    joints = []

    def see(gm, _inputs):
        joints.append([private_torch.is_tangent(node) for node in gm.graph.find_nodes(op="placeholder")])
        return gm

    model = torch.nn.Linear(4, 4)
    for inner in ("aot_eager", "inductor"):
        torch._dynamo.reset()
        with private_torch.joint_pass(see):
            torch.compile(model, backend=inner)(torch.randn(2, 4)).sum().backward()
        assert len(joints) == 1, f"torch {torch.__version__} called the joint hook {len(joints)} times under {inner}"
        assert sum(joints.pop()) == 1


def test_this_torch_tells_what_runs_once_and_what_is_overwritten():
    from autosp import private_torch

    written, once = [], set()

    def see(gm, _inputs):
        written.extend(node for node in private_torch.written_inputs(gm) if node.op == "placeholder")
        once.update(str(node.target) for node in gm.graph.nodes if private_torch.runs_once(node))
        return gm

    torch._dynamo.reset()
    with private_torch.joint_pass(see):
        torch.compile(Blocks(), backend="aot_eager")(torch.randn(8, 32))
    assert [tuple(node.meta["val"].shape) for node in written] == [(32,)] * 3, (
        f"torch {torch.__version__} tells otherwise which inputs the forward overwrites: {written}"
    )
    assert {"aten.native_dropout.default", "autosp_test.noisy.default"} <= once, f"torch {torch.__version__}: {once}"


@pytest.mark.parametrize("inner", ["aot_eager", "inductor"])
def test_this_torch_follows_recompute_tags(inner):
    """Kept: the sine, which nothing would keep by itself; computed again: the exponential, which backward reads."""
    from autosp import private_torch

    def see(gm, _inputs):
        for node in gm.graph.nodes:
            if node.op == "call_function" and node.name in ("sin", "exp"):
                private_torch.set_recompute_tag(node, node.name == "exp")
        return gm

    x, saved = torch.randn(8, 32, requires_grad=True), []
    torch._dynamo.reset()
    with private_torch.joint_pass(see), torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: saved.append(tensor.detach().clone()) or tensor, lambda tensor: tensor
    ):  # fmt: skip
        torch.compile(lambda x: x.sin().exp().sum(), backend=inner)(x).backward()
    kept = [name for name, value in {"sin": x.sin(), "exp": x.sin().exp()}.items()
            if any(s.shape == value.shape and torch.allclose(s, value) for s in saved)]  # fmt: skip
    assert kept == ["sin"], f"torch {torch.__version__} under {inner} kept {kept}, the tags demand ['sin']"


def test_a_budget_that_nothing_fits_names_the_smallest():
    model, batch = tiny_llama(1), token_batch(1, 32)
    with pytest.raises(autosp.AutoSPError, match="ASP0310.*smallest peak that a plan reaches is"):
        step(model, lambda compiled: compiled(**batch).loss, checkpoint="auto", memory_budget=1000)


def tagged(length):
    batch = token_batch(1, length)
    autosp.prepare_auto_sp_inputs(batch)
    return batch


def test_a_budget_that_nothing_fits_names_the_longest_sequence_that_does():
    model, batch = tiny_llama(1), tagged(64)
    call = lambda compiled: compiled(**batch).loss  # noqa: E731
    smallest = plan_of(model, call, checkpoint="auto", memory_budget=0.0)["peak_bytes"]
    with pytest.raises(autosp.AutoSPError) as caught:
        step(model, call, checkpoint="auto", memory_budget=round(0.75 * smallest))
    longest = int(re.search(r"= 64 does not fit; (\d+) and shorter do", str(caught.value))[1])
    assert 16 < longest < 64
    shorter = tagged(longest)
    step(model, lambda compiled: compiled(**shorter).loss, checkpoint="auto", memory_budget=round(0.75 * smallest))


@pytest.mark.parametrize(
    "options",
    [
        {"checkpoint": "auto"}, {"memory_budget": 0.5}, {"checkpoint": "sac", "memory_budget": 10},
        {"checkpoint": "sac", "inner_backend": "eager"}, {"checkpoint": "auto", "memory_budget": 1.5},
        {"checkpoint": "auto", "memory_budget": "nan"}, {"checkpoint": "auto", "memory_budget": "1.5"},
        {"checkpoint": "auto", "memory_budget": "inf"}, {"checkpoint": "auto", "memory_budget": "10 parsecs"},
    ],
)  # fmt: skip
def test_options_that_contradict_each_other_are_refused(options):
    with pytest.raises(autosp.AutoSPError, match="ASP0306"):
        step(Dropped(), lambda compiled: compiled(torch.randn(2, 32)), **options)


def test_a_tiny_fraction_is_no_number_of_bytes():
    x = torch.randn(8, 32)
    tiny, zero = (
        plan_of(Dropped(), lambda compiled: compiled(x), checkpoint="auto", memory_budget=b) for b in (1e-5, 0.0)
    )
    assert tiny["peak_bytes"] == zero["peak_bytes"]


def test_the_plan_is_logged(caplog):
    with caplog.at_level(logging.INFO, logger="autosp"):
        step(Dropped(), lambda compiled: compiled(torch.randn(2, 32)), checkpoint="full")
    assert any("predicted peak" in record.getMessage() for record in caplog.records)
