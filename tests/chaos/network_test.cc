// The network is cut, one way and both ways, loses packets, and tears connections.

#include <gtest/gtest.h>

#include <memory>

#include "tests/chaos/relay.h"
#include "tests/chaos/work.h"

namespace idunno::testing {
namespace {

TEST_F(ChaosShort, ACoordinatorThatIsCutOffIsReplacedAndAcceptsNothing) {
  Lab lab(Lab::Options::of(5));
  ASSERT_TRUE(lab.up());
  Work work(lab);
  work.begin();
  ASSERT_TRUE(work.reached(10));
  const int old = lab.coordinator();
  lab.isolate(old);
  ASSERT_TRUE(eventually([&] {
    const int now = lab.coordinator();
    return now != 0 && now != old;
  }));
  work.put_file();
  EXPECT_EQ(work.acknowledged(), 1U);
  work.check();
  lab.heal();
  ASSERT_TRUE(eventually([&] { return lab.node_state(old) == "alive"; }));
  work.check_whole();
  work.check_files();
}

TEST_F(ChaosShort, AMinorityAcceptsNothing) {
  Lab lab(Lab::Options::of(5));
  ASSERT_TRUE(lab.up());
  Work work(lab);
  lab.isolate(std::vector<int>{1, 2});
  // A client that reaches only the minority: the others' addresses are cut off from it as well.
  for (const int node : {3, 4, 5}) {
    ASSERT_TRUE(shell("ip netns exec " + lab.netns(node) + " iptables -A INPUT -s " + lab.bridge_address() + " -j DROP"));
  }
  const CommandResult refused = lab.idunno({"fs", "put", "/etc/hostname", "/minority", "--timeout", "5s"});
  EXPECT_TRUE(refused.exit_code == 4 || refused.exit_code == 5) << refused.exit_code << ": " << refused.err;
  lab.heal();
  work.check_whole();
  EXPECT_EQ(lab.idunno({"fs", "ls", "/minority"}).exit_code, 3);
}

TEST_F(ChaosLong, OneWayCutsOfEveryKind) {
  Lab lab(Lab::Options::of(5));
  ASSERT_TRUE(lab.up());
  Work work(lab);
  for (int round = 0; round < 6; ++round) {
    work.begin();
    ASSERT_TRUE(work.reached(10));
    const int coordinator = lab.coordinator();
    ASSERT_NE(coordinator, 0);
    const int other = 1 + coordinator % lab.nodes();
    if (round % 3 == 0) {
      lab.cut_one_way(coordinator, other);
    } else if (round % 3 == 1) {
      lab.cut_one_way(other, coordinator);
    } else {
      for (int node = 1; node <= lab.nodes(); ++node) {
        if (node != coordinator) lab.cut_one_way(node, coordinator);  // it hears nobody, all hear it
      }
    }
    ASSERT_TRUE(work.reached(60));
    lab.heal();
    work.check();
    work.check_whole();
  }
}

TEST_F(ChaosLong, PacketLossOnAllNodes) {
  Lab lab(Lab::Options::of(5));
  ASSERT_TRUE(lab.up());
  Work work(lab);
  work.begin();
  constexpr int kPercent = 10;
  for (int node = 1; node <= lab.nodes(); ++node) lab.lose_packets(node, kPercent);
  work.put_file();
  work.check();
  lab.heal();
  work.check_whole();
  work.check_files();
}

TEST_F(ChaosShort, ConnectionsThatTearRepeatAndDelayRequests) {
  Lab lab(Lab::Options::of(3));
  ASSERT_TRUE(lab.up());
  Work work(lab);
  std::uint64_t torn = 0;
  {
    std::vector<std::unique_ptr<Relay>> relays;
    unsigned seed = 1;
    for (int from = 1; from <= lab.nodes(); ++from) {
      for (int to = 1; to <= lab.nodes(); ++to) {
        if (from == to) continue;
        for (const int service : {0, 2}) {
          Relay::Options relay;
          relay.from = from;
          relay.to = to;
          relay.service = service;
          relay.seed = seed++;
          relays.push_back(std::make_unique<Relay>(lab, relay));
        }
      }
    }
    // Connections that are there already go past the relays: make them anew.
    for (int node = 1; node <= lab.nodes(); ++node) {
      lab.kill(node);
      lab.start(node);
      ASSERT_TRUE(eventually([&] { return lab.healthy(); }));
    }
    work.begin();
    work.put_file();
    work.check();
    for (const auto& relay : relays) torn += relay->torn();
  }
  EXPECT_GT(torn, 0U);
  work.check_files();
  work.check_whole();
}

}  // namespace
}  // namespace idunno::testing
