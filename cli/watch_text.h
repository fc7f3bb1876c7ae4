#pragma once
/// Lines of styled text for a terminal: measured in display columns, never wider than asked, free of control characters
/// whatever the cluster's names hold. Pure.

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace idunno::cli {

/// What a piece of text is; how it looks is for `ansi` to say. `job0` and those after it tell jobs apart.
enum class Ink : std::uint8_t {
  plain,
  strong,
  dim,
  good,
  warn,
  bad,
  accent,
  title,
  alert,
  notice,
  job0,
  job1,
  job2,
  job3,
  job4,
  job5
};
inline constexpr std::uint64_t kJobInks = 6;
[[nodiscard]] Ink job_ink(std::uint64_t job);

/// How many colours the terminal has. `none`: bold and reverse only (NO_COLOR).
enum class Colours : std::uint8_t { none, basic, many };

/// Whether the terminal shows more than ASCII.
enum class Glyphs : std::uint8_t { ascii, unicode };

/// Terminal columns of one code point: 0 for combining ones, 2 for East Asian wide ones and emoji.
[[nodiscard]] std::size_t columns_of(char32_t code);
[[nodiscard]] std::size_t columns_of(std::string_view utf8);
/// Control characters, broken UTF-8, invisible and direction-changing characters become '?'; in ASCII all that is not ASCII.
[[nodiscard]] std::string safe_text(std::string_view text, Glyphs glyphs);
/// The beginning of `text` (made safe already) in at most `width` columns; what was cut ends in an ellipsis.
[[nodiscard]] std::string cut_text(std::string_view text, std::size_t width, Glyphs glyphs);

struct Span {
  std::string text;
  Ink ink = Ink::plain;
  bool operator==(const Span&) const = default;
};

class TextLine {
 public:
  explicit TextLine(Glyphs glyphs = Glyphs::unicode) : glyphs_(glyphs) {}
  TextLine& add(std::string_view text, Ink ink = Ink::plain);
  /// In exactly `width` columns: cut or padded, to the left with `right`.
  TextLine& cell(std::string_view text, std::size_t width, bool right = false, Ink ink = Ink::plain);
  TextLine& pad_to(std::size_t column, Ink ink = Ink::plain);
  TextLine& append(const TextLine& other);
  [[nodiscard]] std::size_t width() const { return width_; }
  /// Cut or padded to exactly `width`.
  void fit(std::size_t width, Ink padding = Ink::plain);
  [[nodiscard]] const std::vector<Span>& spans() const { return spans_; }
  [[nodiscard]] std::string plain() const;

 private:
  Glyphs glyphs_;
  std::vector<Span> spans_;
  std::size_t width_ = 0;
};

/// With the terminal's commands for colour; ends in the default colours.
[[nodiscard]] std::string ansi(const TextLine& line, Colours colours);

/// A bar of `width` columns, filled by `fraction` (0 to 1) in eighths of a column.
void add_bar(TextLine& line, double fraction, std::size_t width, Ink ink, Glyphs glyphs);
/// The newest `width` values as heights, scaled to the largest; right-aligned.
[[nodiscard]] std::string sparkline(const std::deque<std::uint64_t>& values, std::size_t width, Glyphs glyphs);

}  // namespace idunno::cli
