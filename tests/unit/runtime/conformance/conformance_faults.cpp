#include "conformance.h"

#include <ATen/ATen.h>

#include <functional>

namespace autosp::runtime::conformance {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using Call = std::function<Expected<at::Tensor>(Communicator&)>;

// Beyond the deadline: c10d's wait gives the library two seconds to say more, and the machine may be busy.
constexpr auto kSlack = 8s;

// An error within the deadline, that names op, group, rank and deadline.
std::string ExpectFails(RankContext& context, Communicator& group, const Call& call, const std::string& what) {
  const auto start = Clock::now();
  const auto result = call(group);
  context.Expect(Clock::now() - start < group.deadline() + kSlack, what + ": the error came too late");
  if (result.ok()) {
    context.Expect(false, what + ": succeeded on rank " + std::to_string(context.rank()));
    return "";
  }
  const Diagnostic& diagnostic = result.status().diagnostics().front();
  context.Expect(
      diagnostic.code == DiagnosticCode::kCollectiveFailed || diagnostic.code == DiagnosticCode::kRankTimeout,
      what + ": code of " + result.status().ToString());
  for (const std::string& part :
       {"group \"" + group.name() + "\"",
        "rank " + std::to_string(group.rank()) + " of " + std::to_string(group.size()),
        std::string("bytes from this rank"), "deadline " + std::to_string(group.deadline().count()) + " ms"}) {
    context.Expect(diagnostic.message.find(part) != std::string::npos,
                   what + ": no " + part + " in " + diagnostic.message);
  }
  return result.status().ToString();
}

// Rank 0 makes another call than the rest: an error everywhere, at once, that names both calls.
void ExpectDisagreement(RankContext& context, Communicator& group, const Call& rank_0, const Call& others,
                        const std::vector<std::string>& named) {
  const auto start = Clock::now();
  const std::string text =
      ExpectFails(context, group, context.rank() == 0 ? rank_0 : others, "disagreement " + named[0]);
  context.Expect(Clock::now() - start < group.deadline() / 2, "disagreement " + named[0] + ": had to wait");
  for (const std::string& part : named) {
    context.Expect(text.find(part) != std::string::npos, "no " + part + " in " + text);
  }
  ExpectFails(
      context, group, [&](Communicator& g) { return g.AllReduce(at::ones({2}), Reduction::kSum); }, "a later call");
}

Call AllToAllOf(std::vector<std::int64_t> shape, at::ScalarType dtype = at::kFloat) {
  return [=](Communicator& group) { return group.AllToAll(Sample(shape, dtype, group.rank())); };
}
Call AllGatherOf(std::vector<std::int64_t> shape) {
  return [=](Communicator& group) { return group.AllGather(Sample(shape, at::kFloat, group.rank())); };
}
Call AllReduceOf(std::vector<std::int64_t> shape, Reduction reduction) {
  return [=](Communicator& group) { return group.AllReduce(Sample(shape, at::kFloat, group.rank()), reduction); };
}

void MismatchedShapes(RankContext& context) {
  const std::int64_t P = context.size();
  ExpectDisagreement(
      context, *context.first, AllToAllOf({P, 3}), AllToAllOf({P, 400000}),
      {"all_to_all(Float[" + std::to_string(P) + ", 3])", "all_to_all(Float[" + std::to_string(P) + ", 400000])"});
  // As many bytes.
  ExpectDisagreement(context, *context.second, AllGatherOf({2, 3}), AllGatherOf({3, 2}),
                     {"all_gather(Float[2, 3])", "all_gather(Float[3, 2])"});
}

void MismatchedEmptyAndDtype(RankContext& context) {
  const std::int64_t P = context.size();
  ExpectDisagreement(context, *context.first, AllToAllOf({P, 0}), AllToAllOf({P, 4}), {", 0])", ", 4])"});
  ExpectDisagreement(context, *context.second, AllToAllOf({P, 4}, at::kInt), AllToAllOf({P, 4}),
                     {"all_to_all(Int[", "all_to_all(Float["});
}

void MismatchedOpAndReduction(RankContext& context) {
  ExpectDisagreement(context, *context.first, AllReduceOf({6}, Reduction::kSum), AllGatherOf({6}),
                     {"all_reduce(Float[6], sum)", "all_gather(Float[6])"});
  ExpectDisagreement(context, *context.second, AllReduceOf({6}, Reduction::kSum), AllReduceOf({6}, Reduction::kMax),
                     {"all_reduce(Float[6], sum)", "all_reduce(Float[6], max)"});
}

// Rank 0 repeats a call, the others go on to a new one.
void MismatchAfterUse(RankContext& context) {
  const std::int64_t P = context.size();
  for (int call = 0; call < 2; ++call) {
    context.Expect(AllToAllOf({P, 300})(*context.first).ok(), "an equal call fails");
  }
  ExpectFails(context, *context.first, context.rank() == 0 ? AllToAllOf({P, 300}) : AllToAllOf({P, 200}),
              "mismatch after use");
}

void AnAbsentRank(RankContext& context) {
  // 1. At the first call. 2. At a call that has been made before.
  context.Expect(AllReduceOf({6}, Reduction::kSum)(*context.second).ok(), "an equal call fails");
  if (!context.last()) {
    const auto start = Clock::now();
    const std::string text = ExpectFails(context, *context.first, AllReduceOf({6}, Reduction::kSum), "an absent rank");
    context.Expect(Clock::now() - start >= context.first->deadline() - 100ms, "an absent rank: gave up early: " + text);
    context.Expect(text.find("ASP0305") != std::string::npos, "an absent rank is no time-out: " + text);
    ExpectFails(context, *context.second, AllReduceOf({6}, Reduction::kSum), "an absent rank, known call");
  } else {
    // Stays, with its ends open, until the others have given up on both groups.
    const auto end = Clock::now() + 2 * context.first->deadline() + 3s;
    while (Clock::now() < end) {
      const timespec pause{0, 10'000'000};
      nanosleep(&pause, nullptr);
    }
  }
}

void ARankThatDies(RankContext& context) {
  context.Expect(AllToAllOf({context.size(), 1000})(*context.first).ok(), "an equal call fails");
  if (context.last()) {
    context.die();
    return;
  }
  ExpectFails(context, *context.first, AllToAllOf({context.size(), 1000}), "a dead rank");
  if (context.size() > 2) {
    // The survivors end too, whomever they wait for.
    ExpectFails(context, *context.second, AllToAllOf({context.size(), 1000}), "a dead rank, other group");
  }
}

}  // namespace

std::vector<Case> FaultCases() {
  return {{"MismatchedShapes", MismatchedShapes, 20s},
          {"MismatchedEmptyAndDtype", MismatchedEmptyAndDtype, 20s},
          {"MismatchedOpAndReduction", MismatchedOpAndReduction, 20s},
          {"MismatchAfterUse", MismatchAfterUse, 700ms, true},
          {"AnAbsentRank", AnAbsentRank, 700ms, true},
          {"ARankThatDies", ARankThatDies, 700ms, true}};
}

}  // namespace autosp::runtime::conformance
