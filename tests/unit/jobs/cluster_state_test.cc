#include "nodes/jobs/cluster_state.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>

#include "bus/base/random.h"
#include "tests/unit/jobs/cluster_state_world.h"

namespace idunno {
namespace {

// -- entries ----------------------------------------------------------------------------------------------------------

TEST(ClusterState, AnswersAMalformedEntryWithAnErrorAndChangesNothing) {
  World world;
  world.prepare();
  const Bytes before = content_of(world.state);
  Bytes good = encode_command(kStamp, RequestId{9, 9}, SubmitJob{World::spec()});
  EXPECT_EQ(code_of(world.apply_bytes("rubbish").answer), Errc::invalid);
  EXPECT_NE(code_of(world.apply_bytes({}).answer), Errc{});
  for (std::size_t length = 0; length < good.size(); ++length) {
    EXPECT_NE(code_of(world.apply_bytes(good.substr(0, length)).answer), Errc{}) << length;
  }
  EXPECT_EQ(content_of(world.state), before);
  EXPECT_EQ(world.state.applied_index().value, world.log.size());
}

TEST(ClusterState, DoesARequestOnceAndRepeatsItsAnswer) {
  World world;
  world.prepare();
  const RequestId request{5, 1};
  const Applied first = world.apply(SubmitJob{World::spec()}, request);
  const Bytes after_first = content_of(world.state);
  const Applied second = world.apply(SubmitJob{World::spec()}, request);
  EXPECT_EQ(second.answer, first.answer);
  EXPECT_EQ(content_of(world.state), after_first);
  EXPECT_EQ(first.submitted.size(), 1U);
  EXPECT_TRUE(second.submitted.empty());
  ASSERT_NE(world.state.remembered(request), nullptr);
  EXPECT_EQ(*world.state.remembered(request), first.answer);
  // A refusal is an answer as well, even if the request would be accepted now.
  const RequestId refused{5, 2};
  const JobId job = reply_of<SubmitReply>(first.answer).job;
  EXPECT_EQ(code_of(world.apply(ControlJob{job, JobAction::resume}, refused).answer), Errc::conflict);
  EXPECT_EQ(code_of(world.apply(ControlJob{job, JobAction::pause}).answer), Errc{});
  EXPECT_EQ(code_of(world.apply(ControlJob{job, JobAction::resume}, refused).answer), Errc::conflict);
}

TEST(ClusterState, RemembersABoundedNumberOfClientAnswersOnly) {
  World world;
  world.apply(RegisterNode{NodeId{1}, Incarnation{1}, 7}, RequestId{1, 1});
  world.apply(CommitBatchResults{}, RequestId{1, 2});
  world.apply(ForgetBlocks{}, RequestId{1, 3});
  for (std::uint64_t sequence : {1U, 2U, 3U}) EXPECT_EQ(world.state.remembered(RequestId{1, sequence}), nullptr);
  for (std::uint64_t i = 0; i <= kRememberedAnswersMax; ++i) world.apply(RemoveModel{"none"}, RequestId{2, i});
  EXPECT_EQ(world.state.remembered(RequestId{2, 0}), nullptr);
  EXPECT_NE(world.state.remembered(RequestId{2, 1}), nullptr);
  EXPECT_NE(world.state.remembered(RequestId{2, kRememberedAnswersMax}), nullptr);
}

TEST(ClusterState, BeginsEpochsInOrder) {
  World world;
  world.apply(NewEpoch{Epoch{4}, NodeId{1}});
  EXPECT_EQ(world.state.epoch(), Epoch{4});
  EXPECT_EQ(code_of(world.apply(NewEpoch{Epoch{3}, NodeId{2}}).answer), Errc::stale_epoch);
  EXPECT_EQ(world.state.epoch(), Epoch{4});
}

// -- nodes and files --------------------------------------------------------------------------------------------------

TEST(ClusterState, ForgetsTheCopiesOfANodeThatComesWithAnotherStore) {
  World world;
  EXPECT_TRUE(world.apply(RegisterNode{NodeId{1}, Incarnation{1}, 7}).namespace_changed);
  world.put("/data/x", 3);
  EXPECT_FALSE(world.apply(RegisterNode{NodeId{1}, Incarnation{2}, 7}).namespace_changed);
  EXPECT_EQ(world.state.files().find("/data/x")->blocks[0].replicas.size(), 2U);
  EXPECT_EQ(code_of(world.apply(RegisterNode{NodeId{1}, Incarnation{1}, 8}).answer), Errc::conflict);
  EXPECT_EQ(world.state.files().find("/data/x")->blocks[0].replicas.size(), 2U);
  EXPECT_TRUE(world.apply(RegisterNode{NodeId{1}, Incarnation{3}, 8}).namespace_changed);
  for (const BlockRef& each : world.state.files().find("/data/x")->blocks)
    EXPECT_EQ(each.replicas, std::vector<NodeId>{NodeId{2}});
  EXPECT_EQ(world.state.nodes().at(NodeId{1}), (ClusterState::KnownNode{Incarnation{3}, 8}));
  EXPECT_EQ(code_of(world.apply(RegisterNode{}).answer), Errc::invalid);
}

TEST(ClusterState, MovesAndForgetsReplicas) {
  World world;
  world.put("/data/x");
  const BlockId id = world.state.files().find("/data/x")->blocks[0].id;
  world.apply(RegisterNode{NodeId{3}, Incarnation{1}, 33});
  const Applied moved = world.apply(
      MoveReplicas{{{"/data/x", 1, 0, id, {NodeId{2}, NodeId{3}}, {NodeId{1}, NodeId{2}}}}, {AddedStore{NodeId{3}, 33}}});
  EXPECT_EQ(reply_of<FsMoveReplicasReply>(moved.answer).changed, 1U);
  EXPECT_TRUE(moved.namespace_changed);
  const Bytes before = content_of(world.state);
  EXPECT_EQ(code_of(world.apply(MoveReplicas{{{"/data/x", 1, 0, id, {}, {}}}, {}}).answer), Errc::invalid);
  EXPECT_FALSE(world.apply(ForgetBlocks{NodeId{1}, {id}}).namespace_changed);
  EXPECT_EQ(content_of(world.state), before);
  EXPECT_TRUE(world.apply(ForgetBlocks{NodeId{3}, {id}}).namespace_changed);
  EXPECT_EQ(world.state.files().find("/data/x")->blocks[0].replicas, std::vector<NodeId>{NodeId{2}});
}

TEST(ClusterState, AMoveAddsNobodyWhoseStoreIsAnotherByNow) {
  World world;
  world.put("/data/x");
  const BlockId id = world.state.files().find("/data/x")->blocks[0].id;
  world.apply(RegisterNode{NodeId{3}, Incarnation{1}, 33});
  const std::vector<NodeId> two{NodeId{1}, NodeId{2}};
  const std::vector<NodeId> three{NodeId{1}, NodeId{2}, NodeId{3}};
  const auto replicas = [&] { return world.state.files().find("/data/x")->blocks[0].replicas; };
  const MoveReplicas move{{{"/data/x", 1, 0, id, three, two}}, {AddedStore{NodeId{3}, 33}}};
  world.apply(RegisterNode{NodeId{3}, Incarnation{2}, 44});
  EXPECT_FALSE(world.apply(move).namespace_changed);
  EXPECT_EQ(replicas(), two);
  EXPECT_FALSE(world.apply(MoveReplicas{move.moves, {}}).namespace_changed) << "nor anybody whose store is not given";
  EXPECT_TRUE(world.apply(MoveReplicas{move.moves, {AddedStore{NodeId{3}, 44}}}).namespace_changed);
  EXPECT_EQ(replicas(), three);
  // And what was proposed before its store was replaced does not put a node back that it only kept.
  world.apply(RegisterNode{NodeId{3}, Incarnation{3}, 55});
  EXPECT_TRUE(world.apply(MoveReplicas{{{"/data/x", 1, 0, id, {NodeId{2}, NodeId{3}}, three}}, {}}).namespace_changed);
  EXPECT_EQ(replicas(), std::vector<NodeId>{NodeId{2}});
}

TEST(ClusterState, AClientsMoveIsDoneOnce) {
  World world;
  world.put("/data/x");
  const BlockId id = world.state.files().find("/data/x")->blocks[0].id;
  world.apply(RegisterNode{NodeId{3}, Incarnation{1}, 33});
  const MoveReplicas move{{{"/data/x", 1, 0, id, {NodeId{1}, NodeId{2}, NodeId{3}}, {NodeId{1}, NodeId{2}}}},
                          {AddedStore{NodeId{3}, 33}}};
  EXPECT_TRUE(world.apply(move, RequestId{4, 1}).namespace_changed);
  world.apply(ForgetBlocks{NodeId{3}, {id}});
  EXPECT_FALSE(world.apply(move, RequestId{4, 1}).namespace_changed) << "the retry of a request that was done";
  EXPECT_EQ(world.state.files().find("/data/x")->blocks[0].replicas.size(), 2U);
}

TEST(ClusterState, RemovesFilesAndFreesTheirBlocksUnlessAnActiveJobNeedsThem) {
  World world;
  world.prepare();
  world.put("/other/file");
  const JobId job = world.submit();
  const Bytes before = content_of(world.state);
  for (const char* path : {"/data", "/data/pets", "/data/pets/a.jpg", "/manifests", "/manifests/m1", "/models/net",
                           "/models/net/net.onnx", "/jobs", "/jobs/j1/result.jsonl", "/"}) {
    const Applied refused = world.apply(RemoveFiles{{path}, true});
    EXPECT_EQ(code_of(refused.answer), Errc::conflict) << path;
    EXPECT_FALSE(world.state.check_remove({path}, true).ok());
  }
  EXPECT_EQ(code_of(world.apply(RemoveFiles{{"/other/file", "/data/pets"}, true}).answer), Errc::conflict);
  EXPECT_EQ(content_of(world.state), before);
  EXPECT_TRUE(world.state.check_remove({"/data/petshop", "/dat"}, true).ok());

  const Applied removed = world.apply(RemoveFiles{{"/other/file"}, false});
  EXPECT_EQ(reply_of<FsRemoveReply>(removed.answer).files, 1U);
  ASSERT_EQ(removed.freed.size(), 1U);
  EXPECT_TRUE(removed.namespace_changed);
  world.finish(job);
  EXPECT_EQ(code_of(world.apply(RemoveFiles{{"/data/pets"}, true}).answer), Errc{});
  EXPECT_EQ(code_of(world.apply(RemoveFiles{{"/data/pets"}, true}).answer), Errc::not_found);
}

TEST(ClusterState, KeepsOldVersionsThatAJobOrAModelStillReads) {
  World world;
  world.prepare();
  const JobId job = world.submit();
  for (int i = 0; i < 12; ++i) {
    world.put("/data/pets/a.jpg");
    world.put("/models/net/net.onnx");
  }
  EXPECT_NE(world.state.files().find("/data/pets/a.jpg", 1), nullptr);
  EXPECT_NE(world.state.files().find("/models/net/net.onnx", 1), nullptr);
  world.finish(job);
  world.put("/data/pets/a.jpg");
  world.put("/models/net/net.onnx");
  EXPECT_EQ(world.state.files().find("/data/pets/a.jpg", 1), nullptr);
  EXPECT_NE(world.state.files().find("/models/net/net.onnx", 1), nullptr);
}

// -- models -----------------------------------------------------------------------------------------------------------

TEST(ClusterState, NumbersModelVersionsAndNeverUsesANumberAgain) {
  World world;
  world.prepare();
  EXPECT_EQ(world.state.model("net")->version, 1U);
  EXPECT_EQ(world.state.model("net")->onnx_version, 1U);
  EXPECT_EQ(world.state.model("net")->created_ms, kStamp);
  world.put("/models/net/net.onnx");
  ModelVersion next = *world.state.model("net");
  next.onnx_version = 0;
  next.version = 55;  // not for the client to say
  EXPECT_EQ(reply_of<ModelAddReply>(world.apply(AddModel{next}).answer).version, 2U);
  EXPECT_EQ(world.state.model("net")->onnx_version, 2U);
  EXPECT_EQ(world.state.model("net", 1)->version, 1U);
  EXPECT_EQ(world.state.model("net", 3), nullptr);

  const Applied removed = world.apply(RemoveModel{"net"});
  EXPECT_EQ(reply_of<ModelRemoveReply>(removed.answer).versions, 2U);
  EXPECT_EQ(removed.freed.size(), 2U);
  EXPECT_EQ(world.state.files().find("/models/net/net.onnx"), nullptr);
  EXPECT_EQ(world.state.model("net"), nullptr);
  EXPECT_EQ(code_of(world.apply(RemoveModel{"net"}).answer), Errc::not_found);
  world.put("/models/net/net.onnx");
  EXPECT_EQ(reply_of<ModelAddReply>(world.apply(AddModel{next}).answer).version, 3U);
}

TEST(ClusterState, RefusesModelsThatCouldNotBeUsed) {
  World world;
  world.prepare();
  const Bytes before = content_of(world.state);
  const auto code = [&](auto&& change) {
    ModelVersion model = *world.state.model("net");
    change(model);
    return code_of(world.apply(AddModel{model}).answer);
  };
  EXPECT_EQ(code([](ModelVersion& m) { m.name = ""; }), Errc::invalid);
  EXPECT_EQ(code([](ModelVersion& m) { m.name = "../x"; }), Errc::invalid);
  EXPECT_EQ(code([](ModelVersion& m) { m.name = "a/b"; }), Errc::invalid);
  EXPECT_EQ(code([](ModelVersion& m) { m.name = std::string(kNameBytesMax + 1, 'a'); }), Errc::invalid);
  EXPECT_EQ(code([](ModelVersion& m) { m.onnx_path = "/models/none.onnx"; }), Errc::not_found);
  EXPECT_EQ(code([](ModelVersion& m) { m.onnx_version = 9; }), Errc::not_found);
  EXPECT_EQ(code([](ModelVersion& m) { m.labels_path = "/models/none.txt"; }), Errc::not_found);
  EXPECT_NE(code([](ModelVersion& m) { m.spec_toml = std::string(kSpecBytesMax + 1, ' '); }), Errc{});
  EXPECT_EQ(code([](ModelVersion& m) { m.origin = std::string(2000, 'o'); }), Errc::too_large);
  EXPECT_EQ(content_of(world.state), before);
  EXPECT_EQ(code([](ModelVersion& m) {
              m.name = "nothing";
              m.onnx_path = "";
              m.onnx_version = 0;
            }),
            Errc{});
}

TEST(ClusterState, RemovesOnlyAModelsOwnFilesAndNoneThatAJobUses) {
  World world;
  world.prepare();
  world.put("/shared/labels.txt");
  ModelVersion other = *world.state.model("net");
  other.name = "twin";
  other.labels_path = "/shared/labels.txt";
  ASSERT_EQ(code_of(world.apply(AddModel{other}).answer), Errc{});
  const JobId job = world.submit();
  EXPECT_EQ(code_of(world.apply(RemoveModel{"net"}).answer), Errc::conflict);
  EXPECT_EQ(code_of(world.apply(RemoveModel{"twin"}).answer), Errc{});
  EXPECT_NE(world.state.files().find("/shared/labels.txt"), nullptr);
  EXPECT_NE(world.state.files().find("/models/net/net.onnx"), nullptr);
  ASSERT_EQ(code_of(world.apply(AddModel{other}).answer), Errc{});
  world.finish(job);
  EXPECT_EQ(code_of(world.apply(RemoveModel{"net"}).answer), Errc{});
  EXPECT_NE(world.state.files().find("/models/net/net.onnx"), nullptr) << "twin uses it";
}

// -- submitting -------------------------------------------------------------------------------------------------------

TEST(ClusterState, SubmittingFixesVersionsNameAndResultFile) {
  World world;
  world.prepare();
  const Applied applied = world.apply(SubmitJob{World::spec()});
  const JobId id = reply_of<SubmitReply>(applied.answer).job;
  EXPECT_EQ(id, JobId{1});
  EXPECT_EQ(applied.submitted, std::vector<JobId>{id});
  const Job& job = *world.state.job(id);
  EXPECT_EQ(job.state, JobState::running);
  EXPECT_EQ(job.spec.name, "net-1");
  EXPECT_EQ(job.spec.model_version, 1U);
  EXPECT_EQ(job.spec.manifest_version, 1U);
  EXPECT_EQ(job.batches, 3U);
  EXPECT_EQ(job.place(0).queries, 4U);
  EXPECT_EQ(job.place(2).queries, 2U);
  EXPECT_EQ(job.place(3).queries, 0U);
  EXPECT_EQ(job.submitted_ms, kStamp);
  EXPECT_EQ(job.result_path, "/jobs/j1/result.jsonl");
  const FileVersion* result = world.state.files().find(job.result_path);
  ASSERT_NE(result, nullptr);
  EXPECT_TRUE(result->open);
  EXPECT_EQ(result->blocks.size(), 3U);
  EXPECT_EQ(world.submit(), JobId{2});
}

TEST(ClusterState, RefusesJobsThatCouldNotRun) {
  World world;
  world.prepare();
  const Bytes before = content_of(world.state);
  const auto code = [&](auto&& change) {
    JobSpec spec = World::spec();
    change(spec);
    const Errc applied = code_of(world.apply(SubmitJob{spec}).answer);
    const Status checked = world.state.check_submit(spec);
    EXPECT_EQ(checked.ok() ? Errc{} : checked.error().code, applied) << "the check before and the one at applying differ";
    return applied;
  };
  EXPECT_EQ(code([](JobSpec& s) { s.model = "none"; }), Errc::not_found);
  EXPECT_EQ(code([](JobSpec& s) { s.model_version = 2; }), Errc::not_found);
  EXPECT_EQ(code([](JobSpec& s) { s.manifest_path = "/manifests/none"; }), Errc::not_found);
  EXPECT_EQ(code([](JobSpec& s) { s.manifest_path = ""; }), Errc::invalid);
  EXPECT_EQ(code([](JobSpec& s) { s.manifest_version = 2; }), Errc::not_found);
  EXPECT_EQ(code([](JobSpec& s) { s.items_per_chunk = 0; }), Errc::invalid);
  EXPECT_EQ(code([](JobSpec& s) { s.queries = 513; }), Errc::invalid);  // the manifest has one chunk
  EXPECT_EQ(code([](JobSpec& s) { s.data_path = "/data/none"; }), Errc::not_found);
  EXPECT_EQ(code([](JobSpec& s) { s.queries = 0; }), Errc::invalid);
  EXPECT_EQ(code([](JobSpec& s) { s.batch = 0; }), Errc::invalid);
  EXPECT_EQ(code([](JobSpec& s) { s.batch = kBatchQueriesMax + 1; }), Errc::invalid);
  EXPECT_EQ(code([](JobSpec& s) {
              s.item_kind = ItemKind::nothing;
              s.queries = kBatchesMax + 1;
              s.batch = 1;
            }),
            Errc::too_large);
  EXPECT_EQ(code([](JobSpec& s) {
              s.queries = ~std::uint64_t{0};
              s.batch = 2;
            }),
            Errc::too_large);
  EXPECT_EQ(code([](JobSpec& s) { s.weight_milli = 0; }), Errc::invalid);
  EXPECT_EQ(code([](JobSpec& s) { s.weight_milli = kWeightMilliMax + 1; }), Errc::invalid);
  EXPECT_EQ(code([](JobSpec& s) { s.name = std::string(kNameBytesMax + 1, 'n'); }), Errc::invalid);
  EXPECT_EQ(code([](JobSpec& s) { s.name = "two\nlines"; }), Errc::invalid);
  EXPECT_EQ(code([](JobSpec& s) { s.item_kind = ItemKind::pixels; }), Errc::invalid);
  EXPECT_EQ(content_of(world.state), before);
  // Queries without bytes need neither data nor manifest.
  EXPECT_EQ(code([](JobSpec& s) {
              s.item_kind = ItemKind::nothing;
              s.manifest_path = "";
              s.data_path = "";
              s.queries = 1000;
            }),
            Errc{});
}

TEST(ClusterState, LeavesANumberOutWhenAUserHasFilesWhereTheResultWouldGo) {
  World world;
  world.prepare();
  world.put("/jobs/j1/result.jsonl");
  world.put("/jobs/j2");
  EXPECT_EQ(world.submit(), JobId{3});
  EXPECT_EQ(world.submit(), JobId{4});
}

TEST(ClusterState, KeepsABoundedNumberOfJobs) {
  World world;
  world.prepare();
  for (std::size_t i = 0; i < kJobsMax; ++i) ASSERT_EQ(world.submit(), JobId{i + 1});
  EXPECT_EQ(code_of(world.apply(SubmitJob{World::spec()}).answer), Errc::full);
  ASSERT_EQ(code_of(world.control(JobId{7}, JobAction::stop)), Errc{});
  ASSERT_EQ(code_of(world.control(JobId{7}, JobAction::remove)), Errc{});
  EXPECT_EQ(world.submit(), JobId{kJobsMax + 1});
}

// -- commits ----------------------------------------------------------------------------------------------------------

TEST(ClusterState, FirstCommitWinsAndFillsTheResult) {
  World world;
  world.prepare();
  const JobId id = world.submit();
  BatchCommit first = world.commit_of(id, 1);
  first.errors = 3;
  Applied applied;
  EXPECT_EQ(world.commit(first, &applied), CommitOutcome::accepted);
  EXPECT_TRUE(applied.freed.empty());
  EXPECT_TRUE(applied.namespace_changed);
  ASSERT_EQ(applied.commits.size(), 1U);
  EXPECT_EQ(applied.commits[0].outcome, CommitOutcome::accepted);
  EXPECT_EQ(applied.commits[0].commit, first);
  const Job& job = *world.state.job(id);
  EXPECT_EQ(world.state.files().find(job.result_path)->blocks[1], first.block);
  EXPECT_EQ(job.batches_done, 1U);
  EXPECT_EQ(job.queries_done, 4U);
  EXPECT_EQ(job.errors, 3U);
  EXPECT_EQ(job.first_batch_ms, first.started_ms);
  EXPECT_EQ(job.latency.count(), 4U);
  EXPECT_EQ(job.latency.mean_us(), 1000U);

  // The same block again: nothing may be deleted.
  EXPECT_EQ(world.commit(first, &applied), CommitOutcome::duplicate);
  EXPECT_TRUE(applied.freed.empty());
  // The same rows in another block: the surplus copy goes.
  const BatchCommit again = world.commit_of(id, 1);
  EXPECT_EQ(world.commit(again, &applied), CommitOutcome::duplicate);
  EXPECT_EQ(applied.freed, std::vector<BlockRef>{again.block});
  // Other rows: the first stay, and it is counted.
  const BatchCommit other = world.commit_of(id, 1, 1);
  EXPECT_EQ(world.commit(other, &applied), CommitOutcome::conflict);
  EXPECT_EQ(applied.freed, std::vector<BlockRef>{other.block});
  EXPECT_EQ(world.state.files().find(job.result_path)->blocks[1], first.block);
  EXPECT_EQ(job.duplicate_commits, 2U);
  EXPECT_EQ(job.conflicting_commits, 1U);
  EXPECT_EQ(job.batches_done, 1U);
  EXPECT_EQ(job.queries_done, 4U);
  EXPECT_EQ(job.latency.count(), 4U);
}

TEST(ClusterState, WantsNoCommitThatDoesNotFitItsJob) {
  World world;
  world.prepare();
  const JobId id = world.submit();
  const auto outcome = [&](auto&& change) {
    BatchCommit commit = world.commit_of(id, 2);
    change(commit);
    return world.commit(commit);
  };
  const Bytes before = content_of(world.state);
  EXPECT_EQ(outcome([](BatchCommit& c) { c.job = JobId{99}; }), CommitOutcome::not_wanted);
  EXPECT_EQ(outcome([](BatchCommit& c) { c.batch = 3; }), CommitOutcome::not_wanted);
  EXPECT_EQ(outcome([](BatchCommit& c) { c.queries = 4; }), CommitOutcome::not_wanted);
  EXPECT_EQ(outcome([](BatchCommit& c) { c.errors = 3; }), CommitOutcome::not_wanted);
  EXPECT_EQ(outcome([](BatchCommit& c) { c.block.replicas.clear(); }), CommitOutcome::not_wanted);
  EXPECT_EQ(outcome([](BatchCommit& c) { c.block.id = {}; }), CommitOutcome::not_wanted);
  EXPECT_EQ(outcome([](BatchCommit& c) { c.block.hash = {}; }), CommitOutcome::not_wanted);
  EXPECT_EQ(outcome([](BatchCommit& c) { c.block.length = 0; }), CommitOutcome::not_wanted);
  EXPECT_EQ(outcome([](BatchCommit& c) { c.block.length = kResultBlockBytesMax + 1; }), CommitOutcome::not_wanted);
  EXPECT_EQ(content_of(world.state), before);
  // A block that is somebody else's is neither taken nor deleted.
  const BlockRef data = world.state.files().find("/data/pets/a.jpg")->blocks[0];
  BatchCommit thief = world.commit_of(id, 2);
  thief.block = data;
  Applied applied;
  EXPECT_EQ(world.commit(thief, &applied), CommitOutcome::not_wanted);
  EXPECT_TRUE(applied.freed.empty());
  EXPECT_EQ(content_of(world.state), before);
}

TEST(ClusterState, IsDoneWithTheLastBatchAndItsDigestDoesNotDependOnTheOrder) {
  Hash128 digest;
  for (const std::vector<BatchIndex>& order : {std::vector<BatchIndex>{0, 1, 2}, std::vector<BatchIndex>{2, 0, 1}}) {
    World world;
    world.prepare();
    const JobId id = world.submit();
    Applied applied;
    for (const BatchIndex batch : order) {
      EXPECT_TRUE(applied.finished.empty());
      EXPECT_EQ(world.commit(world.commit_of(id, batch), &applied), CommitOutcome::accepted);
    }
    EXPECT_EQ(applied.finished, std::vector<JobId>{id});
    const Job& job = *world.state.job(id);
    EXPECT_EQ(job.state, JobState::done);
    EXPECT_EQ(job.finished_ms, kStamp);
    EXPECT_EQ(job.first_batch_ms, kStamp + 498);
    EXPECT_EQ(job.queries_done, 10U);
    const FileVersion* result = world.state.files().find(job.result_path);
    EXPECT_FALSE(result->open);
    EXPECT_EQ(result->blocks.size(), 3U);
    Bytes text;
    for (BatchIndex batch = 0; batch < 3; ++batch) {
      EXPECT_EQ(result->blocks[batch].hash, job.digests[batch]);
      for (const std::uint64_t half : {job.digests[batch].hi, job.digests[batch].lo}) {
        for (int byte = 7; byte >= 0; --byte) text.push_back(static_cast<char>(half >> (8 * byte)));
      }
    }
    EXPECT_EQ(job.digest, hash128(text));
    if (digest == Hash128{}) digest = job.digest;
    EXPECT_EQ(job.digest, digest);
    // Late copies of a finished job are judged as ever.
    EXPECT_EQ(world.commit(world.commit_of(id, 0)), CommitOutcome::duplicate);
    EXPECT_EQ(world.commit(world.commit_of(id, 0, 5)), CommitOutcome::conflict);
  }
}

TEST(ClusterState, APausedJobTakesTheResultsOfWhatWasRunning) {
  World world;
  world.prepare();
  const JobId id = world.submit();
  world.control(id, JobAction::pause);
  EXPECT_EQ(world.commit(world.commit_of(id, 0)), CommitOutcome::accepted);
  EXPECT_EQ(world.state.job(id)->state, JobState::paused);
  world.finish(id);
}

// -- steering ---------------------------------------------------------------------------------------------------------

TEST(ClusterState, StoppingKeepsTheRowsThatAreThere) {
  World world;
  world.prepare();
  const JobId id = world.submit();
  ASSERT_EQ(world.commit(world.commit_of(id, 2)), CommitOutcome::accepted);
  ASSERT_EQ(world.commit(world.commit_of(id, 0)), CommitOutcome::accepted);
  const Job& job = *world.state.job(id);
  const std::vector<Hash128> rows{job.digests[0], job.digests[2]};
  const Applied stopped = world.apply(ControlJob{id, JobAction::stop}, {}, kStamp + 5);
  EXPECT_EQ(reply_of<JobControlReply>(stopped.answer).state, JobState::stopped);
  EXPECT_EQ(stopped.changed, std::vector<JobId>{id});
  EXPECT_EQ(job.finished_ms, kStamp + 5);
  EXPECT_FALSE(job.reason.empty());
  const FileVersion* result = world.state.files().find(job.result_path);
  EXPECT_FALSE(result->open);
  ASSERT_EQ(result->blocks.size(), 2U);
  EXPECT_EQ(result->blocks[0].hash, rows[0]);
  EXPECT_EQ(result->blocks[1].hash, rows[1]);
  Applied late;
  const BatchCommit commit = world.commit_of(id, 1);
  EXPECT_EQ(world.commit(commit, &late), CommitOutcome::not_wanted);
  EXPECT_EQ(late.freed, std::vector<BlockRef>{commit.block});
}

TEST(ClusterState, AllowsAnActionOnlyInAStateWhereItMeansSomething) {
  const Errc kYes{};
  const Errc kNo = Errc::conflict;
  struct Row {
    JobState state;
    Errc stop, pause, resume, remove;
  };
  for (const Row& row : {Row{JobState::running, kYes, kYes, kNo, kNo}, Row{JobState::paused, kYes, kNo, kYes, kNo},
                         Row{JobState::done, kNo, kNo, kNo, kYes}, Row{JobState::failed, kNo, kNo, kNo, kYes},
                         Row{JobState::stopped, kNo, kNo, kNo, kYes}}) {
    for (const auto& [action, wanted] : {std::pair{JobAction::stop, row.stop}, std::pair{JobAction::pause, row.pause},
                                         std::pair{JobAction::resume, row.resume}, std::pair{JobAction::remove, row.remove}}) {
      World world;
      world.prepare();
      const JobId id = world.submit();
      if (row.state == JobState::paused) world.control(id, JobAction::pause);
      if (row.state == JobState::done) world.finish(id);
      if (row.state == JobState::failed) world.apply(FailJob{id, "the model does not load"});
      if (row.state == JobState::stopped) world.control(id, JobAction::stop);
      ASSERT_EQ(world.state.job(id)->state, row.state);
      const Bytes before = content_of(world.state);
      EXPECT_EQ(code_of(world.control(id, action)), wanted) << static_cast<int>(row.state) << " " << static_cast<int>(action);
      EXPECT_EQ(content_of(world.state) == before, wanted == kNo);
    }
  }
  World world;
  EXPECT_EQ(code_of(world.control(JobId{1}, JobAction::stop)), Errc::not_found);
}

TEST(ClusterState, RemovingAJobRemovesItsResultAndItsManifest) {
  World world;
  world.prepare();
  const JobId first = world.submit();
  const JobId second = world.submit();
  world.finish(first);
  const Applied removed = world.apply(ControlJob{first, JobAction::remove});
  EXPECT_EQ(removed.removed, std::vector<JobId>{first});
  EXPECT_EQ(removed.freed.size(), 3U);
  EXPECT_EQ(world.state.job(first), nullptr);
  EXPECT_EQ(world.state.files().find("/jobs/j1/result.jsonl"), nullptr);
  EXPECT_NE(world.state.files().find("/manifests/m1"), nullptr) << "the other job reads it";
  world.control(second, JobAction::stop);
  world.control(second, JobAction::remove);
  EXPECT_EQ(world.state.files().find("/manifests/m1"), nullptr);
  EXPECT_NE(world.state.files().find("/data/pets/a.jpg"), nullptr);
  world.put("/manifests/m1");
  EXPECT_EQ(world.submit(), JobId{3}) << "a number is never used again";
}

TEST(ClusterState, FailsOnlyActiveJobs) {
  World world;
  world.prepare();
  const JobId id = world.submit();
  const Applied failed = world.apply(FailJob{id, "the model does not load"});
  EXPECT_EQ(failed.changed, std::vector<JobId>{id});
  EXPECT_EQ(world.state.job(id)->state, JobState::failed);
  EXPECT_EQ(world.state.job(id)->reason, "the model does not load");
  EXPECT_FALSE(world.state.files().find("/jobs/j1/result.jsonl")->open);
  const Bytes before = content_of(world.state);
  EXPECT_TRUE(world.apply(FailJob{id, "again"}).changed.empty());
  EXPECT_TRUE(world.apply(FailJob{JobId{9}, "none"}).changed.empty());
  EXPECT_EQ(content_of(world.state), before);
}

TEST(ClusterState, SetsWeightRateAndPriorityOfActiveJobs) {
  World world;
  world.prepare();
  const JobId id = world.submit();
  EXPECT_EQ(world.apply(SetJob{id, 2500, 7000, -3, 0, 0}).changed, std::vector<JobId>{id});
  EXPECT_EQ(world.state.job(id)->spec.weight_milli, 2500U);
  EXPECT_EQ(world.state.job(id)->spec.rate_limit_milli, 7000U);
  EXPECT_EQ(world.state.job(id)->spec.priority, -3);
  EXPECT_EQ(code_of(world.apply(SetJob{id, 0, 0, 0, 0, 0}).answer), Errc::invalid);
  EXPECT_EQ(code_of(world.apply(SetJob{id, kWeightMilliMax + 1, 0, 0, 0, 0}).answer), Errc::invalid);
  EXPECT_EQ(code_of(world.apply(SetJob{JobId{9}, 1000, 0, 0, 0, 0}).answer), Errc::not_found);
  EXPECT_EQ(world.state.job(id)->spec.weight_milli, 2500U);
  world.finish(id);
  EXPECT_EQ(code_of(world.apply(SetJob{id, 1000, 0, 0, 0, 0}).answer), Errc::conflict);
}

// -- snapshots --------------------------------------------------------------------------------------------------------

/// A log with a bit of everything in it, some of it refused.
World mixed_world(std::uint64_t seed) {
  World world;
  Random random(seed);
  world.apply(NewEpoch{Epoch{2}, NodeId{1}});
  for (std::uint32_t node = 1; node <= 3; ++node) world.apply(RegisterNode{NodeId{node}, Incarnation{1}, node});
  world.prepare();
  for (int i = 0; i < 400; ++i) {
    const RequestId request{random.below(2), random.below(50)};
    const JobId job{1 + random.below(6)};
    switch (random.below(9)) {
      case 0:
        world.apply(SubmitJob{World::spec()}, request);
        break;
      case 1:
        world.apply(ControlJob{job, static_cast<JobAction>(random.below(4))}, request);
        break;
      case 2:
        world.apply(SetJob{job, static_cast<std::uint32_t>(random.below(3000)), 0, 1, 0, 0}, request);
        break;
      case 3:
        world.apply(RegisterNode{NodeId{1}, Incarnation{random.below(9)}, random.below(2)});
        break;
      case 4:
        world.put(random.chance(0.5) ? "/data/pets/a.jpg" : "/data/new/" + std::to_string(random.below(9)));
        break;
      case 5:
        world.apply(RemoveFiles{{"/data/new"}, true}, request);
        break;
      case 6:
        world.apply_bytes(Bytes(random.below(30), 'z'));
        break;
      default: {
        CommitBatchResults results;
        for (int k = 0; k < 3; ++k)
          results.commits.push_back(world.commit_of(job, static_cast<BatchIndex>(random.below(3)), random.below(2)));
        world.apply(results);
      }
    }
  }
  return world;
}

TEST(ClusterState, IsAFunctionOfTheLogAlone) {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    const World world = mixed_world(seed);
    ClusterState replayed;
    for (const LogEntry& entry : world.log) (void)replayed.apply(entry);
    EXPECT_EQ(replayed.encode_snapshot(), world.state.encode_snapshot());
  }
}

TEST(ClusterState, GoesOnFromASnapshotAsIfNothingHadHappened) {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    World world = mixed_world(seed);
    const std::size_t cut = world.log.size() / 2;
    ClusterState early;
    for (std::size_t i = 0; i < cut; ++i) (void)early.apply(world.log[i]);
    const Bytes snapshot = early.encode_snapshot();
    Result<ClusterState> restored = ClusterState::decode_snapshot(snapshot, 8);
    ASSERT_TRUE(restored.ok()) << restored.error().detail;
    EXPECT_EQ(restored->encode_snapshot(), snapshot);
    EXPECT_EQ(restored->applied_index(), LogIndex{cut});
    EXPECT_EQ(restored->epoch(), Epoch{2});
    for (std::size_t i = cut; i < world.log.size(); ++i) {
      const Applied a = early.apply(world.log[i]);
      const Applied b = restored->apply(world.log[i]);
      ASSERT_EQ(a.answer, b.answer);
      ASSERT_EQ(a.freed, b.freed);
      ASSERT_EQ(a.finished, b.finished);
    }
    EXPECT_EQ(restored->encode_snapshot(), world.state.encode_snapshot());
  }
}

