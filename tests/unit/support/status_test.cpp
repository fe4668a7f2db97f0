#include <autosp/support/status.h>

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace autosp {
namespace {

Diagnostic Sample() {
  Diagnostic diagnostic{DiagnosticCode::kGatherRefused, "aten.sort mixes positions of a sharded dim", {}, {}, {}, {}};
  diagnostic.location = {"my_model.py", 41, "Router.forward"};
  diagnostic.subject = "%sort_2 f32[2, 131072@sp, 4096]";
  diagnostic.notes = {"%x is sharded because input_ids dim 1 is", "second"};
  diagnostic.hint = "set on_gather=\"allow\"";
  return diagnostic;
}

TEST(Diagnostic, PrintsEveryPart) {
  EXPECT_EQ(Sample().ToString(),
            "error[ASP0204]: aten.sort mixes positions of a sharded dim\n"
            "  --> my_model.py:41 in Router.forward  (%sort_2 f32[2, 131072@sp, 4096])\n"
            "  note: %x is sharded because input_ids dim 1 is\n"
            "  note: second\n"
            "  hint: set on_gather=\"allow\"; see docs/errors.md#ASP0204");
}

TEST(Diagnostic, LeavesOutWhatIsNotKnown) {
  Diagnostic diagnostic{DiagnosticCode::kNoRule, "no rule for aten.sort", {}, {}, {}, {}};
  EXPECT_EQ(diagnostic.ToString(),
            "error[ASP0201]: no rule for aten.sort\n"
            "  hint: add a row with autosp.register_rule or --rules; see docs/errors.md#ASP0201");
  diagnostic.subject = "%x f32[2]";
  diagnostic.hint = "see docs/errors.md#ASP0201";
  EXPECT_EQ(diagnostic.ToString(),
            "error[ASP0201]: no rule for aten.sort\n  --> (%x f32[2])\n  hint: see docs/errors.md#ASP0201");
  diagnostic.subject = "";
  diagnostic.location.file = "config.json";
  EXPECT_EQ(diagnostic.ToString(),
            "error[ASP0201]: no rule for aten.sort\n  --> config.json\n  hint: see docs/errors.md#ASP0201");
}

TEST(DiagnosticCodes, AreSortedUniqueAndPhrasedAsErrorsAre) {
  std::set<std::string> names;
  int previous = 0;
  for (const DiagnosticCodeInfo& info : AllDiagnosticCodes()) {
    EXPECT_LT(previous, static_cast<int>(info.code)) << info.enumerator;
    previous = static_cast<int>(info.code);
    EXPECT_TRUE(names.insert(info.enumerator).second) << info.enumerator;
    const std::string title = info.title, remedy = info.remedy;
    ASSERT_FALSE(title.empty() || remedy.empty()) << info.enumerator;
    EXPECT_NE(title.back(), '.') << info.enumerator;
    EXPECT_NE(remedy.back(), '.') << info.enumerator;
    EXPECT_EQ(&InfoOf(info.code), &info);
  }
  EXPECT_EQ(CodeName(DiagnosticCode::kParseError), "ASP0401");
  EXPECT_STREQ(InfoOf(static_cast<DiagnosticCode>(99999)).enumerator, "kUnknown");
}

TEST(Status, CarriesAllDiagnostics) {
  Status status;
  EXPECT_TRUE(status.ok());
  EXPECT_EQ(status.ToString(), "");
  status.Add(Sample());
  status.Append(Status(Sample()));
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(status.ToString(), Sample().ToString() + "\n\n" + Sample().ToString());
  status.Append(status);
  EXPECT_EQ(status.diagnostics().size(), 4u);
}

Expected<int> Half(int value) {
  if (value % 2 != 0) return Sample();
  return value / 2;
}

Expected<std::string> Quarter(int value) {
  AUTOSP_ASSIGN_OR_RETURN(const int half, Half(value));
  AUTOSP_ASSIGN_OR_RETURN(const int quarter, Half(half));
  return std::to_string(quarter);
}

Status CheckQuarter(int value) {
  AUTOSP_RETURN_IF_ERROR(Quarter(value).ok() ? Status::Ok() : Quarter(value).status());
  return Status::Ok();
}

TEST(Expected, HoldsAValueOrAReason) {
  EXPECT_EQ(*Quarter(12), "3");
  EXPECT_FALSE(Quarter(6).ok());
  EXPECT_EQ(Quarter(6).status().diagnostics()[0].code, DiagnosticCode::kGatherRefused);
  EXPECT_TRUE(CheckQuarter(4).ok());
  EXPECT_FALSE(CheckQuarter(1).ok());
}

}  // namespace
}  // namespace autosp
