"""The models of the planner's benchmark by name: small ones with weights, and the shapes of real ones without."""

from __future__ import annotations

import torch

NAMES = ("tiny-llama", "llama-100m", "tiny-qwen3", "tiny-mixtral", "llama-3-8b")
_TINY = {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4,
         "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 16384, "use_cache": False}  # fmt: skip


def config_of(name: str, layers: int):
    import transformers

    if name == "tiny-llama":
        return transformers.LlamaConfig(num_hidden_layers=layers, **_TINY)
    if name == "tiny-qwen3":
        return transformers.Qwen3Config(num_hidden_layers=layers, **_TINY)
    if name == "tiny-mixtral":
        return transformers.MixtralConfig(num_hidden_layers=layers, num_local_experts=4, num_experts_per_tok=2, **_TINY)
    if name == "llama-100m":
        return transformers.LlamaConfig(
            vocab_size=16000, hidden_size=640, intermediate_size=1728, num_hidden_layers=layers, num_attention_heads=10,
            num_key_value_heads=5, head_dim=64, max_position_embeddings=16384, use_cache=False,
        )  # fmt: skip
    return transformers.LlamaConfig(
        vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=layers, num_attention_heads=32,
        num_key_value_heads=8, head_dim=128, max_position_embeddings=131072, rope_theta=500000.0, use_cache=False,
    )  # fmt: skip


def make_model(name: str, layers: int | None = None) -> torch.nn.Module:
    """In training mode, seed 0. llama-3-8b is bf16 and its weights are not initialized."""
    import transformers

    layers = layers or {"llama-100m": 18}.get(name, 4)
    torch.manual_seed(0)
    if name == "llama-3-8b":
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(config_of(name, layers), dtype=torch.bfloat16)
        rotary = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding(config_of(name, layers))
        model = model.to_empty(device="cpu")
        model.model.rotary_emb = rotary
        return model.train()
    return transformers.AutoModelForCausalLM.from_config(config_of(name, layers)).train()


def make_batch(name: str, length: int) -> dict[str, torch.Tensor]:
    vocabulary = config_of(name, 1).vocab_size
    ids = torch.randint(0, vocabulary, (1, length), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "labels": ids.clone(), "position_ids": torch.arange(length)[None].clone(),
            "attention_mask": torch.ones_like(ids)}  # fmt: skip
