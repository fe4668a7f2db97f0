#pragma once

#include <autosp/ir/graph.h>

namespace autosp {

// Partitioned form: spells autosp_fx.halo_conv1d and autosp_fx.shift (passes/exchange_halos.h) in ATen ops and
// collectives.
//
// Not cut: a pad and a conv1d, or a pad by [n, -n]. Cut, with blocks of B = ceildiv(length, P) and a halo of `left`
// elements on rank r:
//   x          its padded tail set to 0 (autosp.mask_padding): beyond the end are zeros
//   edge       the last e = min(left, B) elements of x
//   edges      autosp.all_gather of them: P * e elements, with `left` zeros before them
//   halo       edges[r * e : r * e + left]: what comes before rank r's block. Right also where the halo is wider than a
//              block, since then e = B and the edges are whole blocks in a row.
//   extended   cat([halo, x]); the op without padding runs on it
//   tail       the result's padded tail, computed from zeros, becomes its last true element (one more all_gather, of
//   one
//              position, where P does not divide the length)
// The right halo is the mirror image. Every step has an exact adjoint, so the op has one.
Status LowerHalos(Graph& graph);

}  // namespace autosp
