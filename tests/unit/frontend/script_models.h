#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <torch/csrc/jit/api/module.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

// TorchScript modules made without Python.
namespace autosp::testing {

struct ScriptModel {
  torch::jit::Module module;
  std::vector<c10::IValue> batch;  // ids, labels
};

class ModelMaker {
 public:
  explicit ModelMaker(c10::ScalarType dtype)
      : module_(c10::QualifiedName("__torch__.Model"), std::make_shared<torch::jit::CompilationUnit>(), true),
        options_(at::TensorOptions().dtype(dtype)),
        generator_(at::detail::createCPUGenerator(7)) {}

  void Parameter(const std::string& name, std::vector<std::int64_t> shape, double scale = 0.3) {
    at::Tensor value = at::randn(shape, generator_, at::kDouble).mul(scale).to(options_);
    module_.register_parameter(name, value.requires_grad_(true), false);
  }
  void Ones(const std::string& name, std::int64_t size) {
    module_.register_parameter(
        name, at::randn({size}, generator_, at::kDouble).mul(0.1).add(1).to(options_).requires_grad_(true), false);
  }
  void Buffer(const std::string& name, const at::Tensor& value) { module_.register_buffer(name, value.to(options_)); }

  ScriptModel Finish(const std::string& source, std::int64_t length) {
    module_.define(source + "\n");
    const auto longs = at::TensorOptions().dtype(at::kLong);
    at::Tensor ids = at::randint(0, 29, {2, length}, generator_, longs);
    return {module_, {ids, at::randint(0, 29, {2, length}, generator_, longs)}};
  }

 private:
  torch::jit::Module module_;
  at::TensorOptions options_;
  at::Generator generator_;
};

// Learned positions, layer norms, biases, gelu, tied head; a branch and a loop on constants.
inline ScriptModel GptLike(c10::ScalarType dtype, std::int64_t length) {
  ModelMaker make(dtype);
  make.Parameter("wte", {29, 16});
  make.Parameter("wpe", {length, 16});
  make.Ones("ln_weight", 16);
  make.Parameter("ln_bias", {16});
  make.Parameter("qkv", {48, 16});
  make.Parameter("qkv_bias", {48});
  make.Parameter("out", {16, 16});
  make.Parameter("up", {64, 16});
  make.Parameter("up_bias", {64});
  make.Parameter("down", {16, 64});
  return make.Finish(R"(
def forward(self, ids, labels):
    b, t = ids.size(0), ids.size(1)
    assert t <= )" + std::to_string(length) +
                         R"(
    x = torch.embedding(self.wte, ids) + self.wpe[:t]
    for layer in range(2):
        h = torch.layer_norm(x, [16], self.ln_weight, self.ln_bias)
        q, k, v = torch.linear(h, self.qkv, self.qkv_bias).split(16, dim=2)
        q = q.view(b, t, 4, 4).transpose(1, 2)
        k = k.view(b, t, 4, 4).transpose(1, 2)
        v = v.view(b, t, 4, 4).transpose(1, 2)
        y = torch.scaled_dot_product_attention(q, k, v, None, 0.0, True)
        x = x + torch.linear(y.transpose(1, 2).reshape(b, t, 16), self.out)
        h = torch.layer_norm(x, [16], self.ln_weight, self.ln_bias)
        x = x + torch.linear(torch.gelu(torch.linear(h, self.up, self.up_bias)), self.down)
    logits = torch.linear(x, self.wte)[:, :-1]
    return torch.cross_entropy_loss(logits.reshape(-1, logits.size(-1)), labels[:, 1:].reshape(-1))
)",
                     length);
}

// Grouped queries, rotary positions, rms norms written out, gated MLP.
inline ScriptModel LlamaLike(c10::ScalarType dtype, std::int64_t length) {
  ModelMaker make(dtype);
  make.Parameter("embed", {29, 16});
  make.Ones("norm", 16);
  make.Parameter("wq", {16, 16});
  make.Parameter("wk", {8, 16});
  make.Parameter("wv", {8, 16});
  make.Parameter("wo", {16, 16});
  make.Parameter("gate", {40, 16});
  make.Parameter("up", {40, 16});
  make.Parameter("down", {16, 40});
  make.Parameter("head", {29, 16});
  make.Buffer("inverse", at::arange(2, at::kDouble).mul(-0.7).exp());
  return make.Finish(R"(
def rms(self, x):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.norm

def rotate(self, x, c, s):
    return x * c + torch.cat([-x[..., 2:], x[..., :2]], -1) * s

def forward(self, ids, labels):
    b, t = ids.size(0), ids.size(1)
    x = torch.embedding(self.embed, ids)
    angle = torch.outer(torch.arange(t, device=ids.device).to(x.dtype), self.inverse)
    angle = torch.cat([angle, angle], -1)
    c, s = angle.cos(), angle.sin()
    h = self.rms(x)
    q = self.rotate(torch.linear(h, self.wq).view(b, t, 4, 4).transpose(1, 2), c, s)
    k = self.rotate(torch.linear(h, self.wk).view(b, t, 2, 4).transpose(1, 2), c, s)
    v = torch.linear(h, self.wv).view(b, t, 2, 4).transpose(1, 2)
    y = torch.scaled_dot_product_attention(q, k, v, None, 0.0, True, enable_gqa=True)
    x = x + torch.linear(y.transpose(1, 2).reshape(b, t, -1), self.wo)
    h = self.rms(x)
    x = x + torch.linear(torch.silu(torch.linear(h, self.gate)) * torch.linear(h, self.up), self.down)
    logits = torch.linear(self.rms(x), self.head)[:, :-1]
    return torch.cross_entropy_loss(logits.reshape(-1, logits.size(-1)), labels[:, 1:].reshape(-1))
)",
                     length);
}

}  // namespace autosp::testing
