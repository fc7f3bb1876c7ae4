#include "nodes/jobs/batch_work.h"

#include <algorithm>

#include "bus/types.h"

namespace idunno {

void BatchWork::begin(Time now, std::uint64_t cpu_us) {
  *this = BatchWork{};
  began_ = now;
  cpu_began_us_ = cpu_us;
}

void BatchWork::loaded(Time now, std::uint64_t cpu_us) {
  samples_ = {{std::max(now - began_, Duration::zero()), 0}};
  cpu_began_us_ = cpu_us;
  cpu_us_ = 0;
  pace_milli_ = 0;
}

void BatchWork::sample(Time now, std::uint64_t cpu_us) {
  const Duration after = now - began_;
  const Sample last = samples_.empty() ? Sample{} : samples_.back();
  if (after <= last.after || cpu_us < cpu_began_us_ || cpu_us - cpu_began_us_ < last.cpu_us) return;
  cpu_us_ = cpu_us - cpu_began_us_;
  const auto elapsed_us = static_cast<std::uint64_t>((after - last.after).count());
  pace_milli_ = static_cast<std::uint32_t>(std::min<std::uint64_t>((cpu_us_ - last.cpu_us) * 1000 / elapsed_us, UINT32_MAX));
  // The last one is always there, the others are `spacing_` apart.
  const std::size_t count = samples_.size();
  if (count >= 2 && samples_[count - 1].after - samples_[count - 2].after < spacing_) {
    samples_.back() = {after, cpu_us_};
    return;
  }
  samples_.push_back({after, cpu_us_});
  if (samples_.size() < kWorkSamplesMax) return;
  for (std::size_t i = 0; 2 * i + 1 < samples_.size(); ++i) samples_[i] = samples_[2 * i + 1];
  samples_.resize(kWorkSamplesMax / 2);
  spacing_ = 2 * samples_.back().after / static_cast<Duration::rep>(kWorkSamplesMax);
}

bool BatchWork::computed() const {
  if (samples_.empty() || cpu_us_ == 0) return false;
  // From the first sample with nothing in it: the end of the loading.
  const Duration since = samples_.front().cpu_us == 0 ? samples_.front().after : Duration::zero();
  return cpu_us_ * 1000 >= kComputesMilli * static_cast<std::uint64_t>((samples_.back().after - since).count());
}

std::vector<std::uint16_t> BatchWork::done_milli(Duration duration) const {
  std::vector<std::uint16_t> done;
  if (!computed()) return done;
  const auto steps =
      std::min<std::size_t>(static_cast<std::size_t>(std::max<Duration::rep>(duration / kDoneStep, 0)), kDoneStepsMax);
  auto next = samples_.begin();
  Sample before;
  for (std::size_t step = 1; step <= steps; ++step) {
    const Duration at = duration * static_cast<Duration::rep>(step) / static_cast<Duration::rep>(steps + 1);
    for (; next != samples_.end() && next->after <= at; ++next) before = *next;
    auto cpu_us = static_cast<double>(before.cpu_us);
    if (next != samples_.end()) {
      const auto part =
          static_cast<double>((at - before.after).count()) / static_cast<double>((next->after - before.after).count());
      cpu_us += static_cast<double>(next->cpu_us - before.cpu_us) * part;
    }
    done.push_back(static_cast<std::uint16_t>(std::min(1000 * cpu_us / static_cast<double>(cpu_us_), 1000.0)));
  }
  return done;
}

}  // namespace idunno
