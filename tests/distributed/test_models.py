"""Hugging Face architectures on two gloo ranks: loss and every gradient of one process, or the refusal that the row names.

All rows run one after the other in one set of processes; a test per row reads the answer. docs/models.md is written from
the same answers by models_page.py, and must tell the same verdicts.
"""

import warnings

import pytest

import model_zoo
import models_page
from launch import launch

# f64 models still round to f32 inside (norms, softmax, rotary angles, logits): equal inputs round alike, sums do not.
LIMITS = {"f64": 1e-6, "f32": 1e-5}


# Ranks


def train_models(names):
    """Name -> {"loss", "gradient", "parameter", "exchanges"} or {"error", "code", "text"}."""
    warnings.filterwarnings("ignore")
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    answers = {}
    for row in model_zoo.ARCHITECTURES:
        if row.name in names:
            try:
                answers[row.name] = _train(row)
            except Exception as error:  # noqa: BLE001: a row that fails must not hide the others
                text = str(error)
                answers[row.name] = {"error": type(error).__name__, "code": getattr(error, "code", ""), "text": text[:4000]}
    return answers


def _accumulate(forward, row, prepare):
    """Losses of one micro-batch per length; the gradients stay in the model."""
    losses = []
    for length in model_zoo.LENGTHS:
        batch = {name: value.clone() for name, value in model_zoo.batch_of(row, length).items()}
        for value in batch.values():
            prepare(value)
        loss = forward(**batch).loss
        (loss / len(model_zoo.LENGTHS)).backward()
        losses.append(loss.item())
    return losses


def _train(row):
    import autosp
    import torch
    import torch.distributed as dist
    from autosp import backend

    torch._dynamo.reset()
    model = model_zoo.build(row)
    truth = _accumulate(model, row, lambda value: None)
    exact = {name: None if p.grad is None else p.grad.double() for name, p in model.named_parameters()}
    model.zero_grad()
    options = {"sequence_parallel_size": dist.get_world_size(), "inner_backend": "eager", "deadline_s": 60.0}
    step = torch.compile(model, backend="autosp", fullgraph=True, options=options)
    plans, make_plan = [], backend.make_plan
    backend.make_plan = lambda *arguments: plans.append(make_plan(*arguments)) or plans[-1]
    try:
        losses = _accumulate(step, row, lambda value: autosp.tag(value, 1))
    finally:
        backend.make_plan = make_plan
    # What is zero by mathematics (the bias of keys) is rounding on both sides: it is measured against the whole gradient.
    floor = 1e-6 * torch.stack([g.norm() for g in exact.values() if g is not None]).norm()
    distances = {}
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == (exact[name] is None), f"gradient of {name} on one side only"
        if parameter.grad is not None:
            found = parameter.grad.clone()
            dist.all_reduce(found)
            difference = found.double() / dist.get_world_size() - exact[name]
            distances[name] = (difference.norm() / torch.maximum(exact[name].norm(), floor)).item()
    worst = max(distances, key=distances.get)
    difference = max(abs(loss - true) / abs(true) for loss, true in zip(losses, truth, strict=True))
    return {"loss": difference, "gradient": distances[worst], "parameter": worst, "exchanges": exchanges(plans[-1].graph)}


def train_beyond_the_bias(name, lengths):
    """What each length gives: a loss, or the text of an error."""
    warnings.filterwarnings("ignore")
    import autosp
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo")
    row = next(row for row in model_zoo.ARCHITECTURES if row.name == name)
    options = {"sequence_parallel_size": dist.get_world_size(), "inner_backend": "eager", "deadline_s": 60.0}
    step = torch.compile(model_zoo.build(row), backend="autosp", fullgraph=True, options=options)
    answers = []
    for length in lengths:
        batch = model_zoo.batch_of(row, length)
        for value in batch.values():
            autosp.tag(value, 1)
        try:
            answers.append(step(**batch).loss.item())
        except Exception as error:  # noqa: BLE001: the test says which
            answers.append(f"{type(error).__name__}: {error}")
    return answers


def exchanges(graph):
    """How many all-to-alls a forward pass does: none would mean that every rank computed the whole sequence."""
    names = ("autosp_rt.all_to_all", "_c10d_functional.all_to_all_single")
    return sum(node["op"] in names for node in graph.nodes_summary())


# Tests


@pytest.fixture(scope="module")
def answers(request):
    """What every rank told about every selected row; the processes are started once."""
    items = [item for item in request.session.items if getattr(item, "fspath", None) == request.fspath]
    calls = [item.callspec.params for item in items if hasattr(item, "callspec")]
    names = [call["row"].name for call in calls if "row" in call]
    return [result.value for result in launch(__file__, "train_models", 2, {"names": names}, timeout=1500)]


@pytest.mark.slow
@pytest.mark.parametrize("row", model_zoo.ARCHITECTURES, ids=lambda row: row.name)
def test_trains_as_one_process_or_is_refused_as_documented(answers, row):
    for answer in answers:
        told = answer[row.name]
        if row.refused:
            assert (told.get("error"), told.get("code")) == ("AutoSPError", row.refused), told
            assert row.why in told["text"]
            assert ".py:" in told["text"], "a refusal names the line of the model"
        else:
            assert "error" not in told, told["text"]
            assert told["exchanges"] > 0, "computed whole on every rank"
            assert told["loss"] <= LIMITS[row.dtype], told
            assert told["gradient"] <= LIMITS[row.dtype], told


@pytest.mark.slow
def test_a_sequence_longer_than_the_bias_fails_as_on_one_process():
    """What the plan of 24 tokens took for proved, that 24 is at most 64, does not hold for 66."""
    for result in launch(__file__, "train_beyond_the_bias", 2, {"name": "mpt", "lengths": [24, 66, 22]}, timeout=300):
        first, too_long, last = result.value
        assert isinstance(first, float) and isinstance(last, float), result.value
        assert "broadcast" in too_long or "must match" in too_long, too_long


def test_the_page_tells_what_is_tested():
    """Rows and verdicts; the digits are those of the machine that wrote the page."""
    assert models_page.verdicts_of_page() == models_page.verdicts_of_zoo()


def test_enough_architectures_are_exact():
    exact = {row.model_class for row in model_zoo.ARCHITECTURES if not row.refused}
    assert len(exact) >= 24
