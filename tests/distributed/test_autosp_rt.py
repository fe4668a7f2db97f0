"""torch.ops.autosp_rt.*: values and adjoints against programs that know no ranks, tracing, and failures.

The truth of a case is computed on every rank from all ranks' operands by plain indexing: rank r holds x_r and a weight
c_r, the objective is sum_r <c_r, op_r(x_0, ..., x_{P-1})>, differentiated by autograd.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import time

import pytest
import torch
import torch.distributed as dist
from autosp import rt
from launch import launch

EXACT = dict(rtol=1e-13, atol=1e-13)


# --- the truth ------------------------------------------------------------------------------------------------------
def on_factor(x, layout, size, change):
    """Applies `change` (tensor, axis) to the cut factor, which has `size` elements in x."""
    dim, major, _, minor = layout
    shape = x.shape[:dim] + (major, size, minor) + x.shape[dim + 1 :]
    return change(x.reshape(shape), dim + 1).flatten(dim, dim + 2)


def block(layout, ranks):
    return -(-layout[2] // ranks)


def sliced(whole, layout, rank, ranks):
    size = block(layout, ranks)
    index = torch.arange(rank * size, (rank + 1) * size).clamp(max=layout[2] - 1)  # the tail repeats the last element
    return on_factor(whole, layout, layout[2], lambda x, axis: x.index_select(axis, index))


def gathered(xs, layout, ranks):
    dim, major, length, minor = layout
    size = block(layout, ranks)
    parts = [x.reshape(x.shape[:dim] + (major, size, minor) + x.shape[dim + 1 :]) for x in xs]
    return torch.cat(parts, dim + 1).narrow(dim + 1, 0, length).flatten(dim, dim + 2)


def masked(x, layout, value, rank, ranks):
    size = block(layout, ranks)
    padding = torch.arange(rank * size, (rank + 1) * size) >= layout[2]

    def fill(view, axis):
        return view.masked_fill(padding.reshape([-1] + [1] * (view.dim() - axis - 1)), value)

    return on_factor(x, layout, size, fill)


def local_shape(shape, layout, ranks):
    shape = list(shape)
    shape[layout[0]] = layout[1] * block(layout, ranks) * layout[3]
    return shape


# name: (op of one rank, the truth from all operands, whether the operand is whole). d, to: dim, major, length, minor.
def cases(ops, group, rank, ranks, d, to):
    return {
        "shard_slice": (lambda x: ops.shard_slice(x, *d, group), lambda xs, r: sliced(xs[r], d, r, ranks), True),
        "all_gather": (lambda x: ops.all_gather(x, *d, group), lambda xs, r: gathered(xs, d, ranks), False),
        "all_to_all": (
            lambda x: ops.all_to_all(x, *d, *to, group),
            lambda xs, r: sliced(gathered(xs, d, ranks), to, r, ranks),
            False,
        ),
        "all_reduce": (lambda x: ops.all_reduce(x, "sum", group), lambda xs, r: sum(xs), True),
        "reduce_scatter": (
            lambda x: ops.reduce_scatter(x, "sum", *d, group),
            lambda xs, r: sliced(sum(xs), d, r, ranks),
            True,
        ),
        "mask_padding": (
            lambda x: ops.mask_padding(x, *d, -2.5, group),
            lambda xs, r: masked(xs[r], d, -2.5, r, ranks),
            False,
        ),
    }


# The whole shape, the cut dim, the dim that is cut by all_to_all.
LAYOUTS = [
    ([2, 8, 4, 3], (1, 1, 8, 1), (2, 1, 4, 1)),  # sequence -> heads, divisible by 2 and 4
    ([2, 7, 5, 3], (1, 1, 7, 1), (2, 1, 5, 1)),  # neither
    ([2, 4, 5], (2, 1, 5, 1), (1, 2, 2, 1)),  # backwards in dims; at 4 ranks the last one has padding only
    ([12, 6], (0, 2, 6, 1), (1, 1, 2, 3)),  # factors inside merged dims
    ([30], (0, 2, 5, 3), (0, 10, 3, 1)),  # both factors in one dim, the target inside
    ([30], (0, 10, 3, 1), (0, 2, 5, 3)),  # and outside
    ([12], (0, 1, 4, 3), (0, 2, 3, 2)),  # overlapping factors of one dim
    ([3, 1], (1, 1, 1, 1), (0, 1, 3, 1)),  # one element for all ranks
]


def setup():
    """The ops, the group's name, this rank, the number of ranks. Checks that share a launch share the group."""
    torch.set_num_threads(1)
    if not dist.is_initialized():
        dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=60))
    return rt.load(), dist.group.WORLD.group_name, dist.get_rank(), dist.get_world_size()


