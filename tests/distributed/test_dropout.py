"""Models that drop out, on real ranks whose generators differ, against one process that is given the seed of the group.

The judge is never sharded: it runs the captured graph with its dropout rewritten, before anything is cut, on the whole batch.
"""

import functools

import pytest

from launch import launch

# Name: (ranks, length, changes of the options)
CASES = {
    "plain": (2, 32, {}),
    "length 31": (2, 31, {"collectives": "functional"}),
    "4 ranks": (4, 32, {}),
    "4 ranks, length 31": (4, 31, {"collectives": "functional"}),
    "full checkpoints": (2, 32, {"checkpoint": "full"}),
    "sac, 4 ranks": (4, 31, {"checkpoint": "sac"}),
    "tight budget, functional collectives": (
        2, 32, {"collectives": "functional", "checkpoint": "auto", "memory_budget": 0.1}
    ),
}  # fmt: skip
QUICK = ("plain", "full checkpoints")


def _model():
    import torch
    import torch.nn.functional as F

    class Block(torch.nn.Module):
        """Attention written out, with dropout of its weights; dropout of both results."""

        def __init__(self, width, heads):
            super().__init__()
            self.heads = heads
            self.norm1, self.norm2 = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
            self.qkv, self.out = torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)
            self.up, self.down = torch.nn.Linear(width, 2 * width), torch.nn.Linear(2 * width, width)

        def forward(self, x, hidden):
            batch, length, width = x.shape
            q, k, v = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
            weights = (q @ k.transpose(-1, -2) / 2.0).masked_fill(hidden, float("-inf")).softmax(-1)
            a = F.dropout(weights, 0.3, self.training) @ v
            x = x + F.dropout(self.out(a.transpose(1, 2).reshape(batch, length, width)), 0.1, self.training)
            return x + F.dropout(self.down(F.gelu(self.up(self.norm2(x)))), 0.1, self.training)

    class Transformer(torch.nn.Module):
        def __init__(self, width=32, heads=4):
            super().__init__()
            self.tokens, self.places = torch.nn.Embedding(256, width), torch.nn.Embedding(64, width)
            self.blocks = torch.nn.ModuleList([Block(width, heads) for _ in range(2)])
            self.head = torch.nn.Linear(width, 256, bias=False)

        def forward(self, input_ids, labels):
            length = input_ids.shape[1]
            positions = torch.arange(length, device=input_ids.device)
            hidden = positions[:, None] < positions
            x = F.dropout(self.tokens(input_ids) + self.places(positions), 0.2, self.training)
            for block in self.blocks:
                x = block(x, hidden)
            logits, wanted = self.head(x)[:, :-1], labels[:, 1:]
            total = F.cross_entropy(logits.reshape(-1, 256), wanted.reshape(-1), reduction="sum")
            return total / wanted.numel()

    torch.manual_seed(0)
    return Transformer().double().train()


def _seed_of_step(rank, step):
    """What the ranks of the group agree on in this step: each draws from its own generator, the largest counts."""
    import torch
    import torch.distributed as dist

    torch.manual_seed(1000 * step + rank)
    drawn = torch.randint(2**62, ())
    dist.all_reduce(drawn, dist.ReduceOp.MAX)
    torch.manual_seed(1000 * step + rank)
    return drawn


_IN_USE = [None]  # The seed of the judge that runs.


@functools.cache
def _define_draw_seed():
    """Once and for good: an operator that is defined again after its library is gone crashes torch 2.11."""
    import torch

    library = torch.library.Library("autosp_fx", "FRAGMENT")
    library.define("draw_seed(int high, int[] size, *, Device? device=None) -> Tensor")
    library.impl("draw_seed", lambda high, size, device=None: _IN_USE[0][0].clone(), "CompositeExplicitAutograd")
    torch.library.register_fake("autosp_fx::draw_seed", lambda high, size, device=None: torch.empty((), dtype=torch.int64),
                                lib=library)  # fmt: skip
    return library


