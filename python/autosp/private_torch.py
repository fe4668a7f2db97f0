"""Every use of PyTorch that its public interface does not cover, in one place, checked on torch 2.11 and 2.15.

1. `tracing_config`: three settings that must hold while Dynamo traces a model for AutoSP.
     torch._dynamo.config.specialize_float = True       otherwise float hyperparameters become f64[] inputs and the
                                                        backend is called a second time (TensorifyScalarRestartAnalysis)
     torch.fx.experimental._config.use_duck_shape=False otherwise a batch as large as the sequence gets its symbol
     torch._dynamo.config.fail_on_recompile_limit_hit=True  otherwise the ninth program of a model runs eagerly, unsharded
     torch._dynamo.config.ignore_logging_functions     + Hugging Face's logger.warning_once and info_once: a note about
                                                        a config, made while tracing, would cut the model in two
   Dynamo enters `backend.backend_ctx_ctor()` around every call of a compiled function, but looks the attribute up on
   the objects that are wrapped around a backend (torch._TorchCompileWrapper in a WrapBackendDebug), which do not
   forward it. `install_tracing_config` gives the outer one the missing attribute; it answers for backends marked by
   `mark_backend` alone, so no other backend behaves differently, and the settings are back as soon as the call
   returns. Where it cannot act (a backend function that merely calls ours) the results are the same, and the backend
   may run twice.
   The same place is where a model that Dynamo cannot trace whole becomes an AutoSPError: Dynamo leaves this context in a
   `finally`, with its own exception in flight (torch/_dynamo/eval_frame.py, compile_wrapper).
2. `exceptions_unwrapped`: Dynamo turns an exception of a backend into BackendCompilerFailed unless it is a
   `ShortenTraceback` (torch/_dynamo/output_graph.py, call_user_compiler; convert_frame.py lets it pass too). So what
   leaves the backend is an AutoSPError that is also a ShortenTraceback.
3. The rest: what a backend needs and torch keeps to itself.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import operator
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from autosp.errors import AutoSPError, make_error


@contextlib.contextmanager
def tracing_config() -> Iterator[None]:
    """The settings under which Dynamo must trace; restored on exit, where an error of Dynamo becomes an AutoSPError."""
    import torch._dynamo.config
    import torch.fx.experimental._config

    ignored = torch._dynamo.config.ignore_logging_functions | _notes_of_libraries()
    outer = sys.exc_info()[1]  # The caller may be handling an error of its own.
    with (
        torch._dynamo.config.patch(
            specialize_float=True, fail_on_recompile_limit_hit=True, ignore_logging_functions=ignored
        ),
        torch.fx.experimental._config.patch(use_duck_shape=False),
    ):
        yield
    error = sys.exc_info()[1]
    refusal = _untraceable(error) if error is not outer else None
    if refusal is not None:
        raise refusal from None


def _notes_of_libraries() -> set[Callable]:
    """Methods that Hugging Face adds to logging.Logger, when it is there. Hashable, and without an effect on any value."""
    return {getattr(logging.Logger, name) for name in ("warning_once", "info_once") if hasattr(logging.Logger, name)}


def _untraceable(error: BaseException | None) -> AutoSPError | None:
    """What AutoSP says when Dynamo did not come as far as the backend: its reason, and the user's line where it is known."""
    from torch._dynamo import exc
    from torch.fx.experimental.symbolic_shapes import ConstraintViolationError

    kinds = (exc.Unsupported, exc.UncapturedHigherOrderOpError, exc.UserError, exc.InternalTorchDynamoError)
    if not isinstance(error, (*kinds, ConstraintViolationError)) or isinstance(error, AutoSPError):
        return None
    text = str(error)
    places = [(frame.filename, frame.lineno) for frame in getattr(error, "real_stack", None) or []]
    places += re.findall(r'File "([^"]+)", line (\d+)', text)  # Some carry their stack in the text only.
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    reasons = [line for line in lines[1:] if line.startswith(("Explanation:", "Hint:", "Developer debug context:", "- "))]
    return make_error(
        "kCaptureFailed",
        f"torch.compile cannot trace the model whole: {lines[0] if lines else type(error).__name__}",
        notes=[*reasons[:4], f"{type(error).__name__} of torch {torch.__version__}"],
        file=places[-1][0] if places else "",
        line=int(places[-1][1] or 0) if places else 0,
    )


