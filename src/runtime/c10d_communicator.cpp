#include <autosp/runtime/communicator.h>

#include "store_agreement.h"

#include <torch/csrc/distributed/c10d/GroupRegistry.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include <exception>
#include <map>
#include <mutex>
#include <string>
#include <utility>

namespace autosp::runtime {
namespace {

using Milliseconds = std::chrono::milliseconds;

// The library is given the deadline itself; the wait around it is longer, so that the library's text, which says which
// peer was silent, comes first where the library notices.
constexpr Milliseconds kGrace{2000};

c10d::ReduceOp ToC10d(Reduction reduction) {
  switch (reduction) {
    case Reduction::kMax:
      return c10d::ReduceOp::MAX;
    case Reduction::kMin:
      return c10d::ReduceOp::MIN;
    case Reduction::kSum:
      break;
  }
  return c10d::ReduceOp::SUM;
}

// Newer versions of torch renamed the three calls below and deprecated the old names.
template <typename Group>
auto StartAllGather(Group& group, at::Tensor& result, at::Tensor& x, const c10d::AllgatherOptions& options) {
  if constexpr (requires { group.all_gather_single(result, x, options); }) {
    return group.all_gather_single(result, x, options);
  } else {
    return group._allgather_base(result, x, options);
  }
}

template <typename Group>
auto StartReduceScatter(Group& group, at::Tensor& result, at::Tensor& x, const c10d::ReduceScatterOptions& options) {
  if constexpr (requires { group.reduce_scatter_single(result, x, options); }) {
    return group.reduce_scatter_single(result, x, options);
  } else {
    return group._reduce_scatter_base(result, x, options);
  }
}

template <typename Group>
auto StartAllToAll(Group& group, at::Tensor& result, at::Tensor& x, const c10d::AllToAllOptions& options) {
  std::vector<std::int64_t> equal_splits;
  if constexpr (requires { group.all_to_all_single(result, x, equal_splits, equal_splits, options); }) {
    return group.all_to_all_single(result, x, equal_splits, equal_splits, options);
  } else {
    return group.alltoall_base(result, x, equal_splits, equal_splits, options);
  }
}

// What the ranks of each live process group agreed on, by the group's name: communicators come and go with every op,
// the count of the group's calls must not. Null for a group that has no store to meet at.
std::shared_ptr<StoreAgreement> AgreementOf(const std::string& name,
                                            const c10::intrusive_ptr<c10d::ProcessGroup>& group) {
  const auto store = group->getStore();
  if (store == nullptr) return nullptr;
  struct Entry {
    c10::weak_intrusive_ptr<c10d::ProcessGroup> group;
    std::shared_ptr<StoreAgreement> agreement;
  };
  static std::mutex mutex;
  static std::map<std::string, Entry> entries;
  const std::lock_guard lock(mutex);
  const auto found = entries.find(name);
  // A destroyed group may give its name to a new one.
  if (found != entries.end() && found->second.group.lock().get() == group.get()) return found->second.agreement;
  auto agreement = std::make_shared<StoreAgreement>(store, "autosp_rt", group->getRank(), group->getSize());
  entries.insert_or_assign(name, Entry{c10::weak_intrusive_ptr<c10d::ProcessGroup>(group), agreement});
  return agreement;
}

class C10dCommunicator final : public Communicator {
 public:
  C10dCommunicator(c10::intrusive_ptr<c10d::ProcessGroup> group, const std::string& name, Milliseconds deadline,
                   std::shared_ptr<StoreAgreement> agreement, bool stream_ordered)
      : Communicator(name, group->getRank(), group->getSize(), deadline),
        agreement_(std::move(agreement)),
        group_(std::move(group)),
        stream_ordered_(stream_ordered) {}

 private:
  template <typename Options>
  Options WithDeadline() const {
    Options options;
    options.timeout = deadline();
    return options;
  }

  void Wait(const c10::intrusive_ptr<c10d::Work>& work) const {
    // A timed wait of NCCL would block the host until the device is done; its watchdog keeps the deadline instead.
    const bool done = stream_ordered_ ? work->wait() : work->wait(deadline() + kGrace);
    TORCH_CHECK(done, "the work was aborted");
  }

