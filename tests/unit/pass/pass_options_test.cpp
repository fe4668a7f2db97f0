#include <autosp/pass/pass_options.h>

#include <autosp/pass/suggest.h>

#include <gtest/gtest.h>

namespace autosp {
namespace {

std::string Message(const Status& status) { return status.ok() ? "" : status.diagnostics().front().message; }

TEST(PassOptions, TextFormReturns) {
  PassOptions options;
  options.sequence_parallel_size = 4;
  options.on_gather = "error";
  options.memory_budget = "3.5 GiB";
  options.device = "name=mine flops_low=1e12";
  PassOptions read;
  ASSERT_TRUE(SetOptionsFromText(read, OptionsText(options)).ok());
  EXPECT_EQ(read, options);
  EXPECT_NE(read, PassOptions{});
}

TEST(PassOptions, DefaultsAreAllowed) {
  for (const PassOptionInfo& option : AllPassOptions()) {
    PassOptions options;
    EXPECT_EQ(Message(SetOption(options, option.name, option.default_value)), "") << option.name;
    EXPECT_EQ(options, PassOptions{}) << option.name;
  }
}

TEST(PassOptions, RefusesWhatIsNotAllowed) {
  PassOptions options;
  EXPECT_EQ(Message(SetOption(options, "on_gather", "never")),
            "option on_gather is \"never\", allowed is allow or warn or error");
  EXPECT_EQ(Message(SetOption(options, "on_gather", "")),
            "option on_gather is \"\", allowed is allow or warn or error");
  EXPECT_EQ(Message(SetOption(options, "sequence_parallel_size", "0")),
            "option sequence_parallel_size is \"0\", allowed is 1..");
  EXPECT_EQ(Message(SetOption(options, "sequence_parallel_size", "4x")),
            "option sequence_parallel_size is \"4x\", allowed is 1..");
  EXPECT_EQ(Message(SetOption(options, "on_gathers", "allow")),
            "no option is named \"on_gathers\"; did you mean \"on_gather\"");
  EXPECT_EQ(SetOptionsFromText(options, "x=1 on_gather y").diagnostics().size(), 3u);
  EXPECT_EQ(options, PassOptions{});
}

TEST(Suggest, NamesOnlyWhatIsClose) {
  EXPECT_EQ(NearestName("seed-sharding", {"propagate-shardings", "seed-shardings"}), "seed-shardings");
  EXPECT_EQ(NearestName("x", {"abc"}), "");
  EXPECT_EQ(NearestName("ab", {}), "");
  EXPECT_EQ(DidYouMean("nonsense", {"seed-shardings"}), "");
}

}  // namespace
}  // namespace autosp