def mark_backend(backend: Callable) -> Callable:
    """Makes torch.compile(..., backend=backend) trace under `tracing_config`. Returns the backend."""
    backend.backend_ctx_ctor = tracing_config
    install_tracing_config()
    return backend


def install_tracing_config() -> None:
    """Lets Dynamo find the `backend_ctx_ctor` of a backend marked by `mark_backend`; does nothing the second time."""
    from torch._dynamo.repro.after_dynamo import WrapBackendDebug

    if "backend_ctx_ctor" not in WrapBackendDebug.__dict__:
        WrapBackendDebug.backend_ctx_ctor = _ForwardedContext()


class _ForwardedContext:
    """A class attribute that an instance's own attribute overrides, as if it were not there for other backends."""

    def __get__(self, wrapper: Any, owner: type | None = None) -> Any:
        backend = getattr(wrapper, "_torchdynamo_orig_backend", None)
        while isinstance(backend, (functools.partial, torch._TorchCompileWrapper)):
            backend = backend.func if isinstance(backend, functools.partial) else backend.compiler_fn
        if getattr(backend, "backend_ctx_ctor", None) is not tracing_config:
            raise AttributeError("backend_ctx_ctor")
        return tracing_config


@functools.cache
def _unwrapped_error_class() -> type:
    from torch._dynamo.exc import ShortenTraceback

    class Unwrapped(AutoSPError, ShortenTraceback):
        def __init__(self, error: AutoSPError, first_useful_frame):
            RuntimeError.__init__(self, str(error))
            self.diagnostics = error.diagnostics
            self.first_useful_frame = first_useful_frame
            for name in ("frame_exec_strategy", "_torch_dynamo_tracer_output"):
                if not hasattr(self, name):
                    setattr(self, name, None)

        def __reduce__(self):
            return AutoSPError, (str(self), self.diagnostics)

    Unwrapped.__name__ = Unwrapped.__qualname__ = "AutoSPError"
    Unwrapped.__module__ = "autosp.errors"
    return Unwrapped


@contextlib.contextmanager
def exceptions_unwrapped() -> Iterator[None]:
    """Around the body of a backend: an AutoSPError reaches the caller of the compiled model as AutoSPError."""
    try:
        yield
    except AutoSPError as error:
        cls = _unwrapped_error_class()
        if isinstance(error, cls):
            raise
        # Frames: 0 this one, 1 contextlib's __exit__, 2 the backend, where the user's interest in the trace begins.
        frame = inspect.currentframe().f_back.f_back
        raise cls(error, frame).with_traceback(error.__traceback__) from error.__cause__


@functools.cache
def stop_compilation() -> type[Exception]:
    """An exception that a backend raises when it has seen what it wanted; reaches the caller of the compiled model."""
    from torch._dynamo.exc import ShortenTraceback

    class StopCompilation(ShortenTraceback):
        def __init__(self):
            super().__init__("stopped after planning", first_useful_frame=None)

    return StopCompilation


def tracing_context() -> Any | None:
    """Dynamo's TracingContext; None outside a compilation."""
    return torch._guards.TracingContext.try_get()


