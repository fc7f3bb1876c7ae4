#include <gtest/gtest.h>

#include <set>
#include <thread>

#include "cli/dash_assets.h"
#include "cli/dash_guard.h"
#include "cli/dash_history.h"
#include "cli/dash_hub.h"
#include "cli/dash_server.h"

namespace idunno::cli {
namespace {

// ---- who may talk to it ---------------------------------------------------------------------------------------------

TEST(DashGuard, OnlyThisServersNamesAreHosts) {
  const DashGuard guard("127.0.0.1", 8080, "t");
  for (const char* good : {"127.0.0.1:8080", "localhost:8080", "LOCALHOST:8080", "[::1]:8080", "127.1.2.3:8080"})
    EXPECT_TRUE(guard.host_allowed(good)) << good;
  for (const char* bad :
       {"", "127.0.0.1", "127.0.0.1:8081", "evil.example:8080", "localhost.evil.example:8080", "10.0.0.1:8080", "127.0.0.1:8080x",
        "[::1:8080", "127.0.0.1.evil.example:8080", "localhost:808O", ":8080", "127.0.0.1:99999"})
    EXPECT_FALSE(guard.host_allowed(bad)) << bad;
}

TEST(DashGuard, OnOtherAddressesNamesOfOthersAreStillRefused) {
  const DashGuard guard("0.0.0.0", 8080, "t");
  EXPECT_TRUE(guard.host_allowed("10.0.0.7:8080"));
  EXPECT_FALSE(guard.host_allowed("rebound.example:8080"));
  EXPECT_TRUE(DashGuard("lab7", 8080, "t").host_allowed("lab7:8080"));
}

TEST(DashGuard, PortEightyNeedNotBeNamed) { EXPECT_TRUE(DashGuard("127.0.0.1", 80, "t").host_allowed("127.0.0.1")); }

TEST(DashGuard, OriginIsThisServerOrMissing) {
  const DashGuard guard("127.0.0.1", 8080, "t");
  EXPECT_TRUE(guard.origin_allowed(""));
  EXPECT_TRUE(guard.origin_allowed("http://127.0.0.1:8080"));
  for (const char* bad :
       {"null", "http://evil.example", "https://127.0.0.1:8080", "http://127.0.0.1:8080.evil.example", "http://"})
    EXPECT_FALSE(guard.origin_allowed(bad)) << bad;
}

TEST(DashGuard, TokensAreLongRandomAndComparedWhole) {
  std::set<std::string> tokens;
  for (int i = 0; i < 100; ++i) tokens.insert(random_token());
  EXPECT_EQ(tokens.size(), 100U);
  const std::string token = *tokens.begin();
  EXPECT_EQ(token.size(), 64U);
  const DashGuard guard("127.0.0.1", 8080, token);
  EXPECT_TRUE(guard.token_matches(token));
  EXPECT_FALSE(guard.token_matches(""));
  EXPECT_FALSE(guard.token_matches(token.substr(1)));
  std::string wrong = token;
  wrong.back() = wrong.back() == '0' ? '1' : '0';
  EXPECT_FALSE(guard.token_matches(wrong));
}

// ---- the stream -----------------------------------------------------------------------------------------------------

constexpr Duration kNone = Duration::zero();

TEST(DashHub, ANewPageGetsTheHistoryAndThenAllThatComes) {
  DashHub hub;
  hub.publish("before");
  const auto page = hub.join("history");
  ASSERT_NE(page, nullptr);
  hub.publish("one");
  hub.publish("two");
  std::string message;
  for (const char* expected : {"history", "one", "two"}) {
    ASSERT_EQ(hub.next(*page, message, kNone), DashHub::Next::message);
    EXPECT_EQ(message, expected);
  }
  EXPECT_EQ(hub.next(*page, message, kNone), DashHub::Next::nothing);
}

TEST(DashHub, ASlowPageIsDroppedAndOthersAreNot) {
  DashHub hub;
  const auto slow = hub.join("");
  const auto quick = hub.join("");
  std::string message;
  for (std::size_t i = 0; i <= DashHub::kMessagesMax; ++i) {
    hub.publish("x");
    ASSERT_EQ(hub.next(*quick, message, kNone), DashHub::Next::message);
  }
  EXPECT_EQ(hub.next(*slow, message, kNone), DashHub::Next::ended);
  EXPECT_EQ(hub.next(*quick, message, kNone), DashHub::Next::message);
  EXPECT_EQ(hub.dropped(), 1U);
}

TEST(DashHub, BytesAreBoundedButForTheHistory) {
  DashHub hub;
  const auto page = hub.join(std::string(DashHub::kBytesMax * 2, 'h'));
  hub.publish(std::string(DashHub::kBytesMax, 'x'));
  std::string message;
  EXPECT_EQ(hub.next(*page, message, kNone), DashHub::Next::message);
  hub.publish("y");
  EXPECT_EQ(hub.next(*page, message, kNone), DashHub::Next::ended);
}

TEST(DashHub, PagesAreBoundedAndLeavingMakesRoom) {
  DashHub hub;
  std::vector<std::shared_ptr<DashHub::Client>> pages;
  for (std::size_t i = 0; i < DashHub::kClientsMax; ++i) pages.push_back(hub.join(""));
  EXPECT_EQ(hub.join(""), nullptr);
  hub.leave(pages.front());
  EXPECT_NE(hub.join(""), nullptr);
}

TEST(DashHub, CloseEndsAPageThatWaits) {
  DashHub hub;
  const auto page = hub.join("");
  std::string message;
  ASSERT_EQ(hub.next(*page, message, kNone), DashHub::Next::message);
  std::thread closing([&] { hub.close(); });
  EXPECT_EQ(hub.next(*page, message, std::chrono::seconds(60)), DashHub::Next::ended);
  closing.join();
  EXPECT_EQ(hub.join(""), nullptr);
}

TEST(DashHub, AMessageIsOneEvent) { EXPECT_EQ(sse_message("tick", "{}"), "event: tick\ndata: {}\n\n"); }

// ---- what it tells --------------------------------------------------------------------------------------------------

constexpr Time kStart{std::chrono::seconds(100)};

ClusterPicture picture_of(std::size_t jobs) {
  ClusterPicture picture("c\xff");
  StatsNotice notice;
  for (std::size_t i = 1; i <= jobs; ++i) {
    JobReport job;
    job.id = JobId{i};
    job.spec.name = "</script><b>";
    job.spec.weight_milli = 1000;
    job.state = JobState::running;
    job.rate_milli_qps = 2000;
    notice.stats.jobs.push_back(job);
  }
  NodeReport node;
  node.id = NodeId{1};
  node.state = NodeState::alive;
  node.coordinator = true;
  node.slots = 2;
  notice.nodes.push_back(node);
  picture.apply(notice, kStart);
  return picture;
}

BatchSpan span(WallMs start, WallMs end, std::uint64_t job = 1, int slot = 0) {
  return {NodeId{1}, slot, JobId{job}, 5, start, end};
}

TEST(DashHistory, MachinesAreSlotTimeBetweenTwoSamples) {
  const ClusterPicture picture = picture_of(2);
  DashHistory history;
  history.sample(picture, 10'000);
  history.add(span(9'000, 10'500));         // half a second of it in this window
  history.add(span(10'500, 11'000));        // and the other half
  history.add(span(10'000, 10'500, 2, 1));  // half of the other slot
  history.sample(picture, 11'000);
  const Json sample = history.tick(picture, kStart, 11'000)["sample"];
  ASSERT_EQ(sample[1].size(), 2U);
  EXPECT_DOUBLE_EQ(sample[1][0][6].get<double>(), 0.5) << "one of two slots the whole second";
  EXPECT_DOUBLE_EQ(sample[1][1][6].get<double>(), 0.25);
}

TEST(DashHistory, NewsComeOnceAndOnlyWhenThereAreAny) {
  ClusterPicture picture = picture_of(1);
  DashHistory history;
  EXPECT_TRUE(history.take_news(picture, kStart)["events"].empty());
  EXPECT_TRUE(history.take_news(picture, kStart).is_null());
  Event event;
  event.type = "node_dead";
  event.at_ms = 1000;
  history.add(event);
  event.type = "batch_committed";  // routine: told by the bars of the strip chart
  history.add(event);
  const Json news = history.take_news(picture, kStart);
  ASSERT_EQ(news["events"].size(), 1U);
  EXPECT_EQ(news["events"][0]["type"], "node_dead");
  EXPECT_TRUE(history.take_news(picture, kStart).is_null());
  EXPECT_EQ(history.take_news(picture, kStart + std::chrono::seconds(3))["silent"], true) << "the banner is news";
  EXPECT_EQ(history.whole(picture, kStart, 1)["events"].size(), 1U) << "and stays for pages that come later";
}

TEST(DashHistory, ShortBatchesOfAJobAreOneBar) {
  const ClusterPicture picture = picture_of(1);
  DashHistory history;
  for (WallMs at = 1000; at < 1300; at += 10) history.add(span(at, at + 9));
  history.add(span(1300, 1309, 2));
  const Json spans = history.take_news(picture, kStart)["spans"];
  ASSERT_EQ(spans.size(), 2U);
  EXPECT_EQ(spans[0][4], 1000);
  EXPECT_EQ(spans[0][5], 1299);
  history.add(span(1310, 1315, 2));
  EXPECT_EQ(history.take_news(picture, kStart)["spans"][0][4], 1300) << "a bar that grows is told again with its beginning";
  EXPECT_EQ(history.whole(picture, kStart, 1)["spans"].size(), 2U);
}

TEST(DashHistory, IsBounded) {
  const ClusterPicture picture = picture_of(40);
  DashHistory history;
  Event event;
  event.type = "alarm";
  for (std::size_t i = 0; i < 5000; ++i) {
    history.sample(picture, 1000 * i);
    history.add(span(1000 * i, 1000 * i + 900));
    history.add(event);
  }
  const Json whole = history.whole(picture, kStart, 1);
  EXPECT_EQ(whole["samples"].size(), DashHistory::kSamplesMax);
  EXPECT_EQ(whole["samples"][0][1].size(), DashHistory::kJobsPerSampleMax);
  EXPECT_EQ(whole["spans"].size(), DashHistory::kSpansMax);
  EXPECT_EQ(whole["events"].size(), DashHistory::kEventsMax);
  EXPECT_LE(history.take_news(picture, kStart)["events"].size(), DashHistory::kEventsMax);
}

// ---- the page -------------------------------------------------------------------------------------------------------

TEST(DashAssets, AreThereAndAskNoOtherAddress) {
  bool page = false;
  for (const DashAsset& asset : dash_assets()) {
    EXPECT_FALSE(asset.body.empty()) << asset.path;
    page = page || asset.path == "/index.html";
    if (asset.path.find("/vendor/") == 0 || asset.path == "/icon.svg") continue;
    std::string text(asset.body);
    static constexpr std::string_view kSvg = "http://www.w3.org/2000/svg";  // a name, never asked for
    if (const auto at = text.find(kSvg); at != std::string::npos) text.erase(at, kSvg.size());
    EXPECT_EQ(text.find("http:"), std::string::npos) << asset.path;
    EXPECT_EQ(text.find("https:"), std::string::npos) << asset.path;
    EXPECT_EQ(asset.body.find("innerHTML"), std::string_view::npos) << asset.path << ": names of jobs are text, never HTML";
  }
  EXPECT_TRUE(page);
}

TEST(DashServer, TellsWhyItCannotListen) {
  DashHub hub;
  DashServer::Backend none;
  auto first = DashServer::start({"127.0.0.1", 0, false}, hub, none);
  ASSERT_TRUE(first);
  EXPECT_EQ((*first)->url(), "http://127.0.0.1:" + std::to_string((*first)->port()) + "/");
  auto second = DashServer::start({"127.0.0.1", (*first)->port(), false}, hub, none);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Errc::conflict);
  EXPECT_FALSE(DashServer::start({"192.0.2.1", 0, false}, hub, none));
}

TEST(DashServer, RefusalsHaveTheStatusOfTheirExitCode) {
  EXPECT_EQ(http_status_of(Errc::invalid), 400);
  EXPECT_EQ(http_status_of(Errc::forbidden), 403);
  EXPECT_EQ(http_status_of(Errc::not_found), 404);
  EXPECT_EQ(http_status_of(Errc::conflict), 409);
  EXPECT_EQ(http_status_of(Errc::timeout), 503);
}

}  // namespace
}  // namespace idunno::cli
