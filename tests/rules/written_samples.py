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
        ((f(6), torch.tensor(3), None, 2), {}),
    ]


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
    "aten.sub.Scalar": _one(f(4, 5), 3.0),
    "aten.sym_size.int": lambda: [((f(4, 5), 0), {}), ((f(4, 5), -1), {})],
    "aten.to.dtype_layout": _one(f(4, 5), dtype=F64, layout=torch.strided, device=CPU),
    "aten.type_as": lambda: [((f(4, 5), f(3)), {}), ((i(9, 4, 5), f(4, 6)), {})],
    "aten.view": _reshape,
    "aten.where.ScalarOther": _one(b(4, 5), f(4, 5), 2.0),
    "aten.where.ScalarSelf": _one(b(4, 5), 2.0, f(5)),
}
