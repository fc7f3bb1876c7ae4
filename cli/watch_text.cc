#include "cli/watch_text.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace idunno::cli {

namespace {

struct Range {
  char32_t first;
  char32_t last;
};

bool within(char32_t code, const Range* begin, const Range* end) {
  const Range* at = std::upper_bound(begin, end, code, [](char32_t value, const Range& range) { return value < range.first; });
  return at != begin && code <= (at - 1)->last;
}

// East Asian Width W and F, and what terminals show as wide emoji (Unicode 14, UAX 11), in ranges wide enough to err to the
// safe side: a character taken for wide that is not leaves a gap, the other way round a line would wrap.
constexpr std::array kWide{
    Range{0x1100, 0x115F},   Range{0x231A, 0x231B},   Range{0x2329, 0x232A},   Range{0x23E9, 0x23F3},   Range{0x25FD, 0x25FE},
    Range{0x2614, 0x2615},   Range{0x2648, 0x2653},   Range{0x267F, 0x267F},   Range{0x2693, 0x2693},   Range{0x26A1, 0x26A1},
    Range{0x26AA, 0x26AB},   Range{0x26BD, 0x26BE},   Range{0x26C4, 0x26C5},   Range{0x26CE, 0x26CE},   Range{0x26D4, 0x26D4},
    Range{0x26EA, 0x26EA},   Range{0x26F2, 0x26F5},   Range{0x26FA, 0x26FD},   Range{0x2705, 0x2705},   Range{0x270A, 0x270B},
    Range{0x2728, 0x2728},   Range{0x274C, 0x274E},   Range{0x2753, 0x2757},   Range{0x2795, 0x2797},   Range{0x27B0, 0x27BF},
    Range{0x2B1B, 0x2B1C},   Range{0x2B50, 0x2B55},   Range{0x2E80, 0xA4CF},   Range{0xA960, 0xA97F},   Range{0xAC00, 0xD7A3},
    Range{0xF900, 0xFAFF},   Range{0xFE10, 0xFE19},   Range{0xFE30, 0xFE6F},   Range{0xFF01, 0xFF60},   Range{0xFFE0, 0xFFE6},
    Range{0x16FE0, 0x18CFF}, Range{0x1AFF0, 0x1B2FF}, Range{0x1F004, 0x1F004}, Range{0x1F0CF, 0x1F0CF}, Range{0x1F18E, 0x1F19A},
    Range{0x1F1E6, 0x1F320}, Range{0x1F32D, 0x1FAFF}, Range{0x20000, 0x3FFFD}};
// Combining marks of the common scripts, joiners, variation selectors.
constexpr std::array kNothing{
    Range{0x0300, 0x036F}, Range{0x0483, 0x0489}, Range{0x0591, 0x05C7},   Range{0x0610, 0x061C},  Range{0x064B, 0x065F},
    Range{0x0670, 0x0670}, Range{0x06D6, 0x06DC}, Range{0x06DF, 0x06E8},   Range{0x0730, 0x074A},  Range{0x07A6, 0x07B0},
    Range{0x07EB, 0x07F3}, Range{0x0816, 0x082D}, Range{0x0859, 0x085B},   Range{0x08D3, 0x0902},  Range{0x093A, 0x093C},
    Range{0x0941, 0x094D}, Range{0x0E31, 0x0E3A}, Range{0x0E47, 0x0E4E},   Range{0x1160, 0x11FF},  Range{0x180B, 0x180F},
    Range{0x1AB0, 0x1AFF}, Range{0x1DC0, 0x1DFF}, Range{0x200B, 0x200F},   Range{0x2028, 0x202E},  Range{0x2060, 0x206F},
    Range{0x20D0, 0x20FF}, Range{0x302A, 0x302F}, Range{0x3099, 0x309A},   Range{0xFE00, 0xFE0F},  Range{0xFE20, 0xFE2F},
    Range{0xFEFF, 0xFEFF}, Range{0xFFF9, 0xFFFB}, Range{0x1D165, 0x1D169}, Range{0xE0000, 0xE0FFF}};

constexpr char32_t kBroken = 0xFFFFFFFF;

/// One code point; advances `at` past it. kBroken (and one byte) when it is no well-formed UTF-8.
char32_t next_code(std::string_view text, std::size_t& at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(at);
  const std::size_t length = first < 0x80 ? 1 : first >= 0xF0 && first < 0xF5 ? 4 : first >= 0xE0 ? 3 : first >= 0xC2 ? 2 : 0;
  if (length == 0 || first >= 0xF5 || at + length > text.size()) return ++at, kBroken;
  if (length == 1) return ++at, char32_t{first};
  char32_t code = first & (0xFFU >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xC0U) != 0x80U) return ++at, kBroken;
    code = (code << 6U) | (byte(at + i) & 0x3FU);
  }
  static constexpr std::array<char32_t, 5> kLeast{0, 0, 0x80, 0x800, 0x10000};
  if (code < kLeast.at(length) || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) return ++at, kBroken;
  at += length;
  return code;
}

