/// What every OutboxStore promises (storage/outbox_store.h), for memory and RocksDB alike, and what only the one on disk can
/// show.

#include "storage/outbox_store.h"

#include <gtest/gtest.h>

#include <fstream>
#include <functional>

#include "bus/codec.h"
#include "storage/rocks_common.h"
#include "tests/unit/storage/temp_folder.h"

namespace idunno {
namespace {

namespace fs = std::filesystem;

OutboxRecord record(std::uint64_t job, BatchIndex batch, std::uint32_t attempt, WallMs stored_ms = 5) {
  OutboxRecord made;
  made.stored_ms = stored_ms;
  made.commit.job = JobId{job};
  made.commit.batch = batch;
  made.commit.attempt = attempt;
  made.commit.node = NodeId{3};
  made.commit.queries = 64;
  made.commit.quarantined = {1, 7};
  return made;
}

enum class Kind { memory, rocks };

class OutboxStoreContract : public ::testing::TestWithParam<Kind> {
 protected:
  void SetUp() override { reopen(); }

  void reopen() {
    if (GetParam() == Kind::memory) {
      if (!store_) store_ = make_memory_outbox_store();
      return;
    }
    store_.reset();
    auto opened = open_rocks_outbox_store(folder_.path() / "outbox");
    ASSERT_TRUE(opened.ok()) << opened.error().detail;
    store_ = std::move(opened).value();
  }

  std::vector<OutboxRecord> load() {
    auto loaded = store_->load();
    if (!loaded) ADD_FAILURE() << loaded.error().detail;
    return loaded ? *loaded : std::vector<OutboxRecord>();
  }

  TempFolder folder_;
  std::unique_ptr<OutboxStore> store_;
};

TEST_P(OutboxStoreContract, KeepsWhatWasAddedInOrderOverAReopen) {
  EXPECT_TRUE(load().empty());
  ASSERT_TRUE(store_->write({{record(2, 1, 1), record(1, 300, 1)}, {}}).ok());
  ASSERT_TRUE(store_->write({{record(1, 300, 0), record(1, 2, 9)}, {}}).ok());
  const std::vector<OutboxRecord> all{record(1, 2, 9), record(1, 300, 0), record(1, 300, 1), record(2, 1, 1)};
  EXPECT_EQ(load(), all);
  reopen();
  EXPECT_EQ(load(), all);
}

TEST_P(OutboxStoreContract, RemovesByJobBatchAndAttempt) {
  ASSERT_TRUE(store_->write({{record(1, 1, 1), record(1, 1, 2), record(1, 2, 1), record(2, 1, 1)}, {}}).ok());
  OutboxRecord same = record(1, 1, 1);
  same.commit.queries = 1;  // not looked at
  ASSERT_TRUE(store_->write({{}, {same.commit, record(9, 9, 9).commit}}).ok());
  reopen();
  EXPECT_EQ(load(), (std::vector<OutboxRecord>{record(1, 1, 2), record(1, 2, 1), record(2, 1, 1)}));
}

TEST_P(OutboxStoreContract, AnEqualOneIsReplacedAndRemovalComesLast) {
  ASSERT_TRUE(store_->write({{record(1, 1, 1, 5)}, {}}).ok());
  ASSERT_TRUE(store_->write({{record(1, 1, 1, 6), record(1, 2, 1)}, {record(1, 2, 1).commit}}).ok());
  EXPECT_EQ(load(), (std::vector<OutboxRecord>{record(1, 1, 1, 6)}));
  EXPECT_TRUE(store_->write({}).ok());
}

INSTANTIATE_TEST_SUITE_P(Stores, OutboxStoreContract, ::testing::Values(Kind::memory, Kind::rocks),
                         [](const auto& store) { return store.param == Kind::memory ? "memory" : "rocks"; });

class RocksOutboxStore : public ::testing::Test {
 protected:
  std::unique_ptr<OutboxStore> open(const fs::path& folder) {
    auto opened = open_rocks_outbox_store(folder);
    EXPECT_TRUE(opened.ok()) << opened.error().detail;
    return opened ? std::move(*opened) : nullptr;
  }
  TempFolder folder_;
};

TEST_F(RocksOutboxStore, SurvivesTheDeathOfTheProcess) {
  auto store = open(folder_.path() / "outbox");
  ASSERT_TRUE(store->write({{record(1, 1, 1), record(1, 2, 1)}, {}}).ok());
  ASSERT_TRUE(store->write({{}, {record(1, 1, 1).commit}}).ok());
  // Nothing was closed or synced: what a killed process leaves is what lies in the files now.
  fs::copy(folder_.path() / "outbox", folder_.path() / "killed", fs::copy_options::recursive);
  EXPECT_EQ(open(folder_.path() / "killed")->load().value(), std::vector<OutboxRecord>{record(1, 2, 1)});
}

TEST_F(RocksOutboxStore, DamagedRecordsAreLeftOutAndRemoved) {
  const fs::path folder = folder_.path() / "outbox";
  ASSERT_TRUE(open(folder)->write({{record(1, 1, 1), record(1, 2, 1), record(1, 3, 1)}, {}}).ok());
  const auto change = [&](const std::function<void(rocksdb::DB&, const std::string& key)>& work) {
    rocksdb::DB* raw = nullptr;
    ASSERT_TRUE(rocksdb::DB::Open(rocksdb::Options(), folder.string(), &raw).ok());
    const std::unique_ptr<rocksdb::DB> database(raw);
    std::string key = "c";
    rocks::append_u64(key, 1);
    rocks::append_u32(key, 2);
    rocks::append_u32(key, 1);
    work(*database, key);
  };
  change([](rocksdb::DB& database, const std::string& key) {
    std::string value;
    ASSERT_TRUE(database.Get(rocksdb::ReadOptions(), key, &value).ok());
    value[3] = static_cast<char>(value[3] ^ 1);
    ASSERT_TRUE(database.Put(rocksdb::WriteOptions(), key, value).ok());
  });
  EXPECT_EQ(open(folder)->load().value(), (std::vector<OutboxRecord>{record(1, 1, 1), record(1, 3, 1)}));
  change([](rocksdb::DB& database, const std::string& key) {
    std::string value;
    EXPECT_TRUE(database.Get(rocksdb::ReadOptions(), key, &value).IsNotFound());
  });
}

TEST_F(RocksOutboxStore, AStoreThatDoesNotOpenIsPutAside) {
  const fs::path folder = folder_.path() / "outbox";
  ASSERT_TRUE(open(folder)->write({{record(1, 1, 1)}, {}}).ok());
  for (const auto& file : fs::directory_iterator(folder)) {
    if (file.path().filename().string().starts_with("MANIFEST")) std::ofstream(file.path()) << "nonsense";
  }
  auto store = open(folder);
  EXPECT_TRUE(store->load()->empty());
  EXPECT_TRUE(fs::exists(folder.string() + ".broken-1"));
  ASSERT_TRUE(store->write({{record(1, 1, 1)}, {}}).ok());
  const auto second = open_rocks_outbox_store(folder);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, Errc::conflict);
}

}  // namespace
}  // namespace idunno
