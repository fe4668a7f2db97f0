"""Tiny models of every architecture in docs/models.md, and the batches that each is trained on.

Random weights and tokens: a checkpoint would change no operation. Every dropout probability is 0, so that one process
and many can be compared.
"""

from __future__ import annotations

import dataclasses
from typing import Any

VOCABULARY = 96
LENGTHS = (24, 23)
BATCH = 2

# What the configs of decoders share; names that a config does not know are left out.
_SIZES = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "use_cache": False,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "attention_dropout": 0.0, "attn_pdrop": 0.0,
    "resid_pdrop": 0.0, "embd_pdrop": 0.0, "hidden_dropout": 0.0, "dropout": 0.0, "activation_dropout": 0.0,
    "residual_dropout": 0.0, "embedding_dropout": 0.0, "dropout_rate": 0.0, "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0, "classifier_dropout": 0.0, "mlp_dropout": 0.0, "tie_word_embeddings": False,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Architecture:
    """One row: a model class of transformers with a tiny config."""

    name: str
    model_class: str
    config_class: str
    changes: dict[str, Any] = dataclasses.field(default_factory=dict)
    attention: str = "sdpa"
    kind: str = "causal"  # causal | masked | encoder-decoder
    positions: bool = True  # whether forward takes position_ids
    decoder_ids: bool = True  # encoder-decoder: whether the batch holds decoder_input_ids
    experts: str = ""  # the experts_implementation, where it is not the default
    dtype: str = "f64"
    refused: str = ""  # the code of the refusal, where the architecture is not trained
    why: str = ""  # ... and what the refusal must name
    note: str = ""  # for the page


_FIELDS = ("attention", "kind", "positions", "decoder_ids", "experts", "dtype", "refused", "why", "note", "config")


def _row(name: str, prefix: str, *, head: str = "ForCausalLM", **fields: Any) -> Architecture:
    changes = {key: value for key, value in fields.items() if key not in _FIELDS}
    rest = {key: value for key, value in fields.items() if key not in changes}
    return Architecture(name, f"{prefix}{head}", f"{rest.pop('config', prefix)}Config", changes, **rest)


# Where layers differ: sliding and full attention, dense and experts.
_TWO = {"num_hidden_layers": 2}
_ALTERNATING = {**_TWO, "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 7}
# f32: grouped_mm, with which these multiply, has no f64 kernel.
_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 16, "dtype": "f32"}

_T5 = {
    "head": "ForConditionalGeneration", "attention": "eager", "kind": "encoder-decoder", "d_model": 32, "d_kv": 8, "d_ff": 48,
    "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0,
}  # fmt: skip
_WHOLE = "with the decoder whole on every rank: its ids are shifted labels"
_BART = {
    "head": "ForConditionalGeneration", "kind": "encoder-decoder", "d_model": 32, "encoder_layers": 2, "decoder_layers": 2,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
    "decoder_start_token_id": 2,
}  # fmt: skip