const char* ink_code(Ink ink, Colours colours) {
  const bool many = colours == Colours::many;
  if (colours == Colours::none) {
    if (ink == Ink::strong || ink == Ink::title || ink == Ink::bad || ink == Ink::accent) return "\x1b[1m";
    return ink == Ink::alert || ink == Ink::notice ? "\x1b[7m" : "";
  }
  // Blue, orange, green, purple, yellow, vermilion of Okabe and Ito: told apart with any colour vision.
  switch (ink) {
    case Ink::plain:
      return "";
    case Ink::strong:
      return "\x1b[1m";
    case Ink::dim:
      return many ? "\x1b[38;5;245m" : "\x1b[2m";
    case Ink::good:
      return many ? "\x1b[38;5;36m" : "\x1b[32m";
    case Ink::warn:
      return many ? "\x1b[38;5;214m" : "\x1b[33m";
    case Ink::bad:
      return many ? "\x1b[1;38;5;203m" : "\x1b[1;31m";
    case Ink::accent:
      return many ? "\x1b[1;38;5;75m" : "\x1b[1;36m";
    case Ink::title:
      return many ? "\x1b[1;38;5;252;48;5;236m" : "\x1b[7m";
    case Ink::alert:
      return many ? "\x1b[1;38;5;231;48;5;160m" : "\x1b[1;37;41m";
    case Ink::notice:
      return many ? "\x1b[1;38;5;16;48;5;214m" : "\x1b[30;43m";
    case Ink::job0:
      return many ? "\x1b[38;5;74m" : "\x1b[34m";
    case Ink::job1:
      return many ? "\x1b[38;5;214m" : "\x1b[33m";
    case Ink::job2:
      return many ? "\x1b[38;5;36m" : "\x1b[32m";
    case Ink::job3:
      return many ? "\x1b[38;5;175m" : "\x1b[35m";
    case Ink::job4:
      return many ? "\x1b[38;5;227m" : "\x1b[36m";
    case Ink::job5:
      return many ? "\x1b[38;5;202m" : "\x1b[31m";
  }
  return "";
}

}  // namespace

Ink job_ink(std::uint64_t job) {
  // Job ids begin at 1.
  return static_cast<Ink>(static_cast<std::uint64_t>(Ink::job0) + (job + kJobInks - 1) % kJobInks);
}

std::size_t columns_of(char32_t code) {
  if (code < 0x300) return 1;
  if (within(code, kNothing.begin(), kNothing.end())) return 0;
  return within(code, kWide.begin(), kWide.end()) ? 2 : 1;
}

std::size_t columns_of(std::string_view utf8) {
  std::size_t columns = 0;
  for (std::size_t at = 0; at < utf8.size();) {
    const char32_t code = next_code(utf8, at);
    columns += code == kBroken ? 1 : columns_of(code);
  }
  return columns;
}

std::string safe_text(std::string_view text, Glyphs glyphs) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = at;
    const char32_t code = next_code(text, at);
    const bool control = code == kBroken || code < 0x20 || (code >= 0x7F && code < 0xA0) || code == 0xAD;
    // What has no width of its own can hide text or turn its direction; combining marks are rare enough in names of jobs.
    if (control || columns_of(code) == 0 || (glyphs == Glyphs::ascii && code >= 0x80)) {
      out += '?';
    } else {
      out.append(text.substr(begin, at - begin));
    }
  }
  return out;
}