def compiled(function, backend, dynamic=None):
    if backend == "eager":
        return function
    torch._dynamo.reset()
    return torch.compile(function, backend=backend, fullgraph=True, dynamic=dynamic)


def check_values_and_adjoints(backend, layouts):
    ops, group, rank, ranks = setup()
    generator = torch.Generator().manual_seed(1)
    for number in layouts:
        shape, d, to = LAYOUTS[number]
        for name, (op, truth, whole) in cases(ops, group, rank, ranks, d, to).items():
            operand_shape = shape if whole else local_shape(shape, d, ranks)
            xs = [torch.randn(operand_shape, generator=generator, dtype=torch.float64) for _ in range(ranks)]
            xs = [x.requires_grad_() for x in xs]
            expected = [truth([(x * 2).sin() for x in xs], r) for r in range(ranks)]
            weights = [torch.randn(e.shape, generator=generator, dtype=torch.float64) for e in expected]
            objective = sum((e.cos() * w).sum() for e, w in zip(expected, weights))
            gradient = torch.autograd.grad(objective, xs)[rank]

            def step(x, weight):
                result = op((x * 2).sin())
                return result, (result.cos() * weight).sum()

            x = xs[rank].detach().requires_grad_()
            result, loss = compiled(step, backend)(x, weights[rank])
            loss.backward()
            where = f"{name}, layout {number}, rank {rank} of {ranks}"
            torch.testing.assert_close(result, expected[rank], **EXACT, msg=lambda text: f"{where}: {text}")
            torch.testing.assert_close(x.grad, gradient, **EXACT, msg=lambda text: f"{where}, gradient: {text}")


@pytest.fixture(autouse=True, scope="module")
def built():
    if not rt.library_path().exists():
        pytest.skip("the libtorch side is not built: no " + rt.library_path().name + " for this torch")


@pytest.mark.parametrize("ranks", [2, 4])
def test_values_and_adjoints(ranks):
    launch(__file__, "check_values_and_adjoints", ranks,
           dict(backend="eager", layouts=list(range(len(LAYOUTS)))))


# --- other dtypes, second derivatives, other reductions ---------------------------------------------------------------
def check_dtypes_and_reductions():
    ops, group, rank, ranks = setup()
    layout = (1, 1, 5, 1)
    whole = torch.arange(10).reshape(2, 5) % 7
    for dtype in (torch.bool, torch.uint8, torch.int16, torch.int64, torch.bfloat16, torch.float16, torch.complex64,
                  torch.float8_e4m3fn):
        x = whole.to(dtype)
        local = ops.shard_slice(x.float(), *layout, group).to(dtype)
        assert torch.equal(ops.all_gather(local, *layout, group).float(), x.float()), dtype
    both = torch.complex(whole.double(), whole.double() + 1)
    assert torch.equal(ops.all_gather(ops.shard_slice(both.conj(), *layout, group), *layout, group), both.conj())
    assert torch.equal(ops.all_reduce(both, "sum", group), both * ranks)
    mine = whole.double() * (1 - 2 * rank)
    truths = {"sum": sum, "max": lambda v: torch.stack(v).amax(0), "min": lambda v: torch.stack(v).amin(0)}
    for reduce, truth in truths.items():
        expected = truth([whole.double() * (1 - 2 * r) for r in range(ranks)])
        assert torch.equal(ops.all_reduce(mine, reduce, group), expected)
        assert torch.equal(ops.reduce_scatter(mine, reduce, *layout, group), sliced(expected, layout, rank, ranks))
    errors = []
    for call in (lambda: ops.all_reduce(mine, "mean", group),
                 lambda: ops.all_reduce(mine.requires_grad_(), "max", group).sum().backward(),
                 lambda: ops.all_gather(whole, *layout, group),
                 lambda: ops.all_gather(whole.to("meta"), *layout, group),
                 lambda: ops.all_gather(whole, 2, 1, 5, 1, group)):
        with pytest.raises(RuntimeError) as caught:
            call()
        errors.append(str(caught.value))
    return errors


def test_dtypes_reductions_and_refusals():
    errors = launch(__file__, "check_dtypes_and_reductions", 2)[0].value
    parts = [
        'reduce is "mean", allowed are "sum", "max" and "min"',
        'only reduce="sum" has a gradient, this collective has "max"',
        "all_gather: dim 1 has size 5, but a local dim of the layout has size 1*3*1",
        "dim 1 has size 5, but the layout says 3",
        "dim 2 does not exist in a tensor of 2 dims",
    ]
    for text, part in zip(errors, parts, strict=True):
        assert part in text


