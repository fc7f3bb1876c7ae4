#pragma once
/// Fairness as `stats --fair` shows it: each running job's rate divided by its weight, and how far that is from the mean of all.
/// Pure.

#include <optional>
#include <string>
#include <vector>

#include "bus/messages.h"
#include "cli/app.h"

namespace idunno::cli {

[[nodiscard]] Json fairness_json(const FairnessReport& fairness);
/// "fairness: max/min ratio ..." for the line under a table; "" when there was no window yet in which two jobs ran.
[[nodiscard]] std::string fairness_text(const FairnessReport& fairness);
/// "worst window: 1.430, ended 17:04:05Z: n3 died"; "" when there is none.
[[nodiscard]] std::string worst_text(const FairnessReport& fairness);

struct JobShare {
  double per_weight_qps = 0;
  double from_mean_pct = 0;
};
/// One for each job; none for those that do not run or have committed nothing in the window.
[[nodiscard]] std::vector<std::optional<JobShare>> shares(const std::vector<JobReport>& jobs);
/// A bar from the middle, left for less than the mean and right for more; `width` columns, full at 25 %.
[[nodiscard]] std::string deviation_bar(double percent, std::size_t width);
/// The table of `stats --fair`. Scripts get all of this in stats_listing (cli/reports.h).
[[nodiscard]] Listing fairness_listing(const JobReportsReply& reports);

/// What `--assert-fair` says: nothing when the ratio is at most 1 + percent/100. Judged is the present ratio, or, when fewer than
/// two jobs run now, that of the last window in which there were two.
[[nodiscard]] std::optional<std::string> unfair(const FairnessReport& fairness, double percent);

}  // namespace idunno::cli
