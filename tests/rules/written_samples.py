"""Samples for rows that PyTorch's op_db does not reach, or not in a form that matters here.

Each entry: row -> function that makes a list of (args, kwargs). Sizes are mixed: 4 and 6 are cut evenly by 2, 5 by none
of 2, 3, 4, and 6 is also 2*3, so that inner and outer parts are cut too.
"""

from __future__ import annotations

import torch

CPU = torch.device("cpu")
F64 = torch.float64
GENERATOR = torch.Generator().manual_seed(0)


def f(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=F64, generator=GENERATOR)


def positive(*shape: int) -> torch.Tensor:
    return torch.rand(shape, dtype=F64, generator=GENERATOR) + 0.1


def i(high: int, *shape: int) -> torch.Tensor:
    return torch.randint(high, shape, generator=GENERATOR)


def b(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=GENERATOR) < 0.5


def _one(*args, **kwargs):
    return lambda: [(args, kwargs)]


def _attention():
    causal = torch.ones(5, 5, dtype=torch.bool).tril()
    return [
        ((f(2, 4, 5, 3), f(2, 4, 5, 3), f(2, 4, 5, 6)), {}),
        ((f(2, 4, 5, 3), f(2, 2, 6, 3), f(2, 2, 6, 3)), {"enable_gqa": True}),
        ((f(2, 4, 5, 3), f(2, 4, 5, 3), f(2, 4, 5, 3), None, 0.0, True), {"scale": 0.7}),
        ((f(2, 4, 5, 3), f(2, 4, 5, 3), f(2, 4, 5, 3), causal), {}),
        ((f(2, 4, 5, 3), f(2, 4, 6, 3), f(2, 4, 6, 3), f(2, 4, 5, 6)), {}),
        ((f(2, 4, 5, 3), f(2, 4, 6, 3), f(2, 4, 6, 3), f(4, 1, 6)), {}),
        ((f(2, 4, 5, 3), f(2, 4, 6, 3), f(2, 4, 6, 3), f(2, 1, 5, 1)), {}),
        ((f(4, 5, 3), f(4, 6, 3), f(4, 6, 3)), {}),
        ((f(6, 4, 3), f(6, 4, 3), f(6, 4, 3), f(4, 4)), {}),
        ((f(2, 1, 5, 3), f(2, 1, 5, 3), f(2, 1, 5, 3)), {}),
        ((f(1, 4, 5, 3), f(2, 4, 5, 3), f(2, 4, 5, 3)), {}),
        ((f(4, 3), f(4, 3), f(4, 3)), {}),
    ]


def _cross_entropy():
    ignored = i(6, 5)
    ignored[1] = -100
    image = i(6, 2, 3, 4)
    return [
        ((f(5, 6), ignored, None, 2), {}),
        ((f(5, 6), ignored, None, 2, -100, 0.1), {}),
        ((f(5, 6), ignored, positive(6), 2), {}),
        ((f(4, 6), i(6, 4), positive(6), 2, 3, 0.2), {}),
        ((f(4, 6), i(6, 4), None, 0), {}),
        ((f(4, 6), i(6, 4), positive(6), 0), {}),
        ((f(2, 6, 3, 4), image, None, 2), {}),
        ((f(2, 6, 3, 4), image, positive(6), 0), {}),
        ((f(4, 6), i(6, 4)), {}),
        ((f(4, 6), i(6, 4), positive(6)), {}),
        ((f(4, 6), positive(4, 6), None, 2), {}),
        ((f(5, 6), positive(5, 6), positive(6), 2), {}),
        ((f(5, 6), positive(5, 6), None, 2, -100, 0.1), {}),
        ((f(5, 6, 4), positive(5, 6, 4), None, 0), {}),
        ((f(6), torch.tensor(3), None, 2), {}),
    ]


def _loss():
    return [((f(4, 5), positive(4, 5), 0), {}), ((f(6, 5), positive(6, 5), 2), {}), ((f(4, 5), positive(4, 5)), {})]


