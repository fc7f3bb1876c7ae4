#pragma once
/// Pure text forms behind cli/app.h's Listing, print_object and ProgressBar, apart so that tests can look at them.

#include <cstdint>
#include <string>
#include <vector>

#include "cli/app.h"

namespace idunno::cli {

/// JSON on one line or indented; bytes that are not UTF-8 are replaced, never thrown upon.
[[nodiscard]] std::string dump(const Json& value, int indent = -1);
/// What a person reads for a JSON value: strings as they are, arrays joined with spaces, null as "-".
[[nodiscard]] std::string plain(const Json& value);
/// One CSV field: quoted when it holds a comma, quote or line break (RFC 4180); null is an empty field.
[[nodiscard]] std::string csv_field(const Json& value);
/// Columns that a terminal needs for UTF-8 text (one a character).
[[nodiscard]] std::size_t display_width(std::string_view text);

[[nodiscard]] std::string render_table(const std::vector<Column>& columns, const std::vector<std::vector<Listing::Cell>>& rows);
[[nodiscard]] std::string render_csv(const std::vector<Column>& columns, const std::vector<std::vector<Listing::Cell>>& rows);

struct ProgressState {
  std::string what;
  std::string unit;
  std::uint64_t done = 0;
  std::uint64_t total = 0;  ///< 0 = not known
  double rate = 0;          ///< units a second, of late; 0 = not known yet
  Duration elapsed{};
  bool bytes = false;
};
/// "submit  [=====>      ]  42%  420/1000 queries  98.5/s  ETA 6 s"; at most `width` columns, the bar gives way first. Width 0:
/// no bar.
[[nodiscard]] std::string progress_text(const ProgressState& state, std::size_t width);
/// "12 s", "3 m 20 s", "2 h 5 m", "4 d 3 h"; "-" for negative.
[[nodiscard]] std::string eta_text(double seconds);
/// "[=====>    ]" `width` columns in all; fraction 0..1.
[[nodiscard]] std::string bar_text(double fraction, std::size_t width);

/// Columns of the terminal at file descriptor `fd`; 80 when it is none.
[[nodiscard]] std::size_t terminal_width(int fd);

}  // namespace idunno::cli
