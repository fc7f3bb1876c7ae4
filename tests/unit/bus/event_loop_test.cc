#include "bus/event_loop.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>
#include <zmq.h>

#include <thread>
#include <vector>

#include "bus/clock.h"

namespace idunno {
namespace {

constexpr auto kPatience = std::chrono::seconds(20);

class Loop : public testing::Test {
 protected:
  bool run_until(const std::function<bool()>& done) { return loop.run_until(done, monotonic_now() + kPatience); }
  EventLoop loop;
};

TEST_F(Loop, TimersRunInOrderOfTimeThenOfMaking) {
  std::vector<int> order;
  const Time now = monotonic_now();
  loop.at(now + Duration(2000), [&] { order.push_back(3); });
  loop.at(now - Duration(1), [&] { order.push_back(1); });
  loop.at(now - Duration(1), [&] { order.push_back(2); });
  const auto cancelled = loop.at(now, [&] { order.push_back(9); });
  EXPECT_TRUE(order.empty());
  loop.cancel(cancelled);
  loop.cancel(cancelled);
  ASSERT_TRUE(run_until([&] { return order.size() == 3; }));
  EXPECT_EQ(order, (std::vector{1, 2, 3}));
  EXPECT_GE(monotonic_now(), now + Duration(2000));
}

TEST_F(Loop, ATimerMayCancelAnotherThatIsDueAndMakeNewOnes) {
  std::vector<int> order;
  EventLoop::TimerId second = 0;
  const Time past = monotonic_now() - Duration(10);
  loop.at(past, [&] {
    order.push_back(1);
    loop.cancel(second);
    loop.at(past - Duration(5), [&] { order.push_back(2); });
  });
  second = loop.at(past, [&] { order.push_back(9); });
  ASSERT_TRUE(run_until([&] { return order.size() == 2; }));
  EXPECT_EQ(order, (std::vector{1, 2}));
}

TEST_F(Loop, RunUntilEndsAtItsDeadlineAndAtStop) {
  EXPECT_FALSE(loop.run_until([] { return false; }, monotonic_now() + Duration(3000)));
  loop.post([&] { loop.stop(); });
  EXPECT_FALSE(loop.run_until([] { return false; }, kNever));
}

TEST_F(Loop, PostedWorkOfOtherThreadsRunsInOrderAndStopEndsRun) {
  std::vector<int> order;
  std::thread other([&] {
    for (int i = 0; i < 1000; ++i) loop.post([&order, i] { order.push_back(i); });
    loop.post([&] { loop.stop(); });
  });
  loop.run();
  other.join();
  ASSERT_EQ(order.size(), 1000U);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(order[static_cast<std::size_t>(i)], i);
}

TEST_F(Loop, TurnEndRunsOnceATurnAfterEverythingElse) {
  std::vector<char> order;
  loop.on_turn_end([&] { order.push_back('a'); });
  loop.on_turn_end([&] { order.push_back('b'); });
  loop.post([&] { order.push_back('1'); });
  loop.post([&] { order.push_back('2'); });
  ASSERT_TRUE(run_until([&] { return !order.empty(); }));
  EXPECT_EQ(std::string(order.begin(), order.end()), "12ab");
}

TEST_F(Loop, DescriptorsAreCalledWhileReadableAndMayRemoveThemselves) {
  const int one = eventfd(0, EFD_NONBLOCK);
  const int two = eventfd(0, EFD_NONBLOCK);
  const std::uint64_t count = 1;
  ASSERT_EQ(::write(one, &count, sizeof count), 8);
  ASSERT_EQ(::write(two, &count, sizeof count), 8);
  int calls = 0;
  const auto callback = [&] {
    ++calls;
    loop.remove_fd(one);  // the first of the two removes both: the other must not be called any more
    loop.remove_fd(two);
  };
  loop.add_fd(one, callback);
  loop.add_fd(two, callback);
  bool later = false;
  loop.after(Duration(2000), [&] { later = true; });
  ASSERT_TRUE(run_until([&] { return later; }));
  EXPECT_EQ(calls, 1);
  loop.add_fd(one, [&] { ++calls; });
  ASSERT_TRUE(run_until([&] { return calls == 4; }));  // never read: called again and again
  loop.remove_fd(one);
  ::close(one);
  ::close(two);
}

class LoopSockets : public Loop {
 protected:
  LoopSockets() : context(zmq_ctx_new()), left(zmq_socket(context, ZMQ_PAIR)), right(zmq_socket(context, ZMQ_PAIR)) {
    zmq_bind(left, "inproc://pair");
    zmq_connect(right, "inproc://pair");
  }
  ~LoopSockets() override {
    for (void* socket : {left, right}) {
      loop.remove_socket(socket);
      zmq_close(socket);
    }
    zmq_ctx_term(context);
  }
  static bool read_one(void* socket) {
    char byte = 0;
    return zmq_recv(socket, &byte, 1, ZMQ_DONTWAIT) >= 0;
  }
  void* context;
  void* left;
  void* right;
};

TEST_F(LoopSockets, ASocketIsCalledAgainWhileMessagesWait) {
  for (int i = 0; i < 100; ++i) ASSERT_EQ(zmq_send(right, "x", 1, 0), 1);
  int read = 0;
  loop.add_socket(left, [&] { read += read_one(left) ? 1 : 0; });  // one a turn: the signal comes once, the loop must not sleep
  EXPECT_TRUE(run_until([&] { return read == 100; }));
}

TEST_F(LoopSockets, MessagesThatArriveWhileSendingAreSeen) {
  int left_read = 0;
  int right_read = 0;
  loop.add_socket(left, [&] {
    while (read_one(left)) {
      ++left_read;
      zmq_send(left, "y", 1, 0);
      loop.touch(left);
    }
  });
  loop.add_socket(right, [&] {
    while (read_one(right)) {
      if (++right_read == 10000) continue;
      zmq_send(right, "x", 1, 0);
      loop.touch(right);
    }
  });
  zmq_send(right, "x", 1, 0);
  loop.touch(right);
  EXPECT_TRUE(run_until([&] { return right_read == 10000; }));
  EXPECT_EQ(left_read, 10000);
}

TEST_F(LoopSockets, AnIdleLoopDoesNotTurn) {
  loop.add_socket(left, [] {});
  loop.add_socket(right, [] {});
  int turns = 0;
  loop.on_turn_end([&] { ++turns; });
  bool done = false;
  loop.after(std::chrono::milliseconds(200), [&] { done = true; });
  ASSERT_TRUE(run_until([&] { return done; }));
  EXPECT_LT(turns, 10);
}

}  // namespace
}  // namespace idunno
