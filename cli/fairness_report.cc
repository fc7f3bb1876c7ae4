#include "cli/fairness_report.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "bus/clock.h"
#include "cli/reports.h"

namespace idunno::cli {
namespace {

constexpr double kBarFullPct = 25;
constexpr std::size_t kBarWidth = 21;

double rounded(double value, double step) { return std::round(value / step) * step; }

double percent_of(std::uint32_t part, std::uint32_t all) { return 100.0 * part / all; }

}  // namespace

Json fairness_json(const FairnessReport& fairness) {
  const auto percent = [&](std::uint32_t windows) {
    return fairness.windows == 0 ? Json(nullptr) : Json(rounded(percent_of(windows, fairness.windows), 0.01));
  };
  const auto ratio = [](std::uint64_t milli) { return milli == 0 ? Json(nullptr) : Json(from_milli(milli)); };
  Json out = Json::object();
  out["max_min_ratio"] = ratio(fairness.max_min_milli);
  out["in10_pct"] = percent(fairness.in10_windows);
  out["in20_pct"] = percent(fairness.in20_windows);
  out["jobs"] = fairness.jobs;
  out["windows"] = fairness.windows;
  out["last_max_min_ratio"] = ratio(fairness.last_max_min_milli);
  out["in5_pct"] = percent(fairness.in5_windows);
  out["worst_max_min_ratio"] = ratio(fairness.worst_max_min_milli);
  out["worst_at"] = fairness.worst_at_ms == 0 ? Json(nullptr) : Json(rfc3339(fairness.worst_at_ms));
  out["worst_cause"] = fairness.worst_cause.empty() ? Json(nullptr) : Json(fairness.worst_cause);
  return out;
}

std::string fairness_text(const FairnessReport& fairness) {
  if (fairness.max_min_milli == 0 && fairness.last_max_min_milli == 0) return "";
  std::string out = "fairness: max/min ratio of the rates";
  if (fairness.max_min_milli != 0) {
    out += fmt::format(" {:.3f} now ({} jobs)", from_milli(fairness.max_min_milli), fairness.jobs);
  } else {
    out += fmt::format(" {:.3f} in the last 10 s in which two or more jobs ran", from_milli(fairness.last_max_min_milli));
  }
  if (fairness.windows > 0) {
    out += fmt::format("; within 5 % in {:.0f} %, 10 % in {:.0f} %, 20 % in {:.0f} % of {} windows of 10 s",
                       percent_of(fairness.in5_windows, fairness.windows), percent_of(fairness.in10_windows, fairness.windows),
                       percent_of(fairness.in20_windows, fairness.windows), fairness.windows);
  }
  return out;
}

std::string worst_text(const FairnessReport& fairness) {
  if (fairness.worst_max_min_milli == 0) return "";
  return fmt::format("worst window: {:.3f}, ended {}: {}", from_milli(fairness.worst_max_min_milli),
                     rfc3339(fairness.worst_at_ms), fairness.worst_cause.empty() ? "nothing known" : fairness.worst_cause);
}

std::vector<std::optional<JobShare>> shares(const std::vector<JobReport>& jobs) {
  std::vector<std::optional<JobShare>> out(jobs.size());
  double sum = 0;
  std::size_t count = 0;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    const JobReport& job = jobs[i];
    if (job.state != JobState::running || job.rate_milli_qps == 0 || job.spec.weight_milli == 0) continue;
    out[i] = JobShare{from_milli(job.rate_milli_qps) / from_milli(job.spec.weight_milli), 0};
    sum += out[i]->per_weight_qps;
    ++count;
  }
  for (auto& share : out) {
    if (share) share->from_mean_pct = 100.0 * (share->per_weight_qps / (sum / static_cast<double>(count)) - 1);
  }
  return out;
}

std::string deviation_bar(double percent, std::size_t width) {
  const std::size_t side = std::max<std::size_t>(width, 3) / 2;
  const double reach = std::min(std::abs(percent) / kBarFullPct, 1.0) * static_cast<double>(side);
  const auto filled = static_cast<std::size_t>(std::lround(reach));
  std::string left(side, ' ');
  std::string right(side, ' ');
  if (percent < 0) std::fill(left.end() - static_cast<std::ptrdiff_t>(filled), left.end(), '=');
  if (percent > 0) std::fill(right.begin(), right.begin() + static_cast<std::ptrdiff_t>(filled), '=');
  return left + "|" + right;
}

Listing fairness_listing(const JobReportsReply& reports) {
  Listing listing("idunno.fairness.v1", "jobs",
                  {{"id", "JOB"},
                   {"name", "NAME"},
                   {"state", "STATE"},
                   {"weight", "WEIGHT", true},
                   {"priority", "PRIORITY", true},
                   {"rate_qps", "RATE/s", true},
                   {"rate_per_weight_qps", "RATE/WEIGHT", true},
                   {"from_mean_pct", "FROM MEAN"},
                   {"model_loads", "LOADS", true},
                   {"model_load_s", "LOADING s", true}});
  const auto per_job = shares(reports.jobs);
  for (std::size_t i = 0; i < reports.jobs.size(); ++i) {
    const JobReport& job = reports.jobs[i];
    const auto& share = per_job[i];
    const double weight = from_milli(job.spec.weight_milli);
    listing.add(
        {{to_string(job.id), ""},
         {job.spec.name, ""},
         {to_string(job.state), ""},
         {weight, fmt::format("{:g}", weight)},
         {job.spec.priority, ""},
         {from_milli(job.rate_milli_qps), fmt::format("{:.1f}", from_milli(job.rate_milli_qps))},
         {share ? Json(rounded(share->per_weight_qps, 0.001)) : Json(nullptr),
          share ? fmt::format("{:.1f}", share->per_weight_qps) : "-"},
         {share ? Json(rounded(share->from_mean_pct, 0.01)) : Json(nullptr),
          share ? fmt::format("{:+6.1f} %  {}", share->from_mean_pct, deviation_bar(share->from_mean_pct, kBarWidth)) : "-"},
         {job.model_loads, ""},
         {static_cast<double>(job.model_load_us) / 1e6, fmt::format("{:.1f}", static_cast<double>(job.model_load_us) / 1e6)}});
  }
  listing.extra["fairness"] = fairness_json(reports.fairness);
  listing.footer = fairness_text(reports.fairness);
  if (listing.footer.empty()) listing.footer = "fairness: no 10 s window yet in which two or more jobs ran throughout";
  if (const std::string worst = worst_text(reports.fairness); !worst.empty()) listing.footer += "\n" + worst;
  return listing;
}

std::optional<std::string> unfair(const FairnessReport& fairness, double percent) {
  const std::uint64_t milli = fairness.max_min_milli != 0 ? fairness.max_min_milli : fairness.last_max_min_milli;
  if (milli == 0) return "no 10 s window in which two jobs ran throughout, so nothing to compare";
  if (from_milli(milli) <= 1 + percent / 100) return std::nullopt;
  return fmt::format("the max/min ratio is {:.3f}, more than {:.3f}", from_milli(milli), 1 + percent / 100);
}

}  // namespace idunno::cli
