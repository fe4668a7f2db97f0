"""Plain torch.compile(backend="autosp") against the unsharded model, in f64: loss and every gradient, or a refusal.

All cases of one number of ranks run one after the other in one set of processes; a test per case reads the answer.
"""

import pathlib
import sys

import pytest

from launch import launch

BENCHMARK = pathlib.Path(__file__).resolve().parents[2] / "benchmarks" / "autosp"
BASE = {
    "model": "tiny", "num_layers": 1, "seed": 0, "dtype": "f64", "steps": 1, "lengths": [64], "batch_size": 2, "dp": 1,
    "mask": "full", "text": None, "tokenizer": None, "changes": {}, "collectives": "auto",
    "checkpoint": {}, "regions": False,
}  # fmt: skip
LOSS, GRADIENT = 1e-12, 1e-11
# Name: (numbers of ranks, changes of BASE).
CASES = {
    "plain": ((2, 4), {}),
    "prompt ignored": ((2,), {"mask": "prompt"}),
    "whole shards ignored": ((2, 4), {"mask": "half"}),
    "right padding": ((2,), {"mask": "right"}),
    "left padding": ((2, 4), {"mask": "left"}),
    "packed documents": ((2,), {"mask": "packed"}),
    "no mask, no positions": ((2, 4), {"mask": "none"}),
    "length 63": ((2, 4), {"lengths": [63]}),
    "length 41, left padding": ((2, 4), {"lengths": [41], "mask": "left"}),
    "length 7": ((2, 4), {"lengths": [7]}),
    "length 41, no mask": ((2, 4), {"lengths": [41], "mask": "none"}),
    "one kv head": ((4,), {"changes": {"num_key_value_heads": 1}}),
    "3 heads": ((2,), {"changes": {"num_attention_heads": 3, "num_key_value_heads": 3}}),
    "3 heads, padding, length 41": (
        (2, 4), {"lengths": [41], "mask": "left", "changes": {"num_attention_heads": 3, "num_key_value_heads": 1}}
    ),
    "6 heads, 3 kv heads, no mask": (
        (4,), {"mask": "none", "changes": {"num_attention_heads": 6, "num_key_value_heads": 3}}
    ),
    "6 heads, 3 kv heads, functional collectives": (
        (4,), {"collectives": "functional", "changes": {"num_attention_heads": 6, "num_key_value_heads": 3}}
    ),
    "batch, length and hidden alike": ((2,), {"lengths": [16], "batch_size": 16, "changes": {"hidden_size": 16}}),
    "accumulation over lengths": ((2, 4), {"lengths": [64, 48, 63, 41]}),
    "sliding window": ((2, 4), {"model": "tiny-mistral"}),
    "sliding window, length 63, padding": ((2,), {"model": "tiny-mistral", "lengths": [63], "mask": "left"}),
    "qwen3": ((2,), {"model": "tiny-qwen3", "mask": "prompt"}),
    "functional collectives": ((2, 4), {"collectives": "functional", "mask": "prompt"}),
    "functional collectives, length 41": ((2, 4), {"collectives": "functional", "lengths": [41], "mask": "left"}),
    "functional collectives, batch of 1": ((2,), {"collectives": "functional", "batch_size": 1}),
    "functional collectives, one kv head": ((4,), {"collectives": "functional", "changes": {"num_key_value_heads": 1}}),
    "functional collectives, accumulation over lengths": (
        (2,), {"collectives": "functional", "lengths": [64, 48, 63, 41]}
    ),
    "full checkpoints": ((2,), {"num_layers": 2, "mask": "prompt", "checkpoint": {"checkpoint": "full"}}),
    "sac, length 63": ((2, 4), {"num_layers": 2, "lengths": [63], "checkpoint": {"checkpoint": "sac"}}),
    "sac, functional collectives": (
        (2,), {"num_layers": 2, "collectives": "functional", "checkpoint": {"checkpoint": "sac"}}
    ),
    "tight budget": ((2,), {"num_layers": 2, "checkpoint": {"checkpoint": "auto", "memory_budget": 0.1}}),
    # The model's own torch.utils.checkpoint regions, alone and with a budget that needs no recomputation.
    "regions": ((2,), {"num_layers": 2, "mask": "prompt", "regions": True}),
    "regions, loose budget": (
        (2,), {"num_layers": 2, "regions": True, "checkpoint": {"checkpoint": "auto", "memory_budget": 1.0}}
    ),
    "loose budget": ((2,), {"num_layers": 2, "checkpoint": {"checkpoint": "auto", "memory_budget": 1.0}}),
    "two layers": ((2,), {"num_layers": 2, "mask": "prompt"}),
    "eager attention": ((2,), {"attention": "eager"}),
    "hand-written": ((2, 4), {"model": "hand-written"}),
    "hand-written, length 63": ((2,), {"model": "hand-written", "lengths": [63], "mask": "prompt"}),
}
QUICK = ("length 63", "sac, length 63", "functional collectives, length 41", "3 heads")  # at P=2


