"""Capture: a captured graph trains exactly as the program it was captured from, whatever the program does."""

import re

import pytest
import torch
from conftest import Capturing, assert_bitwise_equal, gradients, tiny_llama, token_batch
from torch import nn

import autosp


def check(step, parameters, *arguments, capturing=None, **keywords):
    """Captured and compiled with aot_eager against plain aot_eager; gives the capturing backend."""
    capturing = capturing or Capturing()
    expected = gradients(torch.compile(step, backend="aot_eager", fullgraph=True), parameters, *arguments, **keywords)
    torch._dynamo.reset()
    compiled = torch.compile(step, backend=capturing.backend, fullgraph=True)
    assert_bitwise_equal(gradients(compiled, parameters, *arguments, **keywords), expected)
    return capturing


def test_llama_trains_bitwise_equal_to_eager_at_two_lengths():
    model, capturing = tiny_llama(), Capturing()
    compiled = torch.compile(model, backend=capturing.backend, fullgraph=True)
    for length in (48, 33):
        batch = token_batch(2, length)
        expected = gradients(model, list(model.parameters()), **batch)
        assert_bitwise_equal(gradients(compiled, list(model.parameters()), **batch), expected)
    assert len(capturing.graphs) == 1
    assert capturing.targets().count("aten.scaled_dot_product_attention.default") == 2
    assert capturing.targets().count("aten.cross_entropy_loss.default") == 1


def check_eager(model, **batch):
    """The captured graph run node by node against the model itself: no inner compiler, so it is quick."""
    capturing = Capturing(inner="eager")
    expected = gradients(model, list(model.parameters()), **batch)
    compiled = torch.compile(model, backend=capturing.backend, fullgraph=True)
    assert_bitwise_equal(gradients(compiled, list(model.parameters()), **batch), expected)
    return capturing


@pytest.fixture(scope="module")
def llama_capture():
    return check_eager(tiny_llama(), **token_batch(2, 32))


def test_nodes_name_the_users_line_and_module(llama_capture):
    attention = [n for n in llama_capture.graphs[0].graph.nodes if "scaled_dot_product" in str(n.target)]
    assert all("modeling_llama.py" in node.meta["stack_trace"] for node in attention)
    innermost = [list(node.meta["nn_module_stack"].values())[-1][0] for node in attention]
    assert [re.search(r"layers\W+(\d)\W+self_attn", name).group(1) for name in innermost] == ["0", "1"]


def test_placeholders_keep_names_tags_and_gradients(llama_capture):
    new = llama_capture.graphs[0].graph.find_nodes(op="placeholder")
    old = llama_capture.dynamo_graphs[0].graph.find_nodes(op="placeholder")
    assert [node.name for node in new] == [node.name for node in old]
    tagged = {node.name: node.meta["autosp_seq_dim"] for node in new if "autosp_seq_dim" in node.meta}
    assert tagged == {f"l_kwargs_{n}_": 1 for n in ("input_ids", "labels", "position_ids", "attention_mask")}
    for node in new:
        if isinstance(node.meta["val"], torch.Tensor):
            assert node.meta["autosp_requires_grad"] == ("_parameters_" in node.name)


class TripledGradient(torch.autograd.Function):
    """Its backward is not the derivative of its forward, so that a lost backward shows."""

    @staticmethod
    def forward(ctx, x, scale):
        ctx.scale = scale
        return x * scale

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.scale * 3, None


def test_autograd_function_keeps_its_backward():
    layer = nn.Linear(8, 8)

    def step(x):
        hidden = TripledGradient.apply(layer(x), 2.0)
        return TripledGradient.apply(hidden, 0.5).square().sum()

    x = torch.randn(4, 8)
    capturing = check(step, list(layer.parameters()), x)
    assert capturing.targets().count("autograd_function_apply") == 2
    plain = gradients(lambda x: (layer(x)).square().sum(), list(layer.parameters()), x)
    kept = gradients(torch.compile(step, backend=Capturing().backend), list(layer.parameters()), x)
    torch.testing.assert_close(kept[1][0], plain[1][0] * 9)


def test_checkpoint_bodies_are_inlined_with_recompute_tags():
    model = tiny_llama(attention_dropout=0.0)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    batch = token_batch(2, 24)
    expected = gradients(model, list(model.parameters()), **batch)
    capturing = Capturing()
    compiled = torch.compile(model, backend=capturing.backend, fullgraph=True)
    assert_bitwise_equal(gradients(compiled, list(model.parameters()), **batch), expected)
    nodes = [node for node in capturing.graphs[0].graph.nodes if "recompute" in node.meta]
    assert not any("checkpoint" in target for target in capturing.targets())
    assert len({node.meta["ac_graph_id"] for node in nodes}) == 2
    assert any("scaled_dot_product" in str(node.target) for node in nodes)


