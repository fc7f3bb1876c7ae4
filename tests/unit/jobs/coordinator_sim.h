#pragma once
/// A coordinator and the queues of real workers (nodes/jobs/worker_queue.h) in virtual time: every entry it proposes is committed
/// at once, messages take a millisecond and stay in order, as on a connection, and an executor "computes" a batch by waiting for
/// the job's batch time. Workers may be killed, frozen, wiped and started again, messages may be lost. The same seed gives the
/// same run.

#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "bus/base/random.h"
#include "bus/codec.h"
#include "bus/hash.h"
#include "nodes/jobs/coordinator.h"
#include "nodes/jobs/worker_queue.h"
#include "storage/sdfs/placement.h"

namespace idunno {

inline constexpr WallMs kSimWall = 1'700'000'000'000;
inline constexpr Duration kHop = std::chrono::milliseconds(1);
inline constexpr Duration kProbeOfHint = std::chrono::milliseconds(120);    ///< from a closed connection to the death
inline constexpr Duration kSuspectAfter = std::chrono::milliseconds(1500);  ///< of silence
inline constexpr Duration kDeadAfter = std::chrono::milliseconds(3000);

struct FakeWorker {
  NodeId id;
  std::uint32_t slots = 2;
  bool up = false;
  bool frozen = false;     ///< runs, but nothing gets in or out (SIGSTOP)
  std::uint64_t life = 0;  ///< what was scheduled in an earlier life does not happen
  std::uint64_t incarnation = 0;
  std::uint64_t store_id = 0;
  bool session = false;
  NodeState told = NodeState::unknown;      ///< what membership says of it
  Duration silent{};                        ///< so long, as membership sees it
  std::unique_ptr<WorkerQueue> queue;       ///< of this life
  std::vector<Time> slot_free;              ///< when each executor is through with what it has
  std::set<JobId> described;                ///< what the fetcher of inputs knows
  std::deque<std::function<void()>> inbox;  ///< answers and pushes in the order in which they were sent
  std::set<BlockId> blocks;
  std::vector<PlacementNode> placement;
  std::size_t grants = 0;
  std::size_t descriptions = 0;
  std::size_t grant_bytes_max = 0;
  std::size_t grant_leases_max = 0;
  std::vector<Lease> granted;           ///< all ever
  std::vector<std::string> prefetched;  ///< paths in SDFS
};

class Sim {
 public:
  explicit Sim(std::uint32_t nodes, std::uint32_t slots = 2, std::uint64_t seed = 1) : random(seed) {
    for (std::uint32_t i = 1; i <= nodes; ++i) {
      config.members.push_back({NodeId{i}, "127.0.0.1", static_cast<std::uint16_t>(7000 + 10 * i)});
      FakeWorker& worker = workers[NodeId{i}];
      worker.id = NodeId{i};
      worker.slots = slots;
      worker.store_id = i;
    }
    config.self = NodeId{1};
    config.dead_after = std::chrono::milliseconds(3000);
  }

  void start() {
    take_office(ClusterState{}, 1);
    for (auto& [id, worker] : workers) start_worker(id);
    watch();
    run_for(std::chrono::milliseconds(20));
  }
  /// Another coordinator takes over: the log is applied anew, what is in flight is lost.
  void replace_coordinator(std::uint64_t epoch) {
    ClusterState state;
    for (const LogEntry& entry : log) (void)state.apply(entry);
    ++reign;
    take_office(std::move(state), epoch);
    for (auto& [id, worker] : workers) {
      if (!worker.up) continue;
      worker.session = false;
      hello(id);
    }
  }
  void take_office(ClusterState state, std::uint64_t epoch) {
    log.push_back(LogEntry{LogIndex{log.size() + 1}, Epoch{epoch},
                           encode_command(wall(), RequestId{}, NewEpoch{Epoch{epoch}, config.self})});
    (void)state.apply(log.back());
    coordinator = std::make_unique<Coordinator>(config, std::move(state), Random{seed_of_coordinator});
    CoordinatorOutput out;
    for (auto& [id, worker] : workers) {
      if (worker.told == NodeState::unknown) continue;
      coordinator->member_changed(id, worker.told, Incarnation{worker.incarnation}, now, out);
    }
    coordinator->start(Epoch{epoch}, now, wall(), out);
    obey(std::move(out));
  }

