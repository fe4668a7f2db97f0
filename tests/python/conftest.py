"""What the Python tests share: tiny models, one training step, a backend that only captures."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def fresh_dynamo():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Capturing:
    """A backend that captures a graph and hands it to `inner`; keeps what it saw."""

    def __init__(self, inner: str = "aot_eager", marked: bool = True):
        from autosp import private_torch

        self.inner = inner
        self.dynamo_graphs: list[torch.fx.GraphModule] = []
        self.graphs: list[torch.fx.GraphModule] = []
        self.backend = lambda gm, inputs: self(gm, inputs)
        if marked:
            private_torch.mark_backend(self.backend)

    def __call__(self, gm, inputs):
        from autosp import private_torch
        from autosp.capture import capture

        with private_torch.exceptions_unwrapped():
            captured = capture(gm, inputs)
        self.dynamo_graphs.append(gm)
        self.graphs.append(captured)
        return torch._dynamo.lookup_backend(self.inner)(captured, inputs)

    def targets(self, index: int = -1) -> list[str]:
        return [str(node.target) for node in self.graphs[index].graph.nodes if node.op == "call_function"]


def gradients(step, parameters, *arguments, seed: int = 5, **keywords):
    """The loss of one step and the gradient of every parameter (None where there is none)."""
    torch.manual_seed(seed)
    for parameter in parameters:
        parameter.grad = None
    loss = step(*arguments, **keywords)
    loss = loss if isinstance(loss, torch.Tensor) else loss.loss
    loss.backward()
    return loss.detach().clone(), [None if p.grad is None else p.grad.clone() for p in parameters]


def assert_bitwise_equal(left, right):
    assert torch.equal(left[0], right[0]), f"loss {left[0].item()!r} != {right[0].item()!r}"
    for index, (a, b) in enumerate(zip(left[1], right[1], strict=True)):
        assert (a is None) == (b is None), f"gradient {index} is missing on one side"
        if a is not None:
            assert torch.equal(a, b), f"gradient {index} differs by {(a - b).abs().max().item()!r}"


def tiny_llama(layers: int = 2, **changes):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    settings = dict(
        num_hidden_layers=layers,
        hidden_size=64,
        intermediate_size=96,
        num_attention_heads=8,
        num_key_value_heads=2,
        vocab_size=128,
        use_cache=False,
    )
    return LlamaForCausalLM(LlamaConfig(**{**settings, **changes}))


def token_batch(batch: int, length: int, vocabulary: int = 128, seed: int = 3) -> dict[str, torch.Tensor]:
    """Tokens with a padded start, ignored labels and given positions, tagged."""
    import autosp

    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, vocabulary, (batch, length), generator=generator)
    labels = ids.clone()
    labels[:, : length // 3] = -100
    mask = torch.ones(batch, length, dtype=torch.long)
    mask[0, : length // 5] = 0
    positions = torch.arange(length).expand(batch, length).contiguous()
    autosp.prepare_auto_sp_inputs(ids, labels, positions, mask)
    return {"input_ids": ids, "labels": labels, "position_ids": positions, "attention_mask": mask}
