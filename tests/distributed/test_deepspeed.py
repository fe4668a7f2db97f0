"""`import autosp.deepspeed` on real ranks: the loss and gradients of one process or a refusal, never a fall back.

The functions below `# Ranks` run in processes of their own (launch.py), the tests read what they answered.
"""

import pathlib
import sys

import pytest

from deepspeed_build import deepspeed_operations  # noqa: F401  a fixture
from launch import LaunchError, launch

pytestmark = pytest.mark.usefixtures("deepspeed_operations")

BENCHMARK = pathlib.Path(__file__).resolve().parents[2] / "benchmarks" / "autosp"
SPEC = {
    "model": "tiny", "num_layers": 1, "seed": 0, "dtype": "f32", "steps": 3, "lengths": [48], "batch_size": 2, "dp": 1,
    "mask": "prompt", "text": None, "tokenizer": None,
}  # fmt: skip


# Ranks


def _start(spec):
    """The model, the batches and the DeepSpeed config of a test."""
    sys.path.insert(0, str(BENCHMARK))
    import data
    import models
    import torch

    torch.use_deterministic_algorithms(True)
    torch._dynamo.reset()
    return models.build(spec), data.TextData(spec, 256)


def _config(spec, **changes):
    config = {
        "train_micro_batch_size_per_gpu": spec["batch_size"],
        "gradient_accumulation_steps": len(spec["lengths"]),
        "sequence_parallel_size": 2,
        "gradient_clipping": 0.0,
        "zero_optimization": {"stage": 0},
        "compile": {"deepcompile": True, "passes": ["autosp"]},
        "autosp": {"inner_backend": "aot_eager"},
        "steps_per_print": 2**31,
        **changes,
    }
    return {name: value for name, value in config.items() if value is not None}


def _engine(model, config, learning_rate=1e-3, **arguments):
    import deepspeed
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
    return deepspeed.initialize(model=model, optimizer=optimizer, config=config, **arguments)


def _truth(spec):
    """Losses [step][replica] and the gradients of the first step, unsharded."""
    import torch

    model, text = _start(spec)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    losses, gradients, micros = [], {}, len(spec["lengths"])
    for step in range(spec["steps"]):
        losses.append([])
        for replica in range(spec["dp"]):
            total = 0.0
            for micro in range(micros):
                loss = model(**text.batch(step, micro, replica)).loss
                (loss / spec["dp"] / micros).backward()
                total += loss.item() / micros
            losses[-1].append(total)
        if step == 0:
            gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
        optimizer.step()
        optimizer.zero_grad()
    return losses, gradients