def check_second_derivative():
    ops, group, rank, ranks = setup()
    d, to = (1, 1, 5, 1), (2, 1, 3, 1)
    x = torch.randn(2, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(rank), requires_grad=True)
    # Each adjoint is the transpose of its op, so the op is the adjoint of the adjoint.
    for op in (lambda v: ops.all_gather(v, *d, group), lambda v: ops.all_to_all(v, *d, *to, group)):
        y = op(x)
        g = torch.ones_like(y, requires_grad=True)
        (pulled,) = torch.autograd.grad(y, x, g, create_graph=True)
        v = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(9 + rank))
        (back,) = torch.autograd.grad(pulled, g, v)
        torch.testing.assert_close(back, op(v), **EXACT)


# --- tracing ----------------------------------------------------------------------------------------------------------
def check_ulysses(backend, lengths):
    """One attention-like block: sequence -> heads -> sequence, of dynamic length, against the same without ranks."""
    ops, group, rank, ranks = setup()
    heads, width = 4, 3

    def mix(q):  # needs the whole sequence of its heads
        return torch.softmax(q @ q.transpose(-1, -2), -1) @ q

    def whole(x):
        y = mix((x * 1.5).sin().transpose(1, 2)).transpose(1, 2)
        return (y * x).cos()

    def sharded(x):
        s = x.shape[1]
        local = ops.shard_slice(x, 1, 1, s, 1, group)
        q = ops.all_to_all((local * 1.5).sin(), 1, 1, s, 1, 2, 1, heads, 1, group)
        y = mix(q.transpose(1, 2)).transpose(1, 2)
        y = ops.all_to_all(y, 2, 1, heads, 1, 1, 1, s, 1, group)
        y = ops.mask_padding((y * local).cos(), 1, 1, s, 1, 0, group)
        coordinate = ops.mesh_coordinate(group, x.device)
        return ops.all_reduce(y.sum(), "sum", group), ops.all_gather(y, 1, 1, s, 1, group), coordinate

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    step = compiled(sharded, backend, dynamic=True)
    for length in lengths:
        generator = torch.Generator().manual_seed(length)
        x = torch.randn(2, length, heads, width, dtype=torch.float64, generator=generator)
        ours, truth = x.clone().requires_grad_(), x.clone().requires_grad_()
        expected = whole(truth)
        expected.sum().backward()
        loss, output, coordinate = step(ours)
        loss.backward()
        assert coordinate.item() == rank and coordinate.dtype == torch.int64 and coordinate.shape == ()
        torch.testing.assert_close(output, expected.detach(), **EXACT)
        # Every rank has the whole loss and its own slice of x: the mean over ranks is the gradient.
        dist.all_reduce(ours.grad)
        torch.testing.assert_close(ours.grad / ranks, truth.grad, **EXACT)
    if backend != "eager":
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def check_compiled(backend, layouts):
    check_ulysses(backend, lengths=[8, 7, 13])
    check_values_and_adjoints(backend, layouts)


@pytest.mark.parametrize(
    "backend, layouts",
    [("eager", []), ("aot_eager", [1, 3]), pytest.param("inductor", [], marks=pytest.mark.slow)],
)
def test_compiled(backend, layouts):
    launch(__file__, "check_compiled", 2, dict(backend=backend, layouts=layouts), timeout=600)


def check_opcheck():
    ops, group, rank, ranks = setup()
    d, to = (1, 1, 5, 1), (2, 1, 3, 1)
    local = torch.randn(2, 3, 3, dtype=torch.float64)
    whole = torch.randn(2, 5, 3, dtype=torch.float64)
    exchanged = torch.randn(2, 5, 2, dtype=torch.float64)
    samples = [
        (ops.shard_slice, (whole, *d, group)),
        (ops.shard_slice_backward, (local, *d, group)),
        (ops.all_gather, (local, *d, group)),
        (ops.all_gather_backward, (whole, *d, group)),
        (ops.all_to_all, (local, *d, *to, group)),
        (ops.all_to_all_backward, (exchanged, *d, *to, group)),
        (ops.all_reduce, (whole, "sum", group)),
        (ops.reduce_scatter, (whole, "sum", *d, group)),
        (ops.reduce_scatter_backward, (local, "sum", *d, group)),
        (ops.mask_padding, (local, *d, 1.5, group)),
    ]
    for op, (tensor, *arguments) in samples:
        for needs_gradient in (False, True):
            operand = tensor.clone().requires_grad_(needs_gradient)
            verdicts = torch.library.opcheck(op.default, (operand, *arguments))
            assert set(verdicts.values()) == {"SUCCESS"}, (op, verdicts)
        assert torch.Tag.pt2_compliant_tag in op.default.tags
    torch.library.opcheck(ops.mesh_coordinate.default, (group, torch.device("cpu")))


