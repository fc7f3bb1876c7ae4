/// What every LogStore promises (storage/log_store.h), for memory and RocksDB alike.

#include <gtest/gtest.h>

#include "storage/log_store.h"
#include "tests/unit/storage/temp_folder.h"

namespace idunno {
namespace {

enum class Kind { memory, rocks };

LogEntry entry(std::uint64_t index, std::uint64_t epoch, std::string command = "command") {
  return LogEntry{LogIndex{index}, Epoch{epoch}, std::move(command)};
}

class LogStoreContract : public ::testing::TestWithParam<Kind> {
 protected:
  void SetUp() override { reopen(); }

  /// The store on disk is closed and opened; memory goes on.
  void reopen() {
    if (GetParam() == Kind::memory) {
      if (!store_) store_ = make_memory_log_store(77);
      return;
    }
    store_.reset();
    auto opened = open_rocks_log_store(folder_.path() / "log");
    ASSERT_TRUE(opened.ok()) << opened.error().detail;
    EXPECT_FALSE(opened->was_replaced) << opened->why_replaced;
    store_ = std::move(opened->store);
  }

  LoadedLog load() {
    auto loaded = store_->load();
    if (!loaded) ADD_FAILURE() << loaded.error().detail;
    return loaded ? *loaded : LoadedLog();
  }

