#include "nodes/runtime/data_service.h"

#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "bus/clock.h"
#include "nodes/runtime/block_puller.h"
#include "nodes/runtime/block_writer.h"

namespace idunno {
namespace {

constexpr int kHighWaterMark = 16;  ///< messages of up to 4 MiB, each way, each peer
constexpr std::uint32_t kMessagesPerTurn = 16;
constexpr std::uint64_t kCheckBytesPerTurn = 2ULL << 20U;  ///< copies verified before other requests have their turn
constexpr std::size_t kGetBytesMax = kDataMessageBytesMax - (64U << 10U);
constexpr Duration kUsageAge = std::chrono::seconds(1);
constexpr std::size_t kDamagedKeptMax = 16 * kBlocksPerRequestMax;  ///< while nobody wants to hear of them
constexpr Duration kIdleBeforeTrim = std::chrono::seconds(2);

/// A CheckBlocks, worked off piece by piece.
struct CheckTask {
  RequestContext context;
  CheckBlocks request;
  std::vector<BlockStatus> statuses;
  std::size_t next = 0;  ///< the first that was not looked at
};

}  // namespace

struct DataService::Impl {
  Impl(Options given, OpenedBlockStore opened_store) : options(std::move(given)), opened(std::move(opened_store)) {}

  Options options;
  OpenedBlockStore opened;
  EventLoop loop;
  std::unique_ptr<RpcServer> server;
  std::unique_ptr<RpcClient> client;
  std::unique_ptr<BlockWriter> writer;
  std::unique_ptr<BlockPuller> puller;  // before `blocks`, whose reads call it
  std::unique_ptr<BlockClient> blocks;
  std::unique_ptr<Scrubber> scrubber;
  std::optional<BlockIdSource> ids;

  bool used_since_trim = false;
  bool trim_planned = false;

  std::mutex mutex;  // guards what follows, which any thread may ask for
  std::optional<BlockStoreUsage> usage;
  Time usage_at;
  std::function<void(Error)> failure_handler;
  std::optional<Error> failure;
  std::function<void(std::vector<BlockId>)> damaged_handler;
  std::vector<BlockId> damaged_untold;

  std::thread thread;  // last: uses everything above

  Status open(ZmqContext& context);
  void serve();
  void put(const RequestContext& context, const PutBlocks& request, const Payload& payload);
  void get(const RequestContext& context, const GetBlocks& request);
  Result<Payload> read(const BlockKey& key);
  void check_some(const std::shared_ptr<CheckTask>& task);
  void list(const RequestContext& context, const ListBlocks& request);
  void fail(const Error& error);
  void tell_damaged(const std::vector<BlockId>& damaged);
  void note_use();
  void trim_when_idle();

