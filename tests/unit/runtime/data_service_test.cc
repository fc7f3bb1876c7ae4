/// Two data services over real sockets on loopback, with CURVE, and a client that stands for the CLI or another node.

#include "nodes/runtime/data_service.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <set>

#include "bus/clock.h"
#include "bus/hash.h"
#include "bus/security.h"
#include "tests/unit/storage/blocks.h"
#include "tests/unit/storage/temp_folder.h"

namespace idunno {
namespace {

constexpr Duration kLimit = std::chrono::seconds(20);
constexpr std::uint64_t kCluster = 99;
using Statuses = std::vector<BlockStatus>;

/// A port whose successor is free too: the data service of a node listens on base_port + 1.
std::uint16_t free_base_port() {
  for (int attempt = 0; attempt < 100; ++attempt) {
    const int probe = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address);
    const bool bound = ::bind(probe, reinterpret_cast<sockaddr*>(&address), length) == 0 &&
                       ::getsockname(probe, reinterpret_cast<sockaddr*>(&address), &length) == 0;
    ::close(probe);
    const std::uint16_t port = ntohs(address.sin_port);
    if (bound && port > 1024) return static_cast<std::uint16_t>(port - 1);
  }
  return 0;
}

/// A store whose writes wait for a permit, and fail when told to: what a slow or broken disk looks like.
class FakeDisk final : public BlockStore {
 public:
  struct Switches {
    std::mutex mutex;
    std::condition_variable changed;
    bool held = false;
    bool broken = false;
    std::vector<std::size_t> groups;  ///< sizes of the batches written
    bool waiting = false;
    std::set<BlockId> rotten;  ///< copies that the disk gives back wrong, until they are written again
  };
  FakeDisk(std::shared_ptr<Switches> switches, std::uint64_t id)
      : switches_(std::move(switches)), inner_(make_memory_block_store(id, 1ULL << 30U)) {}

  Result<std::vector<BlockStatus>> put(const std::vector<BlockWrite>& blocks, WallMs now) override {
    {
      std::unique_lock lock(switches_->mutex);
      switches_->groups.push_back(blocks.size());
      switches_->waiting = switches_->held;
      switches_->changed.notify_all();
      switches_->changed.wait(lock, [&] { return !switches_->held; });
      switches_->waiting = false;
      if (switches_->broken) return Error{Errc::internal, "the disk is gone"};
    }
    return inner_->put(blocks, now);
  }
  Result<Payload> get(const BlockKey& key) override {
    if (is_rotten(key.id)) return Error{Errc::damaged, "rotten"};
    return inner_->get(key);
  }
  Status verify(BlockId id) override {
    if (is_rotten(id)) return Error{Errc::damaged, "rotten"};
    return inner_->verify(id);
  }
  Status remove(const std::vector<BlockId>& ids) override {
    {
      const std::lock_guard lock(switches_->mutex);
      for (const BlockId id : ids) switches_->rotten.erase(id);
    }
    return inner_->remove(ids);
  }
  Result<std::vector<HeldBlock>> list(BlockId after, std::size_t limit) override { return inner_->list(after, limit); }
  BlockStoreUsage usage() override { return inner_->usage(); }
  std::uint64_t store_id() const override { return inner_->store_id(); }

