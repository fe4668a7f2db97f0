"""The backend on two gloo ranks: what is sharded, what is not, and every way in which ranks can disagree.

Exactness over models, lengths and rank counts is the subject of tests/distributed; here one small model is enough.
"""

import os
import pathlib
import sys
import time

import pytest
import torch
from torch import nn

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "distributed"))
from launch import launch  # noqa: E402

import autosp  # noqa: E402


class Model(nn.Module):
    def __init__(self, doubled=False):
        super().__init__()
        self.doubled = doubled
        self.embedding = nn.Embedding(32, 16)
        self.up = nn.Linear(16, 32)
        self.down = nn.Linear(32, 16)

    def forward(self, ids, labels):
        hidden = self.embedding(ids)
        hidden = hidden + self.down(torch.nn.functional.gelu(self.up(hidden)))
        logits = hidden @ self.embedding.weight.T
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return loss * 2 if self.doubled else loss


def initialize():
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    return dist.get_rank()


def batch(length=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 32, (2, length), generator=generator)
    labels = torch.randint(0, 32, (2, length), generator=generator)
    labels[:, :3] = -100
    autosp.prepare_auto_sp_inputs(ids, labels)
    return ids, labels


def model(doubled=False):
    torch.manual_seed(1)
    return Model(doubled).double()


def compiled(module, **options):
    settings = {"sequence_parallel_size": 2, "inner_backend": "aot_eager", "deadline_s": 60.0, **options}
    return torch.compile(module, backend="autosp", options=settings, fullgraph=True)


def failure(call):
    """(code, text) of the AutoSPError that the call raises."""
    torch._dynamo.reset()
    try:
        call()
    except autosp.AutoSPError as error:
        return error.code, str(error)
    return "", ""


# Every function below runs on each rank and returns what JSON can hold.


def train(inner, folder):
    import torch.distributed as dist

    rank = initialize()
    module, worst = model(), []
    step = compiled(module, inner_backend=inner, dump_dir=folder)
    for length in (12, 20):
        expected = model()(*batch(length))
        reference = model()
        reference(*batch(length)).backward()
        module.zero_grad()
        loss = step(*batch(length))
        loss.backward()
        worst.append((loss - expected).abs().item())
        for ours, truth in zip(module.parameters(), reference.parameters(), strict=True):
            dist.all_reduce(ours.grad)
            worst.append((ours.grad / 2 - truth.grad).abs().max().item())
    with torch.no_grad():
        worst.append((step(*batch()) - model()(*batch())).abs().item())
    return {"worst": max(worst), "files": sorted(os.listdir(f"{folder}/rank_{rank}"))}


def disagree():
    """One program, every disagreement in turn; each must end in an error on both ranks."""
    import torch.distributed as dist

    from autosp import groups

    rank = initialize()
    answers = {}
    answers["batch"] = failure(lambda: compiled(model())(*batch(seed=rank)))
    answers["untagged"] = failure(lambda: compiled(model())(*(t.clone() for t in batch())))
    answers["world"] = failure(lambda: compiled(model(), sequence_parallel_size=3)(*batch()))
    answers["option"] = failure(lambda: compiled(model(), checkpoint="most")(*batch()))
    answers["group"] = failure(lambda: compiled(model(), group="nobody")(*batch()))
    answers["plan"] = failure(lambda: compiled(model(doubled=rank == 1))(*batch()))
    # One rank refuses: the other hears of it at once, not after its deadline.
    start = time.monotonic()
    inputs = batch() if rank == 0 else tuple(t.clone() for t in batch())
    answers["refused"] = failure(lambda: compiled(model())(*inputs))
    answers["refused seconds"] = time.monotonic() - start
    # One rank does not come at all.
    if rank == 0:
        answers["absent"] = failure(lambda: compiled(model(), deadline_s=1.5)(*batch()))
    group = groups.sequence_parallel_group(dist.group.WORLD, 2)
    answers["given group"] = (group.size, group.index, list(group.ranks), group.name == dist.group.WORLD.group_name)
    return answers


def unsharded():
    """What does not train goes to the inner compiler as it is, without a collective: rank 1 does nothing here."""
    rank = initialize()
    if rank == 1:
        return None
    from autosp import _core

    _core.run_passes = None  # Must not be reached.
    with torch.no_grad():
        evaluated = compiled(model())(*batch()).item()
    frozen = model().requires_grad_(False)
    torch._dynamo.reset()
    alone = compiled(model(), sequence_parallel_size=1)(*batch())
    alone.backward()
    return [evaluated, compiled(frozen)(*batch()).item(), alone.item(), model()(*batch()).item()]


