#include "nodes/jobs/state_reads.h"

#include <fmt/core.h>

#include <algorithm>

#include "bus/names.h"
#include "nodes/jobs/rate_window.h"

namespace idunno {

namespace {

/// The job made its result file; what a user puts there later is another version.
constexpr std::uint32_t kResultVersion = 1;

}  // namespace

Error no_such_job(const char* doing, JobId job) {
  return Error{Errc::not_found, fmt::format("{} {}: there is no such job; `idunno job list` names them", doing, to_string(job))};
}

// ---- files and models -------------------------------------------------------------------------------------------------

Result<FsListReply> read_state(const ClusterState& state, const FsListRequest& request) { return state.files().list(request); }

Result<FsStatReply> read_state(const ClusterState& state, const FsStatRequest& request) { return state.files().stat(request); }

Result<FsStoreReply> read_state(const ClusterState& state, const FsStoreRequest& request) { return state.files().store(request); }

Result<ModelListReply> read_state(const ClusterState& state, const ModelListRequest& request) {
  ModelListReply reply;
  const auto& models = state.models();
  if (!request.name.empty() && !models.contains(request.name)) {
    return Error{Errc::not_found, fmt::format("there is no model {}; `idunno model list` names them", request.name)};
  }
  std::size_t bytes = 0;
  for (const auto& [name, versions] : models) {
    if (!request.name.empty() && name != request.name) continue;
    for (auto version = versions.rbegin(); version != versions.rend(); ++version) {
      if (!request.all_versions && version != versions.rbegin()) break;
      bytes += version->spec_toml.size() + version->onnx_path.size() + version->labels_path.size() + version->origin.size() + 128;
      if (bytes > kReportBytesMax) {
        return Error{Errc::too_large, "list models: the list does not fit one message; ask for one model by name"};
      }
      reply.models.push_back(*version);
    }
  }
  return reply;
}

// ---- jobs -------------------------------------------------------------------------------------------------------------

Result<JobResultsReply> read_state(const ClusterState& state, const JobResultsRequest& request) {
  const Job* job = state.job(request.job);
  if (job == nullptr) return no_such_job("results of", request.job);
  JobResultsReply reply;
  reply.state = job->state;
  const Job::Range shown = job->shown();
  reply.batches = shown.count;
  const FileVersion* file = state.files().find(job->result_path, kResultVersion);
  if (file == nullptr) {
    return Error{Errc::not_found, fmt::format("results of {}: its file {} was removed", to_string(job->id), job->result_path)};
  }
  const std::uint64_t asked = std::min<std::uint64_t>(request.max_batches, kBlocksPerRequestMax);
  const std::uint64_t first = std::min(request.first_batch, shown.count);
  const std::uint64_t last = std::min(first + asked, shown.count);
  if (first == last) return reply;
  const std::size_t slot = job->slot(shown.first + first);
  // A closed file has no empty places: batch b is then the block after those of the committed batches below b.
  std::uint64_t at = slot;
  if (!file->open) {
    at = static_cast<std::uint64_t>(std::count_if(job->digests.begin(), job->digests.begin() + static_cast<std::ptrdiff_t>(slot),
                                                  [](const Hash128& digest) { return digest != Hash128{}; }));
  }
  for (std::uint64_t i = 0; i < last - first; ++i) {
    const Hash128& digest = job->digests[slot + i];
    const bool there = digest != Hash128{};
    if (there && (at >= file->blocks.size() || file->blocks[at].hash != digest)) {
      return Error{Errc::not_found, fmt::format("results of {}: {} is not what the job wrote; somebody put another "
                                                "file in its place",
                                                to_string(job->id), job->result_path)};
    }
    reply.blocks.push_back(there ? file->blocks[at] : BlockRef{});
    if (there || file->open) ++at;
  }
  return reply;
}

Status check_reports(const ClusterState& state, const JobReportsRequest& request) {
  if (request.jobs.size() > kListPageMax) {
    return Error{Errc::too_large,
                 fmt::format("report jobs: {} are asked for, {} are possible at once", request.jobs.size(), kListPageMax)};
  }
  if (request.window_s < 1 || request.window_s > kRateWindowMaxS) {
    return Error{Errc::invalid,
                 fmt::format("report jobs: a window of {} s; 1 to {} are possible", request.window_s, kRateWindowMaxS)};
  }
  for (const JobId job : request.jobs) {
    if (state.job(job) == nullptr) return no_such_job("report", job);
  }
  return {};
}

std::vector<const Job*> jobs_to_report(const ClusterState& state, const std::vector<JobId>& ids) {
  std::vector<JobId> wanted = ids;
  if (wanted.empty()) {
    for (const auto& [id, job] : state.jobs()) wanted.push_back(id);
  }
  std::sort(wanted.rbegin(), wanted.rend());
  wanted.erase(std::unique(wanted.begin(), wanted.end()), wanted.end());
  std::vector<const Job*> jobs;
  for (const JobId id : wanted) {
    if (const Job* job = state.job(id)) jobs.push_back(job);
  }
  return jobs;
}

namespace {

/// A job that runs as far as its user is concerned, and gets no leases in the present phase.
std::string wait_for_phase(JobKind kind, Phase present) {
  const std::string wanted = kind == JobKind::training ? "training" : "inference";
  if (present == Phase::none)
    return fmt::format("waits for the phase {0}: no phase is on; `idunno phase start {0}` begins it", wanted);
  return fmt::format("waits for the phase {}: the phase {} is on; `idunno phase stop` ends it", wanted, to_string(present));
}

}  // namespace

JobReport report_of(const ClusterState& state, const Job& job) {
  JobReport report;
  report.id = job.id;
  report.spec = job.spec;
  report.state = job.state;
  report.reason = job.reason;
  if (job.state == JobState::running && !state.phase_fits(job.spec.kind)) {
    report.state = JobState::queued;
    report.reason = wait_for_phase(job.spec.kind, state.phase().phase);
  }
  report.total = job.endless() ? 0 : job.spec.queries * job.spec.repeat;
  report.done = job.queries_done;
  report.errors = job.errors;
  report.batches_done = job.batches_done;
  report.latency = job.latency.summary();
  report.submitted_ms = job.submitted_ms;
  report.first_batch_ms = job.first_batch_ms;
  report.finished_ms = job.finished_ms;
  report.result_path = job.result_path;
  report.digest = job.digest;
  report.duplicate_commits = job.duplicate_commits;
  report.conflicting_commits = job.conflicting_commits;
  report.model_loads = job.model_loads;
  report.model_load_us = job.model_load_us;
  report.quarantined = job.quarantined;
  return report;
}

std::size_t report_bytes(const JobReport& report) {
  return 512 + report.spec.name.size() + report.spec.model.size() + report.spec.data_path.size() +
         report.spec.manifest_path.size() + report.reason.size() + report.result_path.size() + report.nodes.size() * 5 +
         report.quarantined.size() * 9;
}

Result<JobReportsReply> read_state(const ClusterState& state, const JobReportsRequest& request) {
  if (const Status status = check_reports(state, request); !status) return status.error();
  JobReportsReply reply;
  std::size_t bytes = 0;
  for (const Job* job : jobs_to_report(state, request.jobs)) {
    JobReport one = report_of(state, *job);
    bytes += report_bytes(one);
    if (bytes > kReportBytesMax) break;
    reply.jobs.push_back(std::move(one));
  }
  std::reverse(reply.jobs.begin(), reply.jobs.end());
  return reply;
}

void fill_status(const ClusterState& state, StatusReply& reply) {
  reply.phase = to_string(state.phase().phase);
  reply.phase_number = state.phase().number;
  reply.phase_since_ms = state.phase().since_ms;
  reply.files = state.files().files();
  reply.blocks = state.files().blocks();
  reply.logical_bytes = state.files().logical_bytes();
  reply.jobs_running = static_cast<std::uint32_t>(std::count_if(state.jobs().begin(), state.jobs().end(), [&](const auto& job) {
    return job.second.state == JobState::running && state.phase_fits(job.second.spec.kind);
  }));
  reply.log_index = state.applied_index().value;
}

}  // namespace idunno
