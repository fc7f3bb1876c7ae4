#include "cli/gnuplot.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "cli/model_store.h"
#include "cli/process.h"

namespace idunno::cli {

namespace {

/// Colours that differ also for those who see red and green alike (Okabe and Ito), dark enough on white and light enough on
/// black.
constexpr const char* kPalette[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#7f3fbf", "#808080"};
constexpr std::size_t kSaidMax = 400;  ///< of what gnuplot says, in an error
constexpr std::size_t kColours = std::size(kPalette);

/// A title may have several lines; everything in it is taken as it is.
std::string lines_quoted(const std::string& text) {
  std::string out;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    out += (out.empty() ? "" : ".\"\\n\".") + gnuplot_quoted(text.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

std::string head(const std::string& svg_file, const std::string& title, int height) {
  return fmt::format(
      "set encoding utf8\nset terminal svg size {},{} font 'sans-serif,13' background rgb 'white' noenhanced\nset output {}\n"
      "set title {}\nset grid linecolor rgb '#b0b0b0'\nset border 3 linewidth 1\nset tics nomirror out\n",
      kPlotWidth, height, gnuplot_quoted(svg_file), lines_quoted(title));
}

/// A data block, "$name << EOD ... EOD".
std::string data_block(const std::string& name, const PlotSeries& series) {
  std::string out = name + " << EOD\n";
  for (std::size_t i = 0; i < series.points.size(); ++i) {
    const auto [x, y] = series.points[i];
    if (!std::isfinite(x) || !std::isfinite(y)) {
      out += "\n";  // an empty line ends a piece of the curve
      continue;
    }
    out += fmt::format("{:.6g} {:.6g} {:.6g}\n", x, y, i < series.errors.size() ? series.errors[i] : 0.0);
  }
  return out + "EOD\n";
}

std::string style_of(const PlotSeries& series, std::size_t number) {
  const std::size_t colour = series.colour > 0 ? static_cast<std::size_t>(series.colour - 1) : number;
  std::string with;
  switch (series.style) {
    case PlotSeries::Style::lines:
      with = "lines";
      break;
    case PlotSeries::Style::points:
      with = "points pointtype 7 pointsize 0.6";
      break;
    case PlotSeries::Style::lines_points:
      with = "linespoints pointtype 7 pointsize 0.5";
      break;
    case PlotSeries::Style::steps:
      with = "steps";
      break;
  }
  return fmt::format("with {} linewidth 2 linecolor rgb '{}'{}", with, kPalette[colour % kColours],
                     series.dashed ? " dashtype 2" : "");
}

/// Rows that the key under the plot takes, in columns as wide as the longest title: about what gnuplot does.
double key_rows(const Plot& plot) {
  static constexpr double kCharacter = 7.2;  // pixels
  static constexpr double kSample = 70;
  std::size_t longest = 1;
  std::size_t count = plot.levels.size();
  for (const PlotSeries& series : plot.series) {
    if (series.points.empty() || series.title.empty()) continue;
    ++count;
    longest = std::max(longest, series.title.size());
  }
  const double columns = std::max(1.0, std::floor((kPlotWidth - 120) / (kCharacter * static_cast<double>(longest) + kSample)));
  return std::ceil(static_cast<double>(count) / columns);
}

std::string marks_of(const Plot& plot) {
  std::string out;
  int number = 0;
  for (const PlotMark& mark : plot.marks) {
    ++number;
    if (mark.at_point) {
      out += fmt::format("set label {} {} at {:.6g}, {:.6g} left offset 0.8,0.6 point pointtype 6 pointsize 1.6 front\n", number,
                         gnuplot_quoted(mark.text), mark.x, mark.y);
      continue;
    }
    out += fmt::format("set arrow {} from {:.6g}, graph 0 to {:.6g}, graph 1 nohead dashtype 3 linewidth 1.5 front\n", number,
                       mark.x, mark.x);
    out += fmt::format("set label {} {} at {:.6g}, graph {:.3f} left offset 0.5,0 front\n", number, gnuplot_quoted(mark.text),
                       mark.x, 0.96 - 0.07 * ((number - 1) % 3));
  }
  return out;
}

}  // namespace

std::string gnuplot_quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'') out += '\'';
    out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return out + "'";
}

std::string gnuplot_program(const Plot& plot, const std::string& svg_file) {
  std::string program = head(svg_file, plot.title, plot.height);
  program += "set xlabel " + gnuplot_quoted(plot.x_label) + "\nset ylabel " + gnuplot_quoted(plot.y_label) + "\n";
  program += fmt::format("set key bmargin center horizontal\nset bmargin {:.1f}\n", 4 + 1.5 * key_rows(plot));
  if (plot.x_max > plot.x_min) program += fmt::format("set xrange [{:.6g}:{:.6g}]\n", plot.x_min, plot.x_max);
  if (plot.x_log) program += "set logscale x\n";
  if (plot.y_log) program += "set logscale y\n";
  if (!plot.y_log) {
    program += fmt::format("set yrange [{:.6g}:{}]\n", plot.y_min, plot.y_max > 0 ? fmt::format("{:.6g}", plot.y_max) : "*");
  }
  if (!plot.x_ticks.empty()) {
    std::string ticks;
    for (const double tick : plot.x_ticks) ticks += fmt::format("{}{:.6g}", ticks.empty() ? "" : ", ", tick);
    program += "set xtics (" + ticks + ")\n";
  }
  program += marks_of(plot);
  std::string blocks;
  std::string curves;
  const auto add = [&](const std::string& curve) { curves += (curves.empty() ? "plot " : ", \\\n  ") + curve; };
  std::size_t number = 0;
  for (const PlotSeries& series : plot.series) {
    if (series.points.empty()) continue;
    const std::string name = fmt::format("$data{}", number + 1);
    blocks += data_block(name, series);
    const std::string style = style_of(series, number);
    if (!series.errors.empty()) {
      const std::size_t colour = series.colour > 0 ? static_cast<std::size_t>(series.colour - 1) : number;
      add(fmt::format("{} using 1:2:3 with yerrorbars linewidth 1 pointtype 0 linecolor rgb '{}' notitle", name,
                      kPalette[colour % kColours]));
    }
    add(fmt::format("{} using 1:2 {} {}", name, style,
                    series.title.empty() ? "notitle" : "title " + gnuplot_quoted(series.title)));
    ++number;
  }
  if (curves.empty()) return "";
  for (const auto& [level, text] : plot.levels)
    add(fmt::format("{:.6g} with lines dashtype 4 linewidth 1.5 linecolor rgb '#808080' title {}", level, gnuplot_quoted(text)));
  return program + blocks + curves + "\n";
}

std::string gnuplot_program(const BarPlot& plot, const std::string& svg_file) {
  if (plot.bars.empty()) return "";
  static constexpr int kBarHeight = 34;
  const auto bars = static_cast<int>(plot.bars.size());
  const auto title_lines = static_cast<int>(1 + std::count(plot.title.begin(), plot.title.end(), '\n'));
  std::string program = head(svg_file, plot.title, 110 + 20 * title_lines + kBarHeight * bars);
  double longest = 0;
  std::string ticks;
  std::string data;
  for (int i = 0; i < bars; ++i) {
    const BarPlot::Bar& bar = plot.bars[static_cast<std::size_t>(i)];
    const int place = bars - i;
    // The text behind the bar needs its room as well: about so many pixels of some 700.
    const double text_share = std::min(0.6, (7.2 * static_cast<double>(bar.text.size()) + 20) / 700);
    longest = std::max(longest, (bar.value + bar.error) / (1 - text_share));
    ticks += fmt::format("{}{} {}", i == 0 ? "" : ", ", gnuplot_quoted(bar.label), place);
    // x, y, x-low, x-high, y-low, y-high, colour
    data += fmt::format("{:.6g} {} {:.6g} {:.6g} {} {} {}\n", bar.value, place, bar.value - bar.error, bar.value + bar.error,
                        place - 0.34, place + 0.34, bar.ours ? 0x0072b2 : 0x999999);
    program += fmt::format("set label {} {} at {:.6g}, {} left offset 1,0\n", i + 1, gnuplot_quoted(bar.text),
                           bar.value + bar.error, place);
  }
  program += fmt::format(
      "set xlabel {}\nset yrange [0.4:{}]\nset xrange [0:{:.6g}]\nset ytics ({})\nunset key\nset style fill solid 0.85\n"
      "unset grid\nset grid xtics linecolor rgb '#b0b0b0'\n",
      gnuplot_quoted(plot.x_label), bars + 0.6, longest > 0 ? longest : 1.0, ticks);
  program += "$data << EOD\n" + data + "EOD\n";
  // boxxyerror draws from x-low to x-high; bars begin at 0.
  program +=
      "plot $data using 1:2:(0):1:5:6:7 with boxxyerror linecolor rgb variable notitle, \\\n"
      "  $data using 1:2:3:4 with xerrorbars pointtype 0 linewidth 2 linecolor rgb '#404040' notitle\n";
  return program;
}

Status run_gnuplot(const std::string& program) {
  auto scratch = ScratchFolder::make();
  if (!scratch) return scratch.error();
  const std::filesystem::path file = (*scratch)->path() / "plot.gnuplot";
  if (auto written = write_whole_file(file, program); !written) return written;
  // What it says goes into the error; its warnings are nobody's business.
  auto drawn = run_together({{"/bin/sh", "-c", "exec gnuplot \"$1\" 2>&1", "gnuplot", file.string()}});
  if (!drawn) return drawn.error();
  if (drawn->front().exit_code == 127) return Error{Errc::not_found, "plots need the program gnuplot (Debian: gnuplot-nox)"};
  if (drawn->front().exit_code != 0)
    return Error{Errc::internal,
                 fmt::format("gnuplot ended with {}: {}", drawn->front().text(), drawn->front().out.substr(0, kSaidMax))};
  return {};
}

}  // namespace idunno::cli
