// The log of a node on disk: rotation, positions, what others keep of it.

#include "nodes/runtime/log_files.h"

#include <gtest/gtest.h>

#include <fstream>

#include "nodes/runtime/log_keeper.h"
#include "nodes/runtime/log_tails.h"
#include "tests/unit/storage/temp_folder.h"

namespace idunno {
namespace {

namespace fs = std::filesystem;

class LogFilesTest : public testing::Test {
 protected:
  std::unique_ptr<LogFiles> open(std::uint64_t bytes_max = 1000, std::uint32_t files_max = 3) {
    LogFiles::Options options;
    options.folder = folder.path() / "log";
    options.file_bytes_max = bytes_max;
    options.files_max = files_max;
    options.file_age_max = std::chrono::minutes(10);
    options.wall_now_ms = [this] { return clock; };
    auto log = LogFiles::open(std::move(options));
    EXPECT_TRUE(log.ok());
    return std::move(*log);
  }
  static void write(LogFiles& log, const std::string& line) {
    log.append(line);
    log.flush();
  }
  /// All lines from a position on, and where they end.
  static std::string read(const LogFiles& log, LogPosition from, LogPosition* end = nullptr) {
    std::string all;
    while (true) {
      LogPosition to;
      const std::string text = read_log(log.pieces(), from, to, 400);
      if (end != nullptr) *end = to;
      if (text.empty()) return all;
      all += text;
      from = to;
    }
  }

