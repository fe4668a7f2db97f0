"""Lowers a Dynamo graph to pre-dispatch ATen one node at a time, and each kind of node once.

make_fx over the whole graph runs every operator on symbolic fake tensors; for 32 equal layers that takes about as long
as Dynamo itself. Here a node is traced alone (make_fx on its one call) and the small graph is kept as a recipe: the
next node with the same target, constants, argument shapes, strides and autocast state gets copies of the recipe's
nodes and shares its fake results. Never shared: what writes to an argument, or makes a size out of data.

Gradients are not simulated: fake values never require one, because no lowering asks. Which value requires a gradient
follows from the placeholders and the grad mode switches, which stay in the graph.
"""

from __future__ import annotations

import logging
import operator
import os
import re
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx.node import map_aggregate, map_arg
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from autosp import private_torch
from autosp.errors import make_error

log = logging.getLogger("autosp")

_SYMBOLIC = (torch.SymInt, torch.SymFloat, torch.SymBool)
# What a lowered node inherits from the node of the user's program.
_INHERITED = ("stack_trace", "nn_module_stack", "source_fn_stack", "custom", "partitioner_tag")
_AUTOCAST_DEVICES = ("cpu", "cuda")
_TORCH = os.path.dirname(torch.__file__) + os.sep


@dataclass
class Value:
    """A value in flight: its node in the new graph, and what stands for it while tracing."""

    node: torch.fx.Node
    fake: Any


@dataclass
class Recipe:
    """A traced call. The placeholders of its graph are the distinct argument values in order."""

    module: torch.fx.GraphModule
    results: list[Any]  # Flat; fake values and constants.
    is_value: list[bool]  # Whether a result is a value of the graph; those are the graph's outputs, in order.
    spec: TreeSpec
    writes: dict[int, torch.fx.Node | None]  # Argument written to -> the node that gives its new value, if one does.
    arguments: list[Any]  # The fakes it was traced with; after a write they have the new shape.


