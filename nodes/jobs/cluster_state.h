#pragma once
/// The replicated state machine: SDFS namespace, models, jobs and their progress, known nodes, remembered answers. A function of
/// the log alone: `apply` is deterministic, knows no clock but the stamp in the entry, no rate and no floating point. Assignments
/// are not in it (nodes/jobs/coordinator.h).

#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "bus/codec.h"
#include "bus/commands.h"
#include "bus/types.h"
#include "nodes/jobs/batch_layout.h"
#include "nodes/jobs/latency_histogram.h"
#include "storage/log_store.h"
#include "storage/sdfs/namespace.h"

namespace idunno {

inline constexpr std::size_t kRememberedAnswersMax = 16384;
inline constexpr std::size_t kJobsMax = 4096;            ///< finished ones included; `job remove` makes room
inline constexpr std::uint64_t kBatchesMax = 4U << 20U;  ///< of one job
/// Of a job that repeats without end: results of at least so many batches, in whole passes, are kept behind the last whole pass
/// ...
inline constexpr std::uint64_t kEndlessBatchesKept = 4096;
/// ... and so many batches beyond it may be in work.
inline constexpr std::uint64_t kEndlessBatchesAhead = 16384;
inline constexpr std::size_t kSegmentsMax = 65536;        ///< of one following job
inline constexpr std::uint64_t kUrgentQueriesMax = 1024;  ///< of an urgent job: it goes ahead of everybody
inline constexpr std::uint32_t kBatchQueriesMax = 65536;
inline constexpr std::uint32_t kWeightMilliMax = 1'000'000;
inline constexpr std::size_t kModelVersionsMax = 4096;  ///< of all models together
inline constexpr std::size_t kModelNamesMax = 65536;    ///< that ever had a version
inline constexpr std::size_t kNameBytesMax = 128;       ///< of a job or model

/// An encoded answer, ready to send: RpcServer::reply_raw.
struct Answer {
  MessageType type = MessageType::error_reply;
  Bytes body;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.type, s.body);
  }
  bool operator==(const Answer&) const = default;
};

template <class Reply>
[[nodiscard]] Answer make_answer(const Reply& reply) {
  return Answer{Reply::kType, encode(reply)};
}
[[nodiscard]] inline Answer make_error(Errc code, std::string detail) {
  return make_answer(ErrorReply{code, std::move(detail), {}});
}

/// A job as the log knows it.
struct Job {
  JobId id;
  JobSpec spec;
  JobState state = JobState::running;
  std::string reason;
  std::string result_path;
  WallMs submitted_ms = 0;
  WallMs first_batch_ms = 0;
  WallMs finished_ms = 0;
  std::uint64_t batches = 0;  ///< of the whole job, so far as it is known; see batches_of
  std::uint64_t batches_done = 0;
  std::uint64_t queries_done = 0;
  std::uint64_t errors = 0;
  std::uint64_t duplicate_commits = 0;
  std::uint64_t conflicting_commits = 0;
  std::uint64_t model_loads = 0;    ///< that its batches had to wait for
  std::uint64_t model_load_us = 0;  ///< and how long
  /// Of each batch's result; {0,0} = not committed. Of a job without end a ring: `slot` says where a batch lies, and the result
  /// file has the same places.
  std::vector<Hash128> digests;
  LatencyHistogram latency;  ///< processing time, one count a query
  Hash128 digest;  ///< over `digests` in order, when done; of a repeated job: of its first pass, as soon as that is whole
  std::vector<std::uint64_t> quarantined;  ///< queries that were not computed, index in the job; the first kQuarantinedShownMax
  std::vector<JobSegment> segments;        ///< of a following job: what came after its submit
  std::uint64_t first_kept = 0;            ///< batches before are done, and their results are deleted; a multiple of a pass
  std::uint64_t prefix = 0;                ///< of a repeated or following job: all batches before are done
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.id, s.spec, s.state, s.reason, s.result_path, s.submitted_ms, s.first_batch_ms, s.finished_ms, s.batches,
                    s.batches_done, s.queries_done, s.errors, s.duplicate_commits, s.conflicting_commits, s.model_loads,
                    s.model_load_us, s.digests, s.latency, s.digest, s.quarantined, s.segments, s.first_kept, s.prefix);
  }
  [[nodiscard]] bool active() const {
    return state == JobState::queued || state == JobState::running || state == JobState::paused;
  }
  [[nodiscard]] bool endless() const { return spec.repeat == 0; }
  [[nodiscard]] JobShape shape() const { return shape_of(spec, segments); }
  [[nodiscard]] BatchPlace place(std::uint64_t batch) const { return place_of(shape(), segments, batch); }
  /// Batches from here on are not to be worked on yet.
  [[nodiscard]] std::uint64_t window_end() const { return std::min<std::uint64_t>(batches, first_kept + digests.size()); }
  /// Of a batch before window_end().
  [[nodiscard]] std::size_t slot(std::uint64_t batch) const { return static_cast<std::size_t>(batch % digests.size()); }
  [[nodiscard]] bool committed(std::uint64_t batch) const { return batch < first_kept || digests[slot(batch)] != Hash128{}; }
  /// The batches that make the result: all, but of a job without end those of the last whole pass (before the first: of that
  /// one).
  struct Range {
    std::uint64_t first = 0;
    std::uint64_t count = 0;
  };
  [[nodiscard]] Range shown() const;
  /// Index of the first segment with a batch that is not done; their number when there is none.
  [[nodiscard]] std::size_t first_open_segment() const;
  bool operator==(const Job&) const = default;
};

