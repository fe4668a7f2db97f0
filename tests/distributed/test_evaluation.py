"""Evaluation, generation and whole logits with the compiled model that also trains, on two gloo ranks.

All answers come from one set of processes; each is compared with the unsharded model in that process.
"""

import copy
import logging
import pathlib
import sys

import pytest

from launch import launch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))


# Ranks


class _Lines(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        if "unsharded" in record.getMessage():
            self.lines.append(record.getMessage())


def _options(**changes):
    return {"sequence_parallel_size": 2, "inner_backend": "aot_eager", "deadline_s": 60.0, **changes}


def _untagged(length, seed=3):
    from conftest import token_batch

    return {name: value.clone() for name, value in token_batch(2, length, seed=seed).items()}


def _gradient_distance(step, model, whole, batch, truth_batch, loss_of=lambda output, _: output.loss):
    """Largest relative difference of any gradient of one step, averaged over the ranks, from the whole model's."""
    import torch
    import torch.distributed as dist

    model.zero_grad()
    whole.zero_grad()
    loss, truth = loss_of(step(**batch), batch), loss_of(whole(**truth_batch), truth_batch)
    loss.backward()
    truth.backward()
    worst = abs(loss.item() - truth.item()) / truth.item()
    for ours, theirs in zip(model.parameters(), whole.parameters(), strict=True):
        found = ours.grad.clone()
        dist.all_reduce(found)
        worst = max(worst, ((found / 2 - theirs.grad).norm() / theirs.grad.norm()).item())
    return worst


def _code(call):
    import torch

    import autosp

    torch._dynamo.reset()
    try:
        call()
    except autosp.AutoSPError as error:
        return [error.code, str(error)]
    return ["", ""]


def _between_steps(way):
    """Train, evaluate, generate, train again: what each gives, and the log lines that it took."""
    import torch
    from conftest import tiny_llama, token_batch

    torch._dynamo.reset()
    from autosp import backend

    backend._say_unsharded.cache_clear()
    handler = _Lines()
    logging.getLogger("autosp").addHandler(handler)
    model = tiny_llama(1).double()
    whole = copy.deepcopy(model)
    step = model
    if way == "wrapped":
        step = torch.compile(model, backend="autosp", options=_options())
    else:
        model.compile(backend="autosp", options=_options())
    answer = {"first": _gradient_distance(step, model, whole, token_batch(2, 24), _untagged(24))}
    step.eval()
    evaluated = []
    for length in (24, 17, 20):
        with torch.no_grad():
            ours, truth = step(**_untagged(length)), whole(**_untagged(length))
        evaluated.append([(ours.loss - truth.loss).abs().item(), (ours.logits - truth.logits).abs().max().item()])
    answer["evaluated"] = evaluated
    prompt = torch.arange(1, 11).reshape(2, 5)
    settings = {"max_new_tokens": 9, "do_sample": False, "pad_token_id": 0, "attention_mask": torch.ones_like(prompt)}
    made = step.generate(prompt, use_cache=True, **settings)
    answer["generated"] = torch.equal(made, whole.generate(prompt, use_cache=True, **settings)), list(made.shape)
    step.train()
    answer["last"] = _gradient_distance(step, model, whole, token_batch(2, 18, seed=4), _untagged(18, seed=4))
    logging.getLogger("autosp").removeHandler(handler)
    answer["lines"] = handler.lines
    return answer


def _gathered():
    """Whole logits, and gradients through them: of the loss inside the model, and of one that is made outside."""
    import torch
    import torch.nn.functional as F
    from conftest import tiny_llama, token_batch

    def outside(output, batch):
        return F.cross_entropy(output.logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten())

    def both(output, batch):
        return output.loss + outside(output, batch)

    answers = {}
    for name, loss_of in {"inside": lambda output, _: output.loss, "outside": outside, "both": both}.items():
        torch._dynamo.reset()
        model = tiny_llama(1).double()
        whole = copy.deepcopy(model)
        step = torch.compile(model, backend="autosp", options=_options(outputs="gathered"))
        for length in (24, 23):
            logits, truth = step(**token_batch(2, length)).logits, whole(**_untagged(length)).logits
            assert logits.shape == truth.shape
            distance = ((logits - truth).norm() / truth.norm()).item()
            gradient = _gradient_distance(step, model, whole, token_batch(2, length), _untagged(length), loss_of)
            answers[f"{name}, length {length}"] = [distance, gradient]
    return answers


def answer():
    import torch
    import torch.distributed as dist
    from conftest import tiny_llama

    torch.set_num_threads(1)
    dist.init_process_group("gloo")

    def untagged(train):
        model = tiny_llama(1).double().train(train)
        return _code(lambda: torch.compile(model, backend="autosp", options=_options())(**_untagged(24)))

    return {
        "wrapped": _between_steps("wrapped"),
        "in place": _between_steps("in place"),
        "gathered": _gathered(),
        "untagged": {"train": untagged(True), "eval": untagged(False)},
    }


# Tests


@pytest.fixture(scope="module")
def answers():
    return [result.value for result in launch(__file__, "answer", 2, timeout=600)]


@pytest.mark.slow
@pytest.mark.parametrize("way", ["wrapped", "in place"])
def test_evaluation_and_generation_between_steps_of_training(answers, way):
    for told in answers:
        told = told[way]
        assert max(told["first"], told["last"]) < 1e-6  # The loss of Hugging Face is rounded to f32.
        assert max(sum(told["evaluated"], [])) < 1e-6
        assert told["generated"] == [True, [2, 14]]
        assert len(told["lines"]) == 1, told["lines"]
        assert "gradients are off" in told["lines"][0]


@pytest.mark.slow
@pytest.mark.parametrize("length", [24, 23])
@pytest.mark.parametrize("loss", ["inside", "outside", "both"])
def test_gathered_outputs_are_whole_and_so_are_gradients_through_them(answers, loss, length):
    for told in answers:
        logits, gradient = told["gathered"][f"{loss}, length {length}"]
        assert logits < 1e-6
        assert gradient < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_untagged_inputs_are_an_error_while_gradients_are_on(answers, mode):
    """model.eval() alone does not say that nobody trains: gradients do."""
    for told in answers:
        code, text = told["untagged"][mode]
        assert code == "ASP0101"
        assert "torch.no_grad()" in text
