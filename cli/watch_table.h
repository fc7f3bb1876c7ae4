#pragma once
/// Tables that give way: columns have ranks, and when a terminal is too narrow those of the highest rank are left out. Pure.

#include <optional>
#include <string>
#include <vector>

#include "cli/watch_text.h"

namespace idunno::cli {

struct LiveColumn {
  std::string title;
  int rank = 0;  ///< 0 always stays
  bool right = false;
  std::size_t width_max = 24;
  std::size_t grow_to = 0;  ///< takes room that is left, up to this width; 0 = as wide as its contents
  std::size_t width_min = 0;
};

struct LiveCell {
  TextLine text;
  std::optional<double> bar;  ///< drawn over the whole width of the column, in `ink`
  Ink ink = Ink::plain;
};

/// The heading and one line a row, none wider than `width`.
[[nodiscard]] std::vector<TextLine> live_table(const std::vector<LiveColumn>& columns,
                                               const std::vector<std::vector<LiveCell>>& rows, std::size_t width, Glyphs glyphs);

}  // namespace idunno::cli
