"""One tiny transformer in many shapes: each variant is a program in which a rewrite of sequence lengths has gone wrong before.

    model, batch = probes.build("token shift", length=12)
    loss = model(**batch)                # f64, unsharded; tag(batch) first for the backend "autosp"
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

WIDTH, HEADS, VOCABULARY = 16, 4, 32
TOKENS = ("ids", "labels")


class Probe(nn.Module):
    """Embedding, two blocks, loss of the next token; `variant` says what is different."""

    def __init__(self, variant: str = "", width: int = WIDTH, heads: int = HEADS, vocabulary: int = VOCABULARY):
        super().__init__()
        self.variant, self.heads, self.width = variant, heads, width
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(64, width)
        self.projections = nn.ModuleList([nn.ModuleList([nn.Linear(width, width) for _ in range(4)]) for _ in range(2)])
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(2)])
        self.mixer = nn.Conv1d(width, width, 3, groups=width)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, ids, labels, mask=None):
        length = ids.shape[1]
        x = self.tokens(ids)
        if self.variant == "table cut to the length":
            x = x + self.places.weight[:length]
        else:
            x = x + self.places(torch.arange(length, device=ids.device))
        extra, kept = 0.0, None
        for index, (q, k, v, out) in enumerate(self.projections):
            h = self.norms[index](x)
            q, k, v = (self._heads(layer(h)) for layer in (q, k, v))
            if self.variant == "keys and values shared across layers":
                kept = kept or (k, v)
                k, v = kept
            if self.variant == "keys used as values":
                v = k
            if self.variant == "queries and keys read outside attention":
                extra = extra + (q * k).sum(-1).mean()
            x = x + out(self._attend(q, k, v, mask).transpose(1, 2).reshape(x.shape))
            x = self._mix(x)
        if self.variant == "mean over the sequence":
            return F.cross_entropy(self.head(x.mean(1)), labels[:, 0].clamp_min(0))
        logits = self.head(x)
        if self.variant == "summed loss":
            total = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")
            return total / (labels[:, 1:] != -100).sum()
        shifted = F.pad(labels, (0, 1), value=-100)[:, 1:]
        return F.cross_entropy(logits.flatten(0, 1), shifted.flatten()) + extra

    def _heads(self, x):
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def _attend(self, q, k, v, mask):
        if self.variant == "attention called with keywords":
            return F.scaled_dot_product_attention(value=v, query=q, key=k, is_causal=True)
        if self.variant == "attention written out":
            scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
            hidden = torch.ones_like(scores[0, 0], dtype=torch.bool).triu(1)
            return scores.masked_fill(hidden, float("-inf")).softmax(-1) @ v
        if mask is not None:
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    def _mix(self, x):
        if self.variant == "roll":
            return x + torch.roll(x, 1, dims=1)
        if self.variant == "token shift":
            return x + F.pad(x, (0, 0, 1, -1))
        if self.variant == "token shift by pad and slice":
            return x + F.pad(x, (0, 0, 1, 0))[:, :-1]
        if self.variant == "running sum":
            return x + x.cumsum(1) / 8
        if self.variant == "causal convolution":
            return x + self.mixer(F.pad(x.transpose(1, 2), (2, 0))).transpose(1, 2)
        return x


class Checkpointed(Probe):
    """Every block in a checkpointed region."""

    def _attend(self, q, k, v, mask):
        return torch.utils.checkpoint.checkpoint(super()._attend, q, k, v, mask, use_reentrant=False)


class Broken(Probe):
    """A graph break in the middle: the second graph has no tagged input."""

    def _mix(self, x):
        torch._dynamo.graph_break()
        return x


SIZES = {
    "batch as large as the sequence": {"batch": 16, "length": 16, "width": 32},
    "hidden size as large as the sequence": {"length": 16, "width": 16},
    "vocabulary as large as the sequence": {"length": 32, "vocabulary": 32},
    "all sizes alike": {"batch": 16, "length": 16, "width": 16, "vocabulary": 16},
}


def build(name: str, length: int = 12):
    """The model of a variant or of a coincidence of sizes, in f64 with fixed weights, and an untagged batch."""
    sizes = {"batch": 2, "length": length, "width": WIDTH, "vocabulary": VOCABULARY, **SIZES.get(name, {})}
    torch.manual_seed(1)
    kind = {"checkpointed blocks": Checkpointed, "graph break": Broken}.get(name, Probe)
    heads = {"three heads": 3}.get(name, HEADS)
    width = 24 if heads == 3 else sizes["width"]
    model = kind(name, width, heads, sizes["vocabulary"]).double()
    return model, batch_of(name, sizes["batch"], sizes["length"], sizes["vocabulary"])


def batch_of(name: str, batch: int = 2, length: int = 12, vocabulary: int = VOCABULARY, seed: int = 0) -> dict:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, vocabulary, (batch, length), generator=generator)
    labels = torch.randint(0, vocabulary, (batch, length), generator=generator)
    labels[:, : length // 4] = -100
    if name == "labels of a shard ignored":
        labels[:, length // 2 :] = -100
    made = {"ids": ids, "labels": labels}
    if name.startswith("mask"):
        causal = torch.ones(length, length, dtype=torch.bool).tril()
        per_head = 4 if "per head" in name else 1
        mask = causal.expand(batch, per_head, length, length).clone()
        mask[0, :, :, 1] = False
        mask[:, :, range(length), range(length)] = True
        if per_head > 1:
            for head in range(per_head):
                mask[:, head] &= torch.ones(length, length, dtype=torch.bool).triu(-2 - head)
        made["mask"] = mask if "bool" in name else torch.zeros(mask.shape, dtype=torch.float64).masked_fill(~mask, -1e9)
    return made


def tag(name: str, batch: dict) -> dict:
    """Fresh tensors with the tags that a user would set; "tagged on its keys" is a user's mistake that must do no harm."""
    import autosp

    batch = {key: value.clone() for key, value in batch.items()}
    if "ids" not in batch:
        autosp.prepare_auto_sp_inputs(batch)
        return batch
    autosp.prepare_auto_sp_inputs(batch["ids"], batch["labels"], attention_mask=batch.get("mask"))
    if "mask" in batch and "tagged" in name:
        autosp.tag(batch["mask"], 3 if "keys" in name else 2)
    return batch