def _index():
    return [
        ((f(4, 5, 6), [None, i(5, 3, 4)]), {}),
        ((f(4, 5, 6), [i(4, 3), None, i(6, 3)]), {}),
        ((f(4, 5, 6), [i(4, 3, 1), i(5, 6)]), {}),
        ((f(4, 5, 6), [None, i(5, 4), i(6, 1)]), {}),
        ((f(4, 6), [b(4, 6)]), {}),
        ((f(4, 6), [b(4), i(6, 1)]), {}),
    ]


def _index_put():
    return [
        ((f(4, 5, 6), [None, torch.tensor([3, 1, 0])], f(4, 3, 6)), {}),
        ((f(4, 5, 6), [None, torch.tensor([3, 1, 1])], f(6), True), {}),
        ((f(4, 5, 6), [torch.tensor([3, 1]), None, torch.tensor([[5], [2]])], f(2, 2, 5)), {}),
        ((f(4, 6), [b(4, 6)], torch.tensor(0.5, dtype=F64)), {}),
        ((f(6, 4), [torch.tensor([5, 2, 0])], f(3, 1)), {}),
    ]


def _convolution(dims: int):
    x, k = [6, 5, 4][:dims], [3, 2, 2][:dims]
    return lambda: [
        ((f(4, 6, *x), f(5, 6, *k), f(5)), {}),
        ((f(4, 6, *x), f(5, 6, *k)), {}),
        ((f(2, 5, *x), f(6, 5, *[1] * dims)), {}),
        ((f(2, 5, *x), f(6, 5, *[1] * dims), f(6), [2] * dims), {}),
        ((f(2, 5, *x), f(6, 5, *[1] * dims), None, [1] * dims, [1] * dims), {}),
        ((f(4, 6, *x), f(4, 3, *k), f(4), [1] * dims, [0] * dims, [1] * dims, 2), {}),
        ((f(6, *x), f(4, 6, *k)), {}),
    ]


def _einsum():
    return [
        (("bsd,hd->bsh", [f(2, 4, 5), f(6, 5)]), {}),
        (("bhqd,bhkd->bhqk", [f(2, 4, 5, 3), f(2, 4, 6, 3)]), {}),
        (("bij, bjk", [f(2, 4, 5), f(2, 5, 6)]), {}),
        (("i,j->ij", [f(4), f(5)]), {}),
        (("ab,bc,c->a", [f(4, 5), f(5, 6), f(6)]), {}),
        (("...d,d->...", [f(2, 4, 5), f(5)]), {}),
        (("ii->i", [f(4, 4)]), {}),
        (("bsd->d", [f(2, 4, 5)]), {}),
        (("sbd,bd->s", [f(5, 4, 6), f(1, 6)]), {}),
    ]


def _grouped_mm():
    offsets = torch.tensor([2, 6], dtype=torch.int32)
    return [((torch.randn(6, 16), torch.randn(2, 16, 32), offsets), {})]


def _reshape():
    return [
        ((f(4, 5, 6), [20, 6]), {}),
        ((f(4, 6), [4, 2, 3]), {}),
        ((f(6, 4, 5), [4, 6, 5]), {}),
        ((f(4, 1, 6), [1, 24]), {}),
        ((f(2, 3, 4), [6, 4]), {}),
        ((f(2, 6), [2, 2, 3]), {}),
        ((f(4, 6, 2), [-1, 2]), {}),
        ((f(12, 5), [3, 4, -1]), {}),
    ]


