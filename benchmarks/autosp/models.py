"""Models by name (a config file in models/, random weights) or by folder (Hugging Face, weights if they are there)."""

from __future__ import annotations

import json
import pathlib

import torch

FOLDER = pathlib.Path(__file__).resolve().parent / "models"
DTYPES = {"f32": torch.float32, "f64": torch.float64, "bf16": torch.bfloat16}


def names() -> list[str]:
    return sorted(file.stem for file in FOLDER.glob("*.json"))


def config_of(name: str, num_layers: int | None):
    from transformers import AutoConfig

    folder = pathlib.Path(name)
    file = folder / "config.json" if folder.is_dir() else FOLDER / f"{name}.json"
    if not file.is_file():
        raise ValueError(f"no model {name!r}: neither a folder with config.json nor one of {', '.join(names())}")
    fields = json.loads(file.read_text())
    if num_layers:
        fields["num_hidden_layers"] = num_layers
        if fields.get("layer_types"):
            fields["layer_types"] = fields["layer_types"][:num_layers]
    fields["use_cache"] = False
    return AutoConfig.for_model(fields.pop("model_type"), **fields)


def build(spec: dict, attention: str = "sdpa"):
    """The model with the same initial weights in every process."""
    from transformers import AutoModelForCausalLM

    config = config_of(spec["model"], spec["num_layers"])
    torch.manual_seed(spec["seed"])
    folder = pathlib.Path(spec["model"])
    has_weights = folder.is_dir() and any([*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")])
    if has_weights:
        model = AutoModelForCausalLM.from_pretrained(
            folder, config=config, attn_implementation=attention, dtype=torch.float32, local_files_only=True
        )
    else:
        model = AutoModelForCausalLM.from_config(config, attn_implementation=attention, dtype=torch.float32)
    model = model.to(DTYPES[spec["dtype"]])
    if spec["dtype"] == "f64":
        _keep_double(model)
    return model.train()


class _DoubleNorm(torch.nn.Module):
    def __init__(self, norm: torch.nn.Module):
        super().__init__()
        self.weight, self.epsilon = norm.weight, norm.variance_epsilon

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.epsilon))


def _double_loss(logits, labels, vocab_size, num_items_in_batch=None, shift_labels=None, **_):
    if shift_labels is None:
        shift_labels = torch.nn.functional.pad(labels, (0, 1), value=-100)[..., 1:].contiguous()
    reduction = "mean" if num_items_in_batch is None else "sum"
    loss = torch.nn.functional.cross_entropy(logits.view(-1, vocab_size), shift_labels.view(-1), reduction=reduction)
    return loss if num_items_in_batch is None else loss / num_items_in_batch


def _keep_double(model: torch.nn.Module) -> None:
    """Replaces the places where Hugging Face code goes down to f32: a comparison at 1e-12 would only see these."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child).__name__.endswith("RMSNorm"):
                setattr(module, name, _DoubleNorm(child))
    model.loss_function = _double_loss