 private:
  bool is_rotten(BlockId id) {
    const std::lock_guard lock(switches_->mutex);
    return switches_->rotten.count(id) != 0;
  }
  std::shared_ptr<Switches> switches_;
  std::unique_ptr<BlockStore> inner_;
};

class DataServiceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto context = ZmqContext::create();
    ASSERT_TRUE(context.ok()) << context.error().detail;
    context_ = std::move(*context);
    AdmittedKeys admitted;
    for (const auto& [name, role] :
         {std::pair{"n1", Role::node}, {"n2", Role::node}, {"admin", Role::admin}, {"reader", Role::read}}) {
      auto keys = generate_key_pair(name, role);
      ASSERT_TRUE(keys.ok());
      ASSERT_TRUE(admitted.add(AdmittedKey{name, role, keys->public_key}).ok());
      keys_[name] = *keys;
    }
    auto zap = ZapHandler::start(*context_, admitted);
    ASSERT_TRUE(zap.ok()) << zap.error().detail;
    zap_ = std::move(*zap);
    for (std::uint32_t n = 1; n <= 2; ++n) {
      peers_[NodeId{n}] = PeerAddress{"127.0.0.1", free_base_port(), keys_["n" + std::to_string(n)].public_key};
    }
    for (std::uint32_t n = 1; n <= 2; ++n) start(n);
    client_ = make_client("admin");
  }

  void TearDown() override {
    client_.reset();
    reader_.reset();
    release();
    services_.clear();
    zap_.reset();
  }

  void start(std::uint32_t n) {
    DataService::Options options;
    options.node = NodeId{n};
    options.endpoint = "tcp://127.0.0.1:" + std::to_string(peers_[NodeId{n}].base_port + 1);
    options.keys = keys_["n" + std::to_string(n)];
    options.peers = peers_;
    options.cluster = kCluster;
    options.scrub_bytes_per_s = scrub_bytes_per_s_;
    options.scrub.suspect_delay = std::chrono::milliseconds(20);
    options.scrub.round_pause = scrub_round_pause_;
    OpenedBlockStore opened;
    opened.store = std::make_unique<FakeDisk>(disks_[n], 1000 + n);
    auto service = DataService::start_with_store(*context_, options, std::move(opened));
    ASSERT_TRUE(service.ok()) << service.error().detail;
    services_[n] = std::move(*service);
  }

  std::unique_ptr<RpcClient> make_client(const std::string& name) {
    RpcClient::Options options;
    options.keys = keys_[name];
    options.cluster = kCluster;
    options.peers = peers_;
    auto client = RpcClient::create(loop_, *context_, options);
    if (!client) ADD_FAILURE() << client.error().detail;
    return client ? std::move(*client) : nullptr;
  }

  void hold(std::uint32_t n) {
    const std::lock_guard lock(disks_[n]->mutex);
    disks_[n]->held = true;
  }
  void release() {
    for (const auto& [n, disk] : disks_) {
      const std::lock_guard lock(disk->mutex);
      disk->held = false;
      disk->changed.notify_all();
    }
  }
  void wait_until_writing(std::uint32_t n) {
    std::unique_lock lock(disks_[n]->mutex);
    ASSERT_TRUE(disks_[n]->changed.wait_for(lock, kLimit, [&] { return disks_[n]->waiting; }));
  }

  template <class Request>
  Result<RpcReply<typename Request::Reply>> call(std::uint32_t n, const Request& request, Payload payload = {},
                                                 RpcClient* client = nullptr) {
    using Answer = Result<RpcReply<typename Request::Reply>>;
    auto answer = std::make_shared<std::optional<Answer>>();
    RpcClient::CallOptions options;
    options.timeout = kLimit;
    (client != nullptr ? *client : *client_)
        .call(NodeId{n}, Service::data, request, std::move(payload), options,
              std::function<void(Answer, NodeId)>([answer](Answer got, NodeId) { *answer = std::move(got); }));
    loop_.run_until([&] { return answer->has_value(); }, monotonic_now() + kLimit);
    if (!answer->has_value()) return Error{Errc::timeout, "no answer"};
    return std::move(**answer);
  }

  Statuses put(std::uint32_t n, const std::vector<TestBlock>& blocks) {
    PutBlocks request;
    Bytes bytes;
    for (const TestBlock& block : blocks) {
      request.blocks.push_back(block.key);
      bytes += block.bytes;
    }
    auto reply = call(n, request, Payload(std::move(bytes)));
    if (!reply) ADD_FAILURE() << reply.error().detail;
    return reply ? reply->body.statuses : Statuses();
  }

  /// Damages a copy behind the service's back.
  void rot(std::uint32_t n, const TestBlock& block) {
    const std::lock_guard lock(disks_[n]->mutex);
    disks_[n]->rotten.insert(block.key.id);
  }

  std::uint64_t scrub_bytes_per_s_ = 0;
  Duration scrub_round_pause_ = std::chrono::minutes(5);
  std::map<std::string, KeyPair> keys_;
  AddressBook peers_;
  EventLoop loop_;
  std::unique_ptr<ZmqContext> context_;
  std::unique_ptr<ZapHandler> zap_;
  std::map<std::uint32_t, std::shared_ptr<FakeDisk::Switches>> disks_{{1, std::make_shared<FakeDisk::Switches>()},
                                                                      {2, std::make_shared<FakeDisk::Switches>()}};
  std::map<std::uint32_t, std::unique_ptr<DataService>> services_;
  std::unique_ptr<RpcClient> client_;
  std::unique_ptr<RpcClient> reader_;
};