/// Places in the digests and the result file of a job that runs.
[[nodiscard]] std::uint64_t kept_batches(const JobShape& shape, const std::vector<JobSegment>& segments);
/// Where the lists of queries of a following job's segments lie, and that of its `number`-th, from 1. The newest version of a
/// list is that of the segment: as soon as the segment is there, no other one can be put in its place while the job goes on.
[[nodiscard]] std::string segments_folder_of(JobId job);
[[nodiscard]] std::string segment_path_of(JobId job, std::uint64_t number);
/// Whether `path` is `top` or lies below it.
[[nodiscard]] bool is_at_or_below(const std::string& path, std::string_view top);

/// What applying an entry led to, besides the answer.
struct Applied {
  Answer answer;
  std::vector<BlockRef> freed;  ///< copies to delete, at their replicas
  std::vector<JobId> submitted;
  std::vector<JobId> changed;   ///< state, weight, limit or priority changed by a command
  std::vector<JobId> finished;  ///< became done
  std::vector<JobId> removed;
  std::vector<JobId> extended;  ///< following jobs that got a segment
  struct Pass {
    JobId job;
    std::uint64_t number = 0;
  };
  std::vector<Pass> passes_differ;  ///< whole passes of repeated jobs whose rows are not those of the first
  struct Commit {
    BatchCommit commit;
    CommitOutcome outcome;
  };
  std::vector<Commit> commits;
  bool namespace_changed = false;  ///< replicas may be missing or surplus
  bool phase_changed = false;
};

class ClusterState {
 public:
  explicit ClusterState(std::uint32_t versions_max = 8);

  /// A malformed command is answered with an error and changes nothing (it is the same on every node).
  [[nodiscard]] Applied apply(const LogEntry& entry);

  [[nodiscard]] const Namespace& files() const { return files_; }
  [[nodiscard]] const std::map<JobId, Job>& jobs() const { return jobs_; }
  [[nodiscard]] const Job* job(JobId id) const;
  /// By name, newest version last.
  [[nodiscard]] const std::map<std::string, std::vector<ModelVersion>>& models() const { return models_; }
  [[nodiscard]] const ModelVersion* model(const std::string& name, std::uint32_t version = 0) const;
  [[nodiscard]] const Answer* remembered(RequestId request) const;
  struct KnownNode {
    Incarnation incarnation;
    std::uint64_t store_id = 0;
    template <class Self>
    static auto tie(Self& s) {
      return std::tie(s.incarnation, s.store_id);
    }
    bool operator==(const KnownNode&) const = default;
  };
  [[nodiscard]] const std::map<NodeId, KnownNode>& nodes() const { return nodes_; }
  /// Which kind of jobs gets leases. A new cluster is in the phase of inference.
  struct CurrentPhase {
    Phase phase = Phase::inference;
    std::uint64_t number = 1;  ///< raised by each change: leases and commits carry it
    WallMs since_ms = 0;
    template <class Self>
    static auto tie(Self& s) {
      return std::tie(s.phase, s.number, s.since_ms);
    }
    bool operator==(const CurrentPhase&) const = default;
  };
  [[nodiscard]] const CurrentPhase& phase() const { return phase_; }
  [[nodiscard]] LogIndex applied_index() const { return applied_; }
  [[nodiscard]] Epoch epoch() const { return epoch_; }

