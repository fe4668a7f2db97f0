"""Each known failure of sequence-parallel rewrites on real ranks: the loss and every gradient of one process, or a refusal.

docs/upstream-failures.md lists the failures and the test of each; a test here holds the page to that.
"""

import pathlib
import re
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))
import probes  # noqa: E402
from launch import launch  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "upstream-failures.md"
# Name -> codes with which it may be refused; without any it must be exact.
CASES = {
    "attention called with keywords": (),
    "attention written out": (),
    "table cut to the length": (),
    "summed loss": (),
    "labels of a shard ignored": (),
    "roll": (),
    "token shift": (),
    "token shift by pad and slice": (),
    "running sum": (),
    "causal convolution": (),
    "mean over the sequence": (),
    "keys and values shared across layers": (),
    "keys used as values": (),
    "queries and keys read outside attention": (),
    "checkpointed blocks": (),
    "batch as large as the sequence": (),
    "hidden size as large as the sequence": (),
    "vocabulary as large as the sequence": (),
    "all sizes alike": (),
    "three heads": ("ASP0202",),
    "mask, bool": (),
    "mask, bool, tagged on its queries": (),
    "mask, float, tagged on its keys": (),
    "mask, bool, per head": (),
    "mask, float, per head, tagged on its queries": (),
}
HUGGING_FACE = ("llama without a mask", "llama without position ids", "llama, left padding", "llama, packed with a mask of ones")
REFUSED = {"graph break": ("ASP0101", "ASP0104")}


# Ranks


def difference(model, compiled, name, batches, ranks):
    """Largest relative difference of the losses and of any gradient from the unsharded model."""
    import torch
    import torch.distributed as dist

    def run(forward, prepare):
        model.zero_grad()
        losses = []
        for batch in batches:
            result = forward(**prepare(batch))
            losses.append(result if isinstance(result, torch.Tensor) else result.loss)
            losses[-1].backward()
        return torch.stack(losses).detach(), [None if p.grad is None else p.grad.clone() for p in model.parameters()]

    truth, exact = run(model, lambda batch: batch)
    losses, found = run(compiled, lambda batch: probes.tag(name, batch))
    worst = ((losses - truth).norm() / truth.norm()).item()
    whole = torch.stack([gradient.norm() for gradient in exact if gradient is not None]).norm()
    for ours, theirs in zip(found, exact, strict=True):
        assert (ours is None) == (theirs is None), "a gradient on one side only"
        if ours is None:
            continue
        dist.all_reduce(ours)
        assert theirs.norm() == 0 or ours.norm() > 0, "a gradient of exactly zero"
        # What is zero by mathematics is rounding on both sides, and is measured against the whole gradient.
        worst = max(worst, ((ours / ranks - theirs).norm() / torch.maximum(theirs.norm(), 1e-6 * whole)).item())
    return worst


def _llama(name):
    """Its loss is rounded to f32."""
    from conftest import tiny_llama, token_batch

    batch = {key: value.clone() for key, value in token_batch(2, 14).items()}
    if name == "llama without a mask":
        del batch["attention_mask"]
    if name == "llama without position ids":
        del batch["position_ids"]
    if name == "llama, left padding":
        batch["attention_mask"][:, :5] = 0
    if name == "llama, packed with a mask of ones":
        batch["attention_mask"].fill_(1)
        batch["position_ids"][:, 6:] -= 6
    return tiny_llama(1).double(), batch


def _options(**changes):
    import torch.distributed as dist

    return {"sequence_parallel_size": dist.get_world_size(), "inner_backend": "aot_eager", "deadline_s": 60.0, **changes}


def lengths_and_batch_sizes(hugging_face):
    """Three lengths and three batch sizes: the worst difference, and how many programs were planned."""
    import torch
    from conftest import token_batch

    from autosp import backend

    torch._dynamo.reset()
    planned, original = [], backend._partition
    backend._partition = lambda *arguments: planned.append(1) or original(*arguments)
    try:
        sizes = ((2, 12), (2, 16), (3, 12), (4, 18))
        if hugging_face:
            model, batches = _llama("")[0], [token_batch(b, s) for b, s in sizes]
            batches = [{key: value.clone() for key, value in batch.items()} for batch in batches]
        else:
            model, batches = probes.build("")[0], [probes.batch_of("", batch=b, length=s) for b, s in sizes]
        step = torch.compile(model, backend="autosp", options=_options())
        return difference(model, step, "", batches, 2), len(planned)
    finally:
        backend._partition = original


def exchanges(checkpoint):
    """All-to-alls of one step as the profiler sees them: of the fused operations those of the forward, else all."""
    import torch
    from conftest import tiny_llama, token_batch

    torch._dynamo.reset()
    step = torch.compile(tiny_llama(2), backend="autosp", options=_options(checkpoint=checkpoint))
    step(**token_batch(2, 16)).loss.backward()
    with torch.profiler.profile() as profile:
        step(**token_batch(2, 16)).loss.backward()
    names = [event.name for event in profile.events()]
    return sum(name in ("autosp_rt::all_to_all", "_c10d_functional::all_to_all_single") for name in names)


