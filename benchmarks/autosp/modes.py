"""What --compile names: how a model becomes a sequence-parallel one, and what it is fed.

Every mode gives (engine, prepare, finish): `prepare` turns a whole batch into the arguments of the model, `finish`
turns the model's loss into the loss of the whole sequence.
"""

from __future__ import annotations

import torch
import torch.distributed as dist

import engines
import models


def _whole(batch: dict) -> dict:
    return batch


def _loss(output) -> torch.Tensor:
    return output.loss


def single(spec: dict, device):
    """One process, eager PyTorch: the truth."""
    model = models.build(spec).to(device)
    return engines.PlainEngine(spec, model, model), _whole, _loss


def _by_hand(spec: dict, device, compiled: bool):
    from ulysses import NAME, Ulysses

    config = models.config_of(spec["model"], spec["num_layers"])
    ulysses = Ulysses(config, spec["sp"])
    model = models.build(spec, attention=NAME).to(device)
    if compiled:
        model.compile(backend=spec["inner_backend"])
    engine = engines.PlainEngine(spec, model, model) if spec["engine"] == "plain" else engines.DeepSpeed(spec, model)
    return engine, ulysses.shard, lambda output: ulysses.whole_loss(output.loss)


def eager(spec: dict, device):
    """Ulysses written by hand."""
    return _by_hand(spec, device, compiled=False)


def compile(spec: dict, device):
    """The same under torch.compile."""
    return _by_hand(spec, device, compiled=True)


def autosp(spec: dict, device):
    """This library: the ordinary model, the whole batch."""
    import autosp as library

    def prepare(batch: dict) -> dict:
        names = ("input_ids", "labels", "position_ids", "attention_mask")
        return dict(zip(names, library.prepare_auto_sp_inputs(*(batch[name] for name in names))))

    model = models.build(spec).to(device)
    options = {"inner_backend": spec["inner_backend"], "checkpoint": spec["checkpoint"]}
    if spec["memory_budget"]:
        options["memory_budget"] = spec["memory_budget"]
    if spec["engine"] == "deepspeed":
        import autosp.deepspeed  # noqa: F401

        return engines.DeepSpeed(spec, model, ["autosp"], options), prepare, _loss
    options["sequence_parallel_size"] = spec["sp"]
    return engines.PlainEngine(spec, model, torch.compile(model, backend="autosp", options=options)), prepare, _loss


def builtin(spec: dict, device):
    """DeepSpeed's own pass, untouched, with its own tagger."""
    from deepspeed.compile.passes.sp_compile import prepare_autosp_inputs

    def prepare(batch: dict) -> dict:
        names = ("input_ids", "labels", "position_ids", "attention_mask")
        return dict(zip(names, prepare_autosp_inputs(*(batch[name] for name in names))))

    return engines.DeepSpeed(spec, models.build(spec).to(device), ["autosp"]), prepare, _loss


MODES = {"single": single, "eager": eager, "compile": compile, "autosp": autosp, "builtin": builtin}


def initialize_process_group(spec: dict) -> torch.device:
    """NCCL when every rank has a GPU of its own, gloo on the CPU otherwise."""
    import os

    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if spec["device"] == "cuda":
        torch.cuda.set_device(rank % torch.cuda.device_count())
        device = torch.device("cuda", torch.cuda.current_device())
    else:
        device = torch.device("cpu")
    if world > 1 or spec["mode"] != "single":
        backend = "nccl" if device.type == "cuda" else "gloo"
        if spec["engine"] == "deepspeed":
            import deepspeed

            deepspeed.init_distributed(backend)
        else:
            dist.init_process_group(backend)
    return device