def check_rank_is_not_baked():
    """The graph that AOTAutograd hands on is the same text on every rank, and reads the rank when it runs."""
    from torch._dynamo.backends.common import aot_autograd

    ops, group, rank, ranks = setup()
    seen = []

    def keep(gm, inputs):
        seen.append(gm.code)
        return gm.forward

    def step(x):
        return ops.shard_slice(x, 0, 1, 5, 1, group) * ops.mesh_coordinate(group, x.device)

    torch.compile(step, backend=aot_autograd(fw_compiler=keep), fullgraph=True)(torch.ones(5))
    assert "autosp_rt.mesh_coordinate" in seen[0]
    return seen


def check_traced_and_twice_differentiated():
    check_second_derivative()
    check_opcheck()
    return check_rank_is_not_baked()


def test_tracing_and_second_derivative():
    first, second = launch(__file__, "check_traced_and_twice_differentiated", 2)
    assert first.value == second.value  # the graphs


# --- neighbours and failures ------------------------------------------------------------------------------------------
def check_with_deepspeed():
    import deepspeed.compile.custom_ops  # noqa: F401: registers autosp::all_to_all

    ops, group, rank, ranks = setup()
    x = torch.ones(2)
    assert hasattr(torch.ops.autosp, "all_to_all")
    assert torch.equal(ops.all_reduce(x, "sum", group), x * ranks)


def test_beside_deepspeeds_ops():
    pytest.importorskip("deepspeed")
    launch(__file__, "check_with_deepspeed", 2)


def check_wrong_group():
    ops, _, _, _ = setup()
    x, texts = torch.ones(2), []
    for call in (lambda: ops.all_reduce(x, "sum", "nope"), lambda: ops.all_gather(x, 0, 1, 2, 1, "nope"),
                 lambda: ops.mesh_coordinate("nope", x.device), lambda: ops.all_reduce(x.to("meta"), "sum", "nope"),
                 lambda: torch.compile(lambda v: ops.all_reduce(v, "sum", "nope"), backend="aot_eager")(x)):
        with pytest.raises(Exception) as caught:
            call()
        texts.append(str(caught.value))
    return texts


def test_wrong_group():
    for text in launch(__file__, "check_wrong_group", 1)[0].value:
        assert "ASP0307" in text and 'no process group is registered under the name "nope"' in text


DEADLINE = 3.0


def check_lost_rank(how):
    """Rank 1 never comes to the collective; rank 0 says what it saw and after how long."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=DEADLINE))
    ops, group = rt.load(), dist.group.WORLD.group_name
    ops.all_reduce(torch.ones(1), "sum", group)  # connections stand
    store = dist.distributed_c10d._get_default_store()
    if dist.get_rank() == 1:
        if how == "dies":
            os._exit(0)
        with contextlib.suppress(dist.DistNetworkError):  # rank 0 keeps the store and may be gone by now
            store.wait(["done"], datetime.timedelta(seconds=60))
        return None
    start = time.monotonic()
    with pytest.raises(dist.DistBackendError) as caught:
        ops.all_to_all(torch.ones(2, 3), 0, 1, 4, 1, 1, 1, 3, 1, group)
    seconds = time.monotonic() - start
    store.set("done", "1")
    return {"text": str(caught.value), "seconds": seconds}


@pytest.mark.parametrize("how", ["dies", "stalls"])
def test_lost_rank(how):
    answer = launch(__file__, "check_lost_rank", 2, dict(how=how), timeout=60)[0].value
    assert answer["seconds"] < DEADLINE + 5
    assert ("ASP0305" if how == "stalls" else "ASP03") in answer["text"]
    assert 'all_to_all' in answer["text"] and "rank 0 of 2, 32 bytes from this rank, deadline 3000 ms" in answer["text"]
    assert "the library says: " in answer["text"]


def test_not_built(monkeypatch, tmp_path):
    from autosp.errors import AutoSPError

    monkeypatch.setattr(rt, "_LIBRARIES", tmp_path)
    rt.load.cache_clear()
    with pytest.raises(AutoSPError, match="not built for torch"):
        rt.load()