class GraphTracer:
    """One run over one Dynamo graph."""

    def __init__(self, gm: torch.fx.GraphModule, mode: Any):
        self._gm = gm
        self._mode = mode
        self._root = torch.nn.Module()
        self._graph = torch.fx.Graph()
        self._recipes: dict[Hashable, Recipe] = {}
        self._attributes: dict[int, str] = {}  # id of an object held by _root -> its name there
        self._stack_trace = ""  # Of the last node that had one.
        self._symbols: dict[Any, torch.fx.Node] = {}  # sympy expression -> the node that has its value

    def run(self, fakes: list) -> torch.fx.GraphModule:
        from torch._dispatch.python import enable_python_dispatcher

        with (
            private_torch.autocast_restored(_AUTOCAST_DEVICES),
            private_torch.fresh_symbols_ignored(self._mode),
            self._mode,
            enable_python_dispatcher(),
        ):
            inputs = self._gm.graph.find_nodes(op="placeholder")
            values = [self._placeholder(node, fake) for node, fake in zip(inputs, fakes, strict=True)]
            result = self._run_body(self._gm, values, {})
        self._graph.output(map_aggregate(result, _node_of))
        self._graph.lint()
        return torch.fx.GraphModule(self._root, self._graph)

    def _placeholder(self, old: torch.fx.Node, fake: Any) -> Value:
        node = self._graph.placeholder(old.name)
        if isinstance(fake, torch.SymInt):
            self._symbols.setdefault(fake.node.expr, node)
        node.meta["val"] = _without_grad(fake)
        return Value(node, node.meta["val"])

    def _run_body(self, gm: torch.fx.GraphModule, arguments: Iterable, tags: dict) -> Any:
        """The results of a graph whose nodes are appended to the new one; `tags` goes to the meta of all of them."""
        environment: dict[torch.fx.Node, Any] = {}
        arguments = iter(arguments)
        result = None
        for node in gm.graph.nodes:
            if node.op == "placeholder":
                environment[node] = next(arguments)
            elif node.op == "output":
                result = map_arg(node.args[0], environment.__getitem__)
            else:
                meta = {key: node.meta[key] for key in _INHERITED if key in node.meta}
                environment[node] = self._run_node(gm, node, environment, {**meta, **tags})
        return result

    def place(self) -> tuple[str, int]:
        """The user's line of the node that is lowered, or was last; ("", 0) where it is not known."""
        frames = re.findall(r'File "([^"]+)", line (\d+)', self._stack_trace)
        own = [frame for frame in frames if not frame[0].startswith(_TORCH)] or frames
        return (own[-1][0], int(own[-1][1])) if own else ("", 0)

    def _run_node(self, gm: torch.fx.GraphModule, node: torch.fx.Node, environment: dict, meta: dict) -> Any:
        self._stack_trace = meta.get("stack_trace") or self._stack_trace
        if node.op == "get_attr":
            return self._attribute(operator.attrgetter(node.target)(gm), meta)
        arguments, keywords = map_arg((node.args, node.kwargs), environment.__getitem__)
        if node.op == "call_method":
            return self._call(node.target, operator.methodcaller, arguments, keywords, meta)
        if node.op == "call_module":
            return self._call(gm.get_submodule(node.target), None, arguments, keywords, meta)
        if isinstance(node.target, torch._ops.HigherOrderOperator):
            if node.target is torch.ops.higher_order.tag_activation_checkpoint:
                return self._inline_checkpoint(arguments[0], arguments[1:])
            return self._keep(node.target, arguments, keywords, meta)
        if node.target in private_torch.STATE_SWITCHES:
            return self._switch_state(node.target, arguments, meta)
        if node.target is operator.getitem and not isinstance(arguments[0], Value):
            return arguments[0][arguments[1]]
        if private_torch.is_unsupported_transform(node.target):
            file, line = self.place()
            raise make_error(
                "kCaptureFailed",
                f"{getattr(node.target, '__name__', node.target)} cannot be captured: function transforms "
                "(torch.func, vmap) and inference mode inside a training graph are not supported",
                file=file,
                line=line,
            )
        return self._call(node.target, None, arguments, keywords, meta)

    def _attribute(self, value: Any, meta: dict) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        node = self._get_attr(value, "constant", meta)
        node.meta["val"] = _without_grad(self._mode.from_tensor(value, static_shapes=True))
        return Value(node, node.meta["val"])

    def _get_attr(self, value: Any, prefix: str, meta: dict) -> torch.fx.Node:
        name = self._attributes.get(id(value))
        if name is None:
            name = f"{prefix}_{len(self._attributes)}"
            self._attributes[id(value)] = name
            setattr(self._root, name, value)
        node = self._graph.get_attr(name)
        node.meta.update(meta)
        return node

    def _switch_state(self, target: Callable, arguments: tuple, meta: dict) -> Any:
        node = self._graph.call_function(target, map_aggregate(arguments, _node_of))
        node.meta.update(meta, val=None)
        # Autocast decides the dtypes of the fake results; the grad mode decides nothing while tracing.
        if target is torch._C._set_grad_enabled:
            return Value(node, None)
        return Value(node, target(*map_aggregate(arguments, _fake_of)))

    def _inline_checkpoint(self, body: torch.fx.GraphModule, arguments: tuple) -> Any:
        from torch.utils.checkpoint import CheckpointPolicy

        if "_checkpoint_context_fn" in body.meta:
            log.warning(
                "the policy of a selective checkpoint names operators that do not exist yet when AutoSP captures a "
                "graph: the whole region is recomputed instead (results are the same)"
            )
        tags = {"ac_graph_id": private_torch.fresh_checkpoint_id(), "recompute": CheckpointPolicy.PREFER_RECOMPUTE}
        return self._run_body(body, arguments, tags)

    def _keep(self, target: Callable, arguments: tuple, keywords: dict, meta: dict) -> Any:
        """One node for a higher-order operator; its bodies become attributes of the new module."""

        def node_of(value):
            return self._get_attr(value, "body", meta) if isinstance(value, torch.fx.GraphModule) else _node_of(value)

        node = self._graph.call_function(
            target, map_aggregate(arguments, node_of), map_aggregate(keywords, node_of)
        )
        result = target(*map_aggregate(arguments, _fake_of), **map_aggregate(keywords, _fake_of))
        return self._results_of(node, result, meta)

    def _results_of(self, node: torch.fx.Node, fake: Any, meta: dict) -> Any:
        node.meta.update(meta, val=map_aggregate(fake, _without_grad))
        if not isinstance(fake, (tuple, list)):
            return Value(node, node.meta["val"])
        parts = [self._graph.call_function(operator.getitem, (node, index)) for index in range(len(fake))]
        return tuple(self._results_of(part, value, meta) for part, value in zip(parts, fake, strict=True))

    def _call(self, target: Any, kind: Any, arguments: tuple, keywords: dict, meta: dict) -> Any:
        """A call of `target`, or of the method of that name, lowered by its recipe."""
        values: dict[torch.fx.Node, Value] = {}
        key = None
        try:
            call = _constant_key((arguments, keywords), values)
            autocast = tuple(
                (torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)) for device in _AUTOCAST_DEVICES
            )
            wanted = (target, kind, call, tuple(_fake_key(value.fake) for value in values.values()), autocast)
            recipe = self._recipes.get(wanted)
            key = wanted
        except TypeError:  # Not hashable: traced for this call alone.
            values.clear()
            map_aggregate((arguments, keywords), lambda value: _collect(value, values))
            recipe = None
        if recipe is None:
            recipe = _trace(target, kind, arguments, keywords, list(values.values()))
            if key is not None and not recipe.writes and not private_torch.has_unbacked_symbols(recipe.results):
                self._recipes[key] = recipe
        return self._apply(recipe, list(values.values()), meta)

    def _apply(self, recipe: Recipe, values: list[Value], meta: dict) -> Any:
        """Copies the recipe's nodes to the end of the new graph."""
        new: dict[torch.fx.Node, torch.fx.Node] = {}
        remaining = iter(values)
        outputs: list[Any] = []
        for node in recipe.module.graph.nodes:
            if node.op == "placeholder":
                new[node] = next(remaining).node
            elif node.op == "get_attr":
                new[node] = self._get_attr(getattr(recipe.module, node.target), "constant", meta)
                new[node].meta["val"] = node.meta.get("val")
            elif node.op == "output":
                outputs = [new[result] for result in node.args[0]]
            else:
                new[node] = self._copy(node, new, meta)
        for position, written in recipe.writes.items():
            values[position].fake = recipe.arguments[position]
            if written is not None:
                values[position].node = new[written]
        nodes = iter(outputs)
        results = [
            Value(next(nodes), fake) if is_value else fake
            for fake, is_value in zip(recipe.results, recipe.is_value, strict=True)
        ]
        return tree_unflatten(results, recipe.spec)

    def _copy(self, node: torch.fx.Node, new: dict, meta: dict) -> torch.fx.Node:
        value = node.meta.get("val")
        # A size that some node has already is not computed again: sizes lead back to the placeholders.
        expression = value.node.expr if isinstance(value, torch.SymInt) else None
        if expression in self._symbols:
            return self._symbols[expression]
        copy = self._graph.create_node(
            node.op, node.target, map_arg(node.args, new.__getitem__), map_arg(node.kwargs, new.__getitem__)
        )
        copy.meta.update(meta)
        for name in ("val", "torch_fn"):
            if name in node.meta:
                copy.meta[name] = node.meta[name]
        if expression is not None:
            self._symbols[expression] = copy
        return copy