def fake_inputs(example_inputs: list) -> tuple[Any, list]:
    """A fake mode and the example inputs in it, with the symbols that Dynamo gave them.

    Neither the mode that Dynamo traced with (tracing may have changed its tensors in place) nor the one that it hands
    to the inner compiler (our tracing would change those) is used, but a fresh one over the same symbols.
    """
    from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

    for example in example_inputs:
        if isinstance(example, FakeTensor):
            return example.fake_mode, list(example_inputs)
    context = tracing_context()
    known = context.fake_mode if context is not None else None
    mode = FakeTensorMode(
        shape_env=known.shape_env if known is not None else None,
        allow_non_fake_inputs=True,
        static_shapes=None if known is not None else True,
    )

    def fake(example):
        if not isinstance(example, torch.Tensor):
            return example
        symbolic = context.tensor_to_context.get(example) if context is not None else None
        if symbolic is not None:
            return mode.from_tensor(example, symbolic_context=symbolic, source=symbolic.tensor_source)
        return mode.from_tensor(example, static_shapes=True)

    return mode, [fake(example) for example in example_inputs]


def size_hint(size: torch.SymInt) -> int | None:
    """What a symbolic size is in the example at hand; None when no example decides it."""
    return size.node.hint if size.node.has_hint() else None


@contextlib.contextmanager
def fresh_symbols_ignored(mode: Any) -> Iterator[None]:
    """Data-dependent sizes met while tracing are bound again by the inner compiler; ours are forgotten."""
    if mode.shape_env is None:
        yield
        return
    with mode.shape_env.ignore_fresh_unbacked_symbols():
        yield


def copy_dynamo_metadata(source: torch.fx.GraphModule, target: torch.fx.GraphModule) -> None:
    """What AOTAutograd and inductor read off a graph that comes from Dynamo: parameter sources, compile id."""
    from torch._dynamo.source import ConstantSource

    target.meta.update(source.meta)
    for name in ("_source_to_user_stacks", "_backend_id", "compile_subgraph_reason"):
        if hasattr(source, name):
            setattr(target, name, getattr(source, name))
    if hasattr(source, "_param_name_to_source"):
        # AOTAutograd wants a source for every tensor that the module holds; tracing added the program's constants.
        held = [name for name, _ in (*target.named_parameters(), *target.named_buffers())]
        constants = {name: ConstantSource(source_name=name) for name in held}
        target._param_name_to_source = {**constants, **source._param_name_to_source}
    old = source.graph.find_nodes(op="placeholder")
    new = target.graph.find_nodes(op="placeholder")
    for old_node, new_node in zip(old, new, strict=True):
        if hasattr(old_node, "_dynamo_source"):
            new_node._dynamo_source = old_node._dynamo_source


def process_group_store(group: Any) -> Any:
    """The key-value store of a process group; its keys are the group's own."""
    return torch.distributed.distributed_c10d._get_process_group_store(group)


def resolve_process_group(name: str) -> Any:
    return torch.distributed.distributed_c10d._resolve_process_group(name)


# Calls in a graph that change the state under which the following operators run. They stay where they are.
STATE_SWITCHES = frozenset(
    (torch._C._set_grad_enabled, torch.amp.autocast_mode._enter_autocast, torch.amp.autocast_mode._exit_autocast)
)


def is_unsupported_transform(target: Any) -> bool:
    """Calls that change how later operators are recorded or differentiated, and that are no state switch of ours."""
    module = getattr(target, "__module__", None) or ""
    name = getattr(target, "__name__", "")
    return "_functorch" in module or name in ("_enter_inference_mode", "_exit_inference_mode")


def fresh_checkpoint_id() -> int:
    """A number for a checkpointed region, from the counter that PyTorch's own path uses."""
    from torch._higher_order_ops.wrap import uid

    return next(uid)


def has_unbacked_symbols(values: list) -> bool:
    """Whether a size depends on data in one of these fake values."""
    from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

    return bool(free_unbacked_symbols([v for v in values if isinstance(v, (torch.Tensor, torch.SymInt))])) or any(
        isinstance(v, (torch.SymFloat, torch.SymBool)) for v in values
    )


@contextlib.contextmanager
def autocast_restored(devices: tuple[str, ...]) -> Iterator[None]:
    """Whatever happens inside, autocast is afterwards as it was: a capture may fail inside an autocast region."""
    before = [(device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)) for device in devices]
    nesting = torch.autocast_increment_nesting()
    try:
        yield
    finally:
        while torch.autocast_decrement_nesting() >= nesting:
            pass
        for device, enabled, dtype in before:
            torch.set_autocast_enabled(device, enabled)
            torch.set_autocast_dtype(device, dtype)


