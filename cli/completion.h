#pragma once
/// Shell completions and the man page, made from the command tree. Pure.

#include <CLI/CLI.hpp>
#include <string>

namespace idunno::cli {

[[nodiscard]] std::string bash_completion(const CLI::App& root);
[[nodiscard]] std::string zsh_completion(const CLI::App& root);
[[nodiscard]] std::string fish_completion(const CLI::App& root);
[[nodiscard]] std::string man_page(const CLI::App& root);  ///< roff, idunno(1)

}  // namespace idunno::cli
