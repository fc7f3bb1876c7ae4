#include "nodes/jobs/batch_lives.h"

#include <algorithm>
#include <utility>

#include "bus/names.h"

namespace idunno {

const char* to_string(BatchEvent event) {
  switch (event) {
    case BatchEvent::leased:
      return "leased";
    case BatchEvent::hedged:
      return "hedged";
    case BatchEvent::committed:
      return "committed";
    case BatchEvent::refused:
      return "refused";
    case BatchEvent::lost:
      return "lost";
    case BatchEvent::isolated:
      return "isolated";
    case BatchEvent::received:
      return "received";
    case BatchEvent::fetched:
      return "fetched";
    case BatchEvent::started:
      return "started";
    case BatchEvent::inferred:
      return "inferred";
    case BatchEvent::stored:
      return "stored";
    case BatchEvent::failed:
      return "failed";
  }
  return "unknown";
}

void BatchLives::note(BatchNote note) {
  if (notes_.size() < notes_max_) {
    notes_.push_back(std::move(note));
    return;
  }
  if (notes_max_ == 0) return;
  notes_[next_ % notes_max_] = std::move(note);
  next_ = next_ % notes_max_ + 1;
}

namespace {

std::uint64_t us_between(Time from, Time to) { return to > from ? static_cast<std::uint64_t>((to - from).count()) : 0; }

bool straight(BatchEvent what) {
  switch (what) {
    case BatchEvent::hedged:
    case BatchEvent::refused:
    case BatchEvent::lost:
    case BatchEvent::isolated:
    case BatchEvent::failed:
      return false;
    default:
      return true;
  }
}

std::string why_there(const BatchNote& note) {
  const std::string node = to_string(note.node);
  const std::string load = std::to_string(note.held) + " of the " + std::to_string(note.credit) + " batches that it may hold";
  if (!note.text.empty()) return note.text;
  if (note.held <= note.credit) return node + " had the most room: with this one it holds " + load;
  return "it was next of all and may go beyond the credit of " + node + ", which holds " + load;
}

}  // namespace

std::vector<BatchStep> BatchLives::steps(JobId job, std::int64_t batch, Time now, WallMs wall) const {
  std::vector<BatchStep> steps;
  std::map<std::uint32_t, Time> last;   // of each attempt
  std::map<std::uint32_t, NodeId> out;  // attempts that are out, and where
  for (std::size_t i = 0; i < notes_.size(); ++i) {
    const BatchNote& note = notes_[(i + next_) % notes_.size()];
    const bool of_node = note.what == BatchEvent::lost && !note.job;
    std::uint32_t attempt = note.attempt;
    if (of_node) {
      const auto held = std::find_if(out.begin(), out.end(), [&](const auto& entry) { return entry.second == note.node; });
      if (held == out.end()) continue;
      attempt = held->first;
      if (batch >= 0) out.erase(held);
    } else {
      if (note.job != job || (batch >= 0 && note.batch != static_cast<BatchIndex>(batch))) continue;
      if (note.what == BatchEvent::leased || note.what == BatchEvent::hedged) out[attempt] = note.node;
      if (note.what == BatchEvent::committed || note.what == BatchEvent::failed) out.erase(attempt);
    }
    if (batch < 0 && straight(note.what)) continue;
    BatchStep step;
    const std::uint64_t ago_ms = us_between(note.at, now) / 1000;
    step.at_ms = wall - std::min<WallMs>(wall, ago_ms);
    step.node = note.node;
    step.attempt = attempt;
    step.what = to_string(note.what);
    step.text = note.what == BatchEvent::leased ? why_there(note) : note.text;
    if (batch < 0 && !of_node) step.text = batch_name(job, note.batch) + (step.text.empty() ? "" : ": " + step.text);
    const auto before = last.find(attempt);
    step.took_us = note.took_us;
    if (step.took_us == 0 && before != last.end() && straight(note.what) && note.what != BatchEvent::committed)
      step.took_us = us_between(before->second, note.at);
    last[attempt] = note.at;
    steps.push_back(std::move(step));
  }
  if (steps.size() > kBatchStepsMax) steps.erase(steps.begin(), steps.end() - static_cast<std::ptrdiff_t>(kBatchStepsMax));
  return steps;
}

// -- why a job waits --------------------------------------------------------------------------------------------------

namespace {

std::string plural(std::uint64_t count, const std::string& one, const std::string& many) {
  return std::to_string(count) + " " + (count == 1 ? one : many);
}

std::string list_of(const std::vector<std::string>& names) {
  static constexpr std::size_t kNamedMax = 5;
  std::string text;
  for (std::size_t i = 0; i < names.size() && i < kNamedMax; ++i) text += (i == 0 ? "" : ", ") + names[i];
  if (names.size() > kNamedMax) text += " and " + std::to_string(names.size() - kNamedMax) + " more";
  return text;
}

/// 1500 -> "1.5"
std::string thousandths(std::uint64_t milli) {
  std::string text = std::to_string(milli / 1000);
  if (milli % 1000 == 0) return text;
  std::string digits = std::to_string(1000 + milli % 1000).substr(1);
  while (digits.back() == '0') digits.pop_back();
  return text + "." + digits;
}

/// Why it has no leases to get at all; empty when it can have some.
std::string why_stands(const JobWait& job) {
  const std::string name = to_string(job.id);
  if (is_over(job.state)) return "it is over: " + to_string(job.state) + (job.reason.empty() ? "" : " (" + job.reason + ")");
  if (job.state == JobState::paused) return "it is paused; `idunno job resume " + name + "` lets it go on";
  const Phase wanted = job.kind == JobKind::training ? Phase::training : Phase::inference;
  if (job.phase != wanted) {
    const std::string first =
        job.phase == Phase::none ? "" : "`idunno phase stop` (the phase " + to_string(job.phase) + " is on now) and ";
    return "it is a job of the phase " + to_string(wanted) + ", which is not on; it goes on after " + first +
           "`idunno phase start " + to_string(wanted) + "`";
  }
  if (job.taking_over) return "a new coordinator has just taken over and waits for the nodes to say what they compute";
  if (job.workers == 0) {
    return "no node that computes is alive" +
           (job.workers_away > 0 ? "; " + plural(job.workers_away, "node is", "nodes are") + " away: see `idunno status`" : "");
  }
  if (job.follows && !job.endless && job.batches_left == 0) {
    return "all its queries so far are done; it waits for new files in " + job.data_path;
  }
  return {};
}

}  // namespace

std::string why_waits(const JobWait& job) {
  if (std::string stands = why_stands(job); !stands.empty()) return stands;
  // What is left is all out: nothing of it waits.
  if (!job.endless && job.batches_left <= job.leased) return {};

  std::vector<std::string> reasons;
  std::vector<std::string> ahead;
  std::vector<std::string> beside;
  std::uint64_t weights = job.weight_milli;
  for (const JobWait::Other& other : job.others) {
    const bool first = (other.urgent && !job.urgent) || (other.urgent == job.urgent && other.priority > job.priority);
    const bool level = other.urgent == job.urgent && other.priority == job.priority;
    if (first) {
      ahead.push_back(to_string(other.id) + (other.urgent ? " (somebody waits for its few queries)"
                                                          : " (priority " + std::to_string(other.priority) + ")"));
    } else if (level) {
      beside.push_back(to_string(other.id));
      weights += other.weight_milli;
    }
  }
  if (!ahead.empty()) {
    reasons.push_back("served before it, having a higher priority than its " + std::to_string(job.priority) + ": " +
                      list_of(ahead));
  }
  if (job.rate_limited) {
    reasons.push_back("its rate limit of " + thousandths(job.rate_limit_milli) + " queries/s holds it back; `idunno job set " +
                      to_string(job.id) + " --rate` changes it");
  }
  if (job.nodes_max > 0 && job.nodes >= job.nodes_max) {
    reasons.push_back("it may use at most " + plural(job.nodes_max, "node", "nodes") + " and does");
  }
  if (job.nodes_kept > 0) {
    reasons.push_back(plural(job.nodes_kept, "node is", "nodes are") + " kept for jobs that ask for a number of nodes at least" +
                      (job.nodes_kept >= job.workers ? ": all there are" : ""));
  }
  if (!beside.empty() && job.credit_free == 0) {
    const std::uint64_t share = (job.weight_milli * 1000U + weights / 2) / weights;
    reasons.push_back("all nodes are busy, and it shares them with " + list_of(beside) + ": its part by weight is " +
                      thousandths(share * 100) + " %");
  } else if (job.credit_free == 0 && reasons.empty() && job.leased == 0) {
    reasons.push_back("all nodes hold as much work as they may: it is next when a batch is done");
  }
  if (job.workers_away > 0 && !reasons.empty()) {
    reasons.push_back(plural(job.workers_away, "node is", "nodes are") + " away (see `idunno status`)");
  }
  std::string text;
  for (const std::string& reason : reasons) text += (text.empty() ? "" : "; ") + reason;
  return text;
}

}  // namespace idunno
