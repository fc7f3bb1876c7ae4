#pragma once
/// What the tests of the replicated state have in common: a state that is fed with commands, and the answers taken apart.

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "bus/hash.h"
#include "nodes/jobs/cluster_state.h"

namespace idunno {

inline constexpr WallMs kStamp = 1'700'000'000'000;

inline BlockRef block(std::uint64_t number, std::uint32_t length = 100) {
  return BlockRef{{77, number}, length, hash128("block " + std::to_string(number)), {NodeId{1}, NodeId{2}}};
}

/// A state that is fed with commands, and the answers taken apart.
class World {
 public:
  template <class Command>
  Applied apply(const Command& command, RequestId request = {}, WallMs stamp = kStamp) {
    return apply_bytes(encode_command(stamp, request, command));
  }
  Applied apply_bytes(Bytes command) {
    const LogEntry entry{LogIndex{state.applied_index().value + 1}, Epoch{1}, std::move(command)};
    log.push_back(entry);
    return state.apply(entry);
  }
  void put(const std::string& path, std::uint64_t blocks = 1) {
    FsFilePart part;
    part.path = path;
    part.upload = next_block;
    for (std::uint64_t i = 0; i < blocks; ++i) part.blocks.push_back(block(next_block++));
    ASSERT_EQ(apply(CommitFiles{{part}}).answer.type, MessageType::fs_commit_reply) << path;
  }
  /// A model of one ONNX file, data, and a manifest for 10 queries.
  void prepare() {
    put("/models/net/net.onnx");
    ModelVersion model;
    model.name = "net";
    model.onnx_path = "/models/net/net.onnx";
    ASSERT_EQ(apply(AddModel{model}).answer.type, MessageType::model_add_reply);
    put("/data/pets/a.jpg");
    put("/data/pets/b.jpg");
    put("/manifests/m1");
  }
  static JobSpec spec() {
    JobSpec spec;
    spec.model = "net";
    spec.data_path = "/data/pets";
    spec.manifest_path = "/manifests/m1";
    spec.items_per_chunk = 512;
    spec.queries = 10;
    spec.batch = 4;
    return spec;
  }
  JobId submit(const JobSpec& wanted = spec()) {
    const Applied applied = apply(SubmitJob{wanted});
    const Result<SubmitReply> reply = decode<SubmitReply>(applied.answer.body);
    EXPECT_EQ(applied.answer.type, MessageType::submit_reply);
    return reply.ok() ? reply->job : JobId{};
  }
  BatchCommit commit_of(JobId job, BatchIndex batch, std::uint64_t content = 0) {
    BatchCommit commit;
    commit.job = job;
    commit.batch = batch;
    commit.node = NodeId{1};
    commit.block = block(next_block++);
    commit.block.hash = hash128("rows " + std::to_string(batch) + "/" + std::to_string(content));
    const Job* found = state.job(job);
    commit.queries = found == nullptr || batch >= found->batches ? 4 : found->place(batch).queries;
    commit.phase = state.phase().number;
    commit.started_ms = kStamp + 500 - batch;
    commit.duration_us = 1000;
    return commit;
  }
  CommitOutcome commit(const BatchCommit& commit, Applied* all = nullptr) {
    Applied applied = apply(CommitBatchResults{{commit}});
    const Result<CommitBatchesReply> reply = decode<CommitBatchesReply>(applied.answer.body);
    EXPECT_TRUE(reply.ok() && reply->outcomes.size() == 1);
    if (all != nullptr) *all = std::move(applied);
    return reply->outcomes[0];
  }
  void finish(JobId job) {
    for (BatchIndex batch = 0; batch < state.job(job)->batches; ++batch) {
      if (state.job(job)->committed(batch)) continue;
      ASSERT_EQ(commit(commit_of(job, batch)), CommitOutcome::accepted);
    }
    ASSERT_EQ(state.job(job)->state, JobState::done);
  }
  Answer control(JobId job, JobAction action) { return apply(ControlJob{job, action}).answer; }

  ClusterState state;
  std::vector<LogEntry> log;
  std::uint64_t next_block = 1;
};

inline Errc code_of(const Answer& answer) {
  if (answer.type != MessageType::error_reply) return Errc{};
  const Result<ErrorReply> error = decode<ErrorReply>(answer.body);
  EXPECT_TRUE(error.ok());
  EXPECT_FALSE(error->detail.empty());
  return error->code;
}
template <class Reply>
Reply reply_of(const Answer& answer) {
  EXPECT_EQ(answer.type, Reply::kType) << (answer.type == MessageType::error_reply ? decode<ErrorReply>(answer.body)->detail
                                                                                   : "");
  const Result<Reply> reply = decode<Reply>(answer.body);
  EXPECT_TRUE(reply.ok());
  return reply.ok() ? *reply : Reply{};
}
/// Everything but the index of the last entry, so that "changes nothing" can be checked.
inline Bytes content_of(const ClusterState& state) {
  Bytes bytes = state.files().encode();
  for (const auto& [id, job] : state.jobs()) bytes += encode(job);
  for (const auto& [name, versions] : state.models()) {
    for (const ModelVersion& version : versions) bytes += encode(version);
  }
  for (const auto& [id, node] : state.nodes()) bytes += to_string(id) + encode(node);
  return bytes;
}

}  // namespace idunno