TEST(ClusterState, ASnapshotRemembersTheModelVersionsThatWereUsed) {
  World world;
  world.prepare();
  const ModelVersion model = *world.state.model("net");
  world.put("/kept.onnx");
  world.apply(RemoveModel{"net"});
  Result<ClusterState> restored = ClusterState::decode_snapshot(world.state.encode_snapshot(), 8);
  ASSERT_TRUE(restored.ok());
  world.state = *std::move(restored);
  ModelVersion again = model;
  again.onnx_path = "/kept.onnx";
  EXPECT_EQ(reply_of<ModelAddReply>(world.apply(AddModel{again}).answer).version, 2U);
}

TEST(ClusterState, RefusesASnapshotThatIsCutOrDamagedWithoutFallingOver) {
  const World world = mixed_world(1);
  const Bytes good = world.state.encode_snapshot();
  for (std::size_t length = 0; length < good.size(); length += 1 + good.size() / 500) {
    EXPECT_FALSE(ClusterState::decode_snapshot(ByteView(good).substr(0, length), 8).ok()) << length;
  }
  Random random(4);
  for (int i = 0; i < 2000; ++i) {
    Bytes bad = good;
    char& byte = bad[random.below(bad.size())];
    byte = static_cast<char>(byte ^ (1 << random.below(8)));
    // A flip inside a text or a count cannot be seen here (the log store's checksum sees it); what is accepted must be usable.
    Result<ClusterState> state = ClusterState::decode_snapshot(bad, 8);
    if (!state.ok()) continue;
    for (const auto& [id, job] : state->jobs()) EXPECT_EQ(job.digests.size(), job.batches);
    LogEntry entry{LogIndex{state->applied_index().value + 1}, Epoch{9}, {}};
    CommitBatchResults results;
    for (BatchIndex batch = 0; batch < 3; ++batch) {
      BatchCommit commit;
      commit.job = JobId{1 + random.below(6)};
      commit.batch = batch;
      commit.queries = batch == 2 ? 2 : 4;
      commit.block = block(1'000'000 + batch);
      results.commits.push_back(commit);
    }
    entry.command = encode_command(kStamp, RequestId{}, results);
    (void)state->apply(entry);
  }
}

TEST(ClusterState, KeepsMillionsOfBatchesInASnapshot) {
  World world;
  world.prepare();
  JobSpec spec = World::spec();
  spec.item_kind = ItemKind::nothing;
  spec.manifest_path.clear();
  spec.queries = 200'000;
  spec.batch = 1;
  const JobId id = world.submit(spec);
  for (BatchIndex batch = 0; batch < 200'000; batch += 1000) {
    CommitBatchResults results;
    for (BatchIndex i = 0; i < 100; ++i) results.commits.push_back(world.commit_of(id, batch + i));
    world.apply(results);
  }
  EXPECT_EQ(world.state.job(id)->batches_done, 20'000U);
  const Bytes snapshot = world.state.encode_snapshot();
  const Result<ClusterState> restored = ClusterState::decode_snapshot(snapshot, 8);
  ASSERT_TRUE(restored.ok()) << restored.error().detail;
  EXPECT_EQ(*restored->job(id), *world.state.job(id));
}

}  // namespace
}  // namespace idunno
