"""The two engines a mode can train with: DeepSpeed, and a dozen lines of plain PyTorch.

Both average gradients over all ranks, sequence parallel and data parallel alike.
"""

from __future__ import annotations

import torch
import torch.distributed as dist


def make_optimizer(spec: dict, parameters) -> torch.optim.Optimizer:
    if spec["optimizer"] == "adam":
        return torch.optim.AdamW(parameters, lr=spec["lr"], weight_decay=0.0)
    return torch.optim.SGD(parameters, lr=spec["lr"])


class PlainEngine:
    """torch.compile, an all-reduce per gradient, torch.optim. bf16 weights have an f32 master copy, as in DeepSpeed."""

    def __init__(self, spec: dict, model: torch.nn.Module, forward):
        self.model, self.forward = model, forward
        self.world = dist.get_world_size() if dist.is_initialized() else 1
        self.parameters = list(model.parameters())
        half = spec["dtype"] == "bf16"
        self.masters = [p.detach().float() for p in self.parameters] if half else self.parameters
        self.optimizer = make_optimizer(spec, self.masters)

    def backward(self, loss: torch.Tensor, scale: float) -> None:
        (loss * scale).backward()

    def average(self) -> None:
        for parameter in self.parameters:
            if self.world > 1:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                dist.all_reduce(parameter.grad)
                parameter.grad /= self.world

    def gradients(self) -> dict[str, torch.Tensor]:
        return {name: p.grad.detach().clone().cpu() for name, p in self.model.named_parameters() if p.grad is not None}

    def step(self) -> None:
        if self.masters is not self.parameters:
            for master, parameter in zip(self.masters, self.parameters):
                master.grad = None if parameter.grad is None else parameter.grad.float()
        self.optimizer.step()
        if self.masters is not self.parameters:
            with torch.no_grad():
                for master, parameter in zip(self.masters, self.parameters):
                    parameter.copy_(master)
        for parameter in self.parameters:
            parameter.grad = None


class DeepSpeed:
    """deepspeed.initialize with the config a user would write; `passes` turns its compiler on."""

    def __init__(self, spec: dict, model: torch.nn.Module, passes: list[str] = (), options: dict | None = None):
        import deepspeed

        self.model = model
        self.micros = len(spec["lengths"])
        config = {
            "train_micro_batch_size_per_gpu": spec["batch_size"],
            "gradient_accumulation_steps": self.micros,
            "sequence_parallel_size": spec["sp"],
            "gradient_clipping": 0.0,
            "zero_optimization": {"stage": spec["zero_stage"]},
            "zero_allow_untested_optimizer": True,
            "bf16": {"enabled": spec["dtype"] == "bf16"},
            "steps_per_print": 2**31,
        }
        if passes:
            config["compile"] = {"deepcompile": True, "passes": list(passes)}
        if options:
            config["autosp"] = options
        self.engine, *_ = deepspeed.initialize(
            model=model, optimizer=make_optimizer(spec, model.parameters()), config=config
        )
        if passes:
            self.engine.compile()
        self.forward = self.engine

    def backward(self, loss: torch.Tensor, scale: float) -> None:
        # DeepSpeed divides by the accumulation steps itself.
        self.engine.backward(loss if scale * self.micros == 1.0 else loss * (scale * self.micros))
        self.pending = self.engine.is_gradient_accumulation_boundary()
        if not self.pending:
            self.engine.step()

    def average(self) -> None:
        assert self.pending, "DeepSpeed has not come to the end of the accumulation"

    def gradients(self) -> dict[str, torch.Tensor]:
        from deepspeed.utils import safe_get_full_grad

        gradients = {name: safe_get_full_grad(p) for name, p in self.model.named_parameters()}
        return {name: g.detach().clone().cpu() for name, g in gradients.items() if g is not None}

    def step(self) -> None:
        self.engine.step()
