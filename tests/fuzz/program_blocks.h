#pragma once

#include "program_builder.h"

namespace autosp::test {

// The inputs that blocks and losses read besides trained weights; null where the program has none.
struct ProgramInputs {
  std::int64_t ranks = 2;
  Dim batch, length;
  bool batch_first = true;
  Node* ids = nullptr;        // i64[batch, length], or transposed
  Node* labels = nullptr;     // the same
  Node* mask = nullptr;       // bool[batch, length]
  Node* positions = nullptr;  // i64[batch, length]
};

// Attention over dim 1 of a value [b, s, d], in one op or written out, with or without masks, heads shared or not; x is
// added to it. Null when x has another form.
Node* AttentionBlock(ProgramBuilder& builder, const ProgramInputs& inputs, Node* x);
// Two linear layers, gated or not; x is added to it.
Node* MlpBlock(ProgramBuilder& builder, Node* x);
// A scalar of x: a cross entropy against the labels where x has their shape, else squares, means, weighted sums.
Node* Loss(ProgramBuilder& builder, const ProgramInputs& inputs, Node* x, std::vector<Node*>& returned);

}  // namespace autosp::test
