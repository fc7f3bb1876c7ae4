// Leases in; commits out by way of the outbox; reports of batches that failed.

#include <algorithm>

#include "nodes/core/node_agent_impl.h"

namespace idunno {
namespace {

constexpr std::size_t kFailuresKeptMax = 8192;  ///< unanswered; beyond, the oldest is forgotten and its batch leased again
constexpr std::size_t kFailuresInFlightMax = 64;
constexpr std::size_t kFailureDetailBytesMax = 1024;
constexpr Duration kReportTimeout = std::chrono::seconds(5);
/// After an answer that is neither an outcome nor the end of a session ("too many requests wait").
constexpr Duration kWorkRetryPause = std::chrono::milliseconds(100);
constexpr std::size_t kCommitBytesMax = 384;  ///< of one commit in a message, but for its quarantined places
constexpr std::size_t kPlaceBytesMax = 5;

LeaseKey key_of(const Lease& lease) { return {lease.job, lease.batch, lease.attempt}; }
LeaseKey key_of(const BatchCommit& commit) { return {commit.job, commit.batch, commit.attempt}; }

std::size_t bytes_of(const BatchCommit& commit) { return kCommitBytesMax + kPlaceBytesMax * commit.quarantined.size(); }

}  // namespace

// -- leases -----------------------------------------------------------------------------------------------------------

void NodeAgent::Impl::note(BatchEvent what, const LeaseKey& lease, Time at, std::string text, std::uint64_t took_us) {
  BatchNote note;
  note.at = at;
  note.job = lease.job;
  note.batch = lease.batch;
  note.attempt = lease.attempt;
  note.what = what;
  note.node = config_.self;
  note.took_us = took_us;
  note.text = std::move(text);
  lives_.note(std::move(note));
}

void NodeAgent::Impl::granted(const LeaseGrant& grant) {
  for (const Lease& lease : grant.leases) {
    if (!queue_.holds(key_of(lease))) note(BatchEvent::received, key_of(lease), now_);
  }
  for (const JobDescription& description : grant.descriptions) {
    std::erase(out_.work.forget_jobs, description.job);
    out_.describe.push_back(description);
    replication_ = description.replication;
  }
  if (!grant.placement.empty()) {
    const auto most = static_cast<std::uint32_t>(std::min(grant.placement.size(), kReplicasMax));
    out_.placement.emplace(grant.placement, replication_ != 0 ? replication_ : most);
  }
  // An earlier life of this process has computed these; their commits are on offer.
  const auto computed = [this](const Lease& lease) { return results_.contains(key_of(lease)) && !queue_.holds(key_of(lease)); };
  WorkerOutput work;
  if (std::ranges::any_of(grant.leases, computed)) {
    LeaseGrant others = grant;
    std::erase_if(others.leases, computed);
    queue_.granted(others, now_, work);
  } else {
    queue_.granted(grant, now_, work);
  }
  take(std::move(work));
}

void NodeAgent::Impl::dropped(const LeaseDrop& drop) {
  WorkerOutput work;
  queue_.dropped(drop, work);
  take(std::move(work));
  if (drop.paused) return;
  for (auto at = results_.lower_bound(LeaseKey{drop.job, 0, 0}); at != results_.end() && at->first.job == drop.job;) {
    const LeaseKey key = at->first;
    ++at;
    end_result(key);
  }
}

/// Adds what the queue wants to what the shell is to do. Several calls may come before the shell takes the output.
void NodeAgent::Impl::take(WorkerOutput&& work) {
  const auto append = [](auto& to, auto& from) { to.insert(to.end(), from.begin(), from.end()); };
  append(out_.work.discard, work.discard);
  append(out_.work.fetch, work.fetch);
  append(out_.work.start, work.start);
  for (const JobId job : work.forget_jobs) {
    std::erase_if(out_.describe, [job](const JobDescription& description) { return description.job == job; });
    out_.work.forget_jobs.push_back(job);
  }
  for (const BatchCommit& commit : work.offer) keep_result(commit);
  for (BatchFailed& failure : work.failures) keep_failure(std::move(failure));
}

/// Failed batches whose report is unanswered are named as if they ran: the coordinator then takes the lease for out, and the
/// report that follows counts as an attempt.
std::vector<HeldLease> NodeAgent::Impl::held_leases() {
  std::set<LeaseKey> failed;
  for (const auto& [id, failure] : failures_) {
    const LeaseKey key{failure.message.job, failure.message.batch, failure.message.attempt};
    if (!queue_.holds(key)) failed.insert(key);
  }
  WorkerOutput work;
  std::vector<HeldLease> held = queue_.held(work, kLeasesInHelloMax - failed.size());
  take(std::move(work));
  for (const LeaseKey& key : failed) held.push_back({key, HeldStage::running});
  for (const auto& [key, result] : results_) {
    if (held.size() >= kLeasesInHelloMax) break;
    if (!queue_.holds(key) && !failed.contains(key)) held.push_back({key, HeldStage::finished});
  }
  return held;
}

// -- results ----------------------------------------------------------------------------------------------------------

void NodeAgent::Impl::keep_result(const BatchCommit& commit) {
  const LeaseKey key = key_of(commit);
  const auto [at, is_new] = results_.try_emplace(key, StoredResult{commit, now_});
  if (!is_new) return;  // the queue offers it again: offer_all_again does that for all of them
  outbox_remove_.erase(key);
  outbox_add_[key] = OutboxRecord{wall_, commit};
  to_offer_.push_back(key);
}

/// Answered, or not wanted any more.
void NodeAgent::Impl::end_result(const LeaseKey& key) {
  const auto found = results_.find(key);
  if (found == results_.end()) return;
  outbox_add_.erase(key);
  outbox_remove_[key] = found->second.commit;
  results_.erase(found);
  WorkerOutput work;
  queue_.offered_answer({key}, work);
  take(std::move(work));
}

/// Their blocks may have been deleted as orphans where this node could not be heard; the batches are computed again.
void NodeAgent::Impl::forget_old_results() {
  std::vector<LeaseKey> old;
  for (const auto& [key, result] : results_) {
    if (now_ - result.stored_at > std::chrono::milliseconds(kOutboxAgeMaxMs)) old.push_back(key);
  }
  for (const LeaseKey& key : old) end_result(key);
}

/// Requests that were not answered are sent again as they were, under the same id: if the last coordinator did log one, its
/// answer is remembered. (Grouping them anew would be as safe: a commit is idempotent by its digest, and the second is a
/// duplicate.)
void NodeAgent::Impl::offer_all_again() {
  std::set<LeaseKey> in_requests;
  std::erase_if(requests_, [&](auto& entry) {
    bool wanted = false;
    for (const BatchCommit& commit : entry.second.commits) {
      wanted = wanted || results_.contains(key_of(commit));
      in_requests.insert(key_of(commit));
    }
    return !wanted;
  });
  to_offer_.clear();
  for (const auto& [key, result] : results_) {
    if (!in_requests.contains(key)) to_offer_.push_back(key);
  }
  work_retry_at_ = now_;
}

void NodeAgent::Impl::send_commits() {
  for (const auto& [id, request] : requests_) {
    if (!request.in_flight) send_commit_request(id);
  }
  while (!to_offer_.empty() && requests_.size() < kCommitRequestsInFlightMax) {
    CommitRequest request;
    std::size_t bytes = 0;
    while (!to_offer_.empty() && request.commits.size() < kCommitsPerRequestMax && bytes < kControlMessageBytesMax / 2) {
      const auto found = results_.find(to_offer_.front());
      to_offer_.pop_front();
      if (found == results_.end()) continue;
      bytes += bytes_of(found->second.commit);
      request.commits.push_back(found->second.commit);
    }
    if (request.commits.empty()) return;
    const std::uint64_t id = ++last_id_;
    requests_.emplace(id, std::move(request));
    send_commit_request(id);
  }
}

void NodeAgent::Impl::send_commit_request(std::uint64_t id) {
  CommitRequest& request = requests_.at(id);
  request.in_flight = true;
  call(coordinator_, CommitBatches{request.commits}, kCommitTimeout, CommitCall{id}, RequestId{client_, id});
}

void NodeAgent::Impl::commits_answered(NodeId to, std::uint64_t id, const Outcome& outcome) {
  const auto found = requests_.find(id);
  if (found == requests_.end()) return;  // an earlier call with it has been answered
  std::optional<Error> error = outcome.error;
  std::vector<CommitOutcome> outcomes;
  if (!error) {
    auto reply = outcome.envelope->body<CommitBatchesReply>();
    if (reply) outcomes = std::move(reply->outcomes);
    if (outcomes.size() != found->second.commits.size()) error = Error{Errc::invalid, "not one outcome for each commit"};
  }
  if (error) {
    if (!outcome.of_this_session || (outcome.error && ends_session(to, outcome, "a commit"))) return;
    found->second.in_flight = false;
    work_retry_at_ = now_ + kWorkRetryPause;
    return;
  }
  // Whatever the outcome, the coordinator has decided on this result.
  const std::vector<BatchCommit> commits = std::move(found->second.commits);
  requests_.erase(found);
  for (const BatchCommit& commit : commits) {
    const auto result = results_.find(key_of(commit));
    if (result != results_.end() && result->second.commit.block.id == commit.block.id) end_result(key_of(commit));
  }
  if (outcome.of_this_session) proven_ = true;
}

// -- failures ---------------------------------------------------------------------------------------------------------

void NodeAgent::Impl::keep_failure(BatchFailed failure) {
  if (failure.detail.size() > kFailureDetailBytesMax) failure.detail.resize(kFailureDetailBytesMax);
  failures_.emplace(++last_id_, Failure{std::move(failure), false});
  if (failures_.size() <= kFailuresKeptMax) return;
  if (failures_.begin()->second.in_flight) --failures_in_flight_;
  failures_.erase(failures_.begin());
  // The coordinator believes it is still out here: the hello will tell.
  if (in_session_) end_session("too many failed batches are unreported", coordinator_, false);
}

void NodeAgent::Impl::send_failures() {
  if (failures_in_flight_ >= kFailuresInFlightMax) return;
  for (auto& [id, failure] : failures_) {
    if (failure.in_flight) continue;
    if (failures_in_flight_ >= kFailuresInFlightMax) return;
    failure.in_flight = true;
    ++failures_in_flight_;
    call(coordinator_, failure.message, kReportTimeout, FailureCall{id});
  }
}

void NodeAgent::Impl::failure_answered(NodeId to, std::uint64_t id, const Outcome& outcome) {
  const auto found = failures_.find(id);
  if (found == failures_.end()) return;
  if (outcome.error && ends_session(to, outcome, "the report of a failed batch")) return;
  if (found->second.in_flight) --failures_in_flight_;
  if (outcome.error && outcome.error->code == Errc::full) {
    found->second.in_flight = false;
    work_retry_at_ = now_ + kWorkRetryPause;
    return;
  }
  // Taken, or refused for good: then the next hello tells that the lease is not held any more.
  failures_.erase(found);
}

}  // namespace idunno