std::string cut_text(std::string_view text, std::size_t width, Glyphs glyphs) {
  if (columns_of(text) <= width) return std::string(text);
  if (width == 0) return "";
  std::string out;
  std::size_t columns = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = at;
    const std::size_t wide = columns_of(next_code(text, at));
    if (columns + wide > width - 1) break;
    columns += wide;
    out.append(text.substr(begin, at - begin));
  }
  return out + (glyphs == Glyphs::unicode ? "…" : "~");
}

TextLine& TextLine::add(std::string_view text, Ink ink) {
  std::string safe = safe_text(text, glyphs_);
  if (safe.empty()) return *this;
  width_ += columns_of(safe);
  if (!spans_.empty() && spans_.back().ink == ink) {
    spans_.back().text += safe;
  } else {
    spans_.push_back({std::move(safe), ink});
  }
  return *this;
}

TextLine& TextLine::cell(std::string_view text, std::size_t width, bool right, Ink ink) {
  const std::string shown = cut_text(safe_text(text, glyphs_), width, glyphs_);
  const std::string blank(width - columns_of(shown), ' ');
  if (right) add(blank);
  add(shown, ink);
  if (!right) add(blank);
  return *this;
}

TextLine& TextLine::pad_to(std::size_t column, Ink ink) {
  if (column > width_) add(std::string(column - width_, ' '), ink);
  return *this;
}

TextLine& TextLine::append(const TextLine& other) {
  for (const Span& span : other.spans_) add(span.text, span.ink);
  return *this;
}

void TextLine::fit(std::size_t width, Ink padding) {
  if (width_ > width) {
    std::vector<Span> spans;
    std::size_t used = 0;
    for (Span& span : spans_) {
      const std::size_t wide = columns_of(span.text);
      // The ellipsis goes where the first character is lost, be it of the next piece.
      const bool last = used + wide >= width;
      if (last)
        span.text =
            used + wide == width ? cut_text(span.text + " ", width - used, glyphs_) : cut_text(span.text, width - used, glyphs_);
      used += columns_of(span.text);
      if (!span.text.empty()) spans.push_back(std::move(span));
      if (last) break;
    }
    spans_ = std::move(spans);
    width_ = used;
  }
  pad_to(width, padding);
}

std::string TextLine::plain() const {
  std::string out;
  for (const Span& span : spans_) out += span.text;
  return out;
}

std::string ansi(const TextLine& line, Colours colours) {
  std::string out;
  for (const Span& span : line.spans()) {
    const std::string_view code = ink_code(span.ink, colours);
    out.append(code).append(span.text);
    if (!code.empty()) out += "\x1b[0m";
  }
  return out;
}

void add_bar(TextLine& line, double fraction, std::size_t width, Ink ink, Glyphs glyphs) {
  static constexpr std::array<const char*, 8> kEighths{"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  if (!(fraction > 0)) fraction = 0;
  fraction = std::min(fraction, 1.0);
  const std::size_t steps = glyphs == Glyphs::unicode ? 8 : 1;
  const auto filled = static_cast<std::size_t>(std::floor(fraction * static_cast<double>(width * steps) + 1e-9));
  std::string full;
  for (std::size_t i = 0; i < filled / steps; ++i) full += glyphs == Glyphs::unicode ? "█" : "#";
  full += kEighths.at(filled % steps);
  const std::size_t used = columns_of(full);
  std::string rest;
  for (std::size_t i = used; i < width; ++i) rest += glyphs == Glyphs::unicode ? "·" : "-";
  line.add(full, ink).add(rest, Ink::dim);
}

std::string sparkline(const std::deque<std::uint64_t>& values, std::size_t width, Glyphs glyphs) {
  static constexpr std::array<const char*, 8> kUnicode{"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  static constexpr std::array<const char*, 8> kAscii{"_", ".", ".", "-", "-", "=", "=", "#"};
  const std::size_t count = std::min(width, values.size());
  const auto begin = values.end() - static_cast<std::ptrdiff_t>(count);
  const std::uint64_t top = count == 0 ? 0 : *std::max_element(begin, values.end());
  std::string out(width - count, ' ');
  for (auto at = begin; at != values.end(); ++at) {
    const std::size_t step =
        top == 0 ? 0 : static_cast<std::size_t>(static_cast<double>(*at) * 7 / static_cast<double>(top) + 0.5);
    out += (glyphs == Glyphs::unicode ? kUnicode : kAscii).at(std::min<std::size_t>(step, 7));
  }
  return out;
}

}  // namespace idunno::cli
