#include <gtest/gtest.h>

#include <algorithm>

#include "bus/clock.h"
#include "storage/sdfs/block_transfer.h"
#include "storage/sdfs/placement.h"
#include "tests/unit/sdfs/fake_cluster.h"

namespace idunno::test {
namespace {

class BlockClientTest : public FakeClusterFixture {};

TEST_F(BlockClientTest, WritesToTheRendezvousNodesAndReadsBack) {
  start(5);
  for (const std::size_t size :
       {std::size_t{1}, std::size_t{300000}, std::size_t{kBlockBytesMax}, std::size_t{kResultBlockBytesMax}}) {
    const Bytes bytes(size, 'b');
    const auto ref = write(bytes);
    ASSERT_TRUE(ref.ok()) << ref.error().detail;
    auto expected = place_block(ref->id, placement, 4);
    std::sort(expected.begin(), expected.end());
    EXPECT_EQ(ref->replicas, expected);
    for (const NodeId node : ref->replicas) EXPECT_TRUE(nodes[node].has(*ref));
    const auto back = read(*ref);
    ASSERT_TRUE(back.ok()) << back.error().detail;
    EXPECT_EQ(*back, bytes);
  }
}

TEST_F(BlockClientTest, TakesTheNextNodeWhenOneIsFullOrDead) {
  start(5);
  nodes[NodeId{2}].put_status = BlockStatus::full;
  for (int i = 0; i < 10; ++i) {
    const auto ref = write("x" + std::to_string(i));
    ASSERT_TRUE(ref.ok()) << ref.error().detail;
    EXPECT_EQ(ref->replicas, (std::vector<NodeId>{NodeId{1}, NodeId{3}, NodeId{4}, NodeId{5}}));
  }
  nodes[NodeId{2}].put_status = BlockStatus::ok;
  kill(3);
  const auto ref = write("y");
  ASSERT_TRUE(ref.ok()) << ref.error().detail;
  EXPECT_EQ(ref->replicas, (std::vector<NodeId>{NodeId{1}, NodeId{2}, NodeId{4}, NodeId{5}}));
}

TEST_F(BlockClientTest, RefusesToStoreFewerCopiesThanNodesThatShouldTakeThem) {
  start(3);
  nodes[NodeId{2}].put_status = BlockStatus::failed;
  const auto ref = write("x");
  ASSERT_FALSE(ref.ok());
  EXPECT_EQ(ref.error().code, Errc::unavailable);
  EXPECT_NE(ref.error().detail.find("2 of 3 copies"), std::string::npos) << ref.error().detail;
  EXPECT_NE(ref.error().detail.find("n2"), std::string::npos) << ref.error().detail;
  for (auto& [id, node] : nodes) node.put_status = BlockStatus::full;
  EXPECT_EQ(write("y").error().code, Errc::full);
  blocks->set_placement({}, 4);
  EXPECT_EQ(write("z").error().code, Errc::unavailable);
}

TEST_F(BlockClientTest, ReplacesACopyThatIsDamagedMissingOrALie) {
  start(3);
  const Bytes bytes = "good bytes";
  const auto ref = write(bytes);
  ASSERT_TRUE(ref.ok());
  std::vector<std::pair<NodeId, BlockStatus>> told;
  blocks->on_bad_copy([&](const BlockRef&, NodeId node, BlockStatus status) { told.emplace_back(node, status); });
  for (const NodeId first : {NodeId{1}, NodeId{2}, NodeId{3}}) {
    for (const NodeId second : {NodeId{1}, NodeId{2}, NodeId{3}}) {
      if (first == second) continue;
      nodes[first].lies.insert(ref->id);
      ASSERT_TRUE(nodes[second].store->remove({ref->id}).ok());
      const auto back = read(*ref);
      ASSERT_TRUE(back.ok()) << back.error().detail;
      EXPECT_EQ(*back, bytes);
      // Whether a bad copy was met depends on the order of the replicas; what was met is mended.
      ASSERT_TRUE(run_until([&] {
        return std::all_of(told.begin(), told.end(),
                           [&](const auto& bad) { return nodes[bad.first].lies.empty() && nodes[bad.first].has(*ref); });
      }));
      nodes[first].lies.clear();
      ASSERT_TRUE(nodes[second].store->put({BlockWrite{{ref->id, ref->length, ref->hash}, bytes}}, 1).ok());
    }
  }
  EXPECT_GE(told.size(), 3U);
  for (auto& [id, node] : nodes) node.lies.insert(ref->id);
  EXPECT_EQ(read(*ref).error().code, Errc::damaged);
  for (auto& [id, node] : nodes) ASSERT_TRUE(node.store->remove({ref->id}).ok());
  EXPECT_EQ(read(*ref).error().code, Errc::unavailable);
}

TEST_F(BlockClientTest, ReadsFromAnotherReplicaWhenOneIsDead) {
  start(3);
  std::vector<BlockRef> refs;
  for (int i = 0; i < 12; ++i) refs.push_back(write("block " + std::to_string(i)).value());
  kill(2);
  for (std::size_t i = 0; i < refs.size(); ++i) {
    const auto back = read(refs[i]);
    ASSERT_TRUE(back.ok()) << back.error().detail;
    EXPECT_EQ(*back, "block " + std::to_string(i));
  }
}

/// Their connections stay open, so nothing fails.
TEST_F(BlockClientTest, ReadsAndWritesPassANodeByThatDoesNotAnswer) {
  options.request_timeout = std::chrono::hours(1);
  start(5);
  std::vector<BlockRef> refs;
  for (int i = 0; i < 12; ++i) refs.push_back(write("block " + std::to_string(i)).value());
  nodes[NodeId{2}].silent = true;
  const std::uint32_t before = nodes[NodeId{2}].puts;
  for (int i = 0; i < 20 && nodes[NodeId{2}].puts == before; ++i) {
    const auto ref = write("x" + std::to_string(i));
    ASSERT_TRUE(ref.ok()) << ref.error().detail;
    EXPECT_EQ(ref->replicas.size(), 4U);
    EXPECT_EQ(std::ranges::count(ref->replicas, NodeId{2}), 0);
  }
  const std::uint32_t puts = nodes[NodeId{2}].puts;
  EXPECT_GT(puts, before) << "it was asked";
  ASSERT_TRUE(write("y").ok());
  EXPECT_EQ(nodes[NodeId{2}].puts, puts) << "it is avoided for a while";
  nodes[NodeId{2}].silent = false;

  nodes[NodeId{3}].silent = true;
  std::vector<std::optional<Result<Payload>>> answers(refs.size());
  for (std::size_t i = 0; i < refs.size(); ++i)
    blocks->read(refs[i], [&answers, i](Result<Payload> bytes) { answers[i] = std::move(bytes); });
  ASSERT_TRUE(run_until([&] { return std::ranges::all_of(answers, [](const auto& one) { return one.has_value(); }); }));
  for (std::size_t i = 0; i < refs.size(); ++i) {
    ASSERT_TRUE(answers[i]->ok()) << (*answers[i]).error().detail;
    EXPECT_EQ((*answers[i])->view(), "block " + std::to_string(i));
  }
  EXPECT_GT(nodes[NodeId{3}].gets, 0U) << "it was asked";
}

TEST_F(BlockClientTest, ReplicasAtNodesThatAreNoMembersAreReadLast) {
  start(5);
  std::vector<BlockRef> refs;
  for (int i = 0; i < 12; ++i) refs.push_back(write("block " + std::to_string(i)).value());
  blocks->set_placement({{NodeId{1}, 1}, {NodeId{3}, 1}, {NodeId{4}, 1}, {NodeId{5}, 1}}, 4);
  for (const BlockRef& ref : refs) ASSERT_TRUE(read(ref).ok());
  EXPECT_EQ(nodes[NodeId{2}].gets, 0U);
  BlockRef only = refs.front();
  only.replicas = {NodeId{2}};
  ASSERT_TRUE(nodes[NodeId{2}].store->put({BlockWrite{{only.id, only.length, only.hash}, "block 0"}}, 1).ok());
  EXPECT_TRUE(read(only).ok()) << "but when nobody else has it";
}

TEST_F(BlockClientTest, ASilentNodeIsWaitedForWhereThereIsNoOtherUntilItIsNoMember) {
  options.request_timeout = std::chrono::hours(1);
  start(3);
  nodes[NodeId{2}].silent = true;
  std::optional<Result<BlockRef>> answer;
  blocks->write(new_block("x"), [&](Result<BlockRef> ref) { answer = std::move(ref); });
  ASSERT_TRUE(run_until([&] { return nodes[NodeId{2}].puts > 0; }));
  (void)loop.run_until([&] { return answer.has_value(); }, monotonic_now() + 2 * kSilenceMin);
  ASSERT_FALSE(answer) << "not with fewer copies than there are nodes";
  blocks->set_placement({{NodeId{1}, 1}, {NodeId{3}, 1}}, 4);
  ASSERT_TRUE(run_until([&] { return answer.has_value(); }));
  ASSERT_TRUE(answer->ok()) << answer->error().detail;
  EXPECT_EQ((*answer)->replicas, (std::vector<NodeId>{NodeId{1}, NodeId{3}}));
}

TEST_F(BlockClientTest, GathersSmallBlocksIntoFewRequests) {
  start(3);
  constexpr int kBlocks = 5000;
  std::vector<BlockRef> refs;
  for (int i = 0; i < kBlocks; ++i) {
    blocks->write(new_block("tiny " + std::to_string(i)), [&](Result<BlockRef> ref) {
      ASSERT_TRUE(ref.ok());
      refs.push_back(std::move(ref).value());
    });
  }
  ASSERT_TRUE(run_until([&] { return refs.size() == kBlocks; }));
  EXPECT_LE(nodes[NodeId{1}].puts, 50U);
  int read_back = 0;
  for (const BlockRef& ref : refs) {
    blocks->read(ref, [&, hash = ref.hash](const Result<Payload>& bytes) {
      ASSERT_TRUE(bytes.ok());
      ASSERT_EQ(hash128(bytes->view()), hash);
      ++read_back;
    });
  }
  ASSERT_TRUE(run_until([&] { return read_back == kBlocks; }));
  for (auto& [id, node] : nodes) {
    EXPECT_GE(node.gets, 1U);  // the load is spread
    EXPECT_LE(node.gets, 50U);
  }
}

TEST_F(BlockClientTest, IsBusyAtItsBounds) {
  options.bytes_in_flight_max = 4U << 20U;
  start(2);
  int done = 0;
  int given = 0;
  while (!blocks->busy()) {
    blocks->write(new_block(Bytes(kBlockBytesMax, 'x')), [&](const Result<BlockRef>& ref) {
      EXPECT_TRUE(ref.ok());
      ++done;
    });
    ++given;
  }
  EXPECT_EQ(given, 2);  // of 1 MiB, to two nodes each
  ASSERT_TRUE(run_until([&] { return done == given; }));
  EXPECT_FALSE(blocks->busy());
}

TEST_F(BlockClientTest, CanBeDestroyedWithCallsInFlight) {
  start(3);
  const auto ref = write("x");
  ASSERT_TRUE(ref.ok());
  for (auto& [id, node] : nodes) node.silent = true;
  bool called = false;
  for (int i = 0; i < 10; ++i) {
    blocks->write(new_block("y"), [&](const Result<BlockRef>&) { called = true; });
    blocks->read(*ref, [&](const Result<Payload>&) { called = true; });
  }
  ASSERT_TRUE(run_until([&] { return nodes[NodeId{1}].puts > 1; }));
  blocks.reset();
  for (auto& [id, node] : nodes) node.silent = false;
  const auto other = std::make_unique<BlockClient>(loop, *rpc_client, options);
  std::optional<bool> answered;
  other->read(*ref, [&](const Result<Payload>& bytes) { answered = bytes.ok(); });
  ASSERT_TRUE(run_until([&] { return answered.has_value(); }));
  EXPECT_TRUE(*answered);
  EXPECT_FALSE(called);
}

TEST_F(BlockClientTest, UsesTheOwnNodeWithoutTheNetwork) {
  start(3);
  const auto store = make_memory_block_store(9, 1U << 30U);
  BlockClient::Local local;
  local.node = NodeId{2};
  local.get = [&](const BlockKey& key) { return store->get(key); };
  local.put = [&](const std::vector<NewBlock>& all, const std::function<void(Result<std::vector<BlockStatus>>)>& done) {
    std::vector<BlockWrite> writes;
    for (const NewBlock& block : all) writes.push_back({block.key, block.bytes.view()});
    done(store->put(writes, 1));
  };
  blocks = std::make_unique<BlockClient>(loop, *rpc_client, options, local);
  blocks->set_placement(placement, 3);
  const auto ref = write("mine");
  ASSERT_TRUE(ref.ok()) << ref.error().detail;
  EXPECT_EQ(nodes[NodeId{2}].puts, 0U);
  EXPECT_EQ(*read(*ref), "mine");
  for (auto& [id, node] : nodes) EXPECT_EQ(node.gets, 0U);
  ASSERT_TRUE(store->remove({ref->id}).ok());
  EXPECT_EQ(*read(*ref), "mine");  // from another node, and the own copy is mended
  ASSERT_TRUE(run_until([&] { return store->get({ref->id, ref->length, ref->hash}).ok(); }));
}

}  // namespace
}  // namespace idunno::test
