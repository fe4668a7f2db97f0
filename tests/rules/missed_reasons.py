"""Why a rule says "whole" where running the operation on blocks would do. One reason per row and operand, both patterns.

missed_claims.md lists what the search found with these reasons; a finding without a reason, and a reason without a
finding, fail the suite.
"""

REASONS: dict[tuple[str, str], str] = {
    ("aten.addmm", "*"): "the rule knows a bias of one dim only",
    ("aten.all.dim", "*"): "the sum of the ranks' booleans is no boolean in general",
    ("aten.any.dim", "*"): "the sum of the ranks' booleans is no boolean in general",
    ("aten.baddbmm", "*"): "the rule knows a bias of three dims only",
    ("aten.cross_entropy_loss", "*"): "targets that are probabilities are needed whole",
    ("aten.index.Tensor", "*"): "indexing by tensors is needed whole",
    ("aten.split.Tensor", "*"): "a split into one piece",
}