def run_probes(names):
    import torch
    import torch.distributed as dist

    import autosp

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    answers = {}
    for name in names:
        torch._dynamo.reset()
        model, batch = _llama(name) if name.startswith("llama") else probes.build(name)
        try:
            answers[name] = difference(model, torch.compile(model, backend="autosp", options=_options()), name, [batch], 2)
        except autosp.AutoSPError as error:
            answers[name] = [error.code, str(error)]
        except Exception as error:  # noqa: BLE001: a case that fails must not hide the others
            answers[name] = ["not an AutoSPError", f"{type(error).__name__}: {error}"]
    for hugging_face in (False, True):
        answers[f"lengths and batch sizes {hugging_face}"] = lengths_and_batch_sizes(hugging_face)
    answers["exchanges"] = {checkpoint: exchanges(checkpoint) for checkpoint in ("none", "full")}
    return answers


# Tests


@pytest.fixture(scope="module")
def answers():
    return [result.value for result in launch(__file__, "run_probes", 2, {"names": [*CASES, *HUGGING_FACE, *REFUSED]}, timeout=600)]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_is_exact(answers, name):
    for answer in answers:
        if isinstance(answer[name], list):
            assert answer[name][0] in CASES[name], answer[name][1]
            assert "probes.py:" in answer[name][1]
        else:
            assert answer[name] < 1e-11


@pytest.mark.slow
@pytest.mark.parametrize("name", HUGGING_FACE)
def test_hugging_face_is_exact(answers, name):
    for answer in answers:
        assert not isinstance(answer[name], list), answer[name][1]
        assert answer[name] < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize(("hugging_face", "limit"), [(False, 1e-11), (True, 1e-6)])
def test_other_lengths_and_batch_sizes_are_exact_with_one_program_more(answers, hugging_face, limit):
    for answer in answers:
        worst, planned = answer[f"lengths and batch sizes {hugging_face}"]
        assert worst < limit
        assert planned == 2, "one for the first batch size, one for all others"


@pytest.mark.slow
def test_an_exchange_is_done_again_only_where_the_policy_recomputes_it(answers):
    """Two layers: q, k, v and out each, and as many adjoints (which the fused operations count by another name)."""
    for answer in answers:
        assert answer["exchanges"]["none"] == 8
        assert answer["exchanges"]["full"] > 8


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_is_refused(answers, name):
    for answer in answers:
        assert isinstance(answer[name], list), "trained"
        assert answer[name][0] in REFUSED[name], answer[name][1]


@pytest.mark.slow
def test_the_benchmark_runs_the_steps_it_is_told_and_fails_when_the_losses_differ(tmp_path):
    """Steps as asked for, every rank of a group the same samples, and an exit status that a threshold decides."""
    command = [sys.executable, str(ROOT / "benchmarks" / "autosp" / "run.py"), "--compile", "autosp", "--engine", "plain"]
    command += ["--num-layers", "1", "--seq-length", "32", "--steps", "2", "--inner-backend", "eager", "--cpu", "--losses-dir"]
    done = subprocess.run([*command, str(tmp_path), "--threshold", "1e-5"], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    files = sorted(tmp_path.rglob("*.csv"))
    assert files
    losses = {}
    for file in files:
        header, *rows = file.read_text(encoding="utf-8").splitlines()
        assert len(rows) == 2, (file.name, header, rows)
        losses[file.name] = [row.split(",")[header.split(",").index("loss")] for row in rows]
    assert len({tuple(values) for values in losses.values()}) == 1, losses
    failed = [*command, str(tmp_path), "--threshold=-1"]  # Below what equal losses have.
    done = subprocess.run(failed, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode != 0 and "FAIL" in done.stdout


# The page


def page_rows():
    """(failure, what AutoSP does, ids of tests) of every row of the page."""
    lines = [line.strip("| ").split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    return [(row[0], row[1], re.findall(r"`([^`]+)`", row[2])) for row in lines if len(row) == 3 and row[0] not in ("failure", "---")]


def test_every_failure_names_tests_that_exist():
    rows = page_rows()
    assert len(rows) >= 55
    listed = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "tests/distributed", "tests/python"],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    known = {line.removeprefix("tests/") for line in listed.stdout.splitlines() if "::" in line}
    known |= {line.partition("[")[0] for line in known}
    golden = {str(file.relative_to(ROOT / "tests")) for file in (ROOT / "tests").rglob("*.aspir")}
    assert len(known) > 100, listed.stdout[-2000:] + listed.stderr[-2000:]
    for failure, result, tests in rows:
        assert result.startswith(("exact", "refused", "once", "told")), (failure, result)
        assert tests, f"no test for: {failure}"
        assert not (missing := [test for test in tests if test not in known | golden]), (failure, missing)
