"""torch.fx <-> IR: what is read is written back exactly, and what cannot be read is refused."""

from __future__ import annotations

import operator

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from autosp import AutoSPError, _core
from autosp.capture import capture
from conftest import assert_bitwise_equal, gradients, tiny_llama, token_batch


def toy_model(table, weight, ids):
    """Views with computed sizes, a split, a cat, a no-grad region, a mask from index comparisons."""
    batch, length = ids.shape
    with torch.no_grad():
        positions = torch.arange(length, device=ids.device)
        mask = positions[None, :] <= positions[:, None]
    x = torch.nn.functional.embedding(ids, table)
    q = torch.nn.functional.linear(x, weight).view(batch, length, 2, 8).transpose(1, 2)
    out = torch.nn.functional.scaled_dot_product_attention(q, q, q, attn_mask=mask)
    out = out.transpose(1, 2).reshape(batch * length, 16)
    first, second = out.split(8, dim=-1)
    out = torch.cat([second, first], dim=-1)
    return out.masked_fill(out == float("-inf"), 0.0).sum() / (batch * length + 1)


@pytest.fixture(scope="module")
def toy():
    table, weight = torch.zeros(32, 16, requires_grad=True), torch.zeros(16, 16, requires_grad=True)
    ids = torch.randint(0, 32, (2, 12))
    return make_fx(toy_model, pre_dispatch=True, tracing_mode="symbolic")(table, weight, ids)


def round_trip(module):
    return _core.import_fx(module, 2).export_fx()


class Compiling:
    """A backend that captures a graph and runs it, after `transform`, under aot_eager."""

    def __init__(self, transform=lambda module: module):
        self.transform = transform
        self.captured = self.compiled = None

    def __call__(self, gm, example_inputs):
        self.captured = capture(gm, example_inputs)
        self.compiled = self.transform(self.captured)
        return torch._dynamo.lookup_backend("aot_eager")(self.compiled, example_inputs)

    def train(self):
        torch._dynamo.reset()
        model = tiny_llama()
        with torch._dynamo.config.patch(specialize_float=True):
            step = torch.compile(model, backend=self, fullgraph=True)
            return gradients(step, list(model.parameters()), **token_batch(2, 24))


@pytest.fixture(scope="module")
def llama():
    """(loss and gradients without the bridge, with the bridge, the backend of the latter)"""
    bridged = Compiling(round_trip)
    return Compiling().train(), bridged.train(), bridged


def test_an_untouched_graph_keeps_code_and_metadata(toy):
    graph = _core.import_fx(toy, 2)
    exported = graph.export_fx()
    assert graph.form == "captured"
    assert len(graph) == len(toy.graph.nodes)
    assert exported.code == toy.code
    for old, new in zip(toy.graph.nodes, exported.graph.nodes, strict=True):
        assert (old.name, old.op, old.target) == (new.name, new.op, new.target)
        assert old.meta.keys() == new.meta.keys()
        assert old.meta.get("val") is new.meta.get("val")


def test_an_untouched_graph_computes_the_same(toy):
    exported = round_trip(toy)
    for shape in ((2, 12), (3, 7)):
        torch.manual_seed(0)
        table, weight = torch.randn(32, 16, requires_grad=True), torch.randn(16, 16, requires_grad=True)
        ids = torch.randint(0, 32, shape)
        expected, seen = toy(table, weight, ids), exported(table, weight, ids)
        assert torch.equal(expected, seen)
        gradients = [torch.autograd.grad(loss, (table, weight)) for loss in (expected, seen)]
        assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_llama_trains_bitwise_the_same(llama):
    plain, bridged, backend = llama
    assert backend.compiled.code == backend.captured.code
    assert_bitwise_equal(plain, bridged)


