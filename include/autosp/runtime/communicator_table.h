#pragma once

#include <autosp/runtime/communicator.h>
#include <autosp/support/status.h>

#include <memory>
#include <string>

namespace autosp::runtime {

// A graph carries no more than the name of its group, so the ops find the communicator behind a name in a table of the
// process. A name that is not in the table is looked up among the process groups of torch.distributed.

// Whom a registration is for: all threads, or the one that makes it. Ranks that are threads of one process run the same
// graph, so each registers its own end under the same name; a thread's own entry comes before the process's.
enum class RegistrationScope : std::uint8_t { kProcess, kThread };

// Holds a name. Its end takes the name out of the table; a call in flight keeps its communicator until it returns.
// A thread's registration must end on that thread.
class [[nodiscard]] CommunicatorRegistration {
 public:
  CommunicatorRegistration(CommunicatorRegistration&& other) noexcept;
  CommunicatorRegistration& operator=(CommunicatorRegistration&&) = delete;
  ~CommunicatorRegistration();

 private:
  friend Expected<CommunicatorRegistration> RegisterCommunicator(const std::string& name,
                                                                 std::unique_ptr<Communicator> communicator,
                                                                 RegistrationScope scope);
  CommunicatorRegistration(std::string name, RegistrationScope scope) : name_(std::move(name)), scope_(scope) {}

  std::string name_;  // empty when moved from
  RegistrationScope scope_;
};

// A name that is taken in the same scope is kBadOption.
Expected<CommunicatorRegistration> RegisterCommunicator(const std::string& name,
                                                        std::unique_ptr<Communicator> communicator,
                                                        RegistrationScope scope = RegistrationScope::kProcess);

// What the ops use: the table, then torch.distributed.
Expected<std::shared_ptr<Communicator>> FindCommunicator(const std::string& name, at::DeviceType device);
Expected<GroupPosition> FindGroupPosition(const std::string& name);

}  // namespace autosp::runtime