def test_checkpoint_tags_make_the_partitioner_recompute():
    from torch._dynamo.backends.common import aot_autograd
    from torch._functorch.partitioners import min_cut_rematerialization_partition
    from torch.utils.checkpoint import checkpoint

    weight = nn.Parameter(torch.randn(16, 16))

    def step(x):
        return checkpoint(lambda h: torch.tanh(h @ weight) @ weight, x, use_reentrant=False).sum()

    backward = []

    def keep(gm, inputs):
        backward.append([str(node.target) for node in gm.graph.nodes])
        return gm.forward

    inner = aot_autograd(
        fw_compiler=lambda gm, inputs: gm.forward, bw_compiler=keep, partition_fn=min_cut_rematerialization_partition
    )
    capturing = Capturing(inner=inner)
    compiled = torch.compile(step, backend=capturing.backend, fullgraph=True)
    x = torch.randn(8, 16)
    assert_bitwise_equal(gradients(compiled, [weight], x), gradients(step, [weight], x))
    assert any("tanh" in target for target in backward[0])


def test_batch_as_large_as_the_sequence_gets_its_own_symbol():
    batch = token_batch(24, 24)
    for tensor in batch.values():
        torch._dynamo.mark_dynamic(tensor, 0)
    capturing = check_eager(tiny_llama(1), **batch)
    [ids] = [n for n in capturing.graphs[0].graph.nodes if n.name == "l_kwargs_input_ids_"]
    rows, columns = ids.meta["val"].shape
    assert str(rows) != str(columns)


def test_labels_and_inputs_may_be_one_tensor():
    ids = token_batch(2, 32)["input_ids"]
    model = tiny_llama(1)
    capturing = check(model, list(model.parameters()), input_ids=ids, labels=ids)
    names = [node.name for node in capturing.graphs[0].graph.find_nodes(op="placeholder")]
    assert sum(not name.startswith(("l_self_", "s")) for name in names) == 1


@pytest.mark.parametrize("marked", [True, False])
def test_float_hyperparameters_compile_once_and_are_right_in_any_case(marked):
    """With dynamic=True Dynamo makes floats inputs, and one symbol of two equal sizes, unless told otherwise."""
    model, capturing = tiny_llama(1), Capturing(marked=marked)
    batch = token_batch(24, 24)
    compiled = torch.compile(model, backend=capturing.backend, fullgraph=True, dynamic=True)
    result = gradients(compiled, list(model.parameters()), **batch)
    assert_bitwise_equal(result, gradients(model, list(model.parameters()), **batch))
    if marked:
        assert len(capturing.graphs) == 1
        assert not any("item" in target for target in capturing.targets())


def test_gradient_switches_stay_where_they_are():
    weight = nn.Parameter(torch.randn(8, 8))

    def step(x):
        hidden = x @ weight
        with torch.no_grad():
            frozen = hidden @ weight
        return (hidden * frozen + hidden.detach() * hidden).sum()

    capturing = check(step, [weight], torch.randn(4, 8))
    switches = [n for n in capturing.graphs[0].graph.nodes if n.target is torch._C._set_grad_enabled]
    assert [node.args[0] for node in switches] == [False, True]
    assert torch.is_grad_enabled()


