#include "tests/sim/client.h"

#include <algorithm>

namespace idunno::sim {
namespace {

using std::chrono::milliseconds;

constexpr Duration kAttemptTimeout = milliseconds(2000);
constexpr Duration kPauseFirst = milliseconds(20);
constexpr Duration kPauseMax = milliseconds(200);
constexpr Duration kPauseBeforeWrite = milliseconds(500);
constexpr std::uint32_t kLeaderHopsMax = 3;
constexpr std::uint32_t kBlocksMax = 3;
constexpr std::uint32_t kBlockBytes = 400;

/// Whether asking again with the same request id makes sense.
bool is_final(Errc code) {
  switch (code) {
    case Errc::no_coordinator:
    case Errc::timeout:
    case Errc::unavailable:
    case Errc::not_leader:
    case Errc::stale_epoch:
    case Errc::cancelled:
    case Errc::full:  // a queue; nothing of the world is ever full for good
      return false;
    default:
      return true;
  }
}

}  // namespace

/// A put under way.
struct PutState {
  std::string path;
  std::vector<Bytes> contents;
  std::vector<BlockRef> blocks;
  std::function<void()> done;
};

SimClient::SimClient(Env& env, Truth& truth, std::uint32_t number, std::uint64_t seed)
    : Process(env, NodeId{kFirstClient + number}),
      truth_(truth),
      name_("c" + std::to_string(number)),
      random_(seed),
      caller_(env, *this, random_.next() | 1U),
      blocks_(
          env, *this, caller_, nullptr, [] { return kSimWall; }, random_.next() | 1U) {
  plan();
}

/// Puts, reads, removals and submits in a drawn order; the model comes first.
void SimClient::plan() {
  std::vector<std::function<void()>> work;
  for (std::uint32_t i = 0; i < env_.swarm.files; ++i) {
    const std::string path = "/" + name_ + "/f" + std::to_string(i % std::max(1U, env_.swarm.files - 1));
    work.push_back([this, path] { put(path, [this] { next(); }); });
    if (random_.chance(0.5)) work.push_back([this, path] { read(path); });
    if (random_.chance(0.15)) work.push_back([this, path] { remove(path); });
  }
  for (std::uint32_t i = 0; i < env_.swarm.jobs; ++i) {
    const auto place = static_cast<std::ptrdiff_t>(random_.below(work.size() + 1));
    work.insert(work.begin() + place, [this, i] { submit(i); });
  }
  plan_.push_back([this] { add_model(); });
  plan_.insert(plan_.end(), work.begin(), work.end());
}

void SimClient::start() { plan_[0](); }

void SimClient::next() {
  ++next_;
  waits_for_ = "nothing";
  if (done()) return;
  // The work is spread over the time of the faults.
  const auto mean = env_.swarm.faults_for.count() / static_cast<std::int64_t>(plan_.size());
  run_after(Duration{static_cast<Duration::rep>(random_.below(static_cast<std::uint64_t>(mean) + 1))},
            [this] { plan_[next_](); });
}

// -- requests ---------------------------------------------------------------------------------------------------------

template <class Req>
void SimClient::ask(const Req& request, std::function<void(Result<typename Req::Reply>)> done, bool stale_ok) {
  auto attempt = std::make_shared<Attempt<Req>>();
  attempt->request = request;
  attempt->id = caller_.fresh();
  attempt->stale_ok = stale_ok;
  attempt->done = std::move(done);
  attempt->pause = kPauseFirst;
  waits_for_ = message_name(Req::kType);
  try_next(attempt);
}

template <class Req>
void SimClient::try_next(const std::shared_ptr<Attempt<Req>>& attempt) {
  if (attempt->to_ask.empty()) {
    for (std::uint32_t i = 1; i <= env_.swarm.nodes; ++i) attempt->to_ask.push_back(NodeId{i});
    random_.shuffle(attempt->to_ask);
    if (hint_) std::erase(attempt->to_ask, hint_), attempt->to_ask.push_back(hint_);
    attempt->hops = kLeaderHopsMax;
  }
  const NodeId node = attempt->to_ask.back();
  attempt->to_ask.pop_back();
  Caller::Options options;
  options.timeout = kAttemptTimeout;
  options.request = attempt->id;
  options.flags = attempt->stale_ok ? kFlagStale : std::uint8_t{0};
  caller_.call<Req>(node, attempt->request, options, {},
                    [this, attempt, node](Result<typename Req::Reply> reply, NodeId leader, const Payload&) {
                      if (reply) hint_ = node;
                      if (reply || is_final(reply.error().code)) return attempt->done(std::move(reply));
                      if (reply.error().code == Errc::not_leader && leader && leader != node && attempt->hops > 0) {
                        --attempt->hops;
                        std::erase(attempt->to_ask, leader);
                        attempt->to_ask.push_back(leader);
                      }
                      if (!attempt->to_ask.empty()) return try_next(attempt);
                      run_after(attempt->pause, [this, attempt] { try_next(attempt); });
                      attempt->pause = std::min(attempt->pause * 2, kPauseMax);
                    });
}

void SimClient::on_request(const ConnectionId&, Bytes, Payload) { env_.violation("somebody asks a client"); }

void SimClient::on_message(const ConnectionId& from, const Bytes& frame, const Payload& payload) {
  const auto envelope = decode_message(frame, kDataMessageBytesMax);
  if (!envelope) return env_.violation("an answer to a client does not decode: " + envelope.error().detail);
  env_.trace.note(hash64(frame), [&] {
    std::string text = "rpc " + to_string(from.server) + "->" + name_ + " " + message_name(envelope->header.type);
    if (envelope->header.type == MessageType::error_reply) text += ": " + envelope->body<ErrorReply>()->detail;
    return text;
  });
  if (!caller_.answered(from.server, *envelope, payload)) env_.violation("a push to a client");
}

void SimClient::on_broken(const ConnectionId& connection) {
  if (connection.client == id()) caller_.broken(connection);
}

// -- what it does -----------------------------------------------------------------------------------------------------

void SimClient::add_model() {
  ModelAddRequest request;
  request.model.name = "model-" + name_;
  ask<ModelAddRequest>(request, [this](const Result<ModelAddReply>& reply) {
    if (!reply) return env_.violation("adding a model was refused: " + reply.error().detail);
    next();
  });
}

void SimClient::put(const std::string& path, std::function<void()> done) {
  auto put = std::make_shared<PutState>();
  put->path = path;
  put->done = std::move(done);
  const std::uint64_t count = 1 + random_.below(kBlocksMax);
  for (std::uint64_t i = 0; i < count; ++i) {
    Bytes bytes = path + " " + std::to_string(random_.next()) + " ";
    bytes.resize(1 + random_.below(kBlockBytes), '.');
    put->contents.push_back(std::move(bytes));
  }
  put_blocks(put);
}

/// One block after the other; a new placement for each, as the nodes may have changed.
void SimClient::put_blocks(const std::shared_ptr<PutState>& put) {
  if (put->blocks.size() == put->contents.size()) return commit(put);
  ask<PlacementRequest>(PlacementRequest{}, [this, put](const Result<PlacementReply>& placement) {
    if (!placement) return env_.violation("placement was refused: " + placement.error().detail);
    waits_for_ = "blocks of " + put->path;
    blocks_.write(put->contents[put->blocks.size()], placement->nodes, placement->replication,
                  [this, put](const Result<BlockRef>& block) {
                    if (!block) return run_after(kPauseBeforeWrite, [this, put] { put_blocks(put); });
                    put->blocks.push_back(*block);
                    put_blocks(put);
                  });
  });
}

void SimClient::commit(const std::shared_ptr<PutState>& put) {
  FsCommitRequest request;
  request.files.push_back(FsFilePart{put->path, random_.next() | 1U, 0, put->blocks, false});
  truth_.files[put->path].changing = true;
  ask<FsCommitRequest>(request, [this, put](const Result<FsCommitReply>& reply) {
    if (!reply) return env_.violation("a put was refused: " + reply.error().detail);
    FileTruth& file = truth_.files[put->path];
    file.changing = false;
    if (file.removed) file.versions.clear();
    file.removed = false;
    std::vector<Hash128> hashes;
    for (const BlockRef& block : put->blocks) hashes.push_back(block.hash);
    file.versions.push_back(std::move(hashes));
    ++truth_.acknowledged_puts;
    if (reply->versions.size() != 1 || reply->versions[0] != file.versions.size())
      return env_.violation("put " + put->path + " was done twice or not at all: its version is " +
                            (reply->versions.empty() ? "none" : std::to_string(reply->versions[0])) + ", expected " +
                            std::to_string(file.versions.size()));
    put->done();
  });
}

/// Linearizable: what was acknowledged before must be seen.
void SimClient::read(const std::string& path) {
  ask<FsStatRequest>(FsStatRequest{path, 0, 0, kBlocksPerRequestMax},
                     [this, path](const Result<FsStatReply>& answer) { check_read(path, answer); });
}

void SimClient::check_read(const std::string& path, const Result<FsStatReply>& answer) {
  ++truth_.reads;
  const FileTruth& file = truth_.files[path];
  if (!answer) {
    if (answer.error().code != Errc::not_found || !file.removed)
      return env_.violation("reading " + path + " was refused: " + answer.error().detail);
    return next();
  }
  if (file.removed || answer->file.version != file.versions.size())
    return env_.violation("a read of " + path + " gave version " + std::to_string(answer->file.version) + " after " +
                          std::to_string(file.versions.size()) + (file.removed ? " and a removal" : "") +
                          " had been acknowledged");
  next();
}

void SimClient::remove(const std::string& path) {
  FileTruth& file = truth_.files[path];
  file.changing = true;
  ask<FsRemoveRequest>(FsRemoveRequest{{path}, false}, [this, path](const Result<FsRemoveReply>& reply) {
    FileTruth& removed = truth_.files[path];
    if (!reply && !(reply.error().code == Errc::not_found && removed.removed))
      return env_.violation("removing " + path + " was refused: " + reply.error().detail);
    removed.changing = false;
    removed.removed = true;
    next();
  });
}

void SimClient::submit(std::uint32_t number) {
  JobPlan plan;
  plan.name = name_ + "-job" + std::to_string(number);
  plan.batch = 1 + static_cast<std::uint32_t>(random_.below(8));
  plan.queries = std::uint64_t{env_.swarm.batches} * plan.batch - random_.below(plan.batch);
  plan.batch_time = env_.swarm.batch_time * static_cast<std::int64_t>(50 + random_.below(151)) / 100;
  for (std::uint32_t i = 0; i < env_.swarm.poison; ++i) plan.poison.insert(random_.below(plan.queries));
  JobSpec spec;
  spec.name = plan.name;
  spec.model = "model-" + name_;
  spec.item_kind = ItemKind::nothing;
  spec.queries = plan.queries;
  spec.batch = plan.batch;
  truth_.jobs.emplace(plan.name, std::move(plan));
  if (random_.chance(0.5)) return send_submit(spec);
  // Its inputs are in SDFS: workers read them from the replicas.
  spec.manifest_path = "/" + name_ + "/manifest" + std::to_string(number);
  put(spec.manifest_path, [this, spec] { send_submit(spec); });
}

void SimClient::send_submit(const JobSpec& spec) {
  ask<SubmitRequest>(SubmitRequest{spec}, [this, name = spec.name](const Result<SubmitReply>& reply) {
    if (!reply) return env_.violation("a submit was refused: " + reply.error().detail);
    truth_.jobs.at(name).acknowledged = reply->job;
    ++truth_.acknowledged_submits;
    next();
  });
}

}  // namespace idunno::sim
