"""Importing this module makes `"passes": ["autosp"]` in a DeepSpeed config reach this library.

    import autosp, deepspeed
    import autosp.deepspeed

    engine, *_ = deepspeed.initialize(model=model, config={
        "train_micro_batch_size_per_gpu": 1,
        "sequence_parallel_size": 4,
        "zero_optimization": {"stage": 1},
        "compile": {"deepcompile": True, "passes": ["autosp"]},
        "autosp": {"checkpoint": "none"},  # options of the backend, see docs/options.md
    })
    engine.compile()

DeepSpeed's files stay as they are; four methods of DeepSpeedEngine are replaced:

get_autosp_backend  gives our backend. DeepSpeed's own answers None for ZeRO 2 and 3, and the engine then trains
                    without sequence parallelism after one log line; ours raises.
compile             raises where DeepSpeed would skip the pass without a word.
forward             the same: a training step before engine.compile() would run unsharded.
deepspeed_io        the ranks of a sequence-parallel group must get the same samples; DeepSpeed gives every rank others.

Gradients: the adjoints of our collectives assume that parameter gradients are averaged over all ranks, data parallel
and sequence parallel alike. That is what an engine without mpu and mesh does; any other setting is refused.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.distributed as dist
from deepspeed.runtime.engine import DeepSpeedEngine

from autosp.errors import AutoSPError, make_error

_ZERO_STAGES = (0, 1)


def _wants_autosp(engine: DeepSpeedEngine) -> bool:
    return "autosp" in (getattr(engine._config.compile_config, "passes", None) or [])


def _parallel_size(engine: DeepSpeedEngine) -> int:
    """`sequence_parallel_size` of the config; refuses a config that does not say it."""
    value = engine._config._param_dict.get("sequence_parallel_size")
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise make_error(
            "kBadOption",
            f'the config asks for the pass "autosp" and its "sequence_parallel_size" is {value!r}',
            hint='set the top-level "sequence_parallel_size" to the number of ranks that share one sequence',
        )
    return value


def _check_reduction(engine: DeepSpeedEngine, parallel_size: int) -> None:
    """Refuses every setting under which gradients are not averaged over all ranks."""
    config, world = engine._config._param_dict, dist.get_world_size()
    if "data_parallel_size" in config:
        raise make_error(
            "kDataParallelSize",
            f'"data_parallel_size" is {config["data_parallel_size"]!r}: DeepSpeed would average gradients over these '
            f"ranks only and not over the {parallel_size} ranks of a sequence-parallel group",
            hint='remove "data_parallel_size"; it is the world size divided by "sequence_parallel_size"',
        )
    averaged, divisor = engine.seq_dp_world_size, engine.sequence_parallel_size
    if averaged != world or divisor != 1:
        raise make_error(
            "kDataParallelSize",
            f"gradients are summed over {averaged} ranks and divided by {averaged}/{divisor}; "
            f"autosp needs the average over all {world} ranks",
            hint="call deepspeed.initialize without mpu, mesh_param and tensor_parallel",
        )


def _check_engine(engine: DeepSpeedEngine) -> int:
    """All that must hold before the first step; returns the sequence-parallel size."""
    passes = list(engine._config.compile_config.passes)
    if not engine._config.compile_config.deepcompile:
        raise make_error(
            "kBadOption",
            f'"passes" is {passes} but "deepcompile" is false: DeepSpeed would train without the pass',
            hint='set "deepcompile": true in the "compile" section',
        )
    if passes != ["autosp"]:
        raise make_error(
            "kBadOption",
            f'"passes" is {passes}: DeepSpeed runs "autosp" alone and drops the others',
            hint='set "passes": ["autosp"]',
        )
    stage = int(engine.zero_optimization_stage())
    if stage not in _ZERO_STAGES:
        raise make_error("kZeroStage", f"ZeRO stage {stage} does not compose with autosp, stages 0 and 1 do")
    parallel_size, world = _parallel_size(engine), dist.get_world_size()
    if world % parallel_size:
        raise make_error(
            "kWorldSizeMismatch", f"world size {world} is not a multiple of sequence_parallel_size {parallel_size}"
        )
    _check_reduction(engine, parallel_size)
    return parallel_size


def _get_autosp_backend(engine: DeepSpeedEngine, compile_kwargs: dict[str, Any]):
    from autosp import backend

    parallel_size = _check_engine(engine)
    for key in ("mode", "options"):
        if compile_kwargs.get(key) is not None:
            raise make_error(
                "kBadOption",
                f"compile_kwargs[{key!r}] is {compile_kwargs[key]!r} and would not reach the backend",
                hint='put options of the pass in the top-level "autosp" section of the config',
            )
    options = dict(engine._config._param_dict.get("autosp") or {})
    stated = options.setdefault("sequence_parallel_size", parallel_size)
    if stated != parallel_size:
        raise make_error(
            "kBadOption",
            f'"autosp" says sequence_parallel_size {stated!r} and the top level of the config says {parallel_size}',
            hint='remove it from the "autosp" section',
        )
    options.setdefault("inner_backend", getattr(engine, "_autosp_inner_backend", "inductor"))
    return functools.partial(backend.autosp, options=options)


def _compile(engine: DeepSpeedEngine, *args, **kwargs) -> None:
    if _wants_autosp(engine):
        # Also where DeepSpeed would not come as far as get_autosp_backend.
        _check_engine(engine)
        inner = args[0] if args else kwargs.get("backend")
        if isinstance(inner, str):
            engine._autosp_inner_backend = inner
    return _originals["compile"](engine, *args, **kwargs)


def _forward(engine: DeepSpeedEngine, *inputs, **kwargs):
    if engine.module.training and not engine.is_compiled and _wants_autosp(engine):
        raise make_error(
            "kBadOption",
            'the config asks for the pass "autosp" and engine.compile() was not called: the step would run unsharded',
            hint="call engine.compile() after deepspeed.initialize",
        )
    return _originals["forward"](engine, *inputs, **kwargs)


def _deepspeed_io(engine: DeepSpeedEngine, dataset, *args, **kwargs):
    """DeepSpeed's loader, with one sampler shard per data-parallel replica instead of one per rank."""
    names = ("batch_size", "route", "pin_memory", "data_sampler", "collate_fn", "num_local_io_workers")
    kwargs.update(zip(names, args))
    if _wants_autosp(engine) and kwargs.get("data_sampler") is None and engine.is_map_style_dataset(dataset):
        kwargs["data_sampler"] = replica_sampler(
            dataset, _parallel_size(engine), shuffle=kwargs.get("route", "train") == "train"
        )
    if kwargs.get("batch_size") is None:
        # With "sequence_parallel_size" DeepSpeed divides the batch size to a float, which no DataLoader takes.
        kwargs["batch_size"] = int(engine.train_micro_batch_size_per_gpu())
    return _originals["deepspeed_io"](engine, dataset, **kwargs)