def _trace(target: Any, kind: Any, arguments: tuple, keywords: dict, values: list[Value]) -> Recipe:
    from torch.fx.experimental.proxy_tensor import make_fx

    positions = {value.node: position for position, value in enumerate(values)}
    recipe = Recipe(None, [], [], None, {}, [])

    def run(*fakes):
        recipe.arguments = list(fakes)
        actual, named = map_aggregate(
            (arguments, keywords), lambda x: fakes[positions[x.node]] if isinstance(x, Value) else x
        )
        if kind is operator.methodcaller:
            result = getattr(actual[0], target)(*actual[1:], **named)
        else:
            result = target(*actual, **named)
        if isinstance(result, torch.Size):
            result = tuple(result)
        recipe.results, recipe.spec = tree_flatten(result)
        recipe.is_value = [isinstance(item, (torch.Tensor, *_SYMBOLIC)) for item in recipe.results]
        return [item for item, is_value in zip(recipe.results, recipe.is_value, strict=True) if is_value]

    # Copies: a fake may stand for several values, and an operation may write to it.
    fakes = [_without_grad(value.fake, copy=True) for value in values]
    recipe.module = make_fx(run, pre_dispatch=True, tracing_mode="real", _allow_non_fake_inputs=True)(*fakes)
    recipe.results = [_without_grad(item) for item in recipe.results]
    recipe.writes = _writes(recipe.module.graph)
    return recipe