def test_autocast_regions_keep_their_dtypes():
    layer = nn.Linear(8, 8)

    def step(x):
        before = layer(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = layer(before)
        return (layer(inside.float()) + before).sum()

    capturing = check(step, list(layer.parameters()), torch.randn(4, 8))
    linears = [n for n in capturing.graphs[0].graph.nodes if n.target is torch.ops.aten.linear.default]
    assert [node.meta["val"].dtype for node in linears] == [torch.float32, torch.bfloat16, torch.float32]
    assert not torch.is_autocast_enabled("cpu")


def test_writes_to_intermediates_are_kept_in_order():
    weight = nn.Parameter(torch.randn(8, 8))

    def step(x):
        total = torch.zeros_like(x)
        for index in range(3):  # Equal layers: their lowered nodes are shared, writes must not be.
            hidden = torch.tanh(x @ weight) + 1
            before = hidden.sum()
            hidden.add_(x)
            hidden[:, index] = 0.5
            view = hidden.view(-1)
            view.mul_(2)
            hidden.unsqueeze_(0)
            total += hidden[0].clone() * before
            total.index_put_((torch.tensor([0, 1]), torch.tensor([1, 2])), torch.tensor(1.5))
            x = total.masked_fill(total > 3, 0.0)
        return x.square().mean()

    check(step, [weight], torch.randn(4, 8))


def test_equal_values_are_not_mistaken_for_one_another():
    first, second = nn.Parameter(torch.randn(8, 8)), nn.Parameter(torch.randn(8, 8))

    def step(x):
        a, b = torch.tanh(x @ first), torch.tanh(x @ second)  # One recipe, two values of one shape.
        return ((a - a) + (a - b) * 2 + (b - a).exp() * a + torch.stack([a, a, b]).sum(0)).sum()

    check(step, [first, second], torch.randn(4, 8))


def test_operations_with_several_results():
    weight = nn.Parameter(torch.randn(8, 12))

    def step(x):
        a, b, c = (x @ weight).split([3, 4, 5], dim=1)
        values, indices = b.topk(2, dim=1)
        largest = c.max(dim=1)
        return a.sum() + (values * indices).sum() + largest.values.sum() + a.size(0) * torch.var_mean(a)[0]

    check(step, [weight], torch.randn(4, 8))


def test_constants_travel_with_the_graph():
    weight = nn.Parameter(torch.randn(3))
    table = torch.tensor([1.0, 2.0, 3.0])

    def step(x):
        return (weight * table * torch.tensor([0.5, 0.25, 0.125]) + x.new_tensor(-0.0) / 1.5).sum()

    check(step, [weight], torch.randn(3))


def test_sizes_lead_back_to_the_placeholders():
    weight = nn.Parameter(torch.randn(4, 4))

    def step(x):
        hidden = x[:, 1:] @ weight
        rows, length, width = hidden.shape
        return hidden.reshape(rows * length, width).sum() / length + torch.arange(hidden.size(1)).sum()

    x = autosp.tag(torch.randn(2, 10, 4), 1)
    capturing = check(step, [weight], x)
    compiled = torch.compile(step, backend=capturing.backend, fullgraph=True)
    for length in (7, 12):
        x = autosp.tag(torch.randn(2, length, 4), 1)
        assert_bitwise_equal(gradients(compiled, [weight], x), gradients(step, [weight], x))
    assert len(capturing.graphs) == 1


def test_sizes_that_depend_on_data():
    weight = nn.Parameter(torch.randn(6))

    def step(x):
        first = (weight * x)[x > 0]
        second = (weight * x)[x < 0.5]
        return first.sum() * 2 + second.sum()

    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        check(step, [weight], torch.tensor([1.0, -1.0, 0.2, -0.3, 4.0, 0.1]))


def test_random_operations_draw_as_before():
    weight = nn.Parameter(torch.randn(8, 8))

    def step(x):
        for _ in range(2):
            x = torch.dropout(x @ weight, 0.5, True)
        return x.sum()

    check(step, [weight], torch.randn(4, 8))


@pytest.mark.parametrize("name", ["gpt_neox", "mistral", "qwen3", "opt"])
def test_other_architectures(name):
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, vocab_size=128, use_cache=False)
    if name in ("mistral", "qwen3"):
        settings |= dict(num_key_value_heads=2, intermediate_size=48, head_dim=8)
    if name == "mistral":
        settings |= dict(sliding_window=9)
    if name == "opt":
        settings |= dict(ffn_dim=48, word_embed_proj_dim=32, dropout=0.0)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **settings))
    batch = token_batch(2, 24)
    if name == "opt":
        del batch["position_ids"]
    check_eager(model, **batch)


def test_function_transforms_are_refused_with_a_code():
    weight = nn.Parameter(torch.randn(3))

    def step(x):
        return torch.func.vmap(lambda row: (row * weight).sum())(x).sum()

    with pytest.raises(autosp.AutoSPError) as caught:
        gradients(torch.compile(step, backend=Capturing().backend, fullgraph=True), [weight], torch.randn(4, 3))
    assert caught.value.code == "ASP0103"
    assert caught.value.diagnostics[0]["file"] == __file__
    assert caught.value.diagnostics[0]["line"] == step.__code__.co_firstlineno + 1


def test_a_failing_capture_says_why(monkeypatch):
    from autosp import node_tracing

    def broken(*arguments):
        raise ValueError("no kernel today")

    monkeypatch.setattr(node_tracing, "_trace", broken)
    weight = nn.Parameter(torch.randn(3))
    with pytest.raises(autosp.AutoSPError) as caught:
        gradients(torch.compile(lambda: weight.sum(), backend=Capturing().backend), [weight])
    assert caught.value.code == "ASP0103"
    assert "ValueError: no kernel today" in caught.value.diagnostics[0]["notes"]
    assert caught.value.diagnostics[0]["file"] == __file__