  // -- time --

  [[nodiscard]] WallMs wall() const { return kSimWall + static_cast<WallMs>(now.time_since_epoch().count() / 1000); }
  void at(Time when, std::function<void()> action) { agenda.emplace(std::make_pair(when, ++sequence), std::move(action)); }
  void after(Duration wait, std::function<void()> action) { at(now + wait, std::move(action)); }
  void run_for(Duration duration) { run_until(now + duration); }
  void run_until(Time end) {
    while (true) {
      const Time due = coordinator->wake_at();
      const Time next = agenda.empty() ? kNever : agenda.begin()->first.first;
      if (std::min(due, next) > end) break;
      if (due <= next) {
        now = std::max(now, due);
        ++ticks;
        CoordinatorOutput out;
        coordinator->tick(now, wall(), out);
        obey(std::move(out));
        ASSERT_TRUE(coordinator->wake_at() > now || coordinator->wake_at() == Time{}) << "it would spin";
      } else {
        now = std::max(now, next);
        auto action = std::move(agenda.begin()->second);
        agenda.erase(agenda.begin());
        action();
      }
    }
    now = end;
  }
  bool run_until_done(const std::vector<JobId>& jobs, Duration limit) {
    const Time end = now + limit;
    while (now < end) {
      bool all = true;
      for (const JobId job : jobs) all = all && !coordinator->state().job(job)->active();
      if (all) return true;
      run_for(std::chrono::milliseconds(100));
    }
    return false;
  }

  // -- requests --

  [[nodiscard]] RequestInfo info(Ticket ticket, RequestId id, const std::string& key, Epoch epoch = {}) const {
    return RequestInfo{ticket, id, key, wall(), epoch, false};
  }
  template <class Req>
  Ticket ask(const Req& request, RequestId id, const std::string& key = "admin") {
    const Ticket ticket = ++last_ticket;
    CoordinatorOutput out;
    coordinator->handle(info(ticket, id, key), request, now, out);
    obey(std::move(out));
    return ticket;
  }
  RequestId fresh() { return RequestId{99, ++last_request}; }
  template <class Reply>
  Reply reply_to(Ticket ticket) {
    const auto found = answers.find(ticket);
    if (found == answers.end()) {
      ADD_FAILURE() << "not answered";
      return Reply{};
    }
    if (found->second.type != Reply::kType) {
      ADD_FAILURE() << "answered with " << message_name(found->second.type) << " "
                    << (found->second.type == MessageType::error_reply ? error_of(ticket).detail : "");
      return Reply{};
    }
    return *decode<Reply>(found->second.body);
  }
  ErrorReply error_of(Ticket ticket) {
    const auto found = answers.find(ticket);
    if (found == answers.end() || found->second.type != MessageType::error_reply) return ErrorReply{Errc{}, "no error", {}};
    return *decode<ErrorReply>(found->second.body);
  }
  void add_model(const std::string& name) {
    ModelVersion model;
    model.name = name;
    (void)reply_to<ModelAddReply>(ask(ModelAddRequest{model}, fresh()));
  }
  JobId submit(const std::string& model, std::uint64_t queries, std::uint32_t batch, Duration batch_time,
               std::uint32_t weight_milli = 1000, std::uint32_t rate_limit_milli = 0, std::int32_t priority = 0) {
    if (!coordinator->state().models().contains(model)) add_model(model);
    JobSpec spec;
    spec.name = model;
    spec.model = model;
    spec.item_kind = ItemKind::nothing;
    spec.queries = queries;
    spec.batch = batch;
    spec.weight_milli = weight_milli;
    spec.rate_limit_milli = rate_limit_milli;
    spec.priority = priority;
    batch_times[model] = batch_time;
    return reply_to<SubmitReply>(ask(SubmitRequest{spec}, fresh())).job;
  }
  Status extend(const FollowSegment& segment) {
    CoordinatorOutput out;
    const Status proposed = coordinator->extend(segment, now, out);
    obey(std::move(out));
    return proposed;
  }
  JobReport report(JobId job, std::uint32_t window_s = 10) { return coordinator->reports({job}, window_s, now).jobs.at(0); }
  std::uint64_t done(JobId job) { return coordinator->state().job(job)->queries_done; }
  NodeReport node(NodeId id) {
    for (const NodeReport& found : coordinator->node_reports(now)) {
      if (found.id == id) return found;
    }
    return {};
  }
  std::size_t count_events(const std::string& type) const {
    const auto found = event_counts.find(type);
    return found == event_counts.end() ? 0 : found->second;
  }

