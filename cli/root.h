#pragma once
/// The whole command tree, and the run of one command line. Apart from main so that tests, completion and man page see the same
/// tree.

#include <string>
#include <vector>

#include "cli/app.h"

namespace idunno::cli {

/// Global options and all families. `app` must outlive `root`.
void build_tree(CLI::App& root, App& app);

/// Parses and runs; returns the exit code.
[[nodiscard]] int run(int argc, const char* const* argv);

/// What is wrong with a command line that did not parse, in one or two lines: {what, next}. Names the nearest command or option.
[[nodiscard]] std::pair<std::string, std::string> explain_usage_error(const CLI::App& root, const CLI::ParseError& error);

}  // namespace idunno::cli