  /// Whether jobs of this kind get leases now.
  [[nodiscard]] bool phase_fits(JobKind kind) const {
    return phase_.phase == (kind == JobKind::training ? Phase::training : Phase::inference);
  }

  /// Questions that requests are checked with before they are proposed, and again when they are applied. ok = would be accepted.
  [[nodiscard]] Status check_submit(const JobSpec& spec) const;
  [[nodiscard]] Status check_remove(const std::vector<std::string>& paths,
                                    bool recursive) const;  ///< conflict when an active job is below

  [[nodiscard]] Bytes encode_snapshot() const;
  /// invalid when the bytes are not a snapshot or contradict themselves.
  [[nodiscard]] static Result<ClusterState> decode_snapshot(ByteView bytes, std::uint32_t versions_max);

 private:
  template <class Command>
  void run(const CommandEnvelope& command, Applied& out);
  void dispatch(const CommandEnvelope& command, Applied& out);
  void remember(RequestId request, const Answer& answer);

  // One for each command; a refused one sets out.answer to an error and changes nothing.
  void on(const NewEpoch& command, WallMs stamp, Applied& out);
  void on(const RegisterNode& command, WallMs stamp, Applied& out);
  void on(const CommitFiles& command, WallMs stamp, Applied& out);
  void on(const RemoveFiles& command, WallMs stamp, Applied& out);
  void on(const MoveReplicas& command, WallMs stamp, Applied& out);
  void on(const ForgetBlocks& command, WallMs stamp, Applied& out);
  void on(const AddModel& command, WallMs stamp, Applied& out);
  void on(const RemoveModel& command, WallMs stamp, Applied& out);
  void on(const SubmitJob& command, WallMs stamp, Applied& out);
  void on(const ControlJob& command, WallMs stamp, Applied& out);
  void on(const SetJob& command, WallMs stamp, Applied& out);
  void on(const FailJob& command, WallMs stamp, Applied& out);
  void on(const CommitBatchResults& command, WallMs stamp, Applied& out);
  void on(const SetPhase& command, WallMs stamp, Applied& out);
  void on(const ExtendJob& command, WallMs stamp, Applied& out);

  [[nodiscard]] std::set<std::string> pinned_paths() const;
  [[nodiscard]] Status check_segments(const std::vector<FsFilePart>& files) const;
  [[nodiscard]] Status check_model(const ModelVersion& model) const;
  [[nodiscard]] Status check_model_file(const std::string& what, const std::string& path, std::uint32_t version) const;
  [[nodiscard]] CommitOutcome commit_batch(const BatchCommit& commit, WallMs stamp, Applied& out);
  void accept_batch(Job& job, const BatchCommit& commit);
  void count_passes(Job& job, Applied& out);
  void keep_last_pass(Job& job, Applied& out);
  void end_job(Job& job, JobState state, std::string reason, WallMs stamp, Applied& out);
  void remove_job(Job& job, Applied& out);

  Namespace files_;
  std::map<std::string, std::vector<ModelVersion>> models_;
  std::map<std::string, std::uint32_t> last_model_version_;  ///< survives removal: a version number is never used again
  std::map<JobId, Job> jobs_;
  std::map<NodeId, KnownNode> nodes_;
  std::map<RequestId, Answer> answers_;
  std::deque<RequestId> answer_order_;
  std::uint64_t next_job_ = 1;
  CurrentPhase phase_;
  LogIndex applied_;
  Epoch epoch_;
};

}  // namespace idunno