WRITTEN = {
    "_c10d_functional.wait_tensor": _one(f(4, 5)),
    "aten.__and__.Tensor": lambda: [((b(4, 5), b(4, 5)), {}), ((i(9, 4, 5), i(9, 5)), {})],
    "aten.__or__.Tensor": lambda: [((b(4, 5), b(4, 5)), {}), ((i(9, 4, 5), i(9, 4, 1)), {})],
    "aten._assert_tensor_metadata": lambda: [
        ((f(4, 5), None, None, F64), {}),
        ((f(4, 5), [4, 5]), {}),
        ((f(4, 5), None, [5, 1], F64), {"device": CPU}),
    ],
    "aten._softmax": lambda: [((f(4, 5), 1, False), {}), ((f(4, 5, 6), 0, False), {})],
    "aten._to_copy": lambda: [((f(4, 5),), {"dtype": F64}), ((i(9, 6, 5),), {"dtype": F64})],
    "aten._unsafe_view": _reshape,
    "aten.add.Scalar": _one(f(4, 5), 2.5),
    "aten.alias": _one(f(4, 5)),
    "aten.bernoulli.p": _one(f(4, 5), 0.3),
    "aten.binomial": _one(torch.full((4, 5), 3.0, dtype=F64), torch.full((4, 5), 0.5, dtype=F64)),
    "aten.clamp": lambda: [((f(4, 5), -0.5, 0.5), {}), ((f(4, 6), None, 0.1), {}), ((f(5), 0), {})],
    "aten.clamp_max": _one(f(4, 5), 0.3),
    "aten.clamp_min": _one(f(4, 5), -0.3),
    "aten.contiguous": _one(f(4, 5)),
    "aten.cross_entropy_loss": _cross_entropy,
    "aten.div.Scalar": _one(f(4, 5), 3.0),
    "aten.embedding": lambda: [
        ((f(6, 4), i(6, 2, 5)), {}),
        ((f(6, 4), i(6, 5), 3), {}),
        ((f(6, 4), i(6, 2, 5), -1, True), {}),
    ],
    "aten.eq.Scalar": _one(i(3, 4, 5), 1),
    "aten.ge.Scalar": _one(f(4, 5), 0),
    "aten.gt.Scalar": _one(f(4, 5), 0),
    "aten.le.Scalar": _one(f(4, 5), 0),
    "aten.lift_fresh_copy": _one(f(4, 5)),
    "aten.lt.Scalar": _one(f(4, 5), 0),
    "aten.mul.Scalar": _one(f(4, 5), 3.0),
    "aten.native_dropout": _one(f(4, 5), 0.5, True),
    "aten.ne.Scalar": _one(i(3, 4, 5), 1),
    "aten.nll_loss_nd": lambda: [(args[:5], {}) for args, _ in _cross_entropy() if args[1].dtype == torch.int64],
    "aten.normal.float_Tensor": _one(0.0, positive(4, 5)),
    "aten.normal_functional": _one(f(4, 5)),
    "aten.poisson": _one(positive(4, 5)),
    "aten.pow.Scalar": _one(2.0, f(4, 5)),
    "aten.rand.generator": _one([4, 5], generator=None),
    "aten.randint.generator": _one(9, [4, 5], generator=None),
    "aten.randint.low_generator": _one(2, 9, [4, 5], generator=None),
    "aten.randn.generator": _one([4, 5], generator=None),
    "aten.randperm": _one(6),
    "aten.randperm.generator": _one(6, generator=None),
    "aten.remainder.Scalar": _one(f(4, 5), 0.7),
    "aten.reshape": _reshape,
    "aten.rms_norm": lambda: [
        ((f(4, 5, 6), [6], positive(6), 1e-6), {}),
        ((f(4, 5, 6), [5, 6]), {}),
        ((f(4, 5, 6), [4, 5, 6]), {}),
    ],
    "aten.scaled_dot_product_attention": _attention,
    "aten.squeeze.dim": lambda: [((f(4, 1, 2), 1), {}), ((f(4, 1, 2), 2), {}), ((f(3, 4, 2), 0), {})],
    "aten.__and__.Scalar": _one(i(9, 4, 5), 3),
    "aten.__lshift__.Scalar": _one(i(9, 4, 5), 1),
    "aten.__lshift__.Tensor": _one(i(9, 4, 5), i(3, 5)),
    "aten.__or__.Scalar": _one(i(9, 4, 5), 3),
    "aten.__rshift__.Scalar": _one(i(9, 4, 5), 1),
    "aten.__rshift__.Tensor": _one(i(9, 4, 5), i(3, 5)),
    "aten.__xor__.Scalar": _one(i(9, 4, 5), 3),
    "aten.__xor__.Tensor": _one(i(9, 4, 5), i(9, 4, 1)),
    "aten._conj": _one(torch.complex(f(4, 5), f(4, 5))),
    "aten._fused_rms_norm": lambda: [
        ((f(4, 5, 6), [6], positive(6), 1e-6), {}),
        ((f(4, 5, 6), [5, 6], None, None), {}),
    ],
    "aten._grouped_mm": _grouped_mm,
    "aten._log_softmax": _one(f(4, 5), 1, False),
    "aten.absolute": _one(f(4, 5)),
    "aten.addbmm": lambda: [((f(4, 5), f(2, 4, 6), f(2, 6, 5)), {}), ((f(5), f(2, 4, 6), f(2, 6, 5)), {"beta": 0.5})],
    "aten.addmm": lambda: [((f(5), f(4, 6), f(6, 5)), {}), ((f(4, 1), f(4, 6), f(6, 5)), {"alpha": 0.5})],
    "aten.adjoint": _one(f(2, 4, 5)),
    "aten.arctan2": _one(f(4, 5), f(5)),
    "aten.batch_norm": lambda: [
        ((f(4, 6, 5), f(6), f(6), f(6), positive(6), False, 0.1, 1e-5, False), {}),
        ((f(4, 6), f(6), None, f(6), positive(6), False, 0.1, 1e-5, False), {}),
        ((f(4, 6, 5), f(6), f(6), None, None, True, 0.1, 1e-5, False), {}),
    ],
    "aten.binary_cross_entropy": lambda: [
        ((torch.sigmoid(f(4, 5)), positive(4, 5) / 2, None, 0), {}),
        ((torch.sigmoid(f(4, 5)), positive(4, 5) / 2, positive(5), 2), {}),
    ],
    "aten.binary_cross_entropy_with_logits": lambda: [
        ((f(4, 5), positive(4, 5), None, None, 0), {}),
        ((f(4, 5), positive(4, 5), positive(4, 1), positive(5), 0), {}),
        ((f(4, 5), positive(4, 5)), {}),
    ],
    "aten.bitwise_and.Scalar": _one(i(9, 4, 5), 3),
    "aten.bitwise_or.Scalar": _one(i(9, 4, 5), 3),
    "aten.bitwise_xor.Scalar": _one(i(9, 4, 5), 3),
    "aten.clip": _one(f(4, 5), -0.5, 0.5),
    "aten.clip.Tensor": _one(f(4, 5), None, f(5)),
    "aten.concat": _one([f(4, 5), f(3, 5)]),
    "aten.concatenate": _one([f(4, 5), f(4, 6)], 1),
    "aten.conv1d": _convolution(1),
    "aten.conv2d": _convolution(2),
    "aten.conv3d": _convolution(3),
    "aten.copy": _one(f(4, 5), f(5)),
    "aten.cummax": lambda: [((f(4, 5), 0), {}), ((f(4, 5, 6), -1), {})],
    "aten.div.Scalar_mode": _one(f(4, 5), 0.3, rounding_mode="floor"),
    "aten.divide.Tensor_mode": _one(f(4, 5), f(5), rounding_mode="trunc"),
    "aten.einsum": _einsum,
    "aten.fill.Tensor": _one(f(4, 5), torch.tensor(0.5, dtype=F64)),
    "aten.fix": _one(f(4, 5)),
    "aten.float_power.Tensor_Scalar": _one(positive(4, 5), 1.5),
    "aten.floor_divide.Scalar": _one(i(9, 4, 5), 2),
    "aten.fmod.Scalar": _one(f(4, 5), 0.7),
    "aten.gather": lambda: [
        ((f(4, 6, 5), 1, i(6, 4, 3, 5)), {}),
        ((f(4, 6, 5), -1, i(5, 4, 2, 6)), {}),
        ((f(6, 5), 0, i(6, 4, 5)), {"sparse_grad": False}),
    ],
    "aten.ger": _one(f(4), f(5)),
    "aten.greater.Scalar": _one(f(4, 5), 0),
    "aten.greater.Tensor": _one(f(4, 5), f(5)),
    "aten.greater_equal.Scalar": _one(f(4, 5), 0),
    "aten.greater_equal.Tensor": _one(f(4, 5), f(5)),
    "aten.imag": _one(torch.complex(f(4, 5), f(4, 5))),
    "aten.index.Tensor": _index,
    "aten.index_put": _index_put,
    "aten.isin.Tensor_Scalar": _one(i(9, 4, 5), 3),
    "aten.kl_div": _loss,
    "aten.l1_loss": _loss,
    "aten.less.Scalar": _one(f(4, 5), 0),
    "aten.less.Tensor": _one(f(4, 5), f(5)),
    "aten.less_equal.Scalar": _one(f(4, 5), 0),
    "aten.less_equal.Tensor": _one(f(4, 5), f(5)),
    "aten.moveaxis.int": _one(f(4, 5, 6), 0, 2),
    "aten.moveaxis.intlist": _one(f(4, 5, 6), [0, 1], [2, 0]),
    "aten.movedim.int": _one(f(4, 5, 6), 2, 0),
    "aten.movedim.intlist": _one(f(4, 5, 6, 2), [3, 0], [0, 2]),
    "aten.mse_loss": _loss,
    "aten.multiply.Scalar": _one(f(4, 5), 2.0),
    "aten.multiply.Tensor": _one(f(4, 5), f(4, 1)),
    "aten.negative": _one(f(4, 5)),
    "aten.norm.Scalar": _one(f(4, 5)),
    "aten.norm.ScalarOpt_dim": lambda: [((f(4, 5), 2, [0]), {}), ((f(4, 5, 6), 1, [1, 2], True), {})],
    "aten.norm.ScalarOpt_dim_dtype": lambda: [((f(4, 5), 2, [1], True), {"dtype": F64})],
    "aten.not_equal.Scalar": _one(i(3, 4, 5), 1),
    "aten.not_equal.Tensor": _one(i(3, 4, 5), i(3, 5)),
    "aten.numpy_T": _one(f(4, 5, 6)),
    "aten.one_hot": lambda: [((i(6, 4, 5), 6), {}), ((i(6, 4, 5),), {})],
    "aten.prelu": lambda: [((f(4, 6, 5), f(6)), {}), ((f(4, 6, 5), f(1)), {}), ((f(6), f(1)), {})],
    "aten.remainder.Scalar_Tensor": _one(2.0, positive(4, 5)),
    "aten.repeat": lambda: [((f(4, 5), [2, 3]), {}), ((f(4, 1, 6), [2, 1, 3, 1]), {}), ((f(5), [1]), {})],
    "aten.smooth_l1_loss": _loss,
    "aten.huber_loss": _loss,
    "aten.soft_margin_loss": _loss,
    "aten.special_log_softmax": _one(f(4, 5), -1),
    "aten.special_softmax": _one(f(4, 5), 0),
    "aten.split.sizes": _one(f(6, 5), [2, 4]),
    "aten.squeeze": lambda: [((f(4, 1, 5),), {}), ((f(1, 2, 3),), {})],
    "aten.squeeze.dims": lambda: [((f(4, 1, 5, 1), [1, 3]), {}), ((f(4, 1, 2), [1, 2]), {})],
    "aten.swapaxes": _one(f(4, 5, 6), 0, -1),
    "aten.swapdims": _one(f(4, 5, 6), 0, 1),
    "aten.tile": lambda: [((f(4, 5, 6), [2, 3]), {}), ((f(5), [2, 2]), {})],
    "aten.to.other": _one(f(4, 5), i(3, 6)),
    "aten.unfold": lambda: [((f(6, 5), 0, 2, 2), {}), ((f(4, 6, 5), 1, 3, 1), {})],
    "aten.unsafe_split_with_sizes": _one(f(6, 5), [2, 4]),
    "aten.view_as_complex": _one(f(4, 5, 2)),
    "aten.view_as_real": _one(torch.complex(f(4, 5), f(4, 5))),
    "aten.where": _one(b(4, 5)),
    "aten.zero": _one(f(4, 5)),
    "aten.all.dims": _one(b(4, 5, 6), [0, 2]),
    "aten.any.dims": _one(b(4, 5, 6), [1], True),
    "aten.conv2d.padding": lambda: [
        ((f(4, 6, 6, 5), f(5, 6, 3, 3), None, [1, 1], "same"), {}),
        ((f(4, 6, 6, 5), f(5, 6, 1, 1), f(5), [1, 1], "valid"), {}),
    ],
    "aten.conv1d.padding": lambda: [((f(4, 6, 5), f(5, 6, 3), None, [1], "same"), {})],
    "aten.diagonal": lambda: [((f(4, 5, 6), 1, 0, 2), {}), ((f(4, 5, 6),), {})],
    "aten.diff": lambda: [((f(4, 6),), {}), ((f(4, 6, 5), 2, 1), {}), ((f(4, 6), 1, 0, f(1, 6)), {})],
    "aten.linalg_vecdot": lambda: [((f(4, 5), f(4, 5)), {}), ((f(6, 2, 3), f(6, 2, 3)), {"dim": 0})],
    "aten.bitwise_right_shift.Tensor_Scalar": _one(i(9, 4, 5), 1),
    "aten.native_group_norm": _one(f(4, 6, 5), f(6), f(6), 4, 6, 5, 2, 1e-5),
    "aten.rand_like": _one(f(4, 5)),
    "aten.nanmean": _one(f(4, 6, 5), [1], True),
    "aten.pixel_shuffle": _one(f(4, 8, 3, 5), 2),
    "aten.pixel_unshuffle": _one(f(4, 3, 4, 6), 2),
    "aten.scatter.reduce": lambda: [((f(4, 6), 1, i(6, 4, 3), f(4, 3)), {"reduce": "add"})],
    "aten.scatter.value": lambda: [((f(4, 6), 1, i(6, 4, 3), 0.5), {}), ((f(6, 5), 0, i(6, 4, 3), 0.5), {})],
    "aten.scatter.value_reduce": lambda: [((f(4, 6), 1, i(6, 4, 3), 0.5), {"reduce": "multiply"})],
    "aten.searchsorted.Tensor": lambda: [
        ((f(4, 5).sort(-1).values, f(4, 6)), {}),
        ((f(5).sort(-1).values, f(4, 6)), {}),
    ],
    "aten.slice_scatter": lambda: [((f(6, 5), f(2, 5), 0, 1, 3), {}), ((f(4, 6), f(4, 2), 1, 0, 4, 2), {})],
    "aten.special_entr": _one(positive(4, 5)),
    "aten.unique_dim": _one(i(2, 6, 4), 0),
    "transformers.grouped_mm_fallback": _grouped_mm,
    "aten.sub.Scalar": _one(f(4, 5), 3.0),
    "aten.sym_size.int": lambda: [((f(4, 5), 0), {}), ((f(4, 5), -1), {})],
    "aten.to.dtype_layout": _one(f(4, 5), dtype=F64, layout=torch.strided, device=CPU),
    "aten.type_as": lambda: [((f(4, 5), f(3)), {}), ((i(9, 4, 5), f(4, 6)), {})],
    "aten.view": _reshape,
    "aten.where.ScalarOther": _one(b(4, 5), f(4, 5), 2.0),
    "aten.where.ScalarSelf": _one(b(4, 5), 2.0, f(5)),
}
