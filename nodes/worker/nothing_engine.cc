#include <unistd.h>

#include <csignal>
#include <ctime>
#include <new>
#include <vector>

#include "nodes/worker/engine.h"
#include "nodes/worker/result_rows.h"

namespace idunno {
namespace {

constexpr std::int64_t kNsPerSecond = 1'000'000'000;

std::int64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * kNsPerSecond + now.tv_nsec;
}

/// Computes nothing: rows without labels, after a known time. It measures the path around an engine (`bench dispatch`) and is an
/// engine of known speed for tests of fairness; it says so by its name and its empty rows.
class NothingEngine final : public Engine {
 public:
  explicit NothingEngine(const ModelSpec& spec) : spec_(spec), per_query_ns_(std::int64_t{spec.nothing_us} * 1000) {}

  BatchExecuted run(const ExecuteBatch& batch, ByteView /*payload*/, std::string& rows) override {
    const std::int64_t begin = now_ns();
    BatchExecuted done;
    auto masked = batch.masked.begin();
    for (std::size_t i = 0; i < batch.queries.size(); ++i) {
      if (masked != batch.masked.end() && *masked == i) {
        ++masked;
        ++done.errors;
        append_error_row(rows, batch.first_query + i, batch.queries[i], kQuarantinedText);
        continue;
      }
      misbehave(batch.queries[i]);
      append_classes_row(rows, batch.first_query + i, batch.queries[i], {}, {});
    }
    if (per_query_ns_ > 0) sleep_until_due(begin, static_cast<std::int64_t>(batch.queries.size()) * per_query_ns_);
    done.ok = true;
    done.infer_us = static_cast<std::uint64_t>((now_ns() - begin) / 1000);
    return done;
  }
  std::uint64_t memory_bytes() const override { return 0; }

 private:
  /// What the spec asks for, by the query's name: for tests of what a bad query may do.
  void misbehave(const std::string& query) const {
    const auto named = [&](const std::string& part) { return !part.empty() && query.find(part) != std::string::npos; };
    if (named(spec_.nothing_crash_on)) std::raise(SIGSEGV);
    while (named(spec_.nothing_hang_on)) pause();
    if (named(spec_.nothing_memory_on)) take_all_memory();
  }
  /// Until the limit of this process says no.
  [[noreturn]] static void take_all_memory() {
    constexpr std::size_t kPieceBytes = 16U << 20U;
    constexpr std::size_t kPiecesMax = 1024;
    std::vector<std::unique_ptr<char[]>> pieces;
    while (pieces.size() < kPiecesMax) pieces.push_back(std::make_unique_for_overwrite<char[]>(kPieceBytes));
    throw std::bad_alloc();
  }

  /// A batch that follows at once is due one service time after the one before was due, not after that one woke up: otherwise the
  /// kernel's late wake-ups (tens of microseconds each) would add up and the speed would not be the stated one.
  void sleep_until_due(std::int64_t begin, std::int64_t service_ns) {
    constexpr std::int64_t kCatchUpNs = 2'000'000;
    due_ns_ = (begin - due_ns_ < kCatchUpNs ? due_ns_ : begin) + service_ns;
    timespec due{};
    due.tv_sec = due_ns_ / kNsPerSecond;
    due.tv_nsec = due_ns_ % kNsPerSecond;
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, nullptr) != 0) {
    }
  }

  ModelSpec spec_;
  std::int64_t per_query_ns_;
  std::int64_t due_ns_ = 0;
};

}  // namespace

std::unique_ptr<Engine> make_nothing_engine(const ModelSpec& spec) { return std::make_unique<NothingEngine>(spec); }

}  // namespace idunno
