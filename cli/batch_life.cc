#include "cli/batch_life.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <utility>

#include "bus/clock.h"
#include "bus/units.h"
#include "cli/names.h"

namespace idunno::cli {

namespace {

constexpr WallMs kSameMs = 2000;  ///< a step and the line about it are not further apart

struct EventName {
  std::string_view event;
  std::string_view step;
};
constexpr std::array<EventName, 9> kEvents{{{"batch_leased", "leased"},
                                            {"batch_hedged", "hedged"},
                                            {"batch_started", "started"},
                                            {"batch_committed", "committed"},
                                            {"batch_failed", "failed"},
                                            {"batch_isolated", "isolated"},
                                            {"query_quarantined", "isolated"},
                                            {"batch_given_up", "isolated"},
                                            {"trial_passed", "isolated"}}};

/// The number behind `word`, "3" in "to n3, attempt 1"; 0 when it is not there.
std::uint32_t number_after(std::string_view text, std::string_view word) {
  const std::size_t at = text.find(word);
  if (at == std::string_view::npos) return 0;
  std::uint32_t number = 0;
  for (std::size_t i = at + word.size(); i < text.size() && text[i] >= '0' && text[i] <= '9' && number < 100'000'000; ++i)
    number = number * 10 + static_cast<std::uint32_t>(text[i] - '0');
  return number;
}

bool about_same(const BatchStep& step, const BatchStep& logged) {
  const WallMs apart = std::max(step.at_ms, logged.at_ms) - std::min(step.at_ms, logged.at_ms);
  return step.what == logged.what && step.node == logged.node && apart <= kSameMs;
}

WallMs begin_of(const BatchStep& step) { return step.at_ms - std::min<WallMs>(step.at_ms, step.took_us / 1000); }

}  // namespace

std::optional<BatchStep> step_of(const MergedLine& found) {
  const std::string_view text = found.line.text;
  const std::size_t event = text.find("] event=");
  if (event == std::string_view::npos) return std::nullopt;
  const std::size_t begin = event + std::string_view("] event=").size();
  const std::size_t end = std::min(text.find(' ', begin), text.size());
  const auto known = std::find_if(kEvents.begin(), kEvents.end(),
                                  [&](const EventName& name) { return name.event == text.substr(begin, end - begin); });
  if (known == kEvents.end()) return std::nullopt;
  const std::string_view rest = end < text.size() ? text.substr(end + 1) : std::string_view();
  BatchStep step;
  step.at_ms = found.line.at_ms;
  step.node = found.node;
  step.what = known->step;
  step.attempt = number_after(rest, "attempt ");
  for (const char* word : {" to n", " by n", " at n"}) {
    if (const std::uint32_t node = number_after(rest, word)) step.node = NodeId{node};
  }
  if (known->step != "leased" && known->step != "committed" && known->step != "started") step.text = rest;
  const std::string from =
      "from the log of " + to_string(found.node) + (found.kept_by ? ", as " + to_string(found.kept_by) + " keeps it" : "");
  step.text += (step.text.empty() ? "(" : " (") + from + ")";
  return step;
}

std::vector<BatchStep> whole_life(std::vector<BatchStep> remembered, const std::vector<BatchStep>& logged) {
  const std::size_t known = remembered.size();
  for (const BatchStep& step : logged) {
    const auto end = remembered.begin() + static_cast<std::ptrdiff_t>(known);
    const bool there = std::any_of(remembered.begin(), end, [&](const BatchStep& other) { return about_same(other, step); });
    if (!there) remembered.push_back(step);
  }
  std::ranges::stable_sort(remembered, {}, &BatchStep::at_ms);
  // Both sides tell of a failure: the coordinator's note says more.
  const auto same = [](const BatchStep& a, const BatchStep& b) {
    return a.what == "failed" && b.what == "failed" && a.node == b.node && a.attempt == b.attempt;
  };
  remembered.erase(std::unique(remembered.begin(), remembered.end(), same), remembered.end());
  return remembered;
}

std::string life_text(const std::vector<BatchStep>& steps) {
  if (steps.empty()) return "nothing is known of it (any more)";
  std::size_t leases = 0;
  const BatchStep* committed = nullptr;
  const BatchStep* first_lease = nullptr;
  for (const BatchStep& step : steps) {
    if (step.what == "leased" || step.what == "hedged") {
      ++leases;
      if (first_lease == nullptr) first_lease = &step;
    }
    if (step.what == "committed" && committed == nullptr) committed = &step;
  }
  const std::string given = leases == 0 ? "" : leases == 1 ? "leased once" : fmt::format("leased {} times", leases);
  if (committed == nullptr) {
    const BatchStep& last = steps.back();
    return fmt::format("not committed; the last that is known: {} at {}{}", last.what, to_string(last.node),
                       given.empty() ? "" : ", " + given);
  }
  std::string text = "committed by " + to_string(committed->node);
  if (first_lease != nullptr && committed->at_ms >= first_lease->at_ms) {
    const auto took = std::chrono::milliseconds(committed->at_ms - first_lease->at_ms);
    text += " " + format_duration(took) + " after it was first leased";
  }
  return text + (given.empty() ? "" : ", " + given);
}

std::vector<std::string> life_bars(const std::vector<BatchStep>& steps, std::size_t width) {
  std::vector<std::string> bars;
  if (steps.empty() || width == 0) return bars;
  WallMs first = begin_of(steps.front());
  WallMs last = steps.front().at_ms;
  for (const BatchStep& step : steps) {
    first = std::min(first, begin_of(step));
    last = std::max(last, step.at_ms);
  }
  const auto column = [&](WallMs at) { return last == first ? 0 : (at - first) * (width - 1) / (last - first); };
  for (const BatchStep& step : steps) {
    std::string bar(width, ' ');
    const std::size_t begin = column(begin_of(step));
    const std::size_t end = column(step.at_ms);
    for (std::size_t i = begin; i <= end; ++i) bar[i] = '=';
    if (step.took_us == 0) bar[end] = '|';
    bars.push_back(std::move(bar));
  }
  return bars;
}

Json step_json(const BatchStep& step) {
  Json json;
  json["at"] = rfc3339(step.at_ms);
  json["node"] = to_string(step.node);
  json["attempt"] = step.attempt;
  json["what"] = step.what;
  json["took_ms"] = step.took_us == 0 ? Json(nullptr) : Json(static_cast<double>(step.took_us) / 1000);
  json["text"] = step.text;
  return json;
}

}  // namespace idunno::cli