def groups_of_four():
    import torch.distributed as dist

    from autosp import groups

    rank = initialize()
    first = groups.sequence_parallel_group(None, 2)
    again = groups.sequence_parallel_group(None, 2)
    whole = groups.sequence_parallel_group(None, None)
    same = groups.compare(first, "test", f"line one\nranks {first.ranks}", 30.0)
    differs = groups.compare(whole, "test", f"line one\nranks {first.ranks}\nend", 30.0)
    return {
        "ranks": list(first.ranks),
        "index": first.index,
        "once": first.process_group is again.process_group,
        "whole": whole.process_group is dist.group.WORLD,
        "same": same is None,
        "differs": [differs.rank, differs.ours, differs.theirs],
        "rank": rank,
    }


@pytest.mark.parametrize("inner", ["eager", "aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_training_equals_one_device_at_two_lengths_and_evaluation_is_whole(inner, tmp_path):
    for result in launch(__file__, "train", ranks=2, arguments={"inner": inner, "folder": str(tmp_path)}):
        assert result.value["worst"] < 1e-12
        assert [name.split(".", 1)[1] for name in result.value["files"]] == [
            "captured.aspir",
            "partitioned.aspir",
            "remarks.txt",
        ]
    texts = [next((tmp_path / f"rank_{rank}").glob("*.partitioned.aspir")).read_text() for rank in (0, 1)]
    assert texts[0] == texts[1]


@pytest.fixture(scope="module")
def disagreements():
    return [result.value for result in launch(__file__, "disagree", ranks=2)]


@pytest.mark.parametrize(
    "name, code, text",
    [
        ("batch", "ASP0303", 'input "l_ids_" differs between rank'),
        ("untagged", "ASP0101", "none of the inputs of a training graph"),
        ("world", "ASP0301", "world size 2 is not a multiple of sequence_parallel_size 3"),
        ("option", "ASP0306", "option \"checkpoint\" is 'most'"),
        ("group", "ASP0306", 'there is no process group "nobody"'),
        ("plan", "ASP0304", "planned different programs"),
    ],
)
def test_both_ranks_raise(disagreements, name, code, text):
    for answer in disagreements:
        assert answer[name][0] == code
        assert text in answer[name][1]


def test_a_differing_plan_names_the_first_differing_node(disagreements):
    assert "aten.mul" in disagreements[0]["plan"][1]
    assert "aten.mul" in disagreements[1]["plan"][1]


def test_a_rank_that_refuses_tells_the_other_why(disagreements):
    accepted, refused = disagreements
    assert refused["refused"][0] == "ASP0101"
    assert accepted["refused"][0] == "ASP0304"
    assert "rank 1: error[ASP0101]" in accepted["refused"][1]
    assert accepted["refused seconds"] < 50


def test_an_absent_rank_is_named_after_the_deadline(disagreements):
    code, text = disagreements[0]["absent"]
    assert code == "ASP0305"
    assert "rank 1 did not answer rank 0 within 1.5 s" in text


def test_a_given_group_is_used(disagreements):
    assert [answer["given group"] for answer in disagreements] == [[2, rank, [0, 1], True] for rank in (0, 1)]


def test_evaluation_frozen_models_and_one_rank_run_unsharded():
    values = launch(__file__, "unsharded", ranks=2)[0].value
    assert max(abs(value - values[-1]) for value in values) < 1e-12


def test_contiguous_groups_of_a_world_of_four():
    values = [result.value for result in launch(__file__, "groups_of_four", ranks=4)]
    assert [value["ranks"] for value in values] == [[0, 1], [0, 1], [2, 3], [2, 3]]
    assert [value["index"] for value in values] == [0, 1, 0, 1]
    assert all(value["once"] and value["whole"] and value["same"] for value in values)
    assert values[0]["differs"] == [2, "ranks (0, 1)", "ranks (2, 3)"]
    assert values[3]["differs"] == [0, "ranks (2, 3)", "ranks (0, 1)"]


def test_without_a_process_group():
    step = torch.compile(model(), backend="autosp", options={"sequence_parallel_size": 2, "inner_backend": "eager"})
    with pytest.raises(autosp.AutoSPError) as caught:
        step(*batch())
    assert caught.value.code == "ASP0307"