def _judge(ranks, seed):
    """A backend: one process, the whole batch, dropout as `ranks` ranks rewrite it, with this seed."""
    import torch

    from autosp import _core, capture, private_torch

    _define_draw_seed()
    _IN_USE[0] = seed

    def backend(gm, example_inputs):
        captured = capture.capture(gm, example_inputs)
        graph = _core.import_fx(captured, ranks)
        pipeline = "normalize-captured-ops,unify-sizes,seed-shardings,seed-dropout"
        _core.run_passes(graph, pipeline, {"sequence_parallel_size": ranks})
        module = graph.export_fx({})
        private_torch.copy_dynamo_metadata(gm, module)
        return torch._dynamo.lookup_backend("aot_eager")(module, example_inputs)

    private_torch.mark_backend(backend)
    return backend


def _steps(compiled, model, ids, seeds_before, average):
    """Losses and gradients of two steps."""
    import torch
    import torch.distributed as dist

    import autosp

    told = []
    for step in range(2):
        batch = {"input_ids": ids.clone(), "labels": ids.clone()}
        autosp.prepare_auto_sp_inputs(batch["input_ids"], batch["labels"])
        seeds_before(step)
        model.zero_grad()
        loss = compiled(**batch)
        loss.backward()
        gradients = {}
        for name, parameter in model.named_parameters():
            gradients[name] = parameter.grad.clone()
            if average:
                dist.all_reduce(gradients[name])
                gradients[name] /= dist.get_world_size()
        told.append((loss.item(), gradients))
    torch._dynamo.reset()
    return told


def _run_case(length, options):
    import torch
    import torch.distributed as dist

    rank, ranks = dist.get_rank(), dist.get_world_size()
    model = _model()
    ids = torch.randint(256, (2, length), generator=torch.Generator().manual_seed(3))
    seed = [None]

    def given(step):
        seed[0] = _seed_of_step(rank, step)

    truth = _steps(torch.compile(model, backend=_judge(ranks, seed), fullgraph=True), model, ids, given, False)
    options = {"sequence_parallel_size": ranks, "inner_backend": "aot_eager", "deadline_s": 60.0, **options}
    compiled = torch.compile(model, backend="autosp", options=options, fullgraph=True)
    found = _steps(compiled, model, ids, given, True)
    distances = [
        max(((g[name] - exact).norm() / exact.norm()).item() for name, exact in t.items())
        for (_, g), (_, t) in zip(found, truth, strict=True)
    ]
    model.eval()
    undropped = model(ids, ids).item()
    return {
        "losses": [loss for loss, _ in found], "truth": [loss for loss, _ in truth], "gradients": distances,
        "undropped": undropped,
    }  # fmt: skip


def run_cases(cases):
    import torch.distributed as dist

    dist.init_process_group("gloo")
    answers = {}
    for name, (length, options) in cases.items():
        try:
            answers[name] = _run_case(length, options)
        except Exception as error:  # noqa: BLE001: a case that fails must not hide the others
            answers[name] = {"error": f"{type(error).__name__}: {error}"}
    return answers


@pytest.fixture(scope="module")
def answers(request):
    """answers(P): what every rank told about every selected case; the processes are started once per P."""
    known = {}
    calls = [item.callspec.params for item in request.session.items if getattr(item, "fspath", None) == request.fspath]
    selected = {call["name"] for call in calls if "name" in call}

    def of(ranks):
        if ranks not in known:
            cases = {name: case[1:] for name, case in CASES.items() if case[0] == ranks and name in selected}
            known[ranks] = [result.value for result in launch(__file__, "run_cases", ranks, {"cases": cases}, timeout=1800)]
        return known[ranks]

    return of


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.slow]) for n in CASES])
def test_loss_and_gradients_equal_one_process_with_the_same_seed(answers, name):
    for rank, told in enumerate(answers(CASES[name][0])):
        answer = told[name]
        assert "error" not in answer, answer["error"]
        for loss, truth in zip(answer["losses"], answer["truth"], strict=True):
            assert abs(loss - truth) <= 1e-12 * abs(truth), (rank, loss, truth)
        assert max(answer["gradients"]) <= 1e-11, (rank, answer["gradients"])
        first, second = answer["losses"]
        assert len({round(x, 6) for x in (first, second, answer["undropped"])}) == 3, "two steps drop different things"