  /// Whether the request has a bounded number of blocks; answers it otherwise.
  template <class Request>
  bool bounded(const RequestContext& context, const Request& request) {
    if (request.blocks.size() <= kBlocksPerRequestMax) return true;
    server->reply_error(context, Error{Errc::too_large, fmt::format("{} blocks in one request; at most {} are allowed",
                                                                    request.blocks.size(), kBlocksPerRequestMax)});
    return false;
  }
};

Status DataService::Impl::open(ZmqContext& context) {
  RpcServer::Options server_options;
  server_options.endpoint = options.endpoint;
  server_options.keys = options.keys;
  server_options.cluster = options.cluster;
  server_options.bytes_max = kDataMessageBytesMax;
  server_options.high_water_mark = kHighWaterMark;
  server_options.messages_per_turn = kMessagesPerTurn;
  auto bound = RpcServer::bind(loop, context, std::move(server_options));
  if (!bound) return annotate(bound.error(), "opening the data port of " + to_string(options.node));
  server = std::move(*bound);

  RpcClient::Options client_options;
  client_options.keys = options.keys;
  client_options.cluster = options.cluster;
  client_options.peers = options.peers;
  auto connected = RpcClient::create(loop, context, std::move(client_options));
  if (!connected) return connected.error();
  client = std::move(*connected);

  writer = std::make_unique<BlockWriter>(loop, *opened.store, [this](const Error& error) { fail(error); });
  BlockClient::Local local;
  local.node = options.node;
  local.get = [this](const BlockKey& key) {
    note_use();
    return read(key);
  };
  local.put = [this](std::vector<NewBlock> written, BlockWriter::PutDone done) {
    note_use();
    writer->submit(std::move(written), std::move(done));
  };
  blocks = std::make_unique<BlockClient>(loop, *client, BlockClient::Options{}, std::move(local));
  puller = std::make_unique<BlockPuller>(loop, options.node, *blocks, *writer);
  Scrubber::Options scrub = options.scrub;
  scrub.bytes_per_s = options.scrub_bytes_per_s;
  scrubber = std::make_unique<Scrubber>(
      loop, *opened.store, scrub,
      [this](std::vector<BlockId> damaged, std::function<void(bool)> done) {
        writer->remove(std::move(damaged),
                       [done = std::move(done)](const Result<std::uint64_t>& removed) { done(removed.ok()); });
      },
      [this](const std::vector<BlockId>& damaged) { tell_damaged(damaged); });
  ids.emplace(client->fresh_request_id().client);  // random, drawn once per process
  return {};
}

void DataService::Impl::serve() {
  server->on<PutBlocks>([this](const RequestContext& context, const PutBlocks& request, const Payload& payload) {
    if (bounded(context, request)) put(context, request, payload);
  });
  server->on<GetBlocks>([this](const RequestContext& context, const GetBlocks& request, const Payload&) {
    if (bounded(context, request)) get(context, request);
  });
  server->on<CheckBlocks>([this](const RequestContext& context, CheckBlocks request, const Payload&) {
    if (!bounded(context, request)) return;
    check_some(std::make_shared<CheckTask>(CheckTask{context, std::move(request), {}, 0}));
  });
  server->on<PullBlocks>([this](const RequestContext& context, PullBlocks request, const Payload&) {
    if (!bounded(context, request)) return;
    puller->pull(std::move(request.blocks), [this, context](std::vector<BlockStatus> statuses) {
      server->reply(context, PullBlocksReply{std::move(statuses)});
    });
  });
  server->on<DeleteBlocks>([this](const RequestContext& context, DeleteBlocks request, const Payload&) {
    if (!bounded(context, request)) return;
    writer->remove(std::move(request.blocks), [this, context](Result<std::uint64_t> removed) {
      if (!removed) return server->reply_error(context, removed.error());
      server->reply(context, DeleteBlocksReply{static_cast<std::uint32_t>(*removed)});
    });
  });
  server->on<ListBlocks>(
      [this](const RequestContext& context, const ListBlocks& request, const Payload&) { list(context, request); });
  loop.on_turn_end([this] { writer->turn_end(); });
}

void DataService::Impl::put(const RequestContext& context, const PutBlocks& request, const Payload& payload) {
  std::vector<NewBlock> written;
  written.reserve(request.blocks.size());
  std::size_t offset = 0;
  for (const BlockKey& key : request.blocks) {
    if (key.length > payload.size() - offset) break;
    written.push_back(NewBlock{key, payload.slice(offset, key.length)});
    offset += key.length;
  }
  if (written.size() != request.blocks.size() || offset != payload.size()) {
    return server->reply_error(
        context, Error{Errc::invalid, fmt::format("put of {} blocks: the {} bytes sent are not the sum of their lengths",
                                                  request.blocks.size(), payload.size())});
  }
  note_use();
  writer->submit(std::move(written), [this, context](Result<std::vector<BlockStatus>> statuses) {
    if (!statuses) return server->reply_error(context, statuses.error());
    server->reply(context, PutBlocksReply{std::move(*statuses)});
  });
}

void DataService::Impl::get(const RequestContext& context, const GetBlocks& request) {
  std::uint64_t total = 0;
  for (const BlockKey& key : request.blocks) total += key.length;
  if (total > kGetBytesMax) {
    return server->reply_error(
        context, Error{Errc::too_large, fmt::format("get of {} bytes; at most {} fit one answer", total, kGetBytesMax)});
  }
  note_use();
  GetBlocksReply reply;
  std::vector<Payload> found;
  std::size_t found_bytes = 0;
  for (const BlockKey& key : request.blocks) {
    auto bytes = read(key);
    reply.statuses.push_back(bytes ? BlockStatus::ok : status_of(bytes.error()));
    if (!bytes) continue;
    found_bytes += bytes->size();
    found.push_back(std::move(*bytes));
  }
  if (found.size() == 1) return server->reply(context, reply, std::move(found.front()));
  Bytes together;
  together.reserve(found_bytes);
  for (const Payload& bytes : found) together += bytes.view();
  server->reply(context, reply, Payload(std::move(together)));
}

Result<Payload> DataService::Impl::read(const BlockKey& key) {
  auto bytes = opened.store->get(key);
  if (!bytes && bytes.error().code == Errc::damaged) scrubber->suspect(key.id);
  return bytes;
}

void DataService::Impl::check_some(const std::shared_ptr<CheckTask>& task) {
  note_use();
  std::uint64_t bytes = 0;
  while (task->next < task->request.blocks.size() && bytes < kCheckBytesPerTurn) {
    const BlockKey& key = task->request.blocks[task->next++];
    const auto got = read(key);
    task->statuses.push_back(got ? BlockStatus::ok : status_of(got.error()));
    bytes += key.length;
  }
  if (task->next == task->request.blocks.size()) {
    return server->reply(task->context, CheckBlocksReply{std::move(task->statuses)});
  }
  loop.post([this, task] { check_some(task); });
}

void DataService::Impl::list(const RequestContext& context, const ListBlocks& request) {
  const std::size_t limit = std::clamp<std::size_t>(request.limit, 1, kBlocksPerRequestMax);
  auto held = opened.store->list(request.after, limit + 1);
  if (!held) return server->reply_error(context, held.error());
  ListBlocksReply reply;
  reply.more = held->size() > limit;
  if (reply.more) held->resize(limit);
  reply.blocks = std::move(*held);
  server->reply(context, reply);
}

void DataService::Impl::fail(const Error& error) {
  std::function<void(Error)> handler;
  {
    const std::lock_guard lock(mutex);
    failure = error;
    handler = failure_handler;
  }
  if (handler) handler(error);
}

void DataService::Impl::tell_damaged(const std::vector<BlockId>& damaged) {
  std::function<void(std::vector<BlockId>)> handler;
  {
    const std::lock_guard lock(mutex);
    handler = damaged_handler;
    // What is over the bound is found again by the next inventory, as copies that got lost.
    for (const BlockId id : damaged) {
      if (!handler && damaged_untold.size() < kDamagedKeptMax) damaged_untold.push_back(id);
    }
  }
  for (std::size_t first = 0; handler && first < damaged.size(); first += kBlocksPerRequestMax) {
    const auto begin = damaged.begin() + static_cast<std::ptrdiff_t>(first);
    const auto count = static_cast<std::ptrdiff_t>(std::min(kBlocksPerRequestMax, damaged.size() - first));
    handler({begin, begin + count});
  }
}

void DataService::Impl::note_use() {
  used_since_trim = true;
  if (trim_planned) return;
  trim_planned = true;
  loop.after(kIdleBeforeTrim, [this] { trim_when_idle(); });
}

/// Blocks come and go through the allocator, which keeps what it had at the busiest moment: an idle node gives it back.
void DataService::Impl::trim_when_idle() {
  trim_planned = false;
  if (std::exchange(used_since_trim, false)) {
    trim_planned = true;
    loop.after(kIdleBeforeTrim, [this] { trim_when_idle(); });
    return;
  }
  ::malloc_trim(0);
}

DataService::DataService(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<DataService>> DataService::start(ZmqContext& context, Options options) {
  auto opened = open_rocks_block_store(options.store);
  if (!opened) return opened.error();
  return start_with_store(context, std::move(options), std::move(*opened));
}

Result<std::unique_ptr<DataService>> DataService::start_with_store(ZmqContext& context, Options options,
                                                                   OpenedBlockStore opened) {
  auto impl = std::make_unique<Impl>(std::move(options), std::move(opened));
  if (auto ready = impl->open(context); !ready) return ready.error();
  impl->serve();
  // From here on the sockets belong to the thread; starting it is the memory barrier that libzmq asks for.
  impl->thread = std::thread([raw = impl.get()] { raw->loop.run(); });
  return std::unique_ptr<DataService>(new DataService(std::move(impl)));
}

DataService::~DataService() {
  impl_->loop.stop();
  impl_->thread.join();
  impl_->scrubber.reset();
  impl_->writer.reset();
}

void DataService::post(std::function<void()> work) { impl_->loop.post(std::move(work)); }

BlockStoreUsage DataService::usage() {
  const std::lock_guard lock(impl_->mutex);
  const Time now = monotonic_now();
  if (!impl_->usage || now - impl_->usage_at >= kUsageAge) {
    impl_->usage = impl_->opened.store->usage();
    impl_->usage_at = now;
  }
  return *impl_->usage;
}

std::uint64_t DataService::store_id() const { return impl_->opened.store->store_id(); }
bool DataService::store_was_replaced() const { return impl_->opened.was_replaced; }
const std::string& DataService::why_store_was_replaced() const { return impl_->opened.why_replaced; }

void DataService::on_failure(std::function<void(Error)> handler) {
  const std::lock_guard lock(impl_->mutex);
  impl_->failure_handler = std::move(handler);
  if (impl_->failure) {
    impl_->loop.post([handler = impl_->failure_handler, error = *impl_->failure] { handler(error); });
  }
}

void DataService::on_damaged(std::function<void(std::vector<BlockId>)> handler) {
  std::vector<BlockId> untold;
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->damaged_handler = std::move(handler);
    untold = std::exchange(impl_->damaged_untold, {});
  }
  if (!untold.empty()) impl_->loop.post([impl = impl_.get(), untold] { impl->tell_damaged(untold); });
}

const Scrubber::Totals& DataService::scrubbed() const { return impl_->scrubber->totals(); }
EventLoop& DataService::loop() { return impl_->loop; }
RpcClient& DataService::rpc() { return *impl_->client; }
BlockStore& DataService::store() { return *impl_->opened.store; }
BlockClient& DataService::blocks() { return *impl_->blocks; }
BlockIdSource& DataService::ids() { return *impl_->ids; }
void DataService::pull(std::vector<BlockRef> blocks, std::function<void(std::vector<BlockStatus>)> done) {
  impl_->puller->pull(std::move(blocks), std::move(done));
}

}  // namespace idunno