GETITEM = operator.getitem


def is_tangent(node: torch.fx.Node) -> bool:
    """Whether a node of a joint graph is an input that backward starts from. Their names have been the same since 2.0."""
    return node.op == "placeholder" and node.name.startswith("tangents")


def tangents_are_held() -> bool:
    """Whether all tangents of a compiled backward live until it ends, read or not. They are arguments of a Python function
    in torch 2.11; 2.15 hands them over in a list that is emptied (torch.autograd.Function.boxed_grads_call)."""
    return not hasattr(torch.autograd.Function, "boxed_grads_call")


@contextlib.contextmanager
def joint_pass(apply: Callable) -> Iterator[None]:
    """AOTAutograd calls `apply(joint graph, inputs)` and partitions what it returns.

    torch._functorch.config.joint_custom_pass: in 2.11 and 2.15 directly before the partitioner, for every inner compiler.
    The cache of compiled autograd graphs does not know it, so it is left out. A hook of the user runs first: what it makes
    is what is planned.
    """
    from torch._functorch import config

    if not hasattr(config, "joint_custom_pass"):
        raise make_error("kCaptureFailed", f"torch {torch.__version__} has no hook for joint graphs")
    before = config.joint_custom_pass

    def both(gm: torch.fx.GraphModule, inputs: Any) -> torch.fx.GraphModule:
        return apply(gm if before is None else before(gm, inputs), inputs)

    with config.patch(joint_custom_pass=both, enable_autograd_cache=False), _inputs_without_tags():
        yield


@contextlib.contextmanager
def _inputs_without_tags() -> Iterator[None]:
    """Inductor's own joint passes run between the hook and the partitioner. One that replaces a node by an input of the
    graph (2.11: arithmetic on sizes) hands the node's tag on to the input, and an input that is to be computed again is
    missing in backward. torch._inductor.config.joint_custom_post_pass: in 2.11 and 2.15 the last of them."""
    from torch._inductor import config, custom_graph_pass

    before = config.joint_custom_post_pass
    earlier = [] if before is None else list(before) if isinstance(before, (list, tuple)) else [before]

    class Untag(custom_graph_pass.CustomGraphPass):
        def __call__(self, graph: torch.fx.Graph) -> None:
            for each in earlier:
                each(graph)
            for node in graph.find_nodes(op="placeholder"):
                clear_recompute_tag(node)

        def uuid(self) -> Any:
            names = [each.uuid() if hasattr(each, "uuid") else None for each in earlier]
            return None if None in names else ("autosp.inputs_without_tags", *names)

    with config.patch(joint_custom_post_pass=Untag()):
        yield


# Operators of these namespaces are functions of their operands, unless they are tagged as random.
_PURE_NAMESPACES = frozenset(("aten", "prims", "prim", "_c10d_functional", "autosp_rt"))
_PURE_HIGHER_ORDER = frozenset(("flex_attention", "flex_attention_backward"))


def runs_once(node: torch.fx.Node) -> bool:
    """Whether a second run of this call may give something else, or must not happen: it draws random numbers, writes, has
    an effect, or is an operator of somebody else's (unless a checkpoint region demands it)."""
    target = node.target
    if node.op != "call_function":
        return False
    if isinstance(target, torch._ops.HigherOrderOperator):
        return target.name() not in _PURE_HIGHER_ORDER
    if not isinstance(target, torch._ops.OpOverload):
        return False
    if target._schema.is_mutable:
        return True
    if torch.Tag.nondeterministic_seeded in target.tags:
        return _argument(node, "dropout_p") != 0  # Attention without dropout is tagged too.
    return target.namespace not in _PURE_NAMESPACES and recompute_demand(node) is not True