  // Whether there is something to move.
  bool Agree(const CallSignature& call, const at::Tensor& x) const {
    if (agreement_ != nullptr) agreement_->Check(call, deadline());
    return x.numel() > 0;
  }

  void DoAllToAll(const CallSignature& call, at::Tensor& result, at::Tensor& x) override {
    if (!Agree(call, x)) return;
    Wait(StartAllToAll(*group_, result, x, WithDeadline<c10d::AllToAllOptions>()));
  }

  void DoAllGather(const CallSignature& call, at::Tensor& result, at::Tensor& x) override {
    if (!Agree(call, x)) return;
    Wait(StartAllGather(*group_, result, x, WithDeadline<c10d::AllgatherOptions>()));
  }

  void DoReduceScatter(const CallSignature& call, at::Tensor& result, at::Tensor& x, Reduction reduction) override {
    if (!Agree(call, x)) return;
    auto options = WithDeadline<c10d::ReduceScatterOptions>();
    options.reduceOp = ToC10d(reduction);
    Wait(StartReduceScatter(*group_, result, x, options));
  }

  void DoAllReduce(const CallSignature& call, at::Tensor& in_out, Reduction reduction) override {
    if (!Agree(call, in_out)) return;
    auto options = WithDeadline<c10d::AllreduceOptions>();
    options.reduceOp = ToC10d(reduction);
    std::vector<at::Tensor> tensors{in_out};
    Wait(group_->allreduce(tensors, options));
  }

  std::shared_ptr<StoreAgreement> agreement_;
  c10::intrusive_ptr<c10d::ProcessGroup> group_;
  bool stream_ordered_;
};

Diagnostic NoSuchGroup(const std::string& group, std::string text) {
  return Diagnostic{.code = DiagnosticCode::kNoProcessGroup,
                    .message = "no process group is registered under the name \"" + group + "\"",
                    .location = {},
                    .subject = {},
                    .notes = {"the library says: " + std::move(text)},
                    .hint =
                        "pass the group_name of a process group of this process, after "
                        "torch.distributed.init_process_group and before destroy_process_group"};
}

Expected<c10::intrusive_ptr<c10d::ProcessGroup>> Resolve(const std::string& group) {
  try {
    return c10d::resolve_process_group(group);
  } catch (const c10::Error& error) {
    return NoSuchGroup(group, error.what_without_backtrace());
  } catch (const std::exception& error) {
    return NoSuchGroup(group, error.what());
  }
}

}  // namespace

Expected<GroupPosition> ResolveC10dPosition(const std::string& group) {
  AUTOSP_ASSIGN_OR_RETURN(const auto process_group, Resolve(group));
  return GroupPosition{process_group->getRank(), process_group->getSize()};
}

Expected<std::unique_ptr<Communicator>> ResolveC10dCommunicator(const std::string& group, at::DeviceType device,
                                                                std::optional<Milliseconds> deadline) {
  AUTOSP_ASSIGN_OR_RETURN(auto process_group, Resolve(group));
  try {
    const auto backend = process_group->getBackend(device);
    if (!deadline) {
      deadline = kBackendDefaultTimeout;
      if (const auto options = backend->getBackendOptions()) deadline = options->timeout;
    }
    const std::string library = backend->getBackendName();
    const bool stream_ordered = library.find("nccl") != std::string::npos;
    // PyTorch's "fake" group stands for ranks that do not exist: nobody would come.
    auto agreement = library == "fake" ? nullptr : AgreementOf(group, process_group);
    return std::unique_ptr<Communicator>(std::make_unique<C10dCommunicator>(std::move(process_group), group, *deadline,
                                                                            std::move(agreement), stream_ordered));
  } catch (const std::exception& error) {
    const auto* c10_error = dynamic_cast<const c10::Error*>(&error);
    return Diagnostic{.code = DiagnosticCode::kNoProcessGroup,
                      .message = "process group \"" + group + "\" has no usable back end for " +
                                 c10::DeviceTypeName(device, true) + " tensors",
                      .location = {},
                      .subject = {},
                      .notes = {std::string("the library says: ") +
                                (c10_error != nullptr ? c10_error->what_without_backtrace() : error.what())},
                      .hint = "give init_process_group a back end for that device, for example \"cpu:gloo,cuda:nccl\""};
  }
}

}  // namespace autosp::runtime