  TempFolder folder_;
  std::unique_ptr<LogStore> store_;
};

TEST_P(LogStoreContract, IsEmptyAtFirst) {
  const LoadedLog log = load();
  EXPECT_EQ(log.hard_state, HardState{});
  EXPECT_FALSE(log.snapshot.has_value());
  EXPECT_TRUE(log.entries.empty());
}

TEST_P(LogStoreContract, HasOneIdAllItsLife) {
  const std::uint64_t id = load().log_id;
  EXPECT_NE(id, 0U);
  reopen();
  EXPECT_EQ(load().log_id, id);
  ASSERT_TRUE(store_->write(LogWrite{HardState{Epoch{1}, NodeId{1}}, {}, {entry(1, 1)}}).ok());
  ASSERT_TRUE(store_->save_snapshot(Snapshot{LogIndex{1}, Epoch{1}, "state"}).ok());
  reopen();
  EXPECT_EQ(load().log_id, id);
}

TEST_P(LogStoreContract, KeepsVoteAndEntriesOverAReopen) {
  const HardState vote{Epoch{3}, NodeId{2}};
  const std::vector<LogEntry> entries{entry(1, 1), entry(2, 3, ""), entry(3, 3, std::string(100'000, '\0'))};
  ASSERT_TRUE(store_->write(LogWrite{vote, {}, {entries[0], entries[1]}}).ok());
  ASSERT_TRUE(store_->write(LogWrite{{}, {}, {entries[2]}}).ok());
  reopen();
  EXPECT_EQ(load().hard_state, vote);
  EXPECT_EQ(load().entries, entries);
}

TEST_P(LogStoreContract, LoadsManyEntriesInOrder) {
  LogWrite write;
  for (std::uint64_t i = 1; i <= 700; ++i) write.append.push_back(entry(i, 1, std::to_string(i)));
  ASSERT_TRUE(store_->write(write).ok());
  reopen();
  EXPECT_EQ(load().entries, write.append);
}

TEST_P(LogStoreContract, TruncatesAndAppendsInOneWrite) {
  ASSERT_TRUE(store_->write(LogWrite{{}, {}, {entry(1, 1), entry(2, 1), entry(3, 1)}}).ok());
  ASSERT_TRUE(store_->write(LogWrite{{}, LogIndex{2}, {entry(2, 2)}}).ok());
  reopen();
  EXPECT_EQ(load().entries, (std::vector<LogEntry>{entry(1, 1), entry(2, 2)}));
  ASSERT_TRUE(store_->write(LogWrite{{}, LogIndex{2}, {}}).ok());
  EXPECT_EQ(load().entries, (std::vector<LogEntry>{entry(1, 1)}));
}

TEST_P(LogStoreContract, RefusesAHoleAndChangesNothing) {
  ASSERT_TRUE(store_->write(LogWrite{{}, {}, {entry(1, 1)}}).ok());
  const LoadedLog before = load();
  for (const LogWrite& bad : {LogWrite{HardState{Epoch{9}, NodeId{9}}, {}, {entry(3, 1)}}, LogWrite{{}, {}, {entry(1, 1)}},
                              LogWrite{{}, LogIndex{0}, {}}, LogWrite{{}, {}, {entry(2, 1), entry(4, 1)}}}) {
    const Status status = store_->write(bad);
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().code, Errc::invalid);
  }
  EXPECT_EQ(load().entries, before.entries);
  EXPECT_EQ(load().hard_state, before.hard_state);
}

TEST_P(LogStoreContract, ASnapshotReplacesTheEntriesItContains) {
  ASSERT_TRUE(store_->write(LogWrite{{}, {}, {entry(1, 1), entry(2, 1), entry(3, 2)}}).ok());
  const Snapshot snapshot{LogIndex{2}, Epoch{1}, std::string(3U << 20U, 's')};
  ASSERT_TRUE(store_->save_snapshot(snapshot).ok());
  reopen();
  LoadedLog log = load();
  EXPECT_TRUE(log.snapshot == snapshot);
  EXPECT_EQ(log.entries, std::vector<LogEntry>{entry(3, 2)});
  ASSERT_TRUE(store_->write(LogWrite{{}, {}, {entry(4, 2)}}).ok());
  EXPECT_FALSE(store_->write(LogWrite{{}, LogIndex{2}, {}}).ok());
  reopen();
  EXPECT_EQ(load().entries, (std::vector<LogEntry>{entry(3, 2), entry(4, 2)}));
}

TEST_P(LogStoreContract, ASnapshotFromElsewhereMayBeAheadOfTheLog) {
  ASSERT_TRUE(store_->write(LogWrite{{}, {}, {entry(1, 1)}}).ok());
  const Snapshot snapshot{LogIndex{10}, Epoch{4}, "state"};
  ASSERT_TRUE(store_->save_snapshot(snapshot).ok());
  EXPECT_TRUE(load().entries.empty());
  ASSERT_TRUE(store_->write(LogWrite{{}, {}, {entry(11, 4)}}).ok());
  reopen();
  EXPECT_EQ(load().snapshot, snapshot);
  EXPECT_EQ(load().entries, std::vector<LogEntry>{entry(11, 4)});
}

TEST_P(LogStoreContract, ASnapshotMayDropTheEntriesBehindIt) {
  ASSERT_TRUE(
      store_->write(LogWrite{HardState{Epoch{5}, NodeId{2}}, {}, {entry(1, 1), entry(2, 1), entry(3, 1), entry(4, 1)}}).ok());
  const Snapshot snapshot{LogIndex{2}, Epoch{3}, "of another leader"};
  ASSERT_TRUE(store_->save_snapshot(snapshot, true).ok());
  reopen();
  EXPECT_EQ(load().snapshot, snapshot);
  EXPECT_TRUE(load().entries.empty());
  EXPECT_EQ(load().hard_state, (HardState{Epoch{5}, NodeId{2}}));
  ASSERT_TRUE(store_->write(LogWrite{{}, {}, {entry(3, 5)}}).ok());
  EXPECT_FALSE(store_->write(LogWrite{{}, {}, {entry(5, 5)}}).ok());
  // The same one once more, and one ahead of the log.
  ASSERT_TRUE(store_->save_snapshot(snapshot, true).ok());
  EXPECT_TRUE(load().entries.empty());
  ASSERT_TRUE(store_->save_snapshot(Snapshot{LogIndex{9}, Epoch{6}, "nine"}, true).ok());
  ASSERT_TRUE(store_->write(LogWrite{{}, {}, {entry(10, 6)}}).ok());
  reopen();
  EXPECT_EQ(load().entries, std::vector<LogEntry>{entry(10, 6)});
}

TEST_P(LogStoreContract, SnapshotsAndTruncationsMixAsTheyCome) {
  ASSERT_TRUE(store_->write(LogWrite{{}, {}, {entry(1, 1), entry(2, 1), entry(3, 1), entry(4, 1), entry(5, 1)}}).ok());
  ASSERT_TRUE(store_->save_snapshot(Snapshot{LogIndex{2}, Epoch{1}, "two"}).ok());
  ASSERT_TRUE(store_->write(LogWrite{{}, LogIndex{4}, {entry(4, 2)}}).ok());
  reopen();
  EXPECT_EQ(load().entries, (std::vector<LogEntry>{entry(3, 1), entry(4, 2)}));
  ASSERT_TRUE(store_->write(LogWrite{{}, LogIndex{3}, {entry(3, 3), entry(4, 3), entry(5, 3)}}).ok());
  ASSERT_TRUE(store_->save_snapshot(Snapshot{LogIndex{5}, Epoch{3}, "five"}).ok());
  ASSERT_TRUE(store_->write(LogWrite{{}, {}, {entry(6, 3)}}).ok());
  ASSERT_TRUE(store_->write(LogWrite{{}, LogIndex{6}, {}}).ok());
  reopen();
  EXPECT_TRUE(load().entries.empty());
  ASSERT_TRUE(store_->write(LogWrite{{}, {}, {entry(6, 4), entry(7, 4)}}).ok());
  reopen();
  EXPECT_EQ(load().entries, (std::vector<LogEntry>{entry(6, 4), entry(7, 4)}));
}

TEST_P(LogStoreContract, ASnapshotNeverGoesBack) {
  ASSERT_TRUE(store_->write(LogWrite{{}, {}, {entry(1, 1), entry(2, 1)}}).ok());
  ASSERT_TRUE(store_->save_snapshot(Snapshot{LogIndex{2}, Epoch{1}, "two"}).ok());
  const Status status = store_->save_snapshot(Snapshot{LogIndex{1}, Epoch{1}, "one"});
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Errc::invalid);
  EXPECT_EQ(load().snapshot->state, "two");
}

INSTANTIATE_TEST_SUITE_P(Stores, LogStoreContract, ::testing::Values(Kind::memory, Kind::rocks),
                         [](const auto& store) { return store.param == Kind::memory ? "memory" : "rocks"; });

}  // namespace
}  // namespace idunno