def test_source_lines_and_module_paths_are_read(llama):
    rows = _core.import_fx(llama[2].captured, 2).nodes_summary()
    attention = [row for row in rows if row["op"] == "aten.scaled_dot_product_attention"]
    assert [row["module"] for row in attention] == ["model.layers.0.self_attn", "model.layers.1.self_attn"]
    assert all(row["file"].endswith("sdpa_attention.py") and row["line"] > 0 for row in attention)
    linears = [row for row in rows if row["op"] == "aten.linear" and row["module"] == "model.layers.1.self_attn.q_proj"]
    assert [(row["file"].rsplit("/", 1)[1], row["function"]) for row in linears] == [
        ("modeling_llama.py", "LlamaAttention.forward")
    ]
    # Never a line inside the framework.
    assert not [row for row in rows if "/torch/nn/" in row["file"]]


def test_gradients_flow_from_the_parameters(llama):
    graph = _core.import_fx(llama[2].captured, 2)
    rows = {row["op"]: row for row in graph.nodes_summary()}
    assert rows["aten.cross_entropy_loss"]["requires_grad"]
    assert not rows["aten.cos"]["requires_grad"]
    assert any(row["requires_grad"] for row in graph.nodes_summary() if row["kind"] == "input")


def test_symbols_have_names_and_hints(toy):
    graph = _core.import_fx(toy, 2)
    ids = graph.inputs()[-1]["type"]
    symbols = ids.removeprefix("i64[").removesuffix("]").split(", ")
    assert [graph.hints()[symbol] for symbol in symbols] == [2, 12]


def test_tags_of_the_batch_reach_the_inputs(llama):
    inputs = _core.import_fx(llama[2].captured, 2).inputs()
    tagged = [row["type"] for row in inputs if row["seq_dim"] == 1]
    assert len(tagged) == 4
    assert all(type.startswith("i64[2, s") for type in tagged)


@pytest.mark.parametrize("source", ["toy", "llama"])
def test_the_text_form_is_stable(source, request):
    value = request.getfixturevalue(source)
    module = value if source == "toy" else value[2].captured
    graph = _core.import_fx(module, 2)
    text = graph.print()
    parsed = _core.Graph.parse(text)
    assert parsed.print() == text
    assert parsed.hash() == graph.hash()
    assert _core.import_fx(module, 2).hash() == graph.hash()
    graph.verify()


def test_a_parsed_graph_exports_to_the_same_program(llama):
    captured = llama[2].captured
    exported = _core.Graph.parse(_core.import_fx(captured, 2).print()).export_fx()
    assert exported.code == captured.code