  // -- workers --

  void start_worker(NodeId id) {
    FakeWorker& worker = workers.at(id);
    if (worker.told == NodeState::alive || worker.told == NodeState::suspect) word(id, NodeState::dead);
    worker.up = true;
    worker.frozen = false;
    ++worker.life;
    ++worker.incarnation;
    after(kHop, [this, id, life = worker.life] {
      if (workers.at(id).life == life) word(id, NodeState::alive);
    });
    worker.queue = std::make_unique<WorkerQueue>(worker.slots, 64U << 20U);
    worker.slot_free.assign(worker.slots, now);
    hello(id);
    beat(id);
  }
  void kill(NodeId id, bool connection_closes = true) {
    FakeWorker& worker = workers.at(id);
    worker.up = false;
    worker.session = false;
    ++worker.life;
    worker.queue.reset();
    worker.described.clear();
    worker.inbox.clear();
    if (!connection_closes) return;
    after(kProbeOfHint, [this, id, life = worker.life] {
      if (workers.at(id).life == life && workers.at(id).told != NodeState::dead) word(id, NodeState::dead);
    });
  }
  void wipe(NodeId id) {
    workers.at(id).blocks.clear();
    workers.at(id).store_id += 1000;
  }
  std::string key_of(NodeId id) { return to_string(id); }

  // -- membership --

  void word(NodeId id, NodeState state) {
    FakeWorker& worker = workers.at(id);
    worker.told = state;
    worker.silent = Duration{};
    CoordinatorOutput out;
    coordinator->member_changed(id, state, Incarnation{worker.incarnation}, now, out);
    obey(std::move(out));
  }
  /// What swim makes of silence, roughly.
  void watch() {
    constexpr Duration kRound = std::chrono::milliseconds(100);
    after(kRound, [this] { watch(); });
    if (!watching) return;
    for (auto& [id, worker] : workers) {
      if (worker.up && !worker.frozen) {
        if (worker.told == NodeState::suspect || worker.told == NodeState::dead) word(id, NodeState::alive);
        worker.silent = Duration{};
        continue;
      }
      if (worker.told == NodeState::dead || worker.told == NodeState::unknown) continue;
      const Duration silent = worker.silent + kRound;
      if (silent >= kSuspectAfter && worker.told == NodeState::alive) word(id, NodeState::suspect);
      if (silent >= kDeadAfter) word(id, NodeState::dead);
      worker.silent = silent;
    }
  }
  bool watching = true;

  std::function<bool(const FakeWorker&, const Lease&, BatchFailed&)> fails;  ///< whether this run of a batch fails, and how
  std::function<bool(NodeId, MessageType)> loses;  ///< whether this message to or from a node does not arrive, and nobody notices

