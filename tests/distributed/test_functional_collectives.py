"""The collectives that a rewritten graph calls: values and adjoints of the objective "sum of the ranks' losses".

Every case runs on two gloo ranks in f64. The truth is computed on each rank from both ranks' inputs without any
collective: rank r holds x_r and the weight c_r, the objective is sum_r <c_r, f_r(x_0, x_1)>.
"""

import os
import tempfile

import pytest
import torch
import torch.distributed as dist

import autosp.collectives  # noqa: F401  registers the ops and the adjoints

WORLD = 2
functional = torch.ops._c10d_functional


def all_reduce(x, group):
    return functional.wait_tensor(functional.all_reduce(x, "sum", group))


def all_gather(x, group):
    return functional.wait_tensor(functional.all_gather_into_tensor(x, WORLD, group))


def reduce_scatter(x, group):
    return functional.wait_tensor(functional.reduce_scatter_tensor(x, "sum", WORLD, group))


def all_to_all(x, group):
    return functional.wait_tensor(functional.all_to_all_single(x, [1] * WORLD, [1] * WORLD, group))


# name: (the collective, the same from the list of all ranks' inputs for rank r)
CASES = {
    "all_reduce": (all_reduce, lambda xs, r: xs[0] + xs[1]),
    "all_gather": (all_gather, lambda xs, r: torch.cat(xs)),
    "reduce_scatter": (reduce_scatter, lambda xs, r: (xs[0] + xs[1]).chunk(WORLD)[r]),
    "all_to_all": (all_to_all, lambda xs, r: torch.cat([x.chunk(WORLD)[r] for x in xs])),
}


def check_case(name, backend, rank, group):
    collective, truth = CASES[name]
    generator = torch.Generator().manual_seed(7)
    xs = [torch.randn(WORLD, 6, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(WORLD)]
    weights = torch.randn(WORLD, *truth(xs, 0).shape, generator=generator, dtype=torch.float64)

    def step(x, weight):
        # Ordinary work around the collective, so that a compiler has something to fuse and reorder.
        return (collective((x * 2).sin(), group).cos() * weight).sum()

    objective = sum((truth([(x * 2).sin() for x in xs], r).cos() * weights[r]).sum() for r in range(WORLD))
    expected = torch.autograd.grad(objective, xs)[rank]
    x = xs[rank].detach().requires_grad_()
    compiled = step if backend == "eager" else torch.compile(step, backend=backend, fullgraph=True)
    loss = compiled(x, weights[rank])
    loss.backward()
    total = loss.detach().clone()
    dist.all_reduce(total)
    torch.testing.assert_close(total, objective.detach(), rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(x.grad, expected, rtol=1e-14, atol=1e-14)


def check_mesh_coordinate(backend, rank, group):
    def step(x):
        coordinate = torch.ops.autosp_fx.mesh_coordinate(group, x.device)
        return (x * (coordinate + 1)).sum(), coordinate

    x = torch.ones(3, dtype=torch.float64, requires_grad=True)
    compiled = step if backend == "eager" else torch.compile(step, backend=backend, fullgraph=True)
    loss, coordinate = compiled(x)
    loss.backward()
    assert coordinate.dtype == torch.int64 and coordinate.shape == ()
    assert coordinate.item() == rank
    assert loss.item() == 3.0 * (rank + 1)
    assert torch.equal(x.grad, torch.full((3,), rank + 1.0, dtype=torch.float64))


def graph_of_mesh_coordinate(rank, group):
    """The op stands in the graph that AOTAutograd hands on: nothing folded it to this rank's number."""
    from torch._dynamo.backends.common import aot_autograd

    seen = []

    def keep(gm, inputs):
        seen.append([str(node.target) for node in gm.graph.nodes])
        return gm.forward

    def step(x):
        return x * torch.ops.autosp_fx.mesh_coordinate(group, x.device)

    torch.compile(step, backend=aot_autograd(fw_compiler=keep), fullgraph=True)(torch.ones(2))
    assert "autosp_fx.mesh_coordinate.default" in seen[0]


def rank_main(rank, folder, jobs):
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = f"{folder}/{rank}"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORLD)
    group = dist.group.WORLD.group_name
    for job, *arguments in jobs:
        job(*arguments, rank, group)
        torch._dynamo.reset()
    dist.destroy_process_group()


@pytest.mark.parametrize("backend", ["eager", "aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_values_and_adjoints_on_two_ranks(backend):
    jobs = [(check_case, name, backend) for name in CASES] + [(check_mesh_coordinate, backend)]
    if backend == "aot_eager":
        jobs.append((graph_of_mesh_coordinate,))
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(rank_main, args=(folder, jobs), nprocs=WORLD)
