"""Calls of aten operators as the passes see them: pre-dispatch, each written as a graph of one operation."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import torch
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.schema_check_mode import SchemaCheckMode

DTYPES = {
    torch.bool: "bool",
    torch.uint8: "u8",
    torch.int8: "i8",
    torch.int16: "i16",
    torch.int32: "i32",
    torch.int64: "i64",
    torch.float16: "f16",
    torch.bfloat16: "bf16",
    torch.float32: "f32",
    torch.float64: "f64",
    torch.complex64: "c64",
    torch.complex128: "c128",
}


class Inexpressible(Exception):
    """The call has an argument or a result that the IR's text form does not know."""


class _Recorder(SchemaCheckMode):
    """The dispatcher lets only its own kinds of mode onto the pre-dispatch stack; this is one that records."""

    def __init__(self):
        super().__init__()
        self._dispatch_key = torch._C.DispatchKey.PreDispatch
        self.calls: list[tuple[Any, tuple, dict]] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.calls.append((function, args, dict(kwargs or {})))
        return function(*args, **(kwargs or {}))


@contextlib.contextmanager
def recorded_calls():
    """The operator calls of the block, as (operator, args, kwargs), composite ones whole."""
    with enable_python_dispatcher(), _Recorder() as recorder:
        yield recorder.calls


def row_of(operator: Any) -> str:
    """The name of its row: "aten.add.Tensor", "aten.linear"."""
    return str(operator).removesuffix(".default")


@dataclass
class OneOpGraph:
    row: str
    text: str
    inputs: dict[str, torch.Tensor]

    @property
    def call(self) -> str:
        """The line of the call, to name the sample in messages."""
        return next(line.strip() for line in self.text.splitlines() if line.startswith("  %op = "))

    @property
    def shapes(self) -> str:
        return ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in self.inputs.items())


def one_op_graph(row: str, operator: Any, args: tuple, kwargs: dict) -> OneOpGraph:
    writer = _Writer()
    parameters = [argument.name for argument in operator._schema.arguments]
    positional = [writer.argument(value, parameters[i]) for i, value in enumerate(args)]
    named = [f"{name}={writer.argument(value, name)}" for name, value in kwargs.items()]
    trained = _differentiable(operator, args, kwargs, writer.inputs)
    copied_args, copied_kwargs = torch.utils._pytree.tree_map_only(torch.Tensor, torch.clone, (args, kwargs))
    with torch.no_grad():
        result = operator(*copied_args, **copied_kwargs)
    lines = [f"  %op = {row}({', '.join(positional)})"]
    lines[0] += f" {{{', '.join(named)}}}" if named else ""
    if isinstance(result, (tuple, list)):
        types = [_type_of(element) for element in result]
        lines[0] += f" : ({', '.join(types)})"
        returned = []
        for i, element in enumerate(result):
            if isinstance(element, torch.Tensor):
                lines.append(f"  %r{i} = builtin.getitem(%op, {i}) : {types[i]}")
                returned.append(f"%r{i}")
    else:
        lines[0] += f" : {_type_of(result)}"
        returned = [] if result is None else ["%op"]
    inputs = ", ".join(
        f"%{name}: {_type_of(tensor)}{' grad' if name in trained else ''}"
        for name, tensor in writer.inputs.items()
    )
    body = "\n".join(lines)
    text = f"graph @sample({inputs}) form=normalized {{\n{body}\n  return {', '.join(returned)}\n}}\n"
    return OneOpGraph(row, text, writer.inputs)


def _differentiable(operator: Any, args: tuple, kwargs: dict, inputs: dict[str, torch.Tensor]) -> list[str]:
    """The floating inputs that the operator takes a gradient for (cross entropy refuses its class weights)."""
    floating = [name for name, tensor in inputs.items() if tensor.is_floating_point() or tensor.is_complex()]
    if _runs_with_gradients(operator, args, kwargs, list(inputs), floating):
        return floating
    return [name for name in floating if _runs_with_gradients(operator, args, kwargs, list(inputs), [name])]


def _runs_with_gradients(operator: Any, args: tuple, kwargs: dict, order: list[str], names: list[str]) -> bool:
    position = iter(order)

    def leaf(tensor: torch.Tensor) -> torch.Tensor:
        copy = tensor.detach().clone()
        return copy.requires_grad_(True).clone() if next(position) in names else copy

    try:
        leaves, spec = torch.utils._pytree.tree_flatten((args, kwargs))
        args, kwargs = torch.utils._pytree.tree_unflatten(
            [leaf(value) if isinstance(value, torch.Tensor) else value for value in leaves], spec
        )
        operator(*args, **kwargs)
    except RuntimeError:
        return False
    return True


class _Writer:
    def __init__(self):
        self.inputs: dict[str, torch.Tensor] = {}

    def argument(self, value: Any, name: str) -> str:
        if isinstance(value, torch.Tensor):
            return "%" + self._input(value, name)
        if value is None:
            return "none"
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int):
            return str(value)
        if isinstance(value, float):
            return _float_text(value)
        if isinstance(value, str):
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        if isinstance(value, (list, tuple)):
            return "[" + ", ".join(self.argument(element, name) for element in value) + "]"
        if isinstance(value, torch.dtype) and value in DTYPES:
            return "dtype." + DTYPES[value]
        if isinstance(value, torch.device) and value.type == "cpu":
            return "device.cpu"
        if value is torch.strided:
            return "layout.strided"
        if isinstance(value, torch.memory_format):
            return "memory_format." + str(value).removeprefix("torch.")
        raise Inexpressible(f"{name}={value!r}")

    def _input(self, value: torch.Tensor, name: str) -> str:
        if value.layout is not torch.strided or value.device.type != "cpu" or value.dtype not in DTYPES:
            raise Inexpressible(f"{name} is {value.dtype}, {value.layout}, {value.device}")
        # "self" holds one tensor, "tensors" several: tensors, tensors_1, ...
        unique = name if name not in self.inputs else f"{name}_{sum(k.startswith(name) for k in self.inputs)}"
        self.inputs[unique] = value.detach().resolve_conj().resolve_neg().clone()
        return unique


def _type_of(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        if value.dtype not in DTYPES or value.layout is not torch.strided:
            raise Inexpressible(f"a result of {value.dtype}")
        return f"{DTYPES[value.dtype]}[{', '.join(map(str, value.shape))}]"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return f"int({value})"
    if isinstance(value, float):
        return "float"
    raise Inexpressible(f"a result of type {type(value).__name__}")


def _float_text(value: float) -> str:
    if value != value:
        return "nan"
    if value in (float("inf"), float("-inf")):
        return "inf" if value > 0 else "-inf"
    text = repr(value)
    return text if "." in text or "e" in text else text + ".0"