  CoordinatorConfig config;
  std::unique_ptr<Coordinator> coordinator;
  std::uint64_t seed_of_coordinator = 7;
  Random random;
  Time now = Time{} + std::chrono::seconds(1000);
  std::multimap<std::pair<Time, std::uint64_t>, std::function<void()>> agenda;
  std::uint64_t sequence = 0;
  std::uint64_t reign = 0;
  std::uint64_t ticks = 0;
  std::map<NodeId, FakeWorker> workers;
  std::vector<LogEntry> log;
  std::map<Ticket, Answer> answers;
  std::map<Ticket, std::function<void(const Answer&)>> waiting;
  Ticket last_ticket = 0;
  std::uint64_t last_request = 0;
  std::uint64_t last_block = 0;
  std::map<std::string, Duration> batch_times;
  std::map<std::string, std::size_t> event_counts;
  std::vector<Event> events;
  std::vector<FollowNotice> follow;
  std::map<std::pair<JobId, BatchIndex>, std::uint32_t> commits_accepted;
  std::vector<std::pair<Time, LeaseKey>> starts;
  bool keep_starts = false;

 private:
  void obey(CoordinatorOutput&& out) {
    for (FollowNotice& notice : out.follow) follow.push_back(std::move(notice));
    for (Bytes& command : out.propose) {
      log.push_back(LogEntry{LogIndex{log.size() + 1}, Epoch{1}, std::move(command)});
      CoordinatorOutput more;
      coordinator->applied(log.back(), now, wall(), more);
      obey(std::move(more));
    }
    for (auto& [ticket, answer] : out.answers) {
      ASSERT_FALSE(answers.contains(ticket)) << "answered twice";
      if (const auto call = waiting.find(ticket); call != waiting.end()) {
        auto done = std::move(call->second);
        waiting.erase(call);
        done(answer);
      } else {
        answers[ticket] = answer;
      }
    }
    for (auto& [id, push] : out.pushes) {
      FakeWorker& worker = workers.at(id);
      if (!worker.up) {
        after(kHop, [this, id = id] {
          CoordinatorOutput more;
          coordinator->push_failed(id, now, more);
          obey(std::move(more));
        });
        continue;
      }
      if (loses && loses(id, push.type)) continue;
      deliver(worker, [this, id = id, push = push] { receive(workers.at(id), push); });
    }
    for (Event& event : out.events) {
      ++event_counts[event.type];
      if (event.type == "batch_committed") ++commits_accepted[{event.job, static_cast<BatchIndex>(event.batch)}];
      if (event.type != "batch_leased" && event.type != "batch_committed") events.push_back(std::move(event));
    }
  }

  template <class Req>
  void send(FakeWorker& worker, const Req& request, std::function<void(const Answer&)> done) {
    after(kHop, [this, id = worker.id, life = worker.life, request, done] {
      FakeWorker& from = workers.at(id);
      if (from.life != life) return;
      if (from.frozen) return send(from, request, done);  // it goes out when the process goes on
      if (loses && loses(id, Req::kType)) return;
      const Ticket ticket = ++last_ticket;
      waiting[ticket] = [this, id, life, done](const Answer& answer) {
        if (workers.at(id).life == life) deliver(workers.at(id), [done, answer] { done(answer); });
      };
      CoordinatorOutput out;
      coordinator->handle(info(ticket, RequestId{1000 + id.value, ++last_request}, key_of(id)), request, now, out);
      obey(std::move(out));
    });
  }

  void deliver(FakeWorker& worker, std::function<void()> message) {
    worker.inbox.push_back(std::move(message));
    after(kHop, [this, id = worker.id, life = worker.life] { drain(id, life); });
  }

  /// One message of the inbox. What comes while a worker is frozen waits in its socket, in order.
  void drain(NodeId id, std::uint64_t life) {
    FakeWorker& worker = workers.at(id);
    if (worker.life != life || worker.inbox.empty()) return;
    if (worker.frozen) return after(std::chrono::milliseconds(10), [this, id, life] { drain(id, life); });
    const std::function<void()> message = std::move(worker.inbox.front());
    worker.inbox.pop_front();
    message();
  }