  TempFolder folder;
  WallMs clock = 1'700'000'000'000;
};

TEST_F(LogFilesTest, LinesAreWrittenWholeAndTheLinkNamesTheNewestFile) {
  const auto log = open();
  log->append("one");
  log->append("two\nbroken");
  EXPECT_TRUE(log->waiting());
  EXPECT_EQ(read(*log, {}), "");
  log->flush();
  EXPECT_FALSE(log->waiting());
  EXPECT_EQ(read(*log, {}), "one\ntwo\\nbroken\n");
  std::ifstream link(folder.path() / "log" / "idunnod.log");
  std::string first;
  std::getline(link, first);
  EXPECT_EQ(first, "one");
}

TEST_F(LogFilesTest, RotatesBySizeAndKeepsABoundedNumber) {
  const auto log = open(1000, 3);
  for (int i = 0; i < 100; ++i) write(*log, std::string(99, static_cast<char>('a' + i % 26)));
  const LogPieces pieces = log->pieces();
  ASSERT_EQ(pieces.size(), 3U);
  std::uint64_t bytes = 0;
  for (const LogPiece& piece : pieces) bytes += fs::file_size(piece.file);
  EXPECT_LE(bytes, 3000U);
  EXPECT_GE(bytes, 2000U);
  EXPECT_LT(pieces[0].begin, pieces[1].begin);
  EXPECT_EQ(log->end().file, pieces.back().begin.file);
}

TEST_F(LogFilesTest, RotatesByAge) {
  const auto log = open();
  write(*log, "old");
  clock += 9 * 60'000;
  write(*log, "still");
  EXPECT_EQ(log->pieces().size(), 1U);
  clock += 2 * 60'000;
  write(*log, "new");
  ASSERT_EQ(log->pieces().size(), 2U);
  EXPECT_EQ(log->end().file, clock);
  EXPECT_EQ(read(*log, {}), "old\nstill\nnew\n");
}

TEST_F(LogFilesTest, APositionStaysGoodThroughRotationAndRestart) {
  LogPosition position;
  {
    const auto log = open(1000, 5);
    write(*log, "first");
    EXPECT_EQ(read(*log, {}, &position), "first\n");
    for (int i = 0; i < 15; ++i) write(*log, std::string(99, 'x'));
    write(*log, "last of this life");
  }
  clock -= 3'600'000;  // the clock was set back meanwhile
  const auto log = open(1000, 5);
  write(*log, "next life");
  const std::string rest = read(*log, position);
  EXPECT_EQ(rest.size(), 15 * 100 + sizeof("last of this life\n") - 1 + sizeof("next life\n") - 1);
  EXPECT_TRUE(rest.ends_with("last of this life\nnext life\n"));
}

TEST_F(LogFilesTest, ANewNumberIsHigherEvenWhenTheClockWasSetBack) {
  const auto log = open(200, 5);
  std::uint64_t last = log->end().file;
  for (int i = 0; i < 5; ++i) {
    clock -= 1000;
    write(*log, std::string(150, 'x'));
    write(*log, std::string(150, 'y'));
    EXPECT_GT(log->end().file, last);
    last = log->end().file;
  }
  log->number_above(last + 1'000'000);
  write(*log, "z");
  EXPECT_EQ(log->end().file, last + 1'000'001);
}

TEST_F(LogFilesTest, AHalfLineOfACrashStandsAlone) {
  { write(*open(), "whole"); }
  const auto file = folder.path() / "log" / "idunnod.log";
  std::ofstream(file, std::ios::app) << "half";
  const auto log = open();
  write(*log, "after");
  EXPECT_EQ(read(*log, {}), "whole\nhalf\nafter\n");
}

TEST_F(LogFilesTest, TheOneFileOfAnEarlierProgramBecomesTheFirst) {
  fs::create_directories(folder.path() / "log");
  std::ofstream(folder.path() / "log" / "idunnod.log") << "from before\n";
  clock = 4'000'000'000'000;
  const auto log = open(5);
  write(*log, "now");
  EXPECT_EQ(read(*log, {}), "from before\nnow\n");
}

TEST_F(LogFilesTest, APositionBeforeTheEndCountsOverFiles) {
  const auto log = open(1000, 5);
  for (int i = 0; i < 25; ++i) write(*log, std::string(99, 'x'));
  const LogPosition position = position_before_end(log->pieces(), 1200);
  EXPECT_EQ(read(*log, position).size(), 1200U);
  EXPECT_EQ(read(*log, position_before_end(log->pieces(), 1'000'000)).size(), 2500U);
}

// -- what others keep ---------------------------------------------------------------------------------------------------

class LogKeeperTest : public testing::Test {
 protected:
  static std::string text_of(const LogPieces& pieces) {
    std::string all;
    for (const LogPiece& piece : pieces) {
      std::ifstream in(piece.file);
      all.append(std::istreambuf_iterator<char>(in), {});
    }
    return all;
  }
  LogPosition take(LogPosition at, const std::string& text) {
    auto wanted = keeper.take({NodeId{2}, at, text});
    EXPECT_TRUE(wanted.ok());
    return wanted.ok() ? *wanted : LogPosition{};
  }
  TempFolder folder;
  LogKeeper keeper{folder.path() / "tails", 4000};
};

TEST_F(LogKeeperTest, SaysWhereItGoesOnAndTakesNothingTwice) {
  EXPECT_EQ(take({}, ""), (LogPosition{0, 0}));
  EXPECT_TRUE(keeper.pieces(NodeId{2}).empty());
  EXPECT_EQ(take({7, 100}, "one\n"), (LogPosition{7, 104}));
  EXPECT_EQ(take({7, 100}, "one\ntwo\n"), (LogPosition{7, 108}));  // the answer was lost
  EXPECT_EQ(take({7, 50}, "zzz\n"), (LogPosition{7, 108}));
  EXPECT_EQ(take({6, 0}, "an earlier file\n"), (LogPosition{7, 108}));
  EXPECT_EQ(take({}, ""), (LogPosition{7, 108}));
  EXPECT_EQ(text_of(keeper.pieces(NodeId{2})), "one\ntwo\n");
  EXPECT_EQ(keeper.pieces(NodeId{2}).size(), 1U);
  EXPECT_TRUE(keeper.pieces(NodeId{3}).empty());
}

TEST_F(LogKeeperTest, AGapAndARotationBeginNewPieces) {
  take({7, 0}, "one\n");
  take({7, 1000}, "after a gap\n");
  take({9, 0}, "next file\n");
  const LogPieces pieces = keeper.pieces(NodeId{2});
  ASSERT_EQ(pieces.size(), 3U);
  EXPECT_EQ(pieces[1].begin, (LogPosition{7, 1000}));
  EXPECT_EQ(pieces[2].begin, (LogPosition{9, 0}));
  LogPosition from{7, 500};
  LogPosition to;
  EXPECT_EQ(read_log(pieces, from, to, 100), "after a gap\n");
  EXPECT_EQ(from, (LogPosition{7, 1000}));
}

TEST_F(LogKeeperTest, IsBoundedAndKeepsTheEnd) {
  LogPosition at{7, 0};
  for (int i = 0; i < 1000; ++i) at = take(at, std::to_string(100'000 + i) + "\n");
  const std::string kept = text_of(keeper.pieces(NodeId{2}));
  EXPECT_LE(kept.size(), 4000U + 1000U);
  EXPECT_GE(kept.size(), 3000U);
  EXPECT_TRUE(kept.ends_with("100998\n100999\n"));
}

TEST_F(LogKeeperTest, ManyGapsDoNotMakeManyFiles) {
  for (std::uint64_t i = 0; i < 300; ++i) take({7, i * 100}, "x\n");
  EXPECT_LE(keeper.pieces(NodeId{2}).size(), 64U);
}

TEST_F(LogKeeperTest, GoesOnAfterItsOwnRestartAndAfterItsFolderWasWiped) {
  take({7, 0}, "one\n");
  LogKeeper next(folder.path() / "tails", 4000);
  EXPECT_EQ(text_of(next.pieces(NodeId{2})), "one\n");
  auto wanted = next.take({NodeId{2}, {}, ""});
  ASSERT_TRUE(wanted.ok());
  EXPECT_EQ(*wanted, (LogPosition{7, 4}));
  fs::remove_all(folder.path() / "tails");
  wanted = next.take({NodeId{2}, {7, 4}, "two\n"});
  ASSERT_TRUE(wanted.ok());
  EXPECT_EQ(text_of(next.pieces(NodeId{2})).substr(0, 4), "two\n");
}

// -- who keeps it -------------------------------------------------------------------------------------------------------

constexpr LogPosition kEnd{7, 100'000};

TEST(LogTails, TheNextTwoInTheRingThatLive) {
  LogTails tails(NodeId{4}, {NodeId{1}, NodeId{2}, NodeId{3}, NodeId{4}, NodeId{5}});
  EXPECT_EQ(tails.keepers(), (std::vector<NodeId>{NodeId{5}, NodeId{1}}));
  tails.member(NodeId{5}, false);
  EXPECT_EQ(tails.keepers(), (std::vector<NodeId>{NodeId{1}, NodeId{2}}));
  tails.member(NodeId{5}, true);
  EXPECT_EQ(tails.keepers(), (std::vector<NodeId>{NodeId{5}, NodeId{1}}));
  EXPECT_TRUE(LogTails(NodeId{1}, {NodeId{1}}).keepers().empty());
}

TEST(LogTails, AsksFirstThenSendsOneAtATimeAndSoManyATick) {
  LogTails tails(NodeId{1}, {NodeId{1}, NodeId{2}});
  const Time now{std::chrono::seconds(100)};
  auto due = tails.due(kEnd, now, true);
  ASSERT_EQ(due.size(), 1U);
  EXPECT_FALSE(due[0].from);
  EXPECT_TRUE(tails.due(kEnd, now, true).empty()) << "one is under way";
  std::uint32_t sends = 0;
  LogPosition at{7, 0};
  tails.sent(NodeId{2}, at, now);
  (void)tails.due({7, 0}, now, true);
  for (at.offset = 0; sends < 100; at.offset += 100) {
    due = tails.due({8, 0}, now, false);
    if (due.empty()) break;
    EXPECT_EQ(due[0].from, at);
    ++sends;
    tails.sent(NodeId{2}, {7, at.offset + 100}, now);
  }
  EXPECT_EQ(sends, kTailSendsPerTick);
  EXPECT_EQ(tails.due({8, 0}, now, true).size(), 1U);
}

TEST(LogTails, AFewBytesWaitForTheIntervalManyDoNot) {
  LogTails tails(NodeId{1}, {NodeId{1}, NodeId{2}});
  Time now{std::chrono::seconds(100)};
  (void)tails.due(kEnd, now, true);
  tails.sent(NodeId{2}, {7, 0}, now);
  ASSERT_EQ(tails.due({7, 10}, now, true).size(), 1U);
  tails.sent(NodeId{2}, {7, 10}, now);
  EXPECT_TRUE(tails.due({7, 20}, now + kTailTick, true).empty());
  EXPECT_TRUE(tails.due({7, 10}, now + 2 * kTailInterval, true).empty()) << "there is nothing new";
  EXPECT_EQ(tails.due({7, 20}, now + kTailInterval, true).size(), 1U);
  tails.sent(NodeId{2}, {7, 20}, now + kTailInterval);
  EXPECT_EQ(tails.due({7, 20 + kTailWorthSending}, now + kTailInterval, true).size(), 1U);
}

TEST(LogTails, AKeeperThatFailedOrCameBackIsAskedAnew) {
  LogTails tails(NodeId{1}, {NodeId{1}, NodeId{2}});
  const Time now{std::chrono::seconds(100)};
  (void)tails.due(kEnd, now, true);
  tails.sent(NodeId{2}, {7, 0}, now);
  ASSERT_EQ(tails.due(kEnd, now, true).size(), 1U);
  tails.failed(NodeId{2}, now);
  EXPECT_TRUE(tails.due(kEnd, now, true).empty());
  auto due = tails.due(kEnd, now + kTailRetry, true);
  ASSERT_EQ(due.size(), 1U);
  EXPECT_FALSE(due[0].from);
  tails.sent(NodeId{2}, {7, 0}, now + kTailRetry);
  tails.member(NodeId{2}, false);
  EXPECT_TRUE(tails.due(kEnd, now + kTailRetry, true).empty());
  tails.member(NodeId{2}, true);
  due = tails.due(kEnd, now + kTailRetry, true);
  ASSERT_EQ(due.size(), 1U);
  EXPECT_FALSE(due[0].from);
}

}  // namespace
}  // namespace idunno
