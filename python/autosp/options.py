"""The options of the backend: names, defaults, what is allowed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from autosp.errors import make_error


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _row(default: Any, allowed: str, check: Callable[[Any], bool], text: str) -> Any:
    return field(default=default, metadata={"allowed": allowed, "check": check, "text": text})


def _choice(default: str, *others: str, text: str) -> Any:
    values = (default, *others)
    allowed = " | ".join(f'"{value}"' for value in values)
    return _row(default, allowed, lambda value: isinstance(value, str) and value in values, text)


@dataclass(frozen=True)
class Options:
    """Options of `torch.compile(model, backend="autosp", options={...})`."""

    sequence_parallel_size: int | None = _row(
        None, "an integer >= 1", lambda v: v is None or (_is_int(v) and v >= 1),
        "ranks that share one sequence; default: the size of `group`, or all ranks",
    )  # fmt: skip
    group: Any = _row(
        None, "the name of a process group, a ProcessGroup or a DeviceMesh", lambda v: v is None or v != "",
        "the ranks that share one sequence; default: the world cut in contiguous groups",
    )  # fmt: skip
    inner_backend: str = _choice(
        "inductor", "aot_eager", "eager", text="the compiler that the rewritten graph is handed to"
    )
    checkpoint: str = _choice(
        "none", "full", "sac", "auto",
        text="what backward computes again: none leaves that to the compiler; full: all but the inputs of repeated blocks; "
        "sac: that, but for attention; auto: as little as memory_budget allows",
    )  # fmt: skip
    memory_budget: int | float | str | None = _row(
        None, "an integer of bytes, a fraction, or text with a unit",
        lambda v: v is None or isinstance(v, str) or (_is_int(v) and v > 0) or (isinstance(v, float) and 0 <= v <= 1),
        "checkpoint=auto: bytes that a step may hold besides parameters and batch, or a fraction from 0.0 (the smallest "
        "peak that a plan reaches) to 1.0 (nothing computed again)",
    )  # fmt: skip
    device: str = _row(
        "auto", "a device name or description", lambda v: isinstance(v, str) and v != "",
        "device whose speeds decide what is cheap to compute again: cpu, a100, h100, h200, mi300x, a description "
        "(name=.. flops_low=.. ..), a file that holds one, or measured (once, then cached); auto: h100 for values on a "
        "GPU, else cpu",
    )  # fmt: skip
    on_gather: str = _choice(
        "allow", "warn", "error", text="what to do when an operation needs the whole sequence on every rank"
    )
    gather_limit: int | str | None = _row(
        None, "an integer of bytes, or text with a unit", lambda v: v is None or isinstance(v, str) or (_is_int(v) and v > 0),
        "bytes above which a gather along the sequence is refused whatever on_gather says, with KiB, MiB or GiB if wanted; "
        "counted per operation, rank and forward pass",
    )  # fmt: skip
    outputs: str = _choice("sharded", "gathered", "loss_only", text="how tensors that the model returns are laid out")
    attention: str = _choice("ulysses", "gather", text="how attention over a sharded sequence is repaired")
    collectives: str = _choice(
        "auto", "functional", "fused",
        text="functional: views around PyTorch's functional collectives, which its compiler fuses and schedules; fused: one "
        "autosp_rt op per exchange; auto: fused where all values are on the CPU and the ops are built",
    )  # fmt: skip
    dump_dir: str | None = _row(
        None, "a folder", lambda v: v is None or isinstance(v, str), "write the graphs before and after the passes here"
    )
    verify: bool = _row(True, "True | False", lambda v: isinstance(v, bool), "check the graph after every pass")
    deadline_s: float = _row(
        600.0, "a number of seconds > 0", lambda v: (_is_int(v) or isinstance(v, float)) and v > 0,
        "how long a rank waits for the others when they compare plans and batches",
    )  # fmt: skip

    @classmethod
    def read(cls, given: dict[str, Any]) -> Options:
        """Raises kBadOption for a name or value that is not allowed; lists what is."""
        known = {row.name: row for row in fields(cls)}
        for name, value in given.items():
            if name not in known:
                raise make_error(
                    "kBadOption", f'there is no option "{name}"', hint=f"the options are {', '.join(known)}"
                )
            _check(name, value, known[name].metadata)
        settings = cls(**given)
        settings._check_checkpoint()
        return settings

    def _check_checkpoint(self) -> None:
        if (self.checkpoint == "auto") != (self.memory_budget is not None):
            raise make_error(
                "kBadOption",
                f'option "checkpoint" is {self.checkpoint!r} and option "memory_budget" is {self.memory_budget!r}',
                hint="a memory_budget belongs to checkpoint='auto', and only to it",
            )
        if self.checkpoint != "none" and self.inner_backend == "eager":
            raise make_error(
                "kBadOption",
                f'option "checkpoint" is {self.checkpoint!r} and option "inner_backend" is "eager"',
                hint="the plan is made on the graph of forward and backward, which aot_eager and inductor build",
            )


def _check(name: str, value: Any, metadata: Any) -> None:
    if metadata["check"](value):
        return
    raise make_error("kBadOption", f'option "{name}" is {value!r}; allowed: {metadata["allowed"]}')


def checkpoint_options(settings: Options, device: str) -> dict[str, str]:
    """What the planner is told, as options of the passes; `device` as device_speed.resolve gave it."""
    return {"checkpoint": settings.checkpoint, "memory_budget": budget_text(settings.memory_budget), "device": device}


def budget_text(budget: int | float | str | None) -> str:
    """A fraction is told from bytes by its point, which 1e-05 would not have."""
    if budget is None:
        return ""
    return f"{budget:.17f}" if isinstance(budget, float) else str(budget)