  void hello(NodeId id) {
    FakeWorker& worker = workers.at(id);
    NodeHello hello;
    hello.node = id;
    hello.incarnation = Incarnation{worker.incarnation};
    hello.store_id = worker.store_id;
    hello.slots = worker.slots;
    WorkerOutput forgotten;
    hello.held = worker.queue->held(forgotten);
    send(worker, hello, [this, &worker](const Answer& answer) {
      worker.session = answer.type == MessageType::node_hello_reply;
      if (!worker.session) return;
      WorkerOutput out;
      worker.queue->new_session(Epoch{reign + 1}, decode<NodeHelloReply>(answer.body)->dropped, out);
      obey(worker, std::move(out));
    });
  }

  void beat(NodeId id) {
    FakeWorker& worker = workers.at(id);
    after(std::chrono::milliseconds(500), [this, id, life = worker.life] {
      FakeWorker& from = workers.at(id);
      if (from.life != life) return;
      Heartbeat heartbeat;
      heartbeat.node = id;
      heartbeat.incarnation = Incarnation{from.incarnation};
      heartbeat.free_bytes = 10ULL << 30U;
      heartbeat.running = from.queue->running();
      if (from.session) {
        send(from, heartbeat, [this, id](const Answer& answer) {
          const auto reply = decode<HeartbeatReply>(answer.body);
          if (reply && !reply->known) hello(id);
        });
      } else {
        hello(id);  // the last one got lost
      }
      beat(id);
    });
  }

  void receive(FakeWorker& worker, const Answer& push) {
    if (push.type == MessageType::lease_grant) {
      const auto grant = decode<LeaseGrant>(push.body);
      ASSERT_TRUE(grant.ok());
      ++worker.grants;
      worker.descriptions += grant->descriptions.size();
      worker.grant_bytes_max = std::max(worker.grant_bytes_max, push.body.size());
      worker.grant_leases_max = std::max(worker.grant_leases_max, grant->leases.size());
      if (!grant->placement.empty()) worker.placement = grant->placement;
      for (const JobDescription& description : grant->descriptions) worker.described.insert(description.job);
      for (const Lease& lease : grant->leases) worker.granted.push_back(lease);
      WorkerOutput out;
      worker.queue->granted(*grant, now, out);
      for (const BatchFailed& failure : out.failures) {
        if (loses) break;  // the description may have been in a message that was lost
        ASSERT_EQ(failure.detail.find("no description"), std::string::npos) << to_string(worker.id) << ": " << failure.detail;
      }
      obey(worker, std::move(out));
    } else if (push.type == MessageType::lease_drop) {
      WorkerOutput out;
      worker.queue->dropped(*decode<LeaseDrop>(push.body), out);
      obey(worker, std::move(out));
    } else if (push.type == MessageType::job_order) {
      worker.queue->ordered(*decode<JobOrder>(push.body), now);
    } else if (push.type == MessageType::prefetch_model) {
      worker.prefetched.push_back(decode<PrefetchModel>(push.body)->onnx.path);
    } else if (push.type == MessageType::replica_task) {
      copy(worker, *decode<ReplicaTask>(push.body));
    } else {
      FAIL() << "push of type " << message_name(push.type);
    }
  }

  void copy(FakeWorker& worker, const ReplicaTask& task) {
    for (const BlockId block : task.drop) worker.blocks.erase(block);
    if (task.pull.empty()) return;
    ReplicaReport report;
    report.task = task.task;
    for (const BlockRef& block : task.pull) {
      bool there = false;
      for (const NodeId holder : block.replicas)
        there = there || (workers.at(holder).up && workers.at(holder).blocks.contains(block.id));
      report.pulled.push_back(there ? BlockStatus::ok : BlockStatus::missing);
      if (there) worker.blocks.insert(block.id);
    }
    after(std::chrono::milliseconds(5), [this, id = worker.id, life = worker.life, report] {
      if (workers.at(id).life == life) send(workers.at(id), report, [](const Answer&) {});
    });
  }