def _argument(node: torch.fx.Node, name: str) -> Any:
    """The value of a named argument of an operator's call, the schema's default when it is left out; None: it has none."""
    for position, argument in enumerate(node.target._schema.arguments):
        if argument.name == name:
            given = node.args[position] if position < len(node.args) else node.kwargs.get(name)
            return argument.default_value if given is None else given
    return None


def written_inputs(gm: torch.fx.GraphModule) -> list[torch.fx.Node]:
    """Inputs of a joint graph, and values in it, that are overwritten before backward reads them.

    Two ways: in the graph, by an operator whose schema says so; or after it, when the compiled function copies what
    the graph returned into the argument. AOTAutograd describes the results of the second way (2.11, 2.15).
    """
    found = []
    for node in gm.graph.nodes:
        if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
            continue
        for position, argument in enumerate(node.target._schema.arguments):
            if argument.alias_info is None or not argument.alias_info.is_write:
                continue
            value = node.args[position] if position < len(node.args) else node.kwargs.get(argument.name)
            values = value if isinstance(value, (list, tuple)) else [value]
            found += [v for v in values if isinstance(v, torch.fx.Node)]
    described = {node.meta.get("desc"): node for node in gm.graph.find_nodes(op="placeholder")}
    for result in gm.graph.output_node().meta.get("desc", ()):
        if (copied := getattr(result, "mutated_input", None)) in described and copied is not None:
            found.append(described[copied])
    return found


def recompute_demand(node: torch.fx.Node) -> bool | None:
    """What a checkpoint region demands of a node: computed again (True), kept (False), nothing."""
    from torch.utils.checkpoint import CheckpointPolicy

    policy = node.meta.get("recompute")
    again = (CheckpointPolicy.MUST_RECOMPUTE, CheckpointPolicy.PREFER_RECOMPUTE)
    if policy in again:
        # What a region returns to a later region is an input of that one, and inputs of regions are kept.
        region = node.meta.get("ac_graph_id")
        later = (
            user.meta.get("ac_graph_id") not in (None, region) and user.meta.get("recompute") in again
            for user in node.users
        )
        return not (region is not None and any(later))
    if policy in (CheckpointPolicy.MUST_SAVE, CheckpointPolicy.PREFER_SAVE):
        return False
    return None


def clear_recompute_tag(node: torch.fx.Node) -> None:
    for key in ("recompute", "ac_graph_id"):
        node.meta.pop(key, None)


def set_recompute_tag(node: torch.fx.Node, recompute: bool) -> None:
    """One region for the whole graph: the partitioner would keep what crosses two."""
    from torch.utils.checkpoint import CheckpointPolicy

    node.meta["recompute"] = CheckpointPolicy.MUST_RECOMPUTE if recompute else CheckpointPolicy.MUST_SAVE
    node.meta["ac_graph_id"] = 0


def bound_sizes(gm: torch.fx.GraphModule, bounds: list[tuple[str, int]]) -> None:
    """Makes the sizes with these symbols guarded: a call beyond a bound compiles anew. Inside a compilation only."""
    sizes = {}
    for node in gm.graph.find_nodes(op="placeholder"):
        value = node.meta.get("val")
        for size in value.shape if isinstance(value, torch.Tensor) else (value,):
            if isinstance(size, torch.SymInt):
                sizes.setdefault(str(size.node.expr), size)
    for symbol, bound in bounds:
        if symbol in sizes:
            torch._check(sizes[symbol] <= bound)


def merge_equal_nodes(gm: torch.fx.GraphModule) -> None:
    """Common subexpressions of a joint graph become one node, as PyTorch's partitioner does before it decides: what is
    planned must be what it partitions. Random and writing operations are left alone."""
    from torch._functorch.compile_utils import fx_graph_cse

    gm.graph.eliminate_dead_code()
    described = gm.graph.output_node().meta
    gm.graph = fx_graph_cse(gm.graph)
    gm.graph.output_node().meta = {**described, **gm.graph.output_node().meta}
    gm.recompile()
