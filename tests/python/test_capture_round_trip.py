"""capture -> import -> export without a pass: the same training, bit for bit, and the same nodes."""

import torch
from conftest import assert_bitwise_equal, gradients, tiny_llama, token_batch
from torch import nn

import autosp
from autosp import _core, private_torch
from autosp.capture import capture


def round_trip(step, parameters, *arguments, **keywords):
    """Plain aot_eager against aot_eager over the exported graph; gives (captured, exported)."""
    seen = []

    @private_torch.mark_backend
    def backend(gm, inputs):
        captured = capture(gm, inputs)
        exported = _core.import_fx(captured, 1).export_fx({})
        private_torch.copy_dynamo_metadata(gm, exported)
        seen.append((captured, exported))
        return torch._dynamo.lookup_backend("aot_eager")(exported, inputs)

    expected = gradients(torch.compile(step, backend="aot_eager", fullgraph=True), parameters, *arguments, **keywords)
    torch._dynamo.reset()
    compiled = torch.compile(step, backend=backend, fullgraph=True)
    assert_bitwise_equal(gradients(compiled, parameters, *arguments, **keywords), expected)
    return seen[0]


def described(gm):
    return [(node.op, str(node.target)) for node in gm.graph.nodes if node.op != "placeholder"]


def test_llama_keeps_every_node_line_and_module():
    model = tiny_llama()
    captured, exported = round_trip(model, list(model.parameters()), **token_batch(2, 32))
    assert described(exported) == described(captured)
    for old, new in zip(captured.graph.nodes, exported.graph.nodes, strict=True):
        assert new.meta.get("stack_trace") == old.meta.get("stack_trace")
        assert new.meta.get("nn_module_stack") == old.meta.get("nn_module_stack")


def test_text_form_reads_back():
    model = tiny_llama(1)
    captured, _ = round_trip(model, list(model.parameters()), **token_batch(2, 32))
    graph = _core.import_fx(captured, 2)
    assert _core.Graph.parse(graph.print()).print() == graph.print()
    assert _core.Graph.parse(graph.print()).hash() == graph.hash()
    assert "modeling_llama.py" in graph.print()


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 1.0

    @staticmethod
    def backward(ctx, gradient):
        return gradient * 2


def test_unusual_nodes_survive():
    weight = nn.Parameter(torch.randn(8, 8))

    def step(x):
        hidden = Doubled.apply(torch.tanh(x @ weight))
        with torch.no_grad():
            scale = hidden.abs().max() + 1
        with torch.autocast("cpu", dtype=torch.bfloat16):
            low = hidden @ weight
        parts = torch.cat([low.float(), hidden / scale], dim=1).split([3, 5, 8], dim=1)
        hidden = hidden.clone()
        hidden[:, 2:4] = 0.25
        hidden.index_put_((torch.tensor([0]), torch.tensor([1])), torch.tensor(-0.0))
        values, indices = parts[2].topk(2, dim=-1)
        return (hidden.sum() + (values * indices).sum() + parts[1].masked_fill(parts[1] > 0, float("inf")).min())

    round_trip(step, [weight], torch.randn(4, 8))


def test_sequence_sizes_survive_for_other_lengths():
    weight = nn.Parameter(torch.randn(4, 4))
    graphs = []

    @private_torch.mark_backend
    def backend(gm, inputs):
        exported = _core.import_fx(capture(gm, inputs), 1).export_fx({})
        graphs.append(exported)
        return torch._dynamo.lookup_backend("aot_eager")(exported, inputs)

    def step(x):
        hidden = (x[:, 1:] @ weight).flatten(0, 1)
        return hidden.sum() / hidden.size(0) + torch.arange(x.size(1)).sum()

    compiled = torch.compile(step, backend=backend, fullgraph=True)
    for length in (10, 7, 12):
        x = autosp.tag(torch.randn(2, length, 4), 1)
        assert_bitwise_equal(gradients(compiled, [weight], x), gradients(step, [weight], x))
    assert len(graphs) == 1