ARCHITECTURES = [
    _row("llama", "Llama", **_TWO),
    _row("mistral", "Mistral", sliding_window=7),
    _row("qwen2", "Qwen2"),
    _row("qwen3", "Qwen3"),
    _row("gemma", "Gemma"),
    _row("gemma2", "Gemma2", attention="eager", query_pre_attn_scalar=8, **_ALTERNATING),
    _row("gemma3_text", "Gemma3", config="Gemma3Text", query_pre_attn_scalar=8, **_ALTERNATING),
    _row("phi", "Phi"),
    _row("phi3", "Phi3"),
    _row("gpt_neox", "GPTNeoX"),
    _row("gptj", "GPTJ", attention="eager", n_embd=32, n_layer=1, n_head=4, n_positions=64, rotary_dim=4, n_inner=48),
    _row("gpt2", "GPT2", head="LMHeadModel", n_embd=32, n_layer=1, n_head=4, n_positions=64, n_inner=48),
    _row("gpt_bigcode", "GPTBigCode", n_embd=32, n_layer=1, n_head=4, n_positions=64, n_inner=48),
    _row("bloom", "Bloom", attention="eager", n_layer=1, n_head=4, positions=False, refused="ASP0201",
         why="autograd_function_apply", note="its activation is an autograd.Function"),
    _row("opt", "OPT", ffn_dim=48, word_embed_proj_dim=32),
    _row("falcon", "Falcon", new_decoder_architecture=False, multi_query=True, head_dim=None),
    _row("mixtral", "Mixtral", num_local_experts=4, **_EXPERTS),
    _row("mixtral, batched experts", "Mixtral", num_local_experts=4, experts="batched_mm", **{**_EXPERTS, "dtype": "f64"}),
    _row("qwen2_moe", "Qwen2Moe", num_experts=4, shared_expert_intermediate_size=16, **_EXPERTS),
    _row("qwen3_moe", "Qwen3Moe", num_experts=4, **_EXPERTS),
    _row("olmo2", "Olmo2"),
    _row("olmo3", "Olmo3", **_ALTERNATING),
    _row("olmoe", "Olmoe", num_experts=4, **_EXPERTS),
    _row("granite", "Granite"),
    _row("cohere", "Cohere"),
    _row("stablelm", "StableLm"),
    _row("starcoder2", "Starcoder2", sliding_window=7),
    _row("gpt_oss", "GptOss", attention="eager", num_local_experts=4, **_EXPERTS, **_ALTERNATING),
    _row("deepseek_v3", "DeepseekV3", n_routed_experts=4, n_group=2, topk_group=1, q_lora_rank=16, kv_lora_rank=16,
         qk_rope_head_dim=4, head_dim=4, qk_nope_head_dim=8, v_head_dim=8, n_shared_experts=1, first_k_dense_replace=1,
         num_key_value_heads=4, **_TWO, **_EXPERTS),
    _row("nemotron", "Nemotron"),
    _row("modernbert-decoder", "ModernBertDecoder", local_attention=7, **_TWO),
    _row("mpt", "Mpt", attention="eager", d_model=32, n_layers=1, n_heads=4, max_seq_len=64, positions=False),
    _row("mamba", "Mamba", attention="eager", state_size=4, positions=False, refused="ASP0103",
         why="cannot", note="its scan is a function transform"),
    _row("bert", "Bert", head="ForMaskedLM", kind="masked"),
    _row("distilbert", "DistilBert", head="ForMaskedLM", kind="masked", dim=32, n_layers=1, n_heads=4, hidden_dim=48, positions=False),
    _row("modernbert", "ModernBert", head="ForMaskedLM", kind="masked", local_attention=7, global_attn_every_n_layers=2, **_TWO),
    _row("t5", "T5", **_T5),
    _row("t5, labels only", "T5", **_T5, decoder_ids=False, note=_WHOLE),
    _row("bart", "Bart", **_BART),
    _row("bart, labels only", "Bart", **_BART, decoder_ids=False, note=_WHOLE),
]  # fmt: skip


def build(row: Architecture):
    """The model in training mode with the same weights in every process; with every weight that the row asks for."""
    import torch
    import transformers

    settings = {name: value for name, value in {**_SIZES, **row.changes}.items() if value is not None}
    config = getattr(transformers, row.config_class)(**settings)
    config._attn_implementation = row.attention
    torch.manual_seed(0)
    model = getattr(transformers, row.model_class)._from_config(config, attn_implementation=row.attention)
    if row.experts:
        model.set_experts_implementation(row.experts)
    return model.to(torch.float64 if row.dtype == "f64" else torch.float32).train()


def batch_of(row: Architecture, length: int) -> dict:
    """Two sequences, one padded at its end and one with ignored labels at its start; different tokens for each length."""
    import torch

    generator = torch.Generator().manual_seed(length)
    ids = torch.randint(3, VOCABULARY, (BATCH, length), generator=generator)
    labels = ids.clone()
    mask = torch.ones_like(ids)
    mask[1, -5:] = 0
    ids[1, -5:] = 0
    labels[1, -5:] = -100
    labels[0, :9] = -100
    if row.kind == "masked":
        hidden = torch.rand(BATCH, length, generator=generator) < 0.4
        labels = torch.where(hidden & (mask == 1), labels, torch.full_like(labels, -100))
        ids = torch.where(hidden & (mask == 1), torch.full_like(ids, 3), ids)
    if row.kind == "encoder-decoder":
        # Its own length: nothing of the encoder's sequence may be cut as if it were the decoder's.
        labels = torch.randint(3, VOCABULARY, (BATCH, length - 6), generator=generator)
        labels[1, -4:] = -100
        batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        if row.decoder_ids:
            shifted = torch.nn.functional.pad(labels.clamp_min(0), (1, 0))[:, :-1]
            batch["decoder_input_ids"] = shifted.contiguous()
        return batch
    batch = {"input_ids": ids, "labels": labels, "attention_mask": mask}
    if row.positions and row.kind == "causal":
        batch["position_ids"] = torch.arange(length).expand(BATCH, length).contiguous()
    return batch