def replica_sampler(dataset, sequence_parallel_size: int, shuffle: bool = True):
    """A DistributedSampler that gives all ranks of a sequence-parallel group the same samples."""
    return torch.utils.data.DistributedSampler(
        dataset,
        num_replicas=dist.get_world_size() // sequence_parallel_size,
        rank=dist.get_rank() // sequence_parallel_size,
        shuffle=shuffle,
    )


_replacements = {
    "get_autosp_backend": _get_autosp_backend,
    "compile": _compile,
    "forward": _forward,
    "deepspeed_io": _deepspeed_io,
}
_originals: dict[str, Any] = {}


def _install() -> None:
    missing = [name for name in _replacements if not hasattr(DeepSpeedEngine, name)]
    if missing:
        import deepspeed

        raise AutoSPError(
            f"deepspeed {deepspeed.__version__} has no DeepSpeedEngine.{', '.join(missing)}; "
            "autosp is tested with deepspeed 0.19.8"
        )
    for name, replacement in _replacements.items():
        current = getattr(DeepSpeedEngine, name)
        # A second import of this file (importlib.reload) must wrap DeepSpeed's method, not our own.
        _originals[name] = getattr(current, "_autosp_original", current)
        wrapped = functools.wraps(_originals[name])(replacement)
        wrapped._autosp_original = _originals[name]
        setattr(DeepSpeedEngine, name, wrapped)


_install()
