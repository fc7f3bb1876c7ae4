// A random schedule of everything at once: SEED chooses it, MINUTES how long it goes on.

#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <functional>
#include <random>
#include <set>
#include <thread>

#include "tests/chaos/work.h"

namespace idunno::testing {
namespace {

/// At most three nodes of seven are hurt at a time: what the cluster promises to survive.
class Schedule {
 public:
  Schedule(Lab& lab, unsigned seed) : lab_(lab), random_(seed) {}

  /// Does one thing and tells it.
  void step() {
    constexpr std::size_t kHurtMax = 3;
    if (hurt_.size() >= kHurtMax || (!hurt_.empty() && random_() % 3 == 0)) return mend(*hurt_.begin());
    hurt(pick());
  }
  void mend_all() {
    while (!hurt_.empty()) mend(*hurt_.begin());
    lab_.heal();
    lab_.calm();
  }

 private:
  int pick() {
    // Every third time the coordinator.
    const int coordinator = random_() % 3 == 0 ? lab_.coordinator() : 0;
    if (coordinator != 0 && !hurt_.contains(coordinator)) return coordinator;
    int node = 0;
    do {
      node = 1 + static_cast<int>(random_() % static_cast<unsigned>(lab_.nodes()));
    } while (hurt_.contains(node));
    return node;
  }

  void hurt(int node) {
    hurt_.insert(node);
    switch (random_() % 7) {
      case 0:
      case 1:
        std::printf("  kill n%d\n", node);
        lab_.kill(node);
        break;
      case 2:
        std::printf("  pause n%d\n", node);
        lab_.signal(node, SIGSTOP);
        break;
      case 3:
        std::printf("  cut off n%d\n", node);
        lab_.isolate(node);
        break;
      case 4:
        std::printf("  wipe n%d\n", node);
        lab_.kill(node);
        lab_.wipe(node);
        break;
      case 5:
        std::printf("  flip bits at n%d\n", node);
        lab_.kill(node);
        lab_.flip_bits(node, random_() % 2 == 0 ? "blocks" : "joblog", ".log", 1, static_cast<unsigned>(random_()));
        break;
      default:
        std::printf("  lose packets at n%d\n", node);
        lab_.lose_packets(node, 20);
        break;
    }
    std::fflush(stdout);
  }

  void mend(int node) {
    std::printf("  mend n%d\n", node);
    std::fflush(stdout);
    lab_.signal(node, SIGCONT);
    lab_.heal();  // of everybody: cuts of several nodes overlap
    lab_.start(node);
    hurt_.erase(node);
    EXPECT_TRUE(eventually([&] { return lab_.node_state(node) == "alive"; })) << "n" << node;
    // A wiped node holds nothing until repair has been there: three more may only be hurt when copies are back.
    EXPECT_TRUE(eventually(
        [&] {
          const nlohmann::json now = lab_.status();
          return now.is_object() && now.value("under_replicated_blocks", -1) == 0;
        },
        std::chrono::seconds(120)));
  }

  Lab& lab_;
  std::mt19937 random_;
  std::set<int> hurt_;
};

TEST_F(ChaosRandom, Schedule) {
  const char* given = std::getenv("SEED");
  const unsigned seed = given != nullptr ? static_cast<unsigned>(std::stoul(given)) : std::random_device{}();
  const char* minutes = std::getenv("MINUTES");
  std::printf("seed %u: SEED=%u make chaos repeats the schedule\n", seed, seed);
  const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(minutes != nullptr ? std::stol(minutes) : 60);
  Lab lab(Lab::Options{});
  ASSERT_TRUE(lab.up());
  Work work(lab);
  Schedule schedule(lab, seed);
  std::mt19937 pause(seed);
  do {
    work.begin();
    for (int steps = 0; steps < 8 && !HasFailure(); ++steps) {
      schedule.step();
      work.put_file();
      std::this_thread::sleep_for(std::chrono::milliseconds(pause() % 2000));  // the schedule's own time, no wait for anything
    }
    schedule.mend_all();
    work.check();
    work.check_whole();
    work.check_files();
    std::printf("round done, %zu files acknowledged\n", work.acknowledged());
    std::fflush(stdout);
  } while (!HasFailure() && std::chrono::steady_clock::now() < end);
}

}  // namespace
}  // namespace idunno::testing
