"""DeepSpeed-Ulysses by hand: the baseline that a careful engineer would write, and exact.

Each rank holds one contiguous shard of the sequence. Around attention an all-to-all trades the shard for a share of the
heads. Labels are shifted before the cut and the loss is divided by the number of labels of the whole sequence, so the
result is the loss of the unsharded run.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as collectives
import torch.nn.functional as F

from data import IGNORED

NAME = "ulysses"


class Ulysses:
    def __init__(self, config, size: int):
        from transformers import AttentionInterface

        self.config, self.size = config, size
        rank, world = dist.get_rank(), dist.get_world_size()
        for first in range(0, world, size):
            group = dist.new_group(list(range(first, first + size)))
            if first <= rank < first + size:
                self.group = group
        self.rank = rank % size
        if config.num_attention_heads % size:
            raise ValueError(f"{config.num_attention_heads} query heads cannot be divided over {size} ranks")
        AttentionInterface.register(NAME, self.attention)

    def exchange(self, x: torch.Tensor, to_heads: bool) -> torch.Tensor:
        """[b, h, s/P, d] -> [b, h/P, s, d], or back."""
        batch, heads, length, width = x.shape
        size = self.size
        if to_heads:
            x = x.reshape(batch, size, heads // size, length, width).permute(1, 0, 2, 3, 4)
        else:
            x = x.reshape(batch, heads, size, length // size, width).permute(2, 0, 1, 3, 4)
        x = x.contiguous()
        splits = [1] * size
        x = collectives.all_to_all_single_autograd(x, splits, splits, self.group)
        x = collectives.wait_tensor(x)
        if to_heads:
            return x.permute(1, 2, 0, 3, 4).reshape(batch, heads // size, size * length, width)
        return x.permute(1, 0, 2, 3, 4).reshape(batch, heads * size, length // size, width)

    def attention(self, module, query, key, value, attention_mask=None, scaling=None, dropout=0.0, **_):
        if key.shape[1] % self.size:
            # Fewer kv heads than ranks: every query head brings its own copy.
            repeats = query.shape[1] // key.shape[1]
            key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
        query, key, value = (self.exchange(x, True) for x in (query, key, value))
        output = F.scaled_dot_product_attention(
            query, key, value, attn_mask=attention_mask, dropout_p=dropout, is_causal=attention_mask is None,
            scale=scaling, enable_gqa=query.shape[1] != key.shape[1],
        )
        return self.exchange(output, False).transpose(1, 2).contiguous(), None

    def whole_mask(self, batch: dict) -> torch.Tensor | None:
        """The [b, 1, s, s] mask of the unsharded model, or None where plain causal attention is the same."""
        import copy

        from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask

        config = copy.copy(self.config)
        config._attn_implementation = "sdpa"
        make = create_sliding_window_causal_mask if getattr(config, "sliding_window", None) else create_causal_mask
        ids = batch["input_ids"]
        embeddings = torch.empty(*ids.shape, 1, device=ids.device)
        positions = batch["position_ids"]
        if positions is None:
            positions = torch.arange(ids.shape[1], device=ids.device)[None]
        return make(config=config, inputs_embeds=embeddings, attention_mask=batch["attention_mask"],
                    past_key_values=None, position_ids=positions)

    def shard(self, batch: dict) -> dict:
        ids, labels, positions = batch["input_ids"], batch["labels"], batch["position_ids"]
        length = ids.shape[1]
        if length % self.size:
            raise ValueError(f"the hand-written baseline cannot cut a sequence of {length} in {self.size} equal parts")
        if positions is None:
            positions = torch.arange(length, device=ids.device).expand(ids.shape)
        shifted = F.pad(labels, (0, 1), value=IGNORED)[:, 1:]
        here = slice(self.rank * length // self.size, (self.rank + 1) * length // self.size)
        local = {"input_ids": ids, "labels": labels, "position_ids": positions, "shift_labels": shifted}
        local = {name: value[:, here].contiguous() for name, value in local.items()}
        return {**local, "attention_mask": self.whole_mask(batch), "num_items_in_batch": (shifted != IGNORED).sum()}

    def whole_loss(self, partial: torch.Tensor) -> torch.Tensor:
        """The loss of the whole sequence, whose gradients averaged over all ranks are those of the unsharded run."""
        total = partial.detach().clone()
        dist.all_reduce(total, group=self.group)
        scaled = partial * self.size
        return scaled - scaled.detach() + total
