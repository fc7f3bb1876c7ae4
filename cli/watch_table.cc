#include "cli/watch_table.h"

#include <algorithm>

namespace idunno::cli {

namespace {

constexpr std::size_t kGap = 2;

std::size_t natural_width(const LiveColumn& column, const std::vector<std::vector<LiveCell>>& rows, std::size_t index) {
  std::size_t width = std::max(columns_of(column.title), column.width_min);
  for (const auto& row : rows) width = std::max(width, row[index].text.width());
  return std::max(column.width_min, std::min(width, column.width_max));
}

/// Indexes of the columns that stay.
std::vector<std::size_t> choose(const std::vector<LiveColumn>& columns, const std::vector<std::size_t>& widths,
                                std::size_t width) {
  std::vector<std::size_t> kept(columns.size());
  for (std::size_t i = 0; i < kept.size(); ++i) kept[i] = i;
  while (kept.size() > 1) {
    std::size_t sum = kGap * (kept.size() - 1);
    for (const std::size_t i : kept) sum += widths[i];
    if (sum <= width) break;
    const auto worst = std::max_element(kept.begin(), kept.end(),
                                        [&](std::size_t a, std::size_t b) { return columns[a].rank < columns[b].rank; });
    if (columns[*worst].rank == 0) break;
    kept.erase(worst);
  }
  return kept;
}

}  // namespace

std::vector<TextLine> live_table(const std::vector<LiveColumn>& columns, const std::vector<std::vector<LiveCell>>& rows,
                                 std::size_t width, Glyphs glyphs) {
  std::vector<std::size_t> widths;
  for (std::size_t i = 0; i < columns.size(); ++i) widths.push_back(natural_width(columns[i], rows, i));
  const std::vector<std::size_t> kept = choose(columns, widths, width);
  std::size_t used = kept.empty() ? 0 : kGap * (kept.size() - 1);
  for (const std::size_t i : kept) used += widths[i];
  for (const std::size_t i : kept) {
    if (columns[i].grow_to <= widths[i] || used >= width) continue;
    const std::size_t more = std::min(columns[i].grow_to - widths[i], width - used);
    widths[i] += more;
    used += more;
  }
  std::vector<TextLine> lines;
  TextLine heading(glyphs);
  for (const std::size_t i : kept) {
    if (i != kept.front()) heading.add(std::string(kGap, ' '));
    heading.cell(columns[i].title, widths[i], columns[i].right, Ink::accent);
  }
  lines.push_back(std::move(heading));
  for (const auto& row : rows) {
    TextLine line(glyphs);
    for (const std::size_t i : kept) {
      if (i != kept.front()) line.add(std::string(kGap, ' '));
      const LiveCell& cell = row[i];
      if (cell.bar) {
        add_bar(line, *cell.bar, widths[i], cell.ink, glyphs);
        continue;
      }
      TextLine text = cell.text;
      if (columns[i].right && text.width() < widths[i]) line.add(std::string(widths[i] - text.width(), ' '));
      if (!columns[i].right || text.width() > widths[i]) text.fit(widths[i]);
      line.append(text);
    }
    lines.push_back(std::move(line));
  }
  for (TextLine& line : lines) {
    if (line.width() > width) line.fit(width);
  }
  return lines;
}

}  // namespace idunno::cli