BlockRef ref_of(const TestBlock& block, std::vector<NodeId> replicas) {
  return BlockRef{block.key.id, block.key.length, block.key.hash, std::move(replicas)};
}

TEST_F(DataServiceTest, PutsGetsChecksListsAndDeletes) {
  const TestBlock a = make_block(1, 1U << 20U);
  const TestBlock b = make_block(2, 100);
  const TestBlock absent = make_block(3, 100);
  ASSERT_EQ(put(1, {a, b}), (Statuses{BlockStatus::ok, BlockStatus::ok}));

  auto got = call(1, GetBlocks{{a.key, absent.key, b.key}});
  ASSERT_TRUE(got.ok()) << got.error().detail;
  EXPECT_EQ(got->body.statuses, (Statuses{BlockStatus::ok, BlockStatus::missing, BlockStatus::ok}));
  EXPECT_TRUE(got->payload.view() == a.bytes + b.bytes);
  auto one = call(1, GetBlocks{{a.key}});
  ASSERT_TRUE(one.ok());
  EXPECT_TRUE(one->payload.view() == a.bytes);

  BlockKey wrong = b.key;
  wrong.hash.lo ^= 1U;
  auto checked = call(1, CheckBlocks{{a.key, wrong, absent.key, b.key}});
  ASSERT_TRUE(checked.ok());
  EXPECT_EQ(checked->body.statuses, (Statuses{BlockStatus::ok, BlockStatus::damaged, BlockStatus::missing, BlockStatus::ok}));

  auto page = call(1, ListBlocks{{}, 1});
  ASSERT_TRUE(page.ok());
  ASSERT_EQ(page->body.blocks.size(), 1U);
  EXPECT_EQ(page->body.blocks[0].id, a.key.id);
  EXPECT_TRUE(page->body.more);
  page = call(1, ListBlocks{a.key.id, 1});
  ASSERT_TRUE(page.ok());
  EXPECT_EQ(page->body.blocks.at(0).id, b.key.id);
  EXPECT_FALSE(page->body.more);

  auto deleted = call(1, DeleteBlocks{{a.key.id, absent.key.id}});
  ASSERT_TRUE(deleted.ok());
  EXPECT_EQ(deleted->body.deleted, 1U);
  EXPECT_EQ(call(1, CheckBlocks{{a.key}})->body.statuses, Statuses{BlockStatus::missing});
  EXPECT_EQ(services_[1]->store_id(), 1001U);
}

TEST_F(DataServiceTest, RefusesAPutWhoseBytesAreNotTheSumOfTheLengths) {
  const TestBlock block = make_block(1, 1000);
  for (const Bytes& bytes : {block.bytes.substr(1), block.bytes + "x", Bytes()}) {
    auto reply = call(1, PutBlocks{{block.key}}, Payload(bytes));
    ASSERT_FALSE(reply.ok());
    EXPECT_EQ(reply.error().code, Errc::invalid);
  }
  EXPECT_EQ(services_[1]->usage().blocks, 0U);
}

TEST_F(DataServiceTest, AReaderMayReadAndNothingElse) {
  const TestBlock block = make_block(1, 1000);
  ASSERT_EQ(put(1, {block}), Statuses{BlockStatus::ok});
  reader_ = make_client("reader");
  EXPECT_TRUE(call(1, GetBlocks{{block.key}}, {}, reader_.get()).ok());
  EXPECT_EQ(call(1, DeleteBlocks{{block.key.id}}, {}, reader_.get()).error().code, Errc::forbidden);
  EXPECT_EQ(call(1, PutBlocks{{block.key}}, Payload(block.bytes), reader_.get()).error().code, Errc::forbidden);
  EXPECT_EQ(call(1, CheckBlocks{{block.key}})->body.statuses, Statuses{BlockStatus::ok});
}

