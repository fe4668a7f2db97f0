#pragma once

#include <autosp/analysis/device_model.h>
#include <autosp/ir/graph.h>

#include <map>
#include <string>
#include <string_view>

namespace autosp {

using SymbolValues = std::map<std::string, std::int64_t>;

// Whether the result shares the memory of its first operand: it costs nothing and keeps that operand alive.
bool IsView(const Node& node);
bool IsViewOp(std::string_view op);  // "aten.view", "aten.view.dtype"
// Whether the op draws random numbers: done twice, it would give two results.
bool DrawsRandomNumbers(const Node& node);
bool IsCollective(const Node& node);
bool IsAttention(const Node& node);  // forward attention kernels and scaled_dot_product_attention

// Bytes of a value of this type for these lengths; a tuple is the sum of its tensors. Symbols without a value count
// 1024.
double Bytes(const Type& type, const SymbolValues& values);

// Floating-point operations, 2 per multiply-add. Counted for contractions and attention (2*2*b*h*q*k*d, halved when
// causal); everything else is bound by memory.
double Flops(const Node& node, const SymbolValues& values);

// Bytes that a kernel holds while it runs, besides its operands and results. Known of CPU flash attention: per thread a
// block of scores, forward q*k + 2q + q*d and backward 2q*k elements in f32 with q = 256, 64 or 32 rows (from 768, from
// 192, else) and k = 512 columns at most (ATen/native/cpu/FlashAttentionKernel.cpp).
double Workspace(const Node& node, const SymbolValues& values);

// Seconds on a roofline: max(flops / rate, bytes read and written / bandwidth) + launch; a collective sends
// bytes * (P-1)/P over its link instead (an all_reduce twice that). Views and integers take none.
double Seconds(const Node& node, const SymbolValues& values, const DeviceModel& device, std::int64_t ranks);

}  // namespace autosp
