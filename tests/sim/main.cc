// idunno_sim: simulates clusters, one for each seed, and stops at the first that breaks a rule.
//
//   idunno_sim [--seeds N] [--first S] [--nodes 3,5,7] [--minutes M] [--jobs J] [--go-on]
//   idunno_sim --replay S [--trace]
//
// Each of J processes takes every J-th seed. A seed in which the code aborts (ASSERT) is a failure like any other.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "tests/sim/world.h"

namespace idunno::sim {
namespace {

constexpr std::uint64_t kTwiceEvery = 50;  ///< such seeds run twice and must end in the same trace
constexpr std::uint32_t kJobsMax = 64;

struct Settings {
  std::uint64_t seeds = 100;
  std::uint64_t first = 1;
  std::vector<std::uint32_t> nodes = {3, 5, 7};
  double minutes = 0;  ///< 0 = no limit
  std::uint32_t jobs = 2;
  bool replay = false;
  bool trace = false;
  bool go_on = false;  ///< after a violation: for a survey
};

/// Shared by the processes.
struct Progress {
  struct Worker {
    std::uint64_t seed = 0;  ///< under way; 0 = none
    std::uint64_t done = 0;
    std::uint64_t events = 0;
    std::uint64_t virtual_ms = 0;
    std::uint64_t healing_max_ms = 0;
    std::uint64_t acknowledged = 0;
    std::uint64_t epochs = 0;
    std::uint64_t wipes = 0;
    bool failed = false;
  };
  std::array<Worker, kJobsMax> workers;
  volatile bool stop = false;
};

std::string node_list(const Settings& settings) {
  std::string text;
  for (const std::uint32_t count : settings.nodes) text += (text.empty() ? "" : ",") + std::to_string(count);
  return text;
}

void tell_failure(const Settings& settings, std::uint64_t seed, const std::string& what) {
  const char* commit = std::getenv("IDUNNO_COMMIT");
  std::printf("\nSEED=%llu COMMIT=%s\n%s\nreplay: idunno_sim --nodes %s --replay %llu --trace\n",
              static_cast<unsigned long long>(seed), commit == nullptr ? "unknown" : commit, what.c_str(),
              node_list(settings).c_str(), static_cast<unsigned long long>(seed));
  std::fflush(stdout);
}

Outcome run_seed(const Settings& settings, std::uint64_t seed, std::FILE* trace) {
  World world(draw_swarm(seed, settings.nodes), trace);
  return world.run();
}

/// False when a rule was broken.
bool check_seed(const Settings& settings, std::uint64_t seed, Progress::Worker& worker) {
  worker.seed = seed;
  const Outcome outcome = run_seed(settings, seed, nullptr);
  std::string what = outcome.violation;
  if (what.empty() && seed % kTwiceEvery == 0 && run_seed(settings, seed, nullptr).trace_hash != outcome.trace_hash)
    what = "two runs of this seed differ: something in the code is not a function of its inputs";
  if (!what.empty()) {
    tell_failure(settings, seed, what);
    return false;
  }
  worker.seed = 0;
  ++worker.done;
  worker.events += outcome.events;
  worker.virtual_ms += static_cast<std::uint64_t>(outcome.virtual_time.count() / 1000);
  worker.healing_max_ms = std::max(worker.healing_max_ms, static_cast<std::uint64_t>(outcome.healing.count() / 1000));
  worker.acknowledged += outcome.acknowledged;
  worker.epochs += outcome.epochs;
  worker.wipes += outcome.wipes;
  return true;
}

void work(const Settings& settings, std::uint32_t number, Progress& progress) {
  const auto begin = std::chrono::steady_clock::now();
  for (std::uint64_t i = number; i < settings.seeds && !progress.stop; i += settings.jobs) {
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - begin;
    if (settings.minutes > 0 && spent.count() > settings.minutes * 60) return;
    if (check_seed(settings, settings.first + i, progress.workers[number])) continue;
    progress.workers[number].failed = true;
    if (settings.go_on) continue;
    progress.stop = true;
    return;
  }
}

int run_all(const Settings& settings) {
  void* memory = mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    std::perror("idunno_sim: mmap");
    return 2;
  }
  auto* progress = new (memory) Progress;
  const auto begin = std::chrono::steady_clock::now();
  std::vector<pid_t> children;
  for (std::uint32_t number = 0; number < settings.jobs; ++number) {
    const pid_t child = fork();
    if (child == 0) {
      work(settings, number, *progress);
      std::fflush(stdout);
      _exit(progress->workers[number].failed ? 1 : 0);
    }
    children.push_back(child);
  }
  bool failed = false;
  for (std::size_t i = 0; i < children.size(); ++i) {
    int status = 0;
    if (children[i] > 0) waitpid(children[i], &status, 0);
    if (WIFSIGNALED(status)) {
      tell_failure(settings, progress->workers[i].seed,
                   std::string("the process ended by signal: ") + strsignal(WTERMSIG(status)));
      progress->stop = true;
    }
    failed = failed || status != 0 || children[i] <= 0;
  }
  Progress::Worker sum;
  for (const Progress::Worker& worker : progress->workers) {
    sum.done += worker.done;
    sum.events += worker.events;
    sum.virtual_ms += worker.virtual_ms;
    sum.healing_max_ms = std::max(sum.healing_max_ms, worker.healing_max_ms);
    sum.acknowledged += worker.acknowledged;
    sum.epochs += worker.epochs;
    sum.wipes += worker.wipes;
  }
  const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - begin;
  std::printf(
      "%llu seeds without a violation in %.1f s (%.1f a second): %.1f virtual hours, %llu events, %llu epochs, %llu wiped disks, "
      "%llu acknowledgements; the slowest healed in %.1f s\n",
      static_cast<unsigned long long>(sum.done), spent.count(), static_cast<double>(sum.done) / spent.count(),
      static_cast<double>(sum.virtual_ms) / 3.6e6, static_cast<unsigned long long>(sum.events),
      static_cast<unsigned long long>(sum.epochs), static_cast<unsigned long long>(sum.wipes),
      static_cast<unsigned long long>(sum.acknowledged), static_cast<double>(sum.healing_max_ms) / 1000);
  return failed ? 1 : 0;
}

int replay(const Settings& settings) {
  const Outcome outcome = run_seed(settings, settings.first, settings.trace ? stdout : nullptr);
  std::printf("seed %llu: %s; %.1f virtual s, healed in %.1f s, %llu events, %llu entries, %llu epochs, trace %016llx\n",
              static_cast<unsigned long long>(settings.first), outcome.violation.empty() ? "ok" : "VIOLATION",
              static_cast<double>(outcome.virtual_time.count()) / 1e6, static_cast<double>(outcome.healing.count()) / 1e6,
              static_cast<unsigned long long>(outcome.events), static_cast<unsigned long long>(outcome.entries),
              static_cast<unsigned long long>(outcome.epochs), static_cast<unsigned long long>(outcome.trace_hash));
  if (outcome.violation.empty()) return 0;
  tell_failure(settings, settings.first, outcome.violation);
  return 1;
}

[[noreturn]] void usage(const char* why) {
  std::fprintf(stderr,
               "idunno_sim: %s\nusage: idunno_sim [--seeds N] [--first S] [--nodes 3,5,7] [--minutes M] [--jobs J] [--go-on]\n"
               "       idunno_sim --replay S [--nodes 3,5,7] [--trace]\n",
               why);
  std::exit(2);
}

Settings parse(int argc, char** argv) {
  Settings settings;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--trace" || word == "--go-on") {
      (word == "--trace" ? settings.trace : settings.go_on) = true;
      continue;
    }
    if (i + 1 >= argc) usage(("what to do with " + word + "?").c_str());
    const char* value = argv[++i];
    if (word == "--seeds") {
      settings.seeds = std::strtoull(value, nullptr, 10);
    } else if (word == "--first") {
      settings.first = std::strtoull(value, nullptr, 10);
    } else if (word == "--replay") {
      settings.replay = true;
      settings.first = std::strtoull(value, nullptr, 10);
    } else if (word == "--minutes") {
      settings.minutes = std::strtod(value, nullptr);
    } else if (word == "--jobs") {
      settings.jobs = static_cast<std::uint32_t>(std::strtoul(value, nullptr, 10));
    } else if (word == "--nodes") {
      settings.nodes.clear();
      for (const char* at = value; *at != '\0';) {
        char* end = nullptr;
        settings.nodes.push_back(static_cast<std::uint32_t>(std::strtoul(at, &end, 10)));
        if (end == at || settings.nodes.back() == 0 || settings.nodes.back() > 100) usage("--nodes wants numbers from 1 to 100");
        at = *end == ',' ? end + 1 : end;
      }
      if (settings.nodes.empty()) usage("--nodes wants numbers");
    } else {
      usage(("unknown: " + word).c_str());
    }
  }
  if (settings.jobs < 1 || settings.jobs > kJobsMax) usage("--jobs wants 1 to 64");
  return settings;
}

}  // namespace
}  // namespace idunno::sim

int main(int argc, char** argv) {
  const idunno::sim::Settings settings = idunno::sim::parse(argc, argv);
  return settings.replay ? idunno::sim::replay(settings) : idunno::sim::run_all(settings);
}