  /// What the shell of a worker does.
  void obey(FakeWorker& worker, WorkerOutput&& out) {
    for (const Lease& lease : out.fetch) {
      ASSERT_TRUE(worker.described.contains(lease.job)) << "inputs of a job whose description was forgotten";
      later(worker, Duration{0}, [this, key = LeaseKey{lease.job, lease.batch, lease.attempt}](FakeWorker& at) {
        WorkerOutput more;
        at.queue->input_ready(key, 1000, now, more);
        obey(at, std::move(more));
      });
    }
    for (const auto& [slot, lease] : out.start) compute(worker, slot, lease);
    for (const BatchCommit& commit : out.offer) offer(worker, commit);
    for (const BatchFailed& failure : out.failures) send(worker, failure, [](const Answer&) {});
    for (const JobId job : out.forget_jobs) worker.described.erase(job);
  }

  /// In the same life of the worker; while it is frozen its timers wait.
  void later(FakeWorker& worker, Duration wait, std::function<void(FakeWorker&)> action) {
    after(wait, [this, id = worker.id, life = worker.life, action = std::move(action)] {
      FakeWorker& at = workers.at(id);
      if (at.life != life) return;
      if (at.frozen) return later(at, std::chrono::milliseconds(10), action);
      action(at);
    });
  }

  void compute(FakeWorker& worker, std::uint32_t slot, const Lease& lease) {
    const LeaseKey key{lease.job, lease.batch, lease.attempt};
    const Job* job = coordinator->state().job(lease.job);
    const Duration cost = job == nullptr ? kHop : batch_times.at(job->spec.model);
    const Time begin = std::max(now, worker.slot_free[slot]);
    worker.slot_free[slot] = begin + cost;
    later(worker, begin - now, [this, slot, key](FakeWorker& at) {
      at.queue->started(slot, key, now, wall());
      if (keep_starts) starts.emplace_back(now, key);
    });
    later(worker, begin + cost - now, [this, slot, key, lease, cost](FakeWorker& at) { computed(at, slot, key, lease, cost); });
  }

  void computed(FakeWorker& worker, std::uint32_t slot, const LeaseKey& key, const Lease& lease, Duration cost) {
    const bool gives_up = lease.attempt >= kGiveUpAttempt;
    BatchFailed failure{lease.job, lease.batch, lease.attempt, BatchFailure::executor_died, "killed"};
    WorkerOutput out;
    if (!gives_up && fails && fails(worker, lease, failure)) {
      worker.queue->failed(slot, key, failure.why, failure.detail, now, out);
      return obey(worker, std::move(out));
    }
    const auto infer_us = static_cast<std::uint64_t>(cost.count());
    const auto errors = gives_up ? lease.queries : static_cast<std::uint32_t>(lease.quarantined.size());
    if (worker.queue->finished(slot, key, errors, infer_us, now, out)) {
      BlockRef block{BlockId{5, ++last_block}, 100, hash_of_rows(lease), {}};
      block.replicas = place_block(block.id, worker.placement, config.replication);
      for (const NodeId holder : block.replicas) workers.at(holder).blocks.insert(block.id);
      worker.queue->stored(key, block, worker.id, now, out);
    }
    obey(worker, std::move(out));
  }

  /// The same queries give the same rows, in whatever pass.
  static Hash128 hash_of_rows(const Lease& lease) {
    return hash128(to_string(lease.job) + "/" + std::to_string(lease.segment) + "/" + std::to_string(lease.item));
  }

  void offer(FakeWorker& worker, const BatchCommit& commit) {
    const LeaseKey key{commit.job, commit.batch, commit.attempt};
    auto answered = std::make_shared<bool>(false);
    send(worker, CommitBatches{{commit}}, [this, answered, key, &worker](const Answer& answer) {
      if (answer.type != MessageType::commit_batches_reply) return;
      *answered = true;
      WorkerOutput out;
      worker.queue->offered_answer({key}, out);
      obey(worker, std::move(out));
    });
    later(worker, std::chrono::milliseconds(700), [this, answered](FakeWorker& at) {
      if (*answered) return;
      at.session = false;
      hello(at.id);
    });
  }
};

}  // namespace idunno
