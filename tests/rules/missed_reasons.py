"""Why a rule says "whole" where running the operation on blocks would do: (row, operand), both patterns -> reason.

missed_claims.md lists what the search found with these reasons; a finding without a reason, and a reason without a
finding, fail the suite.
"""

_BOOLEANS = "chance: the sum of the ranks' booleans is no boolean in general"
_LOSS = "normalize-captured-ops writes the loss of each element and its sum, which are cut"
_RARE = "rare in transformers, and a rule of its own would be needed"
_EMPTY = "chance: the sample is empty"
_ONE_PIECE = "a split into one piece"
_ORDER = "chance: the sample's positions happen to lie in their own blocks"

REASONS: dict[tuple[str, str], str] = {
    ("aten._grouped_mm", "*"): "the kernel wants rows of a multiple of 16 bytes, which a block need not have",
    ("aten._upsample_bilinear2d_aa.vec", "input"): "a scale of 1 along one dim",
    ("aten.addbmm", "*"): _EMPTY,
    ("aten.all*", "self"): _BOOLEANS,
    ("aten.any*", "self"): _BOOLEANS,
    ("aten.argmax", "self"): "chance: the other ranks' index is 0",
    ("aten.avg_pool2d", "self"): "a window of 1 along one dim",
    ("aten.bilinear", "*"): _RARE,
    ("aten.binary_cross_entropy", "*"): _LOSS,
    ("aten.binary_cross_entropy_with_logits", "*"): _LOSS,
    ("aten.bincount", "*"): "the number of bins depends on the values of all ranks unless it is given and large enough",
    ("aten.bucketize.Tensor", "boundaries"): "counts over sorted boundaries; boundaries are short",
    ("aten.cat", "tensors"): "one tensor is empty",
    ("aten.cdist", "*"): _RARE,
    ("aten.cosine_similarity", "*"): "operands broadcast against each other",
    ("aten.cross_entropy_loss", "*"): "smoothed probabilities: no value of a padded tail is neutral",
    ("aten.diff", "self"): "a difference of order 0",
    ("aten.einsum", "tensors"): "sums over a letter that the first operand lacks, diagonals, and dims of an ellipsis",
    ("aten.embedding", "*"): "gradients by frequency count the indices of all ranks",
    ("aten.huber_loss", "*"): _LOSS,
    ("aten.index.Tensor", "*"): _ORDER,
    ("aten.index_put", "*"): "masks, and values that happen to be alike",
    ("aten.inner", "*"): _RARE,
    ("aten.instance_norm", "input"): "running statistics average over the batch",
    ("aten.kl_div", "*"): _LOSS,
    ("aten.l1_loss", "*"): _LOSS,
    ("aten.linalg_cross", "other"): "operands broadcast against each other",
    ("aten.linalg_norm", "self"): "a norm of order 0 or 1",
    ("aten.linalg_vecdot", "*"): _RARE,
    ("aten.linalg_vector_norm", "self"): "a norm of order 1",
    ("aten.masked_scatter", "*"): "which element goes where depends on the whole mask",
    ("aten.meshgrid.indexing", "tensors"): _RARE,
    ("aten.mse_loss", "*"): _LOSS,
    ("aten.norm.ScalarOpt_dim", "self"): "a norm of order 1",
    ("aten.one_hot", "self"): "without a number of classes a rank would count its own",
    ("aten.pixel_*shuffle", "self"): "a factor of 1",
    ("aten.prelu", "self"): "a vector has no channel dim",
    ("aten.roll", "self"): "a shift by 0",
    ("aten.rot90", "self"): "without dims the first two are needed whole, which the rule does not know",
    ("aten.scaled_dot_product_attention", "*"): "two dims: no head to give the ranks",
    ("aten.searchsorted.Tensor", "*"): "values looked up in one sorted row: use bucketize, which passes them",
    ("aten.select_scatter", "*"): _RARE,
    ("aten.smooth_l1_loss", "*"): _LOSS,
    ("aten.soft_margin_loss", "*"): _LOSS,
    ("aten.split.Tensor", "self"): _ONE_PIECE,
    ("aten.squeeze", "self"): "a block may hold one element, and that dim would go away on a rank",
    ("aten.std*", "self"): _EMPTY,
    ("aten.tensordot", "*"): _RARE,
    ("aten.unsafe_split.Tensor", "self"): _ONE_PIECE,
    ("aten.var*", "self"): _EMPTY,
}
