// The whole state as bytes: one encoded Image. Equal states give equal bytes, on every node.
#include <fmt/core.h>

#include <utility>

#include "bus/base/assert.h"
#include "nodes/jobs/cluster_state.h"

namespace idunno {
namespace {

constexpr std::uint32_t kSnapshotFormat = 3;
constexpr std::size_t kDigestBytes = 16;

/// A job whose digests are packed, because there may be millions.
struct JobRecord {
  Job job;        ///< without digests
  Bytes digests;  ///< 16 bytes each, big endian
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.job, s.digests);
  }
};

struct AnswerRecord {
  RequestId request;
  Answer answer;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.request, s.answer);
  }
};

/// In files on disk: a change of the members needs another kSnapshotFormat.
struct Image {
  std::uint32_t format = kSnapshotFormat;
  LogIndex applied;
  Epoch epoch;
  std::uint64_t next_job = 1;
  std::map<std::string, std::vector<ModelVersion>> models;
  std::map<std::string, std::uint32_t> last_model_version;
  std::vector<JobRecord> jobs;
  std::map<NodeId, ClusterState::KnownNode> nodes;
  std::vector<AnswerRecord> answers;  ///< oldest first
  Bytes files;                        ///< Namespace::encode
  ClusterState::CurrentPhase phase;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.format, s.applied, s.epoch, s.next_job, s.models, s.last_model_version, s.jobs, s.nodes, s.answers, s.files,
                    s.phase);
  }
};

void put_half(Bytes& out, std::uint64_t half) {
  for (unsigned shift = 64; shift > 0; shift -= 8) out.push_back(static_cast<char>((half >> (shift - 8)) & 0xFFU));
}

std::uint64_t take_half(ByteView bytes, std::size_t offset) {
  std::uint64_t half = 0;
  for (std::size_t i = 0; i < 8; ++i) half = half << 8U | static_cast<unsigned char>(bytes[offset + i]);
  return half;
}

JobRecord pack(const Job& job) {
  JobRecord record{job, {}};
  record.digests.reserve(job.digests.size() * kDigestBytes);
  for (const Hash128& digest : job.digests) {
    put_half(record.digests, digest.hi);
    put_half(record.digests, digest.lo);
  }
  record.job.digests.clear();
  return record;
}

Job unpack(JobRecord record) {
  Job job = std::move(record.job);
  job.digests.clear();
  for (std::size_t at = 0; at + kDigestBytes <= record.digests.size(); at += kDigestBytes) {
    job.digests.push_back(Hash128{take_half(record.digests, at), take_half(record.digests, at + 8)});
  }
  return job;
}

Error contradiction(const std::string& what) {
  return Error{Errc::invalid, "the snapshot of the cluster state contradicts itself: " + what};
}

/// Each goes on where the one before ends.
bool segments_are_right(const Job& job) {
  if (job.segments.size() > kSegmentsMax || (!job.segments.empty() && !job.spec.follow)) return false;
  if (job.spec.follow && job.spec.repeat != 1) return false;
  JobShape shape = job.shape();
  std::uint64_t queries = shape.queries;
  std::uint64_t batches = batches_per_pass(shape);
  for (const JobSegment& segment : job.segments) {
    if (segment.queries == 0 || segment.first_batch != batches || segment.first_query != queries) return false;
    queries += segment.queries;
    batches += batches_for(segment.queries, shape.batch);
  }
  return queries == job.spec.queries;
}

/// What the code that applies commits relies upon.
Status check_job(const Job& job, const Namespace& files) {
  const std::string name = "job " + to_string(job.id);
  if (job.spec.batch == 0 || (job.spec.queries == 0 && !job.spec.follow)) return contradiction(name + " has no queries");
  if (!segments_are_right(job)) return contradiction(name + " has segments with gaps");
  if (batches_of(job.shape(), job.segments) != job.batches) return contradiction(name + " has a wrong number of batches");
  const std::uint64_t pass = std::max<std::uint64_t>(batches_per_pass(job.shape()), 1);
  const bool trimmed = job.endless() && !job.active();
  if (job.digests.size() != (trimmed ? pass : kept_batches(job.shape(), job.segments)))
    return contradiction(name + " has a wrong number of digests");
  if (job.first_kept % pass != 0 || (job.first_kept != 0 && !job.endless()) || job.prefix < job.first_kept ||
      job.prefix > job.batches) {
    return contradiction(name + " counts its passes wrongly");
  }
  if (!job.latency.valid()) return contradiction(name + " has a broken latency histogram");
  if (job.quarantined.size() > kQuarantinedShownMax) return contradiction(name + " has too many quarantined queries");
  const FileVersion* result = files.find(job.result_path);
  if (job.active() && (result == nullptr || !result->open || result->blocks.size() != job.digests.size()))
    return contradiction(name + " has no open result file");
  std::uint64_t done = job.first_kept;
  for (std::size_t slot = 0; slot < job.digests.size(); ++slot) {
    const bool committed = job.digests[slot] != Hash128{};
    if (committed) ++done;
    if (job.active() && committed != (result->blocks[slot].id != BlockId{}))
      return contradiction(name + " and its result file differ");
  }
  if (trimmed ? done > job.batches_done : done != job.batches_done) return contradiction(name + " counts its batches wrongly");
  return {};
}

}  // namespace

Bytes ClusterState::encode_snapshot() const {
  Image image;
  image.applied = applied_;
  image.epoch = epoch_;
  image.next_job = next_job_;
  image.models = models_;
  image.last_model_version = last_model_version_;
  for (const auto& [id, job] : jobs_) image.jobs.push_back(pack(job));
  image.nodes = nodes_;
  for (const RequestId request : answer_order_) image.answers.push_back(AnswerRecord{request, answers_.at(request)});
  image.files = files_.encode();
  image.phase = phase_;
  return encode(image);
}

Result<ClusterState> ClusterState::decode_snapshot(ByteView bytes, std::uint32_t versions_max) {
  Result<Image> decoded = decode<Image>(bytes, bytes.size());
  if (!decoded) return annotate(decoded.error(), "read the snapshot of the cluster state");
  Image& image = *decoded;
  if (image.format != kSnapshotFormat) {
    return Error{Errc::invalid, fmt::format("the snapshot of the cluster state has format {}, this program reads {}",
                                            image.format, kSnapshotFormat)};
  }
  Result<Namespace> files = Namespace::decode(image.files);
  if (!files) return annotate(files.error(), "read the snapshot of the cluster state");
  files->set_versions_max(versions_max);

  ClusterState state(versions_max);
  state.files_ = *std::move(files);
  state.applied_ = image.applied;
  state.epoch_ = image.epoch;
  state.next_job_ = image.next_job;
  state.phase_ = image.phase;
  state.models_ = std::move(image.models);
  state.last_model_version_ = std::move(image.last_model_version);
  state.nodes_ = std::move(image.nodes);
  for (const auto& [name, versions] : state.models_) {
    if (versions.empty()) return contradiction("model " + name + " has no version");
  }
  for (JobRecord& record : image.jobs) {
    Job job = unpack(std::move(record));
    if (Status status = check_job(job, state.files_); !status) return status.error();
    const JobId id = job.id;
    if (id.value >= state.next_job_ || !state.jobs_.emplace(id, std::move(job)).second)
      return contradiction("job " + to_string(id) + " is there twice or is yet to come");
  }
  for (AnswerRecord& record : image.answers) {
    if (!state.answers_.emplace(record.request, std::move(record.answer)).second)
      return contradiction("an answer is there twice");
    state.answer_order_.push_back(record.request);
  }
  return state;
}

}  // namespace idunno
