"""The torch ops that a rewritten graph calls besides PyTorch's own functional collectives.

`autosp_fx::mesh_coordinate` reads the rank at run time: the rewritten program is the same on every rank, so the rank
must never be a constant of the graph.

Importing this module also makes the functional collectives differentiable: PyTorch registers their adjoints in
`torch.distributed._functional_collectives`, which nothing imports on its own in eager mode, and without it the gradient
through a collective is silently wrong.
"""

from __future__ import annotations

import torch
import torch.distributed._functional_collectives  # registers the adjoints

_library = torch.library.Library("autosp_fx", "DEF")
_library.define("mesh_coordinate(str group_name, Device device) -> Tensor", tags=(torch.Tag.pt2_compliant_tag,))


def _mesh_coordinate(group_name: str, device: torch.device) -> torch.Tensor:
    import torch.distributed as dist
    from torch.distributed.distributed_c10d import _resolve_process_group

    return torch.tensor(dist.get_rank(_resolve_process_group(group_name)), dtype=torch.int64, device=device)


def _mesh_coordinate_fake(group_name: str, device: torch.device) -> torch.Tensor:
    return torch.empty((), dtype=torch.int64, device=device)


_library.impl("mesh_coordinate", _mesh_coordinate, "CompositeExplicitAutograd")
torch.library.register_fake("autosp_fx::mesh_coordinate", _mesh_coordinate_fake, lib=_library)