# --- sizes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size",
    [
        lambda b, s: b * s + 3,
        lambda b, s: s * s * 2 - b,
        lambda b, s: (s + 1) // 2,
        lambda b, s: (b * s) // 4,
        lambda b, s: -(-s // 4),
        lambda b, s: s % 5,
        lambda b, s: torch.sym_max(s, b * 7),
        lambda b, s: torch.sym_min(s, b) + 1,
        lambda b, s: (s // 4) * (b // 1),
        lambda b, s: s >> 1,
    ],
)
def test_a_computed_size_has_the_right_value(size):
    def make(x):
        return torch.zeros([size(*x.shape)])

    module = make_fx(make, tracing_mode="symbolic")(torch.zeros(6, 21))
    graph = _core.import_fx(module, 2)
    zeros = graph.nodes_summary()[-2]
    assert zeros["op"] == "aten.zeros"
    functions = {
        "floordiv": operator.floordiv,
        "ceildiv": lambda a, b: -(-a // b),
        "mod": operator.mod,
        "max": max,
        "min": min,
    }
    value = eval(zeros["type"].removeprefix("f32"), {**functions, **graph.hints()})
    assert value == [size(6, 21)]
    assert _core.Graph.parse(graph.print()).print() == graph.print()


def test_a_size_that_depends_on_data_is_a_symbol_without_hint():
    def pick(x):
        return x[x.nonzero()[:, 0]].sum()

    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        module = make_fx(pick, tracing_mode="symbolic")(torch.ones(5))
    graph = _core.import_fx(module, 2)
    assert graph.export_fx().code == module.code
    assert "u0" in graph.print()
    assert "u0" not in graph.hints()


def test_functions_of_integers_and_of_tensors_have_different_names():
    module = torch.fx.symbolic_trace(lambda x, y: (x + y)[1:])
    ops = [row["op"] for row in _core.import_fx(module, 2).nodes_summary() if row["kind"] == "call"]
    assert ops == ["py._operator.add", "py._operator.getitem"]
    made = make_fx(lambda x: x.reshape(x.shape[0] * x.shape[1] // 2, 2), tracing_mode="symbolic")(torch.zeros(4, 6))
    ops = [row["op"] for row in _core.import_fx(made, 2).nodes_summary()]
    assert "sym.mul" in ops and "sym.floordiv" in ops


def test_several_results_are_tuples_taken_apart_by_getitem():
    made = make_fx(lambda x: torch.ops.aten.topk.default(x, 2)[1])(torch.rand(3, 5))
    rows = _core.import_fx(made, 2).nodes_summary()
    assert [(row["op"], row["type"]) for row in rows[1:3]] == [
        ("aten.topk", "(f32[3, 2], i64[3, 2])"),
        ("builtin.getitem", "f32[3, 2]"),
    ]


# --- arguments -----------------------------------------------------------------------------------------------------


def graph_module(*nodes, root=None):
    """A graph x -> f(x, ...) -> ...: every item is (target, args after the running value, kwargs)."""
    graph = torch.fx.Graph()
    value = graph.placeholder("x")
    value.meta["val"] = torch.zeros(4, 6)
    for target, args, kwargs in nodes:
        value = graph.call_function(target, (value, *args), kwargs)
        value.meta["val"] = torch.zeros(4, 6)
    graph.output((value,))
    return torch.fx.GraphModule(root or torch.nn.Module(), graph)


def first(value, *args, **kwargs):
    return value


def test_every_argument_kind_comes_back():
    marker = torch.ops.aten.add.Tensor  # Any object that the IR has no word for.
    args = (
        None,
        True,
        3,
        -2.5,
        float("inf"),
        "word",
        2**70,
        1 + 2j,
        (1, [2, (3,)]),
        slice(0, None, 2),
        ...,
        marker,
        {"key": [1, 2]},
    )
    kwargs = {
        "dtype": torch.bfloat16,
        "odd_dtype": torch.quint8,
        "device": torch.device("cpu"),
        "other": torch.device("cuda:1"),
        "layout": torch.strided,
        "memory_format": torch.channels_last,
        "contiguous": torch.contiguous_format,
    }
    module = graph_module((first, args, kwargs))
    graph = _core.import_fx(module, 2)
    node = list(graph.export_fx().graph.nodes)[1]
    assert node.args[1:] == args
    assert [type(a) for a in node.args[1:] if not isinstance(a, (list, dict))] == [
        type(a) for a in args if not isinstance(a, (list, dict))
    ]
    assert node.args[12] is marker
    assert dict(node.kwargs) == kwargs
    text = graph.print()
    assert _core.Graph.parse(text).print() == text


def test_nan_and_negative_zero_come_back():
    node = list(round_trip(graph_module((first, (float("nan"), -0.0), {}))).graph.nodes)[1]
    assert node.args[1] != node.args[1]
    assert str(node.args[2]) == "-0.0"


def test_a_higher_order_operator_keeps_its_bodies():
    def body(scale):
        return torch.fx.symbolic_trace(lambda x: (x * scale,))

    root = torch.nn.Module()
    root.true_body, root.false_body = body(2.0), body(3.0)
    graph = torch.fx.Graph()
    predicate, x = graph.placeholder("p"), graph.placeholder("x")
    bodies = graph.get_attr("true_body"), graph.get_attr("false_body")
    graph.output(graph.call_function(torch.ops.higher_order.cond, (predicate, *bodies, (x,))))
    module = torch.fx.GraphModule(root, graph)
    imported = _core.import_fx(module, 2)
    assert "torch.higher_order.cond" in imported.print()
    exported = imported.export_fx()
    assert exported.code == module.code
    assert exported.true_body is root.true_body
    assert torch.equal(exported(torch.tensor(False), torch.ones(2))[0], torch.full((2,), 3.0))


@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: (v,), lambda v: [v, v], lambda v: (v, None, (v, 3))])
def test_outputs_keep_their_shape(wrap):
    graph = torch.fx.Graph()
    x = graph.placeholder("x")
    graph.output(wrap(graph.call_function(torch.ops.aten.neg.default, (x,))))
    module = torch.fx.GraphModule(torch.nn.Module(), graph)
    assert round_trip(module).code == module.code


# --- refusals ------------------------------------------------------------------------------------------------------


def test_methods_and_modules_are_refused_all_at_once():
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(2, 2)

        def forward(self, x):
            return self.linear(x).relu().view(-1)

    with pytest.raises(AutoSPError) as error:
        _core.import_fx(torch.fx.symbolic_trace(Model()), 2)
    assert error.value.code == "ASP0102"
    assert [row["subject"] for row in error.value.diagnostics] == ["%linear", "%relu", "%view"]
    assert "pre-dispatch ATen" in str(error.value)


def test_a_dict_that_holds_values_is_refused():
    graph = torch.fx.Graph()
    x = graph.placeholder("x")
    graph.output(graph.call_function(first, (x, {"inner": [x]})))
    with pytest.raises(AutoSPError) as error:
        _core.import_fx(torch.fx.GraphModule(torch.nn.Module(), graph), 2)
    assert error.value.code == "ASP0102"
    assert "dict" in error.value.diagnostics[0]["message"]


@pytest.mark.parametrize("tag, seen", [(1, 1), (-1, 1), (None, -1)])
def test_tags_are_read(tag, seen):
    module = graph_module()
    next(iter(module.graph.nodes)).meta["autosp_seq_dim"] = tag
    assert _core.import_fx(module, 2).inputs()[0]["seq_dim"] == seen


@pytest.mark.parametrize("tag", [2, -3])
def test_a_tag_outside_the_tensor_is_refused(tag):
    module = graph_module()
    next(iter(module.graph.nodes)).meta["autosp_seq_dim"] = tag
    with pytest.raises(AutoSPError) as error:
        _core.import_fx(module, 2)
    assert error.value.code == "ASP0108"
    assert "f32[4, 6]" in str(error.value)


# --- export of what a pass wrote -----------------------------------------------------------------------------------

COLLECTIVE = """
mesh @m = {"sp"=2}
graph @main(%s: int(s0), %x: f32[2, s0]) form=lowered {
  %n = sym.add(%s, 1) : int(s0 + 1)
  %half = sym.floordiv(%n, 2) : int(floordiv(s0 + 1, 2))
  %most = sym.max(%half, 4) : int(max(floordiv(s0 + 1, 2), 4))
  %f = aten.to.dtype(%x, dtype.f64) : f64[2, s0]
  %e = _c10d_functional.all_to_all_single(%f, [1, 1], [1, 1], group.sp) : f64[2, s0]
  %w = _c10d_functional.wait_tensor(%e) : f64[2, s0]
  return %w, %most
}
"""


def test_new_nodes_call_the_named_operators():
    module = _core.Graph.parse(COLLECTIVE).export_fx({"sp": "group_7"})
    targets = [node.target for node in module.graph.nodes if node.op == "call_function"]
    assert targets == [
        operator.add,
        operator.floordiv,
        torch.sym_max,
        torch.ops.aten.to.dtype,
        torch.ops._c10d_functional.all_to_all_single.default,
        torch.ops._c10d_functional.wait_tensor.default,
    ]
    exchange = next(node for node in module.graph.nodes if node.name == "e")
    assert exchange.args[1:] == ([1, 1], [1, 1], "group_7")


def test_a_group_without_a_name_is_refused():
    with pytest.raises(AutoSPError) as error:
        _core.Graph.parse(COLLECTIVE).export_fx({})
    assert error.value.code == "ASP0307"
    assert '"sp"' in str(error.value)


def test_operators_that_the_framework_lacks_are_all_named():
    text = COLLECTIVE.replace("aten.to.dtype", "aten.two.dtype").replace("wait_tensor", "weight_tensor")
    with pytest.raises(AutoSPError) as error:
        _core.Graph.parse(text).export_fx({"sp": "0"})
    assert [row["code"] for row in error.value.diagnostics] == ["ASP0501", "ASP0501"]
    assert "aten.two.dtype" in str(error.value) and "weight_tensor" in str(error.value)


def test_new_nodes_take_the_source_line_of_their_neighbours(llama):
    captured = llama[2].captured
    graph = _core.import_fx(captured, 2)
    result = _core.run_passes(graph, "autosp", {})
    assert result["partitioned"]
    exported = graph.export_fx({"sp": "0"})
    old = {node.name for node in captured.graph.nodes}
    new = [node for node in exported.graph.nodes if node.name not in old]
    assert new
    assert not [node.name for node in new if "stack_trace" not in node.meta]
    # Recorded values describe the whole program: they must not survive on the partitioned one.
    assert not [node.name for node in exported.graph.nodes if node.op == "call_function" and "val" in node.meta]


def test_the_observer_sees_every_pass_and_its_text(toy):
    seen, getters = [], []

    def observer(name, changed, text):
        seen.append((name, changed, text().startswith("mesh")))
        getters.append(text)

    graph = _core.import_fx(toy, 1)
    result = _core.run_passes(graph, "eliminate-dead-nodes", {"observer": observer})
    assert [row[0] for row in seen] == [row["pass"] for row in result["timings"]]
    assert all(starts for _, _, starts in seen)
    with pytest.raises(RuntimeError, match="while its observer runs"):
        getters[0]()


def test_an_exception_of_the_observer_reaches_the_caller(toy):
    def observer(name, changed, text):
        raise KeyError(name)

    with pytest.raises(KeyError, match="eliminate-dead-nodes"):
        _core.run_passes(_core.import_fx(toy, 1), "eliminate-dead-nodes", {"observer": observer})


def test_bad_options_are_refused_all_at_once(toy):
    with pytest.raises(AutoSPError) as error:
        _core.run_passes(_core.import_fx(toy, 1), "autosp", {"on_gather": "maybe", "verifyy": True, "disabled": 3})
    assert {row["code"] for row in error.value.diagnostics} == {"ASP0306"}
    assert all(word in str(error.value) for word in ("maybe", "verifyy", "disabled"))


# --- tables --------------------------------------------------------------------------------------------------------


def test_facts_that_an_int_input_decides_are_told_apart():
    graph = _core.Graph.parse(
        "divisible {s0 % 2, s0*s1 % 4}\n"
        "graph @main(%a: f32[s1], %s: int(s0)) {\n  return %a\n}\n"
    )
    assert sorted(graph.divisible()) == [("s0", 2), ("s0*s1", 4)]
    assert graph.divisible_checks() == [(1, 2)]
    assert graph.divisible_unchecked() == [("s0*s1", 4)]


def test_diagnostics_are_made_from_the_table():
    codes = {row["code"]: row for row in _core.diagnostic_codes()}
    assert codes["ASP0101"]["name"] == "kNoTaggedInput"
    text, row = _core.make_diagnostic(101, "no tag", notes=["a note"], file="model.py", line=4, function="f")
    assert text.startswith("error[ASP0101]: no tag")
    assert (row["code"], row["file"], row["line"], row["notes"]) == ("ASP0101", "model.py", 4, ["a note"])
    assert row["hint"] == codes["ASP0101"]["remedy"]
    with pytest.raises(ValueError, match="999"):
        _core.make_diagnostic(999, "no such code")


def test_passes_rules_and_options_are_listed():
    assert "propagate-shardings" in [row["name"] for row in _core.list_passes()]
    assert "aten.linear" in [row["op"] for row in _core.list_rules()]
    assert "sequence_parallel_size" in [row["name"] for row in _core.list_options()]
    assert _core.version().count(".") == 2