TEST_F(DataServiceTest, PullsMissingBlocksFromTheOtherNode) {
  std::vector<TestBlock> blocks;
  PullBlocks request;
  for (std::uint64_t i = 1; i <= 20; ++i) {
    blocks.push_back(make_block(i, 10'000));
    request.blocks.push_back(ref_of(blocks.back(), {NodeId{1}, NodeId{2}}));
  }
  put(1, blocks);
  const TestBlock nowhere = make_block(99, 10);
  request.blocks.push_back(ref_of(nowhere, {NodeId{1}}));
  auto pulled = call(2, request);
  ASSERT_TRUE(pulled.ok()) << pulled.error().detail;
  ASSERT_EQ(pulled->body.statuses.size(), 21U);
  for (std::size_t i = 0; i < 20; ++i) {
    EXPECT_EQ(pulled->body.statuses[i], BlockStatus::ok);
    EXPECT_EQ(call(2, CheckBlocks{{blocks[i].key}})->body.statuses, Statuses{BlockStatus::ok});
  }
  EXPECT_NE(pulled->body.statuses[20], BlockStatus::ok);
}

TEST_F(DataServiceTest, ReadsAreAnsweredAndWritesGatherWhileTheDiskSyncs) {
  const TestBlock first = make_block(1, 1000);
  ASSERT_EQ(put(1, {first}), Statuses{BlockStatus::ok});
  hold(1);
  int answered = 0;
  const auto send_put = [&](std::uint64_t number) {
    const TestBlock block = make_block(number, 1000);
    RpcClient::CallOptions options;
    options.timeout = kLimit;
    client_->call(
        NodeId{1}, Service::data, PutBlocks{{block.key}}, Payload(block.bytes), options,
        std::function<void(Result<RpcReply<PutBlocksReply>>, NodeId)>([&](Result<RpcReply<PutBlocksReply>> answer, NodeId) {
          EXPECT_TRUE(answer.ok());
          ++answered;
        }));
  };
  send_put(2);
  // A read sent after the puts is answered while the first of them waits for the disk.
  EXPECT_TRUE(call(1, GetBlocks{{first.key}}).ok());
  wait_until_writing(1);
  for (std::uint64_t number = 3; number <= 6; ++number) send_put(number);
  EXPECT_TRUE(call(1, GetBlocks{{first.key}}).ok());
  EXPECT_EQ(answered, 0);
  release();
  loop_.run_until([&] { return answered == 5; }, monotonic_now() + kLimit);
  EXPECT_EQ(answered, 5);
  const std::lock_guard lock(disks_[1]->mutex);
  EXPECT_EQ(disks_[1]->groups, (std::vector<std::size_t>{1, 1, 4}));
}

TEST_F(DataServiceTest, ADeletionKeepsItsPlaceBetweenPuts) {
  const TestBlock block = make_block(1, 1000);
  ASSERT_EQ(put(1, {block}), Statuses{BlockStatus::ok});
  hold(1);
  int answered = 0;
  const auto count = [&answered](const auto& answer, NodeId) {
    EXPECT_TRUE(answer.ok());
    ++answered;
  };
  RpcClient::CallOptions options;
  options.timeout = kLimit;
  const TestBlock other = make_block(2, 10);
  client_->call(NodeId{1}, Service::data, PutBlocks{{other.key}}, Payload(other.bytes), options,
                std::function<void(Result<RpcReply<PutBlocksReply>>, NodeId)>(count));
  EXPECT_TRUE(call(1, CheckBlocks{{block.key}}).ok());
  wait_until_writing(1);
  client_->call(NodeId{1}, Service::data, DeleteBlocks{{block.key.id}}, {}, options,
                std::function<void(Result<RpcReply<DeleteBlocksReply>>, NodeId)>(count));
  client_->call(NodeId{1}, Service::data, PutBlocks{{block.key}}, Payload(block.bytes), options,
                std::function<void(Result<RpcReply<PutBlocksReply>>, NodeId)>(count));
  EXPECT_TRUE(call(1, CheckBlocks{{block.key}}).ok());
  release();
  loop_.run_until([&] { return answered == 3; }, monotonic_now() + kLimit);
  EXPECT_EQ(call(1, CheckBlocks{{block.key}})->body.statuses, Statuses{BlockStatus::ok});
}

TEST_F(DataServiceTest, AFailingDiskIsReportedOnceAndNothingIsAcknowledged) {
  std::promise<Error> failed;
  std::atomic<int> calls{0};
  services_[1]->on_failure([&](const Error& error) {
    if (++calls == 1) failed.set_value(error);
  });
  {
    const std::lock_guard lock(disks_[1]->mutex);
    disks_[1]->broken = true;
  }
  const TestBlock block = make_block(1, 1000);
  auto reply = call(1, PutBlocks{{block.key}}, Payload(block.bytes));
  EXPECT_FALSE(reply.ok());
  auto future = failed.get_future();
  ASSERT_EQ(future.wait_for(kLimit), std::future_status::ready);
  EXPECT_EQ(future.get().detail, "the disk is gone");
  EXPECT_EQ(put(1, {block}), Statuses{BlockStatus::failed});
  EXPECT_EQ(calls, 1);
}

TEST_F(DataServiceTest, LocalWritesOfTheBlockClientReachBothNodes) {
  const TestBlock block = make_block(5, 50'000);
  std::promise<Result<BlockRef>> written;
  services_[1]->post([&, data = services_[1].get()] {
    data->blocks().set_placement({PlacementNode{NodeId{1}, 1}, PlacementNode{NodeId{2}, 1}}, 2);
    data->blocks().write(NewBlock{block.key, Payload(block.bytes)},
                         [&](Result<BlockRef> ref) { written.set_value(std::move(ref)); });
  });
  auto future = written.get_future();
  ASSERT_EQ(future.wait_for(kLimit), std::future_status::ready);
  const auto ref = future.get();
  ASSERT_TRUE(ref.ok()) << ref.error().detail;
  EXPECT_EQ(ref->replicas.size(), 2U);
  for (std::uint32_t n = 1; n <= 2; ++n) EXPECT_EQ(call(n, CheckBlocks{{block.key}})->body.statuses, Statuses{BlockStatus::ok});
}

/// Collects what a service reports as damaged.
struct Reports {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<BlockId> blocks;
  void add(const std::vector<BlockId>& more) {
    const std::lock_guard lock(mutex);
    blocks.insert(blocks.end(), more.begin(), more.end());
    changed.notify_all();
  }
  std::vector<BlockId> wait_for(std::size_t count) {
    std::unique_lock lock(mutex);
    changed.wait_for(lock, kLimit, [&] { return blocks.size() >= count; });
    return blocks;
  }
};

TEST_F(DataServiceTest, ADamagedCopyThatIsReadIsDeletedAndReported) {
  const TestBlock good = make_block(1, 1000);
  const TestBlock bad = make_block(2, 1000);
  ASSERT_EQ(put(1, {good, bad}), (Statuses{BlockStatus::ok, BlockStatus::ok}));
  Reports reports;
  services_[1]->on_damaged([&](const std::vector<BlockId>& blocks) { reports.add(blocks); });
  rot(1, bad);
  // A reader that expects something else of a good block must not cost the copy.
  BlockKey wrong = good.key;
  wrong.hash.lo ^= 1U;
  EXPECT_EQ(call(1, CheckBlocks{{wrong}})->body.statuses, Statuses{BlockStatus::damaged});
  EXPECT_EQ(call(1, GetBlocks{{bad.key}})->body.statuses, Statuses{BlockStatus::damaged});
  EXPECT_EQ(reports.wait_for(1), std::vector<BlockId>{bad.key.id});
  EXPECT_EQ(call(1, CheckBlocks{{good.key, bad.key}})->body.statuses, (Statuses{BlockStatus::ok, BlockStatus::missing}));
  services_.erase(1);  // before `reports`
}

TEST_F(DataServiceTest, TheScrubberFindsWhatNobodyReads) {
  const TestBlock good = make_block(1, 10'000);
  const TestBlock bad = make_block(2, 10'000);
  services_.erase(1);
  Reports reports;
  rot(1, bad);
  scrub_bytes_per_s_ = 100U << 20U;
  scrub_round_pause_ = std::chrono::milliseconds(5);
  peers_[NodeId{1}].base_port = free_base_port();  // libzmq gives the old port back when it pleases
  start(1);
  client_ = make_client("admin");
  // Reported although nobody listened when it was found.
  ASSERT_EQ(put(1, {good, bad}), (Statuses{BlockStatus::ok, BlockStatus::ok}));
  while (call(1, ListBlocks{})->body.blocks.size() > 1) {
  }
  services_[1]->on_damaged([&](const std::vector<BlockId>& blocks) { reports.add(blocks); });
  EXPECT_EQ(reports.wait_for(1), std::vector<BlockId>{bad.key.id});
  EXPECT_EQ(call(1, CheckBlocks{{good.key, bad.key}})->body.statuses, (Statuses{BlockStatus::ok, BlockStatus::missing}));
  services_.erase(1);  // before `reports`
}

}  // namespace
}  // namespace idunno
