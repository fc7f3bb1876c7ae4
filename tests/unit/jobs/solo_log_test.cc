#include "nodes/raft/solo_log.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

namespace idunno {
namespace {

/// What a disk would hold; outlives the stores opened on it, and fails when told to.
struct Disk {
  LoadedLog synced;
  int writes = 0;
  bool broken = false;
};

class FakeStore final : public LogStore {
 public:
  explicit FakeStore(Disk& disk) : disk_(disk) {}
  Result<LoadedLog> load() override {
    if (disk_.broken) return Error{Errc::damaged, "a hole"};
    return disk_.synced;
  }
  Status write(const LogWrite& write) override {
    if (disk_.broken) return Error{Errc::internal, "disk gone"};
    ++disk_.writes;
    if (write.hard_state) disk_.synced.hard_state = *write.hard_state;
    for (const LogEntry& entry : write.append) disk_.synced.entries.push_back(entry);
    return {};
  }
  Status save_snapshot(const Snapshot& snapshot) override {
    if (disk_.broken) return Error{Errc::internal, "disk gone"};
    disk_.synced.snapshot = snapshot;
    std::erase_if(disk_.synced.entries, [&](const LogEntry& entry) { return entry.index <= snapshot.index; });
    return {};
  }

 private:
  Disk& disk_;
};

constexpr NodeId kSelf{3};

std::unique_ptr<SoloLog> open(Disk& disk, LoadedLog& loaded) {
  Result<std::unique_ptr<SoloLog>> log = SoloLog::open(std::make_unique<FakeStore>(disk), kSelf, loaded);
  EXPECT_TRUE(log.ok()) << log.error().detail;
  return std::move(*log);
}
std::unique_ptr<SoloLog> open(Disk& disk) {
  LoadedLog loaded;
  return open(disk, loaded);
}
LogIndex propose(SoloLog& log, const std::string& command) {
  Result<LogIndex> index = log.propose(command);
  EXPECT_TRUE(index.ok());
  return index.value();
}

TEST(SoloLog, BeginsANewDurableEpochAtEachStart) {
  Disk disk;
  for (std::uint64_t life = 1; life <= 3; ++life) {
    const auto log = open(disk);
    EXPECT_EQ(log->epoch(), Epoch{life});
    EXPECT_EQ(disk.synced.hard_state, (HardState{Epoch{life}, kSelf}));
    EXPECT_TRUE(log->serving());
    EXPECT_EQ(log->leader(), kSelf);
    EXPECT_EQ(log->voters(), std::vector<NodeId>{kSelf});
    EXPECT_EQ(log->tick(Time{}), kNever);
  }
}

TEST(SoloLog, CommitsOnlyWhatIsFlushedInOrderAndOnce) {
  Disk disk;
  const auto log = open(disk);
  EXPECT_EQ(propose(*log, "a"), LogIndex{1});
  EXPECT_EQ(propose(*log, "b"), LogIndex{2});
  EXPECT_TRUE(log->take_committed().empty());
  EXPECT_TRUE(disk.synced.entries.empty());
  ASSERT_TRUE(log->flush().ok());
  EXPECT_EQ(propose(*log, "c"), LogIndex{3});
  const std::vector<LogEntry> expected{{LogIndex{1}, Epoch{1}, "a"}, {LogIndex{2}, Epoch{1}, "b"}};
  EXPECT_EQ(disk.synced.entries, expected);
  EXPECT_EQ(log->take_committed(), expected);
  EXPECT_TRUE(log->take_committed().empty());
  ASSERT_TRUE(log->flush().ok());
  EXPECT_EQ(log->take_committed(), (std::vector<LogEntry>{{LogIndex{3}, Epoch{1}, "c"}}));
}

TEST(SoloLog, WritesOnceForAllThatWasProposed) {
  Disk disk;
  const auto log = open(disk);
  const int before = disk.writes;
  for (int i = 0; i < 100; ++i) propose(*log, "x");
  ASSERT_TRUE(log->flush().ok());
  EXPECT_EQ(disk.writes, before + 1);
  ASSERT_TRUE(log->flush().ok());
  EXPECT_EQ(disk.writes, before + 1);
}

TEST(SoloLog, GivesTheCallerWhatWasThereAndGoesOnBehindIt) {
  Disk disk;
  {
    const auto log = open(disk);
    propose(*log, "a");
    propose(*log, "b");
    ASSERT_TRUE(log->flush().ok());
    propose(*log, "lost: never flushed");
  }
  LoadedLog loaded;
  const auto log = open(disk, loaded);
  ASSERT_EQ(loaded.entries.size(), 2U);
  EXPECT_EQ(loaded.entries[1].command, "b");
  EXPECT_TRUE(log->take_committed().empty());
  EXPECT_EQ(propose(*log, "c"), LogIndex{3});
  ASSERT_TRUE(log->flush().ok());
  EXPECT_EQ(log->take_committed(), (std::vector<LogEntry>{{LogIndex{3}, Epoch{2}, "c"}}));
}

TEST(SoloLog, CompactsWithTheEpochOfTheEntry) {
  Disk disk;
  {
    const auto log = open(disk);
    propose(*log, "a");
    propose(*log, "b");
    ASSERT_TRUE(log->flush().ok());
  }
  {
    const auto log = open(disk);
    propose(*log, "c");
    ASSERT_TRUE(log->flush().ok());
    ASSERT_TRUE(log->compact(LogIndex{1}, "state 1").ok());
    EXPECT_EQ(disk.synced.snapshot, (Snapshot{LogIndex{1}, Epoch{1}, "state 1"}));
    ASSERT_TRUE(log->compact(LogIndex{2}, "state 2").ok());
    EXPECT_EQ(disk.synced.snapshot->epoch, Epoch{1});
    ASSERT_TRUE(log->compact(LogIndex{3}, "state 3").ok());
    EXPECT_EQ(disk.synced.snapshot->epoch, Epoch{2});
    EXPECT_TRUE(disk.synced.entries.empty());
  }
  LoadedLog loaded;
  const auto log = open(disk, loaded);
  EXPECT_EQ(loaded.snapshot->state, "state 3");
  EXPECT_EQ(propose(*log, "d"), LogIndex{4});
  ASSERT_TRUE(log->flush().ok());
  ASSERT_TRUE(log->compact(LogIndex{4}, "state 4").ok());
  EXPECT_EQ(disk.synced.snapshot, (Snapshot{LogIndex{4}, Epoch{3}, "state 4"}));
}

TEST(SoloLog, RefusesToCompactWhatIsNotCommittedOrInASnapshotAlready) {
  Disk disk;
  const auto log = open(disk);
  propose(*log, "a");
  EXPECT_FALSE(log->compact(LogIndex{1}, "s").ok());
  ASSERT_TRUE(log->flush().ok());
  ASSERT_TRUE(log->compact(LogIndex{1}, "s").ok());
  const Status again = log->compact(LogIndex{1}, "s");
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.error().code, Errc::invalid);
  EXPECT_FALSE(log->compact(LogIndex{2}, "s").ok());
  EXPECT_TRUE(log->serving());
}

TEST(SoloLog, CommitsNothingAfterAFailedWrite) {
  Disk disk;
  const auto log = open(disk);
  propose(*log, "a");
  disk.broken = true;
  EXPECT_FALSE(log->flush().ok());
  disk.broken = false;
  EXPECT_FALSE(log->flush().ok());
  EXPECT_FALSE(log->serving());
  EXPECT_TRUE(log->take_committed().empty());
  const Result<LogIndex> index = log->propose("b");
  ASSERT_FALSE(index.ok());
  EXPECT_EQ(index.error().code, Errc::unavailable);
  EXPECT_FALSE(log->compact(LogIndex{1}, "s").ok());
}

TEST(SoloLog, DoesNotOpenWhenTheStoreIsDamagedOrCannotBeWritten) {
  Disk disk;
  disk.broken = true;
  LoadedLog loaded;
  EXPECT_FALSE(SoloLog::open(std::make_unique<FakeStore>(disk), kSelf, loaded).ok());

  Disk hole;
  hole.synced.hard_state = {Epoch{1}, kSelf};
  hole.synced.entries = {{LogIndex{1}, Epoch{1}, "a"}, {LogIndex{3}, Epoch{1}, "c"}};
  const Result<std::unique_ptr<SoloLog>> log = SoloLog::open(std::make_unique<FakeStore>(hole), kSelf, loaded);
  ASSERT_FALSE(log.ok());
  EXPECT_EQ(log.error().code, Errc::damaged);
  EXPECT_EQ(hole.writes, 0);
}

TEST(SoloLog, RefusesMoreThanItsBounds) {
  Disk disk;
  const auto log = open(disk);
  for (std::size_t i = 0; i < kPendingEntriesMax; ++i) propose(*log, "");
  Result<LogIndex> over = log->propose("");
  ASSERT_FALSE(over.ok());
  EXPECT_EQ(over.error().code, Errc::full);
  ASSERT_TRUE(log->flush().ok());
  EXPECT_EQ(propose(*log, Bytes(kPendingBytesMax, 'x')), LogIndex{kPendingEntriesMax + 1});
  EXPECT_FALSE(log->propose("y").ok());
  ASSERT_TRUE(log->flush().ok());
  EXPECT_TRUE(log->propose("y").ok());
}

}  // namespace
}  // namespace idunno
