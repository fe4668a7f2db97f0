#pragma once

#include <autosp/pass/pass_options.h>

#include <string>
#include <string_view>

namespace autosp {

// Everything that is needed to see a failure again. Text form, which the graph parser reads as well:
//
//   // autosp reproducer, replay with: autosp-opt --run-reproducer FILE
//   // pipeline: propagate-shardings,insert-explicit-reshards
//   // options: sequence_parallel_size=4 on_gather=allow outputs=sharded attention=ulysses
//   // verify_each: true
//   // rule: my.op(x): (*) -> (*)
//   // error: error[ASP0501]: ...
//   graph @layer(...) form=normalized { ... }
struct Reproducer {
  std::string pipeline;  // From the failing pass on, comma-separated.
  PassOptions options;
  bool verify_each = true;
  std::string rules;  // Rows that the built-in table does not have, one per line.
  std::string error;  // The diagnostics, as printed.
  std::string graph;  // The text form of the graph before the failing pass.

  std::string ToText() const;
};

// Reads the header lines; the graph is the whole text, as the header is comments to the graph parser.
Expected<Reproducer> ParseReproducer(std::string_view text, std::string_view source_name);

// Writes `directory`/autosp-reproducer-<hash of the text>.aspir, making the directory if need be, so that a reader sees
// the whole file or none. Returns the path; an error is kFile.
Expected<std::string> WriteReproducer(const Reproducer& reproducer, const std::string& directory);

}  // namespace autosp
