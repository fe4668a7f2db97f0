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
        None, "the name of a process group or a ProcessGroup", lambda v: v is None or v != "",
        "the ranks that share one sequence; default: the world cut in contiguous groups",
    )  # fmt: skip
    inner_backend: str = _choice(
        "inductor", "aot_eager", "eager", text="the compiler that the rewritten graph is handed to"
    )
    checkpoint: str = _choice("none", text="activation checkpointing planned by AutoSP")
    memory_budget: None = _row(None, "None", lambda v: v is None, "memory that the checkpointing plan may use")
    on_gather: str = _choice(
        "allow", "warn", "error", text="what to do when an operation needs the whole sequence on every rank"
    )
    outputs: str = _choice("sharded", "gathered", "loss_only", text="how tensors that the model returns are laid out")
    attention: str = _choice("ulysses", "gather", text="how attention over a sharded sequence is repaired")
    collectives: str = _choice(
        "auto", "functional", "fused",
        text="functional: views around PyTorch's functional collectives, which its compiler fuses and schedules; fused: one "
        "autosp_rt op per exchange; auto: fused where all values are on the CPU",
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
        return cls(**given)


_PLANNED = {"checkpoint": ("auto", "sac", "full")}


def _check(name: str, value: Any, metadata: Any) -> None:
    if metadata["check"](value):
        return
    # Named by the design, not built yet: saying "unknown" would send the user looking for a typing mistake.
    if name == "memory_budget" or (isinstance(value, str) and value in _PLANNED.get(name, ())):
        raise make_error(
            "kBadOption",
            f'option "{name}" is {value!r}, which is not available in this version; allowed: {metadata["allowed"]}',
        )
    raise make_error("kBadOption", f'option "{name}" is {value!r}; allowed: {metadata["allowed"]}')
