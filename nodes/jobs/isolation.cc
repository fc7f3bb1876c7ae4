#include "nodes/jobs/isolation.h"

#include <algorithm>
#include <numeric>

#include "bus/base/assert.h"

namespace idunno {

BatchIsolation::BatchIsolation(std::uint32_t queries) : queries_(queries), high_(queries) { ASSERT(queries > 0); }

BatchIsolation::Step BatchIsolation::step() const {
  if (phase_ == Phase::give_up) return Step::give_up;
  return phase_ == Phase::whole ? Step::whole : Step::trial;
}

BatchIsolation::Trial BatchIsolation::trial() const {
  switch (phase_) {
    case Phase::control:
      return {0, queries_};
    case Phase::search:
      return {0, low_ + (high_ - low_) / 2};
    case Phase::confirm:
      return {high_ - 1, high_};
    default:
      return {};
  }
}

std::vector<std::uint32_t> BatchIsolation::masked() const {
  if (phase_ != Phase::control) return quarantined_;
  std::vector<std::uint32_t> all(queries_);
  std::iota(all.begin(), all.end(), 0U);
  return all;
}

bool BatchIsolation::died() {
  switch (phase_) {
    case Phase::control:
      if (++deaths_ >= kIsolationDeathsMin) phase_ = Phase::give_up;
      return false;
    case Phase::search:
      high_ = trial().to;
      suspect_or_search();
      return false;
    case Phase::confirm: {
      if (++deaths_ < kIsolationDeathsMin) return false;
      last_ = high_ - 1;
      const auto place = std::lower_bound(quarantined_.begin(), quarantined_.end(), last_);
      if (place != quarantined_.end() && *place == last_) {  // nothing was computed, so it was not the query
        in_vain();
        return false;
      }
      quarantined_.insert(place, last_);
      phase_ = Phase::whole;
      return true;
    }
    case Phase::whole:
      search();
      return false;
    case Phase::give_up:
      return false;
  }
  return false;
}

void BatchIsolation::passed() {
  if (phase_ == Phase::control) return search();
  if (phase_ == Phase::confirm) return in_vain();
  if (phase_ != Phase::search) return;
  low_ = trial().to;
  suspect_or_search();
}

/// What is in quarantine already is masked in all trials, so the smallest prefix ends beyond it.
void BatchIsolation::search() {
  low_ = 0;
  high_ = queries_;
  suspect_or_search();
}

void BatchIsolation::suspect_or_search() {
  deaths_ = 0;
  phase_ = high_ - low_ == 1 ? Phase::confirm : Phase::search;
}

void BatchIsolation::in_vain() { phase_ = ++rounds_ >= kIsolationRounds ? Phase::give_up : Phase::whole; }

}  // namespace idunno