# Ranks


def _model(spec):
    import models
    import torch

    if spec["model"] == "hand-written":
        torch.manual_seed(0)
        return _hand_written().double()
    config_of = models.config_of

    def changed(name, layers):
        config = config_of(name, layers)
        for key, value in spec["changes"].items():
            setattr(config, key, value)
        return config

    models.config_of = changed
    try:
        return models.build(spec, attention=spec.get("attention", "sdpa"))
    finally:
        models.config_of = config_of


def _hand_written():
    """Learned positions, fused qkv, a summed loss divided by a count."""
    import torch
    import torch.nn.functional as F

    class Block(torch.nn.Module):
        def __init__(self, width, heads):
            super().__init__()
            self.heads = heads
            self.norm1, self.norm2 = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
            self.qkv = torch.nn.Linear(width, 3 * width)
            self.out = torch.nn.Linear(width, width)
            self.up, self.down = torch.nn.Linear(width, 2 * width), torch.nn.Linear(2 * width, width)

        def forward(self, x):
            batch, length, width = x.shape
            q, k, v = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
            a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(a.transpose(1, 2).reshape(batch, length, width))
            return x + self.down(F.gelu(self.up(self.norm2(x))))

    class Transformer(torch.nn.Module):
        def __init__(self, width=32, heads=4):
            super().__init__()
            self.tokens, self.places = torch.nn.Embedding(256, width), torch.nn.Embedding(512, width)
            self.blocks = torch.nn.ModuleList([Block(width, heads) for _ in range(2)])
            self.head = torch.nn.Linear(width, 256, bias=False)

        def forward(self, input_ids, labels, **_):
            x = self.tokens(input_ids) + self.places(torch.arange(input_ids.shape[1], device=input_ids.device))
            for block in self.blocks:
                x = block(x)
            logits, wanted = self.head(x)[:, :-1], labels[:, 1:]
            total = F.cross_entropy(logits.reshape(-1, 256), wanted.reshape(-1), reduction="sum", ignore_index=-100)
            return {"loss": total / (wanted != -100).sum()}

    return Transformer()


def _step(forward, model, batches, tag):
    """Losses of the micro-batches and the gradients, averaged over all ranks as an engine does."""
    import torch.distributed as dist

    losses = []
    for batch in batches:
        batch = {name: None if value is None else value.clone() for name, value in batch.items()}
        tag(batch)
        loss = forward(**batch)["loss"]
        (loss / len(batches)).backward()
        losses.append(loss.item())
    gradients = {}
    for name, parameter in model.named_parameters():
        gradient = parameter.grad.clone()
        dist.all_reduce(gradient)
        gradients[name] = gradient / dist.get_world_size()
    return losses, gradients


