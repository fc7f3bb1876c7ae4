// How far jobs are: commits of their batches, passes, segments that come, and the end.
#include <fmt/core.h>

#include <algorithm>
#include <functional>

#include "bus/hash.h"
#include "nodes/jobs/cluster_state.h"

namespace idunno {
namespace {

bool block_is_whole(const BlockRef& block) {
  return block.id != BlockId{} && block.hash != Hash128{} && block.length >= 1 && block.length <= kResultBlockBytesMax &&
         !block.replicas.empty() && block.replicas.size() <= kReplicasMax;
}

/// Ascending places in the batch, each with its error row.
bool quarantine_is_right(const BatchCommit& commit) {
  const auto& places = commit.quarantined;
  return places.size() <= commit.errors &&
         std::adjacent_find(places.begin(), places.end(), std::greater_equal<>()) == places.end() &&
         (places.empty() || places.back() < commit.queries);
}

Hash128 digest_of(const Hash128* digests, std::size_t count) {
  Bytes text;
  text.reserve(count * 16);
  for (std::size_t i = 0; i < count; ++i) {
    const Hash128& digest = digests[i];
    for (const std::uint64_t half : {digest.hi, digest.lo}) {
      for (unsigned shift = 64; shift > 0; shift -= 8) text.push_back(static_cast<char>((half >> (shift - 8)) & 0xFFU));
    }
  }
  return hash128(text);
}

/// Passes whose results are kept once they are whole.
std::uint64_t passes_kept(std::uint64_t pass) { return 1 + batches_for(kEndlessBatchesKept, static_cast<std::uint32_t>(pass)); }

}  // namespace

// -- which batches ----------------------------------------------------------------------------------------------------

std::uint64_t kept_batches(const JobShape& shape, const std::vector<JobSegment>& segments) {
  if (shape.repeat != 0) return batches_of(shape, segments);
  const std::uint64_t pass = batches_per_pass(shape);
  if (pass > kBatchesMax) return pass;
  const std::uint64_t ahead = 1 + batches_for(kEndlessBatchesAhead, static_cast<std::uint32_t>(pass));
  return (passes_kept(pass) + ahead) * pass;
}

std::size_t Job::first_open_segment() const {
  const auto open =
      std::find_if(segments.rbegin(), segments.rend(), [&](const JobSegment& one) { return one.first_batch <= prefix; });
  if (prefix >= batches) return segments.size();
  return open == segments.rend() ? 0 : static_cast<std::size_t>(segments.rend() - open) - 1;
}

Job::Range Job::shown() const {
  if (!endless()) return {0, batches};
  const std::uint64_t pass = batches_per_pass(shape());
  return {std::max(first_kept, prefix / pass == 0 ? 0 : (prefix / pass - 1) * pass), pass};
}

// -- commits ----------------------------------------------------------------------------------------------------------

void ClusterState::on(const CommitBatchResults& command, WallMs stamp, Applied& out) {
  CommitBatchesReply reply;
  reply.outcomes.reserve(command.commits.size());
  out.commits.reserve(command.commits.size());
  for (const BatchCommit& commit : command.commits) {
    const CommitOutcome outcome = commit_batch(commit, stamp, out);
    reply.outcomes.push_back(outcome);
    out.commits.push_back(Applied::Commit{commit, outcome});
    // The surplus copy of a result is deleted, unless this is the committed block itself, offered again.
    if (outcome == CommitOutcome::accepted) {
      out.namespace_changed = true;
    } else if (commit.block.id != BlockId{} && !commit.block.replicas.empty() && !files_.refers_to(commit.block.id)) {
      out.freed.push_back(commit.block);
    }
  }
  out.answer = make_answer(reply);
}

/// The first commit of a batch wins; what comes later can only agree with it or raise an alarm.
CommitOutcome ClusterState::commit_batch(const BatchCommit& commit, WallMs stamp, Applied& out) {
  const auto found = jobs_.find(commit.job);
  if (found == jobs_.end()) return CommitOutcome::not_wanted;
  Job& job = found->second;
  if (!job.active() && job.state != JobState::done) return CommitOutcome::not_wanted;
  if (commit.batch >= job.window_end() || commit.queries != job.place(commit.batch).queries || commit.errors > commit.queries ||
      !block_is_whole(commit.block) || !quarantine_is_right(commit)) {
    return CommitOutcome::not_wanted;
  }
  if (job.committed(commit.batch)) {
    // What was kept of a pass that is gone cannot be compared any more; its place has another batch.
    if (commit.batch < job.first_kept || job.digests[job.slot(commit.batch)] == commit.block.hash) {
      ++job.duplicate_commits;
      return CommitOutcome::duplicate;
    }
    ++job.conflicting_commits;
    return CommitOutcome::conflict;
  }
  // Work of a phase that has ended; it is done again in the next one of its kind.
  if (commit.phase != phase_.number) return CommitOutcome::not_wanted;
  if (!files_.fill_open(job.result_path, job.slot(commit.batch), commit.block)) return CommitOutcome::not_wanted;
  accept_batch(job, commit);
  count_passes(job, out);
  if (job.batches_done == job.batches && !job.spec.follow) {
    end_job(job, JobState::done, {}, stamp, out);
    out.finished.push_back(job.id);
  }
  return CommitOutcome::accepted;
}

void ClusterState::accept_batch(Job& job, const BatchCommit& commit) {
  job.digests[job.slot(commit.batch)] = commit.block.hash;
  ++job.batches_done;
  job.queries_done += commit.queries;
  job.errors += commit.errors;
  job.model_loads += commit.load_us != 0 ? 1 : 0;
  job.model_load_us += commit.load_us;
  for (const std::uint32_t place : commit.quarantined) {
    if (job.quarantined.size() >= kQuarantinedShownMax) break;
    job.quarantined.push_back(job.place(commit.batch).first_query + place);
  }
  job.latency.record(commit.duration_us, commit.queries);
  if (commit.started_ms != 0 && (job.first_batch_ms == 0 || commit.started_ms < job.first_batch_ms))
    job.first_batch_ms = commit.started_ms;
}

/// Of a repeated job: which passes are whole, whether they agree, and what of a job without end is not kept any longer.
void ClusterState::count_passes(Job& job, Applied& out) {
  if (job.spec.follow) {
    while (job.prefix < job.batches && job.committed(job.prefix)) ++job.prefix;
  }
  if (job.spec.repeat == 1) return;
  const std::uint64_t pass = batches_per_pass(job.shape());
  while (job.prefix < job.window_end() && job.committed(job.prefix)) {
    if (++job.prefix % pass != 0) continue;
    const std::uint64_t number = job.prefix / pass - 1;
    const Hash128 digest = digest_of(&job.digests[job.slot(number * pass)], pass);
    if (number == 0) {
      job.digest = digest;
    } else if (digest != job.digest) {
      ++job.conflicting_commits;
      out.passes_differ.push_back({job.id, number});
    }
  }
  if (!job.endless()) return;
  while ((job.prefix - job.first_kept) / pass > passes_kept(pass)) {
    const std::size_t slot = job.slot(job.first_kept);
    files_.clear_open(job.result_path, slot, pass, out.freed);
    std::fill_n(job.digests.begin() + static_cast<std::ptrdiff_t>(slot), pass, Hash128{});
    job.first_kept += pass;
  }
}

// -- more queries -----------------------------------------------------------------------------------------------------

/// A list that an earlier coordinator wrote comes too late when its segment is there.
Status ClusterState::check_segments(const std::vector<FsFilePart>& files) const {
  for (const auto& [id, job] : jobs_) {
    if (!job.active() || job.segments.empty()) continue;
    const std::string folder = segments_folder_of(id);
    const std::string last = segment_path_of(id, job.segments.size());
    for (const FsFilePart& part : files) {
      if (!is_at_or_below(part.path, folder) || part.path > last) continue;
      return Error{Errc::conflict, fmt::format("commit {}: {} has this segment already", part.path, to_string(id))};
    }
  }
  return {};
}

void ClusterState::on(const ExtendJob& command, WallMs /*stamp*/, Applied& out) {
  const auto refuse = [&](Errc code, const std::string& why) {
    out.answer = make_error(code, fmt::format("extend job {}: {}", to_string(command.job), why));
  };
  const auto found = jobs_.find(command.job);
  if (found == jobs_.end() || !found->second.active() || !found->second.spec.follow)
    return refuse(Errc::conflict, "it follows no folder");
  Job& job = found->second;
  const JobSegment& segment = command.segment;
  // Whoever thinks that the job ends elsewhere does not know what was added last: the same files must not come twice.
  if (segment.first_batch != job.batches || segment.first_query != job.spec.queries)
    return refuse(Errc::conflict, "the segment does not go on where it ends");
  const FileVersion* manifest = files_.find(segment.manifest_path);
  if (segment.manifest_path != segment_path_of(job.id, job.segments.size() + 1) || manifest == nullptr ||
      manifest->version != segment.manifest_version)
    return refuse(Errc::not_found, fmt::format("there is no list of queries {}", segment.manifest_path));
  if (segment.queries == 0 || segment.items_per_chunk == 0 ||
      manifest->blocks.size() < batches_for(segment.queries, segment.items_per_chunk)) {
    return refuse(Errc::invalid, fmt::format("the list {} is too short for {} queries", segment.manifest_path, segment.queries));
  }
  const std::uint64_t more = batches_for(segment.queries, job.spec.batch);
  if (job.segments.size() >= kSegmentsMax || more > kBatchesMax - job.batches)
    return refuse(Errc::full,
                  fmt::format("it has {} batches in {} segments; no more are possible", job.batches, job.segments.size()));
  job.segments.push_back(segment);
  job.spec.queries += segment.queries;
  job.batches += more;
  job.digests.resize(job.batches);
  files_.extend_open(job.result_path, more);
  out.extended.push_back(job.id);
  out.answer = make_answer(JobSetReply{});
}

// -- the end ----------------------------------------------------------------------------------------------------------

/// The rows that are there stay readable: the result becomes an ordinary file of the committed blocks in order.
void ClusterState::end_job(Job& job, JobState state, std::string reason, WallMs stamp, Applied& out) {
  job.state = state;
  job.reason = std::move(reason);
  job.finished_ms = stamp;
  if (job.spec.repeat == 1 && job.batches_done == job.batches) job.digest = digest_of(job.digests.data(), job.digests.size());
  if (job.endless()) keep_last_pass(job, out);
  files_.close_open(job.result_path, stamp);
}

void ClusterState::keep_last_pass(Job& job, Applied& out) {
  const Job::Range last = job.shown();
  const std::size_t slot = job.slot(last.first);
  files_.clear_open(job.result_path, 0, slot, out.freed);
  files_.clear_open(job.result_path, slot + last.count, job.digests.size(), out.freed);
  const auto first = job.digests.begin() + static_cast<std::ptrdiff_t>(slot);
  job.digests = std::vector<Hash128>(first, first + static_cast<std::ptrdiff_t>(last.count));
  job.first_kept = last.first;
}

}  // namespace idunno
