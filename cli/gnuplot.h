#pragma once
/// Plots as gnuplot programs (pure), and running them. The numbers are inside the program, so that a kept program draws the same
/// picture again, elsewhere and later.

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "bus/base/result.h"

namespace idunno::cli {

/// One curve. Points with a value that is not finite are gaps.
struct PlotSeries {
  enum class Style { lines, points, lines_points, steps };
  std::string title;  ///< empty = not in the key
  std::vector<std::pair<double, double>> points;
  std::vector<double> errors;  ///< one a point: an error bar of +- so much; empty = none
  Style style = Style::lines;
  bool dashed = false;
  int colour = 0;  ///< 1..8 of the palette; 0 = the next one
};

/// A vertical line with a text, for the moments at which something happened, or a labelled point (`y` given).
struct PlotMark {
  double x = 0;
  std::string text;
  double y = 0;
  bool at_point = false;
};

struct Plot {
  std::string title;
  std::string x_label;
  std::string y_label;
  std::vector<PlotSeries> series;
  std::vector<PlotMark> marks;
  std::vector<std::pair<double, std::string>> levels;  ///< horizontal dashed lines
  bool x_log = false;
  bool y_log = false;
  double x_min = 0;  ///< with x_max <= x_min: as the data are
  double x_max = 0;
  double y_min = 0;             ///< not for logarithmic axes
  double y_max = 0;             ///< 0 = as the data are
  std::vector<double> x_ticks;  ///< empty = as gnuplot likes
  int height = 380;             ///< pixels; the width is kPlotWidth
};
inline constexpr int kPlotWidth = 860;

/// Horizontal bars, one below the other, for figures that stand beside those of others.
struct BarPlot {
  struct Bar {
    std::string label;
    double value = 0;
    double error = 0;  ///< half the length of the error bar; 0 = none
    bool ours = false;
    std::string text;  ///< behind the bar
  };
  std::string title;
  std::string x_label;
  std::vector<Bar> bars;
};

/// Programs that draw into `svg_file`; a plot without any point gives an empty one.
[[nodiscard]] std::string gnuplot_program(const Plot& plot, const std::string& svg_file);
[[nodiscard]] std::string gnuplot_program(const BarPlot& plot, const std::string& svg_file);
/// Text as gnuplot takes it, in single quotes, on one line.
[[nodiscard]] std::string gnuplot_quoted(const std::string& text);

/// Runs the program gnuplot; not_found when there is none (Debian: gnuplot-nox).
[[nodiscard]] Status run_gnuplot(const std::string& program);

}  // namespace idunno::cli
