#include <fmt/core.h>

#include <map>
#include <set>

#include "bus/clock.h"
#include "cli/jobs.h"
#include "cli/reports.h"

namespace idunno::cli {

namespace {

constexpr std::size_t kBlocksInFlight = 16;
constexpr Duration kLookAgain = std::chrono::milliseconds(100);

/// Delivers blocks in order from a window of reads.
class ResultReader {
 public:
  ResultReader(Session& session, JobId job, bool follow, const std::function<Status(const ResultBlock&)>& sink)
      : session_(session), job_(job), follow_(follow), sink_(sink) {}

  Result<ResultTotals> run() {
    if (auto page = fetch(0); !page) return page.error();
    while (next_ < totals_.batches) {
      if (auto status = fill(); !status) return status.error();
      if (next_ >= totals_.batches) break;
      if (in_flight_.count(next_) == 0 && ready_.count(next_) == 0) {
        // The next batch is not there yet, and we are to wait for it.
        (void)session_.loop().run_until([] { return false; }, monotonic_now() + kLookAgain);
        if (auto page = fetch(next_); !page) return page.error();
        continue;
      }
      (void)session_.loop().run_until([this] { return ready_.count(next_) != 0; }, kNever);
      auto block = ready_.extract(next_);
      auto rows = std::move(block.mapped());
      if (!rows) rows = read_again(next_);
      if (!rows)
        return annotate(rows.error(), fmt::format("reading the result of {}", batch_name(job_, static_cast<BatchIndex>(next_))));
      if (auto status = sink_(ResultBlock{next_, refs_[next_], std::move(rows).value()}); !status) return status.error();
      refs_.erase(next_);
      ++totals_.delivered;
      ++next_;
    }
    return totals_;
  }

 private:
  /// Which blocks are there, from `first` on.
  Status fetch(std::uint64_t first) {
    JobResultsRequest request;
    request.job = job_;
    request.first_batch = first;
    auto reply = session_.metadata().call_and_wait(request);
    if (!reply) return reply.error();
    totals_.state = reply->state;
    totals_.batches = reply->batches;
    page_end_ = first + reply->blocks.size();
    for (std::size_t i = 0; i < reply->blocks.size(); ++i) {
      if (reply->blocks[i].id != BlockId{}) refs_[first + i] = std::move(reply->blocks[i]);
    }
    return {};
  }

  /// Starts reads until the window is full, a missing batch that must be waited for, or the end.
  Status fill() {
    issued_ = std::max(issued_, next_);
    while (in_flight_.size() + ready_.size() < kBlocksInFlight && issued_ < totals_.batches) {
      if (issued_ >= page_end_) {
        if (auto page = fetch(issued_); !page) return page;
        if (issued_ >= page_end_)
          return Error{Errc::internal, fmt::format("{}: the coordinator gave an empty page of results", to_string(job_))};
      }
      const auto ref = refs_.find(issued_);
      if (ref == refs_.end()) {
        if (follow_ && !is_over(totals_.state)) return {};
        // Not there and not waited for: skipped as soon as it would be next.
        if (issued_ != next_) return {};
        next_ = ++issued_;
        continue;
      }
      const std::uint64_t batch = issued_++;
      in_flight_.insert(batch);
      session_.blocks().read(ref->second, [this, batch, alive = std::weak_ptr<int>(alive_)](Result<Payload> rows) {
        if (alive.expired()) return;  // the reader gave up before this read ended
        in_flight_.erase(batch);
        ready_.emplace(batch, std::move(rows));
      });
    }
    return {};
  }

  /// The replicas may have moved since the page was fetched.
  Result<Payload> read_again(std::uint64_t batch) {
    if (auto page = fetch(batch); !page) return page.error();
    auto out = std::make_shared<std::optional<Result<Payload>>>();
    session_.blocks().read(refs_[batch], [out](Result<Payload> rows) { *out = std::move(rows); });
    (void)session_.loop().run_until([&] { return out->has_value(); }, kNever);
    return std::move(**out);
  }

  Session& session_;
  JobId job_;
  bool follow_;
  const std::function<Status(const ResultBlock&)>& sink_;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
  ResultTotals totals_;
  std::uint64_t next_ = 0;      ///< batch to deliver next
  std::uint64_t issued_ = 0;    ///< batch to read next
  std::uint64_t page_end_ = 0;  ///< batches before this were looked up
  std::map<std::uint64_t, BlockRef> refs_;
  std::set<std::uint64_t> in_flight_;
  std::map<std::uint64_t, Result<Payload>> ready_;
};

}  // namespace

Result<ResultTotals> read_results(Session& session, JobId job, bool follow,
                                  const std::function<Status(const ResultBlock&)>& sink) {
  return ResultReader(session, job, follow, sink).run();
}

}  // namespace idunno::cli