def train(spec, stage, prepare):
    """Worst relative difference from one process: of the loss per step, of every gradient of the first step."""
    import deepspeed
    import torch
    import torch.distributed as dist
    from deepspeed.utils import safe_get_full_grad

    deepspeed.init_distributed("gloo")
    if prepare == "autosp":
        import autosp
        import autosp.deepspeed

        tagged = autosp.prepare_auto_sp_inputs
    else:
        from deepspeed.compile.passes.sp_compile import prepare_autosp_inputs as tagged
    truth, truth_gradients = _truth(spec)
    model, text = _start(spec)
    changes = {"autosp": None} if prepare == "builtin" else {}
    engine, *_ = _engine(model, _config(spec, zero_optimization={"stage": stage}, **changes))
    engine.compile()
    answer = {"losses": [], "gradients": {}, "truth": truth}
    for step in range(spec["steps"]):
        total = 0.0
        for micro in range(len(spec["lengths"])):
            batch = text.batch(step, micro, dist.get_rank() // 2)
            names = ("input_ids", "labels", "position_ids", "attention_mask")
            tagged(*(batch[name] for name in names))
            loss = engine(**batch).loss
            engine.backward(loss)
            total += loss.item() / len(spec["lengths"])
            if step == 0 and engine.is_gradient_accumulation_boundary():
                for name, parameter in model.named_parameters():
                    exact = truth_gradients[name].double()
                    distance = (safe_get_full_grad(parameter).double() - exact).norm() / exact.norm()
                    answer["gradients"][name] = distance.item()
            engine.step()
        answer["losses"].append(total)
    if prepare == "autosp":
        # The untagged batch, whole on every rank, as in evaluation.
        engine.eval()
        with torch.no_grad():
            answer["evaluation"] = engine(**text.batch(0, 0, 0)).loss.item()
        answer["eager evaluation"] = engine.module.forward(**text.batch(0, 0, 0)).loss.item()
    return answer


def two_engines():
    """Losses of two engines of different models that step in turn, and the true ones."""
    import autosp
    import autosp.deepspeed  # noqa: F401
    import deepspeed

    deepspeed.init_distributed("gloo")
    specs = [{**SPEC, "seed": seed, "steps": 2} for seed in (0, 1)]
    truths = [[losses[0] for losses in _truth(spec)[0]] for spec in specs]
    models, texts = zip(*(_start(spec) for spec in specs))
    engines = [_engine(model, _config(SPEC))[0] for model in models]
    for engine in engines:
        engine.compile()
    found = [[], []]
    for step in range(2):
        for engine, text, losses in zip(engines, texts, found, strict=True):
            batch = text.batch(step, 0, 0)
            autosp.prepare_auto_sp_inputs(batch)
            loss = engine(**batch).loss
            engine.backward(loss)
            engine.step()
            losses.append(loss.item())
    return {"found": found, "truth": truths}


def refusals():
    """Code and text of what each bad config raises; "" for what raises nothing."""
    import autosp.deepspeed  # noqa: F401
    import deepspeed
    import torch
    from autosp import AutoSPError

    deepspeed.init_distributed("gloo")
    answers = {}

    def case(name, call, **changes):
        model, _ = _start(SPEC)
        try:
            call(_engine(model, _config(SPEC, **changes))[0])
            answers[name] = ["", ""]
        except AutoSPError as error:
            answers[name] = [error.code, str(error)]

    def compiled(engine):
        engine.compile()

    def forward(engine):
        engine(input_ids=torch.ones(1, 8, dtype=torch.int64))

    def forward_in_evaluation(engine):
        engine.eval()
        forward(engine)

    case("stage 2", compiled, zero_optimization={"stage": 2})
    case("stage 3", compiled, zero_optimization={"stage": 3})
    case("deepcompile off", compiled, compile={"deepcompile": False, "passes": ["autosp"]})
    case("two passes", compiled, compile={"deepcompile": True, "passes": ["z1", "autosp"]})
    case("no size", compiled, sequence_parallel_size=None)
    case("size 3", compiled, sequence_parallel_size=3)
    case("two sizes", compiled, autosp={"sequence_parallel_size": 1})
    case("compile mode", lambda engine: engine.compile(compile_kwargs={"mode": "max-autotune"}))
    case("not compiled", forward)
    case("not compiled, evaluation", forward_in_evaluation)
    case("no pass asked for", forward, compile={"deepcompile": False})
    # Last: DeepSpeed keeps the mesh that this setting makes for the rest of the process.
    case("data_parallel_size", compiled, data_parallel_size=1)
    # A rank that ends takes the store with it, in which the other may still be making that mesh.
    torch.distributed.barrier()
    return answers


def loader_samples():
    """The samples that DeepSpeed's own loader gives this rank, with both ranks in one group and in two."""
    import autosp.deepspeed  # noqa: F401
    import deepspeed
    import torch

    deepspeed.init_distributed("gloo")
    samples = {}
    for size in (2, 1):
        model, _ = _start(SPEC)
        # Only "train_batch_size": DeepSpeed then derives the batch of a rank by a division that gives a float.
        changes = {"train_batch_size": 4, "train_micro_batch_size_per_gpu": None, "gradient_accumulation_steps": None}
        config = _config(SPEC, sequence_parallel_size=size, **changes)
        _, _, loader, _ = _engine(model, config, training_data=list(range(16)))
        loader.num_local_io_workers = 0
        samples[size] = [batch.tolist() for batch in loader]
    return samples


# Tests


def check_exact(results, first=1e-5, later=1e-4):
    for result in results:
        value = result.value
        replica = result.rank // 2
        for step, loss in enumerate(value["losses"]):
            truth = value["truth"][step][replica]
            assert abs(loss - truth) <= (first if step == 0 else later) * abs(truth), (result.rank, step, loss, truth)
        assert value["gradients"]
        worst = max(value["gradients"], key=value["gradients"].get)
        assert value["gradients"][worst] <= 1e-5, (result.rank, worst, value["gradients"][worst])


@pytest.mark.parametrize("stage", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_training_equals_one_process(stage):
    results = launch(__file__, "train", 2, {"spec": SPEC, "stage": stage, "prepare": "autosp"})
    check_exact(results)
    for result in results:
        assert result.value["evaluation"] == pytest.approx(result.value["eager evaluation"], rel=1e-5)


@pytest.mark.slow
def test_two_replicas_and_accumulation_over_lengths_equal_one_process():
    spec = {**SPEC, "dp": 2, "lengths": [48, 63]}
    check_exact(launch(__file__, "train", 4, {"spec": spec, "stage": 1, "prepare": "autosp"}))


@pytest.mark.slow
def test_a_second_engine_trains_as_the_first():
    for result in launch(__file__, "two_engines", 2):
        for losses, truth in zip(result.value["found"], result.value["truth"], strict=True):
            assert losses == pytest.approx(truth, rel=1e-4)
        assert result.value["truth"][0] != result.value["truth"][1]


@pytest.mark.slow
def test_the_pass_of_deepspeed_fails_the_same_check():
    """Labels shifted inside each shard: were this to pass, the check could not fail."""
    spec = {**SPEC, "mask": "full", "batch_size": 1, "lengths": [64]}
    results = launch(__file__, "train", 2, {"spec": spec, "stage": 0, "prepare": "builtin"})
    with pytest.raises(AssertionError):
        check_exact(results)
    losses = [result.value["losses"][0] for result in results]
    assert abs(losses[0] - losses[1]) > 1e-4
    assert max(results[0].value["gradients"].values()) > 1e-2


@pytest.fixture(scope="module")
def refused():
    results = launch(__file__, "refusals", 2)
    assert results[0].value == results[1].value
    return results[0].value


@pytest.mark.parametrize(
    ("case", "code", "text"),
    [
        ("stage 2", "ASP0302", "ZeRO stage 2"),
        ("stage 3", "ASP0302", "ZeRO stage 3"),
        ("deepcompile off", "ASP0306", '"deepcompile" is false'),
        ("two passes", "ASP0306", "'z1'"),
        ("no size", "ASP0306", "sequence_parallel_size"),
        ("size 3", "ASP0301", "world size 2 is not a multiple of sequence_parallel_size 3"),
        ("two sizes", "ASP0306", "sequence_parallel_size 1"),
        ("compile mode", "ASP0306", "max-autotune"),
        ("not compiled", "ASP0306", "engine.compile() was not called"),
        ("data_parallel_size", "ASP0308", '"data_parallel_size" is 1'),
        ("not compiled, evaluation", "", ""),
        ("no pass asked for", "", ""),
    ],
)
def test_no_config_trains_unsharded_in_silence(refused, case, code, text):
    assert refused[case][0] == code, refused[case][1]
    assert text in refused[case][1]


def test_the_loader_gives_a_group_the_same_samples():
    first, second = (result.value for result in launch(__file__, "loader_samples", 2))
    assert first["2"] == second["2"]
    assert sorted(sum(first["2"], [])) == list(range(16))
    assert sorted(sum(first["1"], []) + sum(second["1"], [])) == list(range(16))


def test_launch_ends_the_other_ranks_when_one_fails():
    with pytest.raises(LaunchError, match="rank 1 gives up") as caught:
        launch(__file__, "one_rank_fails", 2, grace=0.5)
    assert [result.returncode for result in caught.value.results] == [-9, 1]


def one_rank_fails():
    import os
    import time

    if os.environ["RANK"] == "1":
        raise ValueError("rank 1 gives up")
    time.sleep(3600)
