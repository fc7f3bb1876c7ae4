#pragma once
/// Answers that follow from the replicated state alone: given by the coordinator, and by any log node to whoever takes a stale
/// answer. Pure.

#include <string>
#include <vector>

#include "bus/messages.h"
#include "nodes/jobs/cluster_state.h"

namespace idunno {

inline constexpr std::size_t kReportBytesMax = 900U << 10U;  ///< of one answer, below kControlMessageBytesMax

[[nodiscard]] Result<FsListReply> read_state(const ClusterState& state, const FsListRequest& request);
[[nodiscard]] Result<FsStatReply> read_state(const ClusterState& state, const FsStatRequest& request);
[[nodiscard]] Result<FsStoreReply> read_state(const ClusterState& state, const FsStoreRequest& request);
[[nodiscard]] Result<ModelListReply> read_state(const ClusterState& state, const ModelListRequest& request);
[[nodiscard]] Result<JobResultsReply> read_state(const ClusterState& state, const JobResultsRequest& request);
/// Without what only the coordinator knows: rates, leases, fairness.
[[nodiscard]] Result<JobReportsReply> read_state(const ClusterState& state, const JobReportsRequest& request);

/// Whether the jobs and the window asked for exist.
[[nodiscard]] Status check_reports(const ClusterState& state, const JobReportsRequest& request);
/// The jobs to report, the newest first: those asked for, or all.
[[nodiscard]] std::vector<const Job*> jobs_to_report(const ClusterState& state, const std::vector<JobId>& ids);
[[nodiscard]] JobReport report_of(const ClusterState& state, const Job& job);
[[nodiscard]] std::size_t report_bytes(const JobReport& report);  ///< encoded, at most
/// The part of `status` that the state knows.
void fill_status(const ClusterState& state, StatusReply& reply);
[[nodiscard]] Error no_such_job(const char* doing, JobId job);

}  // namespace idunno
