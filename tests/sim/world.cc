#include "tests/sim/world.h"

#include <algorithm>

namespace idunno::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Duration kStartSpread = milliseconds(300);
constexpr Duration kStateSample = milliseconds(2500);
constexpr Duration kLookEvery = milliseconds(250);
constexpr std::uint64_t kEventsMax = 20'000'000;  ///< far more than any run needs: somebody talks without end

}  // namespace

World::World(const Swarm& swarm, std::FILE* trace)
    : swarm_(swarm),
      random_(swarm.seed * 0x9E3779B97F4A7C15ULL + 1),
      trace_(agenda_),
      network_(agenda_, swarm_, Random(random_.next()),
               {[this](NodeId id) { return find(id) != nullptr; },
                [this](NodeId at, const ConnectionId& gone) {
                  if (const auto process = find(at)) process->run([process, gone] { process->on_broken(gone); });
                }}),
      env_{swarm_,
           agenda_,
           network_,
           trace_,
           [this](NodeId id) { return find(id); },
           [this](const std::string& what) { violated(what); }},
      leader_checker_(env_.violation),
      log_checker_(env_.violation, nodes_),
      state_checker_(env_.violation),
      answer_checker_(env_.violation, log_checker_),
      faults_(env_, nodes_, Random(random_.next())) {
  trace_.print_to(trace);
  for (std::uint32_t i = 1; i <= swarm_.nodes; ++i)
    nodes_.push_back(std::make_unique<SimNode>(env_, truth_, *this, log_checker_, NodeId{i}, random_.next()));
  for (std::uint32_t i = 0; i < swarm_.clients; ++i)
    clients_.push_back(std::make_shared<SimClient>(env_, truth_, i, random_.next()));
}

World::~World() = default;

void World::violated(const std::string& what) {
  if (violation_.empty()) violation_ = what;
  trace_.print("VIOLATION: " + what);
}

std::shared_ptr<Process> World::find(NodeId id) const {
  if (is_client(id)) {
    const std::size_t number = id.value - kFirstClient;
    return number < clients_.size() ? clients_[number] : nullptr;
  }
  return id.value >= 1 && id.value <= nodes_.size() ? nodes_[id.value - 1]->process() : nullptr;
}

void World::turn_ended(const SimNode& node) {
  const ControlPlane* control = node.process()->control();
  if (control == nullptr) return;
  leader_checker_.look(node, *control);
  log_checker_.look(node, *control);
}

void World::answered(const SimNode& node, const Envelope& question, MessageType type, const Bytes& /*body*/, bool /*stale*/) {
  answer_checker_.answered(node, question, type);
}

void World::run_for(Duration time) {
  const Time end = agenda_.now() + time;
  while (violation_.empty() && agenda_.step(end)) {
    if (agenda_.done() > kEventsMax) violated("too many events: somebody talks without end");
  }
}

bool World::run_until(const std::function<std::string()>& lacks, Duration bound, const char* what) {
  const Time end = agenda_.now() + bound;
  while (violation_.empty()) {
    const std::string missing = lacks();
    if (missing.empty()) return true;
    if (agenda_.now() >= end) {
      violated(std::string(what) + " did not come within " + std::to_string(bound / seconds(1)) + " s: " + missing);
      return false;
    }
    run_for(kLookEvery);
  }
  return false;
}

void World::start_all() {
  for (const auto& node : nodes_) {
    const auto wait = Duration{static_cast<Duration::rep>(random_.below(static_cast<std::uint64_t>(kStartSpread.count())))};
    agenda_.after(wait, [&node = *node] {
      if (!node.up()) node.start();
    });
  }
  for (const auto& client : clients_) agenda_.after(kStartSpread, [client] { client->start(); });
}

void World::sample_states() {
  for (const auto& node : nodes_) {
    if (node->up() && node->process()->control() != nullptr) state_checker_.look(*node, *node->process()->control());
  }
  agenda_.after(kStateSample, [this] { sample_states(); });
}

std::string World::lacks() const {
  for (const auto& client : clients_) {
    if (!client->done()) return "client " + to_string(client->id()) + " waits for " + client->waits_for();
  }
  if (std::string office = OfficeChecker::lacks(nodes_); !office.empty()) return office;
  const ClusterState& state = OfficeChecker::coordinator(nodes_)->process()->control()->state();
  if (std::string jobs = JobChecker::lacks(state, truth_); !jobs.empty()) return jobs;
  if (std::string members = MemberChecker::lacks(nodes_); !members.empty()) return members;
  return FileChecker::lacks(state, truth_, nodes_);
}

/// One node dies, alone: it must be found dead, and its blocks copied; and when it comes back, nothing is left over.
void World::kill_one_more() {
  SimNode& node = *nodes_[random_.below(nodes_.size())];
  node.crash(random_.chance(0.5));
  const auto repaired = [this]() -> std::string {
    if (std::string members = MemberChecker::lacks(nodes_); !members.empty()) return members;
    const SimNode* leader = OfficeChecker::coordinator(nodes_);
    if (leader == nullptr) return "there is no coordinator";
    return FileChecker::lacks(leader->process()->control()->state(), truth_, nodes_);
  };
  if (!run_until(repaired, kRepairBound, "repair after the death of a node")) return;
  node.start();
  run_until([this] { return lacks(); }, kRepairBound, "the return of a node");
}

void World::final_checks() {
  for (const auto& node : nodes_) {
    if (!node->up() || node->process()->control() == nullptr) continue;
    state_checker_.look(*node, *node->process()->control());
    node->process()->control()->check_invariants();
  }
}

Outcome World::run() {
  start_all();
  agenda_.after(kStateSample, [this] { sample_states(); });
  // A cluster that never was together cannot begin: the first start is undisturbed.
  run_for(milliseconds(1500));
  faults_.begin();
  run_for(swarm_.faults_for);
  Outcome outcome;
  if (violation_.empty()) {
    faults_.heal();
    const Time healed = agenda_.now();
    run_until([this] { return lacks(); }, kProgressBound, "progress after healing");
    outcome.healing = agenda_.now() - healed;
  }
  if (violation_.empty() && swarm_.last_kill && swarm_.nodes >= 3) kill_one_more();
  if (violation_.empty()) final_checks();
  outcome.violation = violation_;
  outcome.trace_hash = trace_.hash();
  outcome.events = agenda_.done();
  outcome.virtual_time = agenda_.now() - (Time{} + seconds(1000));
  outcome.acknowledged = answer_checker_.acknowledged();
  outcome.epochs = leader_checker_.leaders();
  outcome.wipes = faults_.wipes();
  outcome.entries = log_checker_.committed().size();
  return outcome;
}

}  // namespace idunno::sim