def _run_case(spec):
    import autosp
    import autosp.backend
    import autosp.checkpoint
    import data
    import torch
    import torch.distributed as dist

    torch._dynamo.reset()
    model = _model(spec)
    text = data.TextData(spec, 256)
    batches = [text.batch(0, micro, 0) for micro in range(len(spec["lengths"]))]
    losses, gradients = _step(model, model, batches, lambda batch: None)
    model.zero_grad()
    if spec["regions"]:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    compilations, partition = [], autosp.backend._partition
    autosp.backend._partition = lambda *arguments: compilations.append(1) or partition(*arguments)

    def tag(batch):
        names = ("input_ids", "labels", "position_ids", "attention_mask")
        autosp.prepare_auto_sp_inputs(*(batch[name] for name in names))

    options = {
        "sequence_parallel_size": dist.get_world_size(), "inner_backend": "aot_eager", "deadline_s": 60.0,
        "collectives": spec["collectives"], **spec["checkpoint"],
    }  # fmt: skip
    plans, apply = [], autosp.checkpoint._tag
    autosp.checkpoint._tag = lambda nodes, plan: plans.append(plan) or apply(nodes, plan)
    try:
        found, found_gradients = _step(torch.compile(model, backend="autosp", options=options), model, batches, tag)
    finally:
        autosp.backend._partition, autosp.checkpoint._tag = partition, apply
    distances = {
        name: ((found_gradients[name] - exact).norm() / exact.norm().clamp_min(1e-30)).item()
        for name, exact in gradients.items()
    }
    return {"losses": found, "truth": losses, "gradients": distances, "compilations": len(compilations),
            "recomputed": [plan["recompute_seconds"] / plan["step_seconds"] for plan in plans]}  # fmt: skip


def run_cases(cases):
    sys.path.insert(0, str(BENCHMARK))
    import torch.distributed as dist

    dist.init_process_group("gloo")
    answers = {}
    for name, spec in cases.items():
        try:
            answers[name] = _run_case(spec)
        except Exception as error:  # noqa: BLE001: a case that fails must not hide the others
            answers[name] = {"error": f"{type(error).__name__}: {error}"}
    return answers


# Tests


@pytest.fixture(scope="module")
def answers(request):
    """answers(P): what every rank told about every selected case; the processes are started once per P."""
    known = {}
    calls = [item.callspec.params for item in request.session.items if getattr(item, "fspath", None) == request.fspath]
    selected = {(call["ranks"], call["name"]) for call in calls if "name" in call}

    def of(ranks):
        if ranks not in known:
            cases = {name: spec_of(name) for name in CASES if (ranks, name) in selected}
            results = launch(__file__, "run_cases", ranks, {"cases": cases}, timeout=3600)
            known[ranks] = [result.value for result in results]
        return known[ranks]

    return of


def spec_of(name):
    return {**BASE, **CASES[name][1]}


def _marks(ranks, name):
    return [] if ranks == 2 and name in QUICK else [pytest.mark.slow]


@pytest.mark.parametrize(
    ("ranks", "name"),
    [pytest.param(ranks, name, marks=_marks(ranks, name)) for name, (sizes, _) in CASES.items() for ranks in sizes],
)
def test_loss_and_gradients_equal_the_unsharded_model(answers, ranks, name):
    for rank, told in enumerate(answers(ranks)):
        answer = told[name]
        assert "error" not in answer, answer["error"]
        for loss, truth in zip(answer["losses"], answer["truth"], strict=True):
            assert abs(loss - truth) <= LOSS * abs(truth), (rank, loss, truth)
        worst = max(answer["gradients"], key=answer["gradients"].get)
        assert answer["gradients"][worst] <= GRADIENT, (rank, worst, answer["gradients"][worst])
        assert 1 <= answer["compilations"] <= 2, "one partitioned graph, at most two for several lengths"
        if spec_of(name)["checkpoint"].get("memory_budget") == 1.0:
            # Nothing has to be computed again but what the model's own regions demand: its layers once.
            (share,) = answer["recomputed"]
            assert 0.1 < share < 0.5 if spec_of(name)["regions"] else share == 0, share
