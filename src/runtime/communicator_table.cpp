#include <autosp/runtime/communicator_table.h>

#include <map>
#include <mutex>
#include <utility>

namespace autosp::runtime {
namespace {

using Table = std::map<std::string, std::shared_ptr<Communicator>>;

Table& TableOfThread() {
  thread_local Table table;
  return table;
}

struct ProcessTable {
  std::mutex mutex;
  Table table;
};

ProcessTable& TableOfProcess() {
  static ProcessTable* table = new ProcessTable;  // Never destroyed: a registration may outlive static objects.
  return *table;
}

std::shared_ptr<Communicator> Registered(const std::string& name) {
  const Table& own = TableOfThread();
  if (const auto found = own.find(name); found != own.end()) return found->second;
  ProcessTable& shared = TableOfProcess();
  const std::lock_guard lock(shared.mutex);
  const auto found = shared.table.find(name);
  return found == shared.table.end() ? nullptr : found->second;
}

}  // namespace

CommunicatorRegistration::CommunicatorRegistration(CommunicatorRegistration&& other) noexcept
    : name_(std::exchange(other.name_, std::string())), scope_(other.scope_) {}

CommunicatorRegistration::~CommunicatorRegistration() {
  if (name_.empty()) return;
  std::shared_ptr<Communicator> last;  // Its destructor may wait for other ranks: not under the lock.
  if (scope_ == RegistrationScope::kThread) {
    last = std::move(TableOfThread()[name_]);
    TableOfThread().erase(name_);
    return;
  }
  ProcessTable& shared = TableOfProcess();
  const std::lock_guard lock(shared.mutex);
  last = std::move(shared.table[name_]);
  shared.table.erase(name_);
}

Expected<CommunicatorRegistration> RegisterCommunicator(const std::string& name,
                                                        std::unique_ptr<Communicator> communicator,
                                                        RegistrationScope scope) {
  const auto insert = [&](Table& table) {
    const bool free = !name.empty() && !table.contains(name);
    if (free) table.emplace(name, std::move(communicator));
    return free;
  };
  bool inserted = false;
  if (scope == RegistrationScope::kThread) {
    inserted = insert(TableOfThread());
  } else {
    ProcessTable& shared = TableOfProcess();
    const std::lock_guard lock(shared.mutex);
    inserted = insert(shared.table);
  }
  if (inserted) return CommunicatorRegistration(name, scope);
  return Diagnostic{.code = DiagnosticCode::kBadOption,
                    .message = name.empty() ? "a communicator cannot be registered under the empty name"
                                            : "a communicator is already registered under the name \"" + name + "\"",
                    .location = {},
                    .subject = {},
                    .notes = {},
                    .hint = "use a name of its own for every group, or end the earlier registration first"};
}

Expected<std::shared_ptr<Communicator>> FindCommunicator(const std::string& name, at::DeviceType device) {
  if (auto registered = Registered(name)) return registered;
  AUTOSP_ASSIGN_OR_RETURN(auto resolved, ResolveC10dCommunicator(name, device));
  return std::shared_ptr<Communicator>(std::move(resolved));
}

Expected<GroupPosition> FindGroupPosition(const std::string& name) {
  if (const auto registered = Registered(name)) return GroupPosition{registered->rank(), registered->size()};
  return ResolveC10dPosition(name);
}

}  // namespace autosp::runtime
