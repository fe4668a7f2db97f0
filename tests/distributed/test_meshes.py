"""Data parallel x sequence parallel on four gloo ranks, in either order and however the group is given.

Every sequence-parallel group is fed its own batch; gradients are averaged over all four ranks. The judge is one process that
sees both batches. One set of processes answers all cases.
"""

import pytest

import probes
from launch import launch

# How the group is given -> the groups that it makes.
CONTIGUOUS, STRIDED = [[0, 1], [2, 3]], [[0, 2], [1, 3]]
CASES = {
    "size alone": CONTIGUOUS,
    "contiguous process group": CONTIGUOUS,
    "strided process group": STRIDED,
    "strided group by name": STRIDED,
    "mesh dp x sp": CONTIGUOUS,
    "mesh sp x dp": STRIDED,
    "one dim of a mesh": STRIDED,
}


# Ranks


def _given(case):
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh

    if case == "size alone":
        return {"sequence_parallel_size": 2}
    if case.startswith("mesh") or case == "one dim of a mesh":
        names = ("dp", "sp") if case == "mesh dp x sp" else ("sp", "dp") if case == "mesh sp x dp" else ("seq", "dp")
        mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=names)
        return {"group": mesh if case.startswith("mesh") else mesh["seq"]}
    mine = None
    for ranks in CASES[case]:
        group = dist.new_group(ranks)
        mine = group if dist.get_rank() in ranks else mine
    return {"group": mine.group_name if "name" in case else mine}


def _batches(name="", length=13):
    return [probes.batch_of(name, length=length, seed=seed) for seed in (1, 2)]


def _truth(model, batches):
    losses = [model(**batch) for batch in batches]
    (sum(losses) / len(losses)).backward()
    return [loss.item() for loss in losses], [None if p.grad is None else p.grad.clone() for p in model.parameters()]


def _distance(model, step, replica, batches):
    """Of the loss of this rank's replica and of every gradient, averaged over all ranks, from one process."""
    import torch
    import torch.distributed as dist

    model.zero_grad()
    losses, exact = _truth(model, batches)
    model.zero_grad()
    loss = step(**probes.tag("", batches[replica]))
    loss.backward()
    worst = abs(loss.item() - losses[replica]) / losses[replica]
    whole = torch.stack([gradient.norm() for gradient in exact if gradient is not None]).norm()
    for parameter, gradient in zip(model.parameters(), exact, strict=True):
        if gradient is not None:
            found = parameter.grad.clone()
            dist.all_reduce(found)
            scale = torch.maximum(gradient.norm(), 1e-6 * whole)
            worst = max(worst, ((found / dist.get_world_size() - gradient).norm() / scale).item())
    return worst


def _case(case):
    import torch
    import torch.distributed as dist

    from autosp import backend, groups

    torch._dynamo.reset()
    seen, original = [], backend._partition
    backend._partition = lambda *arguments: seen.append(list(arguments[-1].ranks)) or original(*arguments)
    try:
        model, _ = probes.build("")
        options = {"inner_backend": "aot_eager", "deadline_s": 60.0, **_given(case)}
        replica = next(i for i, ranks in enumerate(CASES[case]) if dist.get_rank() in ranks)
        step = torch.compile(model, backend="autosp", options=options)
        worst = max(_distance(model, step, replica, _batches(length=length)) for length in (13, 10))
    finally:
        backend._partition = original
    assert groups.is_initialized()
    return {"worst": worst, "ranks": seen}


def _changing_sizes():
    """The same model compiled for 2 ranks, for 4, and for 2 again: (size of the group, distance) of each."""
    import torch
    import torch.distributed as dist

    from autosp import backend

    torch._dynamo.reset()
    model, _ = probes.build("")
    seen, original = [], backend._partition
    backend._partition = lambda *arguments: seen.append(arguments[-1].size) or original(*arguments)
    answers = []
    try:
        for size in (2, 4, 2):
            options = {"inner_backend": "aot_eager", "deadline_s": 60.0, "sequence_parallel_size": size}
            step = torch.compile(model, backend="autosp", options=options)
            batches = _batches() if size == 2 else [_batches()[0]]
            replica = dist.get_rank() // size
            before = len(seen)
            distance = _distance(model, step, replica, batches)
            answers.append([seen[before:], distance])
    finally:
        backend._partition = original
    return answers


def _second_model():
    """Two models that are both compiled, stepped in turn: (distance, distance)."""
    import torch
    import torch.distributed as dist

    torch._dynamo.reset()
    options = {"inner_backend": "aot_eager", "deadline_s": 60.0, "sequence_parallel_size": 2}
    models = [probes.build(name)[0] for name in ("", "roll")]
    steps = [torch.compile(model, backend="autosp", options=options) for model in models]
    pairs = [*zip(models, steps), *zip(models, steps)]
    return [_distance(model, step, dist.get_rank() // 2, _batches()) for model, step in pairs]


def _refusals():
    import torch
    from torch.distributed.device_mesh import init_device_mesh

    import autosp

    answers = {}
    unnamed = init_device_mesh("cpu", (2, 2))
    for name, options in {
        "unnamed": {"group": unnamed},
        "size": {"group": init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "sp")), "sequence_parallel_size": 4},
        "object": {"group": 3},
    }.items():
        torch._dynamo.reset()
        model, batch = probes.build("")
        try:
            torch.compile(model, backend="autosp", options=options)(**probes.tag("", batch))
        except autosp.AutoSPError as error:
            answers[name] = [error.code, str(error)]
    return answers


def answer():
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    return {
        **{case: _case(case) for case in CASES},
        "changing sizes": _changing_sizes(),
        "second model": _second_model(),
        "refusals": _refusals(),
    }


# Tests


@pytest.fixture(scope="module")
def answers():
    return [result.value for result in launch(__file__, "answer", 4, timeout=600)]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_every_mesh_is_exact(answers, case):
    for rank, told in enumerate(answers):
        assert told[case]["worst"] < 1e-11
        assert told[case]["ranks"]
        assert all(ranks == next(g for g in CASES[case] if rank in g) for ranks in told[case]["ranks"])


@pytest.mark.slow
def test_a_changed_sequence_parallel_size_is_a_new_program(answers):
    for told in answers:
        # The third is the first again, which Dynamo may still hold.
        assert [sizes for sizes, _ in told["changing sizes"]] in ([[2], [4], [2]], [[2], [4], []])
        assert max(distance for _, distance in told["changing sizes"]) < 1e-11


@pytest.mark.slow
def test_a_second_model_in_one_process_is_exact(answers):
    for told in answers:
        assert len(told["second model"]) == 4
        assert max(told["second model"]) < 1e-11


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "text"),
    [("unnamed", "which of them cuts the sequence"), ("size", "the group"), ("object", "a ProcessGroup or a DeviceMesh")],
)
def test_a_group_that_says_nothing_is_refused(answers, name, text):
    for told in answers:
        code, message = told["refusals"][name]
        assert code == "ASP0306"
        assert text in message