def _writes(graph: torch.fx.Graph) -> dict[int, torch.fx.Node | None]:
    """Which placeholders the operations of a small graph write to."""
    origin = {node: position for position, node in enumerate(graph.find_nodes(op="placeholder"))}
    writes: dict[int, torch.fx.Node | None] = {}
    for node in graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if node.op != "call_function" or schema is None or not schema.is_mutable:
            continue
        given = {**dict(zip((a.name for a in schema.arguments), node.args)), **node.kwargs}
        for argument in schema.arguments:
            if argument.alias_info is None or not argument.alias_info.is_write:
                continue
            targets = given.get(argument.name)
            for written in targets if isinstance(targets, (list, tuple)) else [targets]:
                if written in origin:
                    single = len(schema.returns) == 1 and not isinstance(targets, (list, tuple))
                    writes[origin[written]] = node if single else None
                    if single:
                        origin[node] = origin[written]
                elif isinstance(written, torch.fx.Node):
                    # A view of an argument, or a tensor made here; the first cannot be told from the second.
                    writes.update({position: writes.get(position) for position in origin.values()})
    return writes


def _constant_key(structure: Any, values: dict[torch.fx.Node, Value]) -> Hashable:
    """What must be equal for two calls to have one recipe, the argument values left out; collects those."""
    if isinstance(structure, Value):
        values.setdefault(structure.node, structure)
        return Value, list(values).index(structure.node)
    if isinstance(structure, (list, tuple)):
        return type(structure), tuple(_constant_key(item, values) for item in structure)
    if isinstance(structure, dict):
        return dict, tuple((key, _constant_key(item, values)) for key, item in structure.items())
    if isinstance(structure, slice):
        parts = (structure.start, structure.stop, structure.step)
        return slice, tuple(_constant_key(item, values) for item in parts)
    if isinstance(structure, (torch.Tensor, *_SYMBOLIC)):
        raise TypeError("not a constant")
    if isinstance(structure, float):
        return float, structure.hex()  # Tells 0.0 from -0.0.
    return type(structure), structure


def _fake_key(fake: Any) -> Hashable:
    if isinstance(fake, torch.Tensor):
        if fake.layout is not torch.strided:
            raise TypeError("not strided")
        numbers = (*fake.shape, *fake.stride(), fake.storage_offset())
        return (
            fake.dtype,
            fake.device,
            fake.is_conj(),
            fake.is_neg(),
            fake.dim(),
            tuple(n.node.expr if isinstance(n, torch.SymInt) else n for n in numbers),
        )
    if isinstance(fake, _SYMBOLIC):
        return type(fake), fake.node.expr
    raise TypeError("neither a tensor nor a size")


def _collect(value: Any, values: dict[torch.fx.Node, Value]) -> Any:
    if isinstance(value, Value):
        values.setdefault(value.node, value)
    return value


def _node_of(value: Any) -> Any:
    return value.node if isinstance(value, Value) else value


def _fake_of(value: Any) -> Any:
    return value.fake if isinstance(value, Value) else value


def _without_grad(value: Any, copy: bool = False) -> Any:
    if isinstance(value, torch.Tensor) and (copy or value.requires_grad):
        plain = value.detach()
        if getattr(value, "item_memo", None) is not None:  # The number that a 0-dim input stands for.
            plain.item_memo = value.item_memo
        return plain
    return value
