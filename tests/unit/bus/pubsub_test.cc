#include "tests/unit/bus/cluster_fixture.h"

namespace idunno {
namespace {

using test::kCluster;

class PubSub : public test::ClusterFixture {
 protected:
  /// Publishes until `done`: a subscription takes a moment to arrive, and what is published before is lost.
  bool publish_until(Publisher& publisher, const char* topic, const std::function<bool()>& done) {
    std::function<void()> tick = [&] {
      EventNotice notice;
      notice.sequence = ++sequence;
      publisher.publish(topic, notice);
      if (!done()) loop.after(std::chrono::milliseconds(2), tick);
    };
    tick();
    return run_until(done);
  }
  std::uint64_t sequence = 0;
};

TEST_F(PubSub, SubscribersGetTheirTopicsInOrder) {
  const auto publisher = Publisher::bind(*context, endpoint(Service::events), keys[Role::node], kCluster).value();
  std::vector<std::uint64_t> seen;
  std::size_t others = 0;
  const auto reader =
      Subscriber::create(loop, *context, keys[Role::read], kCluster, {{NodeId{1}, address()}}, [&](const Envelope& envelope) {
        seen.push_back(envelope.body<EventNotice>()->sequence);
      }).value();
  const auto deaf =
      Subscriber::create(loop, *context, keys[Role::read], kCluster, {{NodeId{1}, address()}}, [&](const Envelope&) {
        ++others;
      }).value();
  reader->subscribe(kEventTopic);
  deaf->subscribe(kStatsTopic);
  ASSERT_TRUE(publish_until(*publisher, kEventTopic, [&] { return seen.size() >= 20; }));
  for (std::size_t i = 1; i < seen.size(); ++i) EXPECT_EQ(seen[i], seen[i - 1] + 1);
  EXPECT_EQ(others, 0U);
}

TEST_F(PubSub, StrangersAndOtherClustersGetNothing) {
  const auto publisher = Publisher::bind(*context, endpoint(Service::events), keys[Role::node], kCluster).value();
  std::size_t wrong = 0;
  std::size_t right = 0;
  const AddressBook book{{NodeId{1}, address()}};
  const auto outsider = Subscriber::create(loop, *context, stranger, kCluster, book, [&](const Envelope&) { ++wrong; }).value();
  const auto other =
      Subscriber::create(loop, *context, keys[Role::read], kCluster + 1, book, [&](const Envelope&) { ++wrong; }).value();
  const auto reader =
      Subscriber::create(loop, *context, keys[Role::read], kCluster, book, [&](const Envelope&) { ++right; }).value();
  for (Subscriber* subscriber : {outsider.get(), other.get(), reader.get()}) subscriber->subscribe(kEventTopic);
  ASSERT_TRUE(publish_until(*publisher, kEventTopic, [&] { return right >= 20 && zap->refused() > 0; }));
  EXPECT_EQ(wrong, 0U);
}

}  // namespace
}  // namespace idunno
