/// A disk that is really full: a small tmpfs. Needs the right to mount; skipped without.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "storage/block_store.h"
#include "storage/log_store.h"
#include "tests/unit/storage/blocks.h"
#include "tests/unit/storage/temp_folder.h"

namespace idunno {
namespace {

using Statuses = std::vector<BlockStatus>;

class DiskFull : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::mount("tmpfs", folder_.path().c_str(), "tmpfs", 0, "size=64m") != 0) {
      GTEST_SKIP() << "mounting a tmpfs: " << std::strerror(errno);
    }
    mounted_ = true;
    options_.folder = folder_.path() / "blocks";
    options_.reserve_bytes = 8U << 20U;
    options_.write_buffer_bytes = 1U << 20U;
    auto opened = open_rocks_block_store(options_);
    ASSERT_TRUE(opened.ok()) << opened.error().detail;
    store_ = std::move(opened->store);
  }

  void TearDown() override {
    store_.reset();
    if (mounted_) ::umount2(folder_.path().c_str(), MNT_DETACH);
  }

  /// Somebody else takes all the space there is; the ballast was made by the first write.
  void fill() {
    const int file = ::open((folder_.path() / "filler").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    ASSERT_GE(file, 0);
    const std::string piece(64U << 10U, 'x');
    while (::write(file, piece.data(), piece.size()) > 0) {
    }
    ::close(file);
  }

  BlockStatus put(const TestBlock& block) {
    auto statuses = store_->put({write_of(block)}, 1);
    if (!statuses) ADD_FAILURE() << statuses.error().detail;
    return statuses ? statuses->front() : BlockStatus::failed;
  }

  TempFolder folder_;
  RocksStoreOptions options_;
  std::unique_ptr<BlockStore> store_;
  bool mounted_ = false;
};

TEST_F(DiskFull, StopsAtTheReserveKeepsWhatItTookAndRecovers) {
  std::vector<TestBlock> taken;
  BlockStatus status = BlockStatus::ok;
  for (std::uint64_t i = 1; i <= 64 && status == BlockStatus::ok; ++i) {
    TestBlock block = make_block(i, 1U << 20U);
    status = put(block);
    if (status == BlockStatus::ok) taken.push_back(std::move(block));
  }
  ASSERT_EQ(status, BlockStatus::full);
  EXPECT_TRUE(store_->usage().read_only);
  ASSERT_GE(taken.size(), 10U);
  for (const TestBlock& block : taken) EXPECT_TRUE(store_->get(block.key).ok());
  // Deleting makes room after a while, by itself.
  std::vector<BlockId> ids;
  for (const TestBlock& block : taken) ids.push_back(block.key.id);
  ASSERT_TRUE(store_->remove(ids).ok());
  for (int i = 0; i < 3000 && store_->usage().read_only; ++i) ::usleep(10'000);
  EXPECT_FALSE(store_->usage().read_only);
  EXPECT_EQ(put(make_block(500, 1U << 20U)), BlockStatus::ok);
}

TEST_F(DiskFull, ADiskFilledByOthersInTheMiddleOfAWriteIsFullAndRecoversByItself) {
  // A reserve of nothing: the watch never says no, so RocksDB itself meets the full disk.
  store_.reset();
  options_.reserve_bytes = 0;
  auto opened = open_rocks_block_store(options_);
  ASSERT_TRUE(opened.ok()) << opened.error().detail;
  store_ = std::move(opened->store);
  std::vector<TestBlock> taken;
  BlockStatus status = BlockStatus::ok;
  for (std::uint64_t i = 1; i <= 100 && status == BlockStatus::ok; ++i) {
    TestBlock block = make_block(i, 1U << 20U);
    status = put(block);
    if (status == BlockStatus::ok) taken.push_back(std::move(block));
    if (taken.size() == 12) fill();
  }
  ASSERT_EQ(status, BlockStatus::full);
  ASSERT_GE(taken.size(), 12U);
  EXPECT_EQ(put(make_block(500, 1U << 20U)), BlockStatus::full);
  ASSERT_TRUE(std::filesystem::remove(folder_.path() / "filler"));
  (void)store_->usage();
  EXPECT_EQ(put(make_block(500, 1U << 20U)), BlockStatus::ok);
  EXPECT_FALSE(store_->usage().read_only);
  for (const TestBlock& block : taken) EXPECT_TRUE(store_->get(block.key).ok()) << to_string(block.key.id);
  EXPECT_EQ(store_->usage().blocks, taken.size() + 1);
}

TEST_F(DiskFull, WithTheBallastItReadsOnWhileTheDiskIsFull) {
  const TestBlock block = make_block(1, 1U << 20U);
  ASSERT_EQ(put(block), BlockStatus::ok);
  EXPECT_TRUE(std::filesystem::exists(options_.folder / "ballast"));
  fill();
  EXPECT_EQ(put(make_block(2, 1U << 20U)), BlockStatus::full);
  EXPECT_TRUE(store_->usage().read_only);
  EXPECT_TRUE(store_->get(block.key).ok());
  ASSERT_TRUE(std::filesystem::remove(folder_.path() / "filler"));
  EXPECT_EQ(put(make_block(2, 1U << 20U)), BlockStatus::ok);
}

TEST_F(DiskFull, AFullDiskIsNoReasonToPutALogAside) {
  const std::filesystem::path folder = folder_.path() / "joblog";
  std::uint64_t index = 0;
  {
    auto opened = open_rocks_log_store(folder);
    ASSERT_TRUE(opened.ok()) << opened.error().detail;
    const auto append = [&] {
      return opened->store->write(LogWrite{{}, {}, {LogEntry{LogIndex{index + 1}, Epoch{1}, Bytes(10'000, 'x')}}});
    };
    for (; index < 10; ++index) ASSERT_TRUE(append().ok());
    fill();
    Status status;
    for (; index < 2000 && (status = append()).ok(); ++index) {
    }
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().code, Errc::full) << status.error().detail;
    EXPECT_FALSE(append().ok());  // a failed write is final
  }
  const auto full = open_rocks_log_store(folder);
  if (full.ok()) {
    EXPECT_FALSE(full->was_replaced) << full->why_replaced;
  } else {
    EXPECT_EQ(full.error().code, Errc::full) << full.error().detail;
  }
}

TEST_F(DiskFull, ALogIsAllThereOnceThereIsSpaceAgain) {
  const std::filesystem::path folder = folder_.path() / "joblog";
  LoadedLog before;
  {
    auto opened = open_rocks_log_store(folder);
    ASSERT_TRUE(opened.ok()) << opened.error().detail;
    ASSERT_TRUE(
        opened->store->write(LogWrite{HardState{Epoch{3}, NodeId{2}}, {}, {LogEntry{LogIndex{1}, Epoch{3}, "one"}}}).ok());
    before = opened->store->load().value();
    fill();
    std::uint64_t index = 2;
    while (index < 2000 &&
           opened->store->write(LogWrite{{}, {}, {LogEntry{LogIndex{index}, Epoch{3}, Bytes(9'000, 'x')}}}).ok()) {
      before.entries.push_back(LogEntry{LogIndex{index++}, Epoch{3}, Bytes(9'000, 'x')});
    }
    ASSERT_LT(index, 2000U);
  }
  (void)open_rocks_log_store(folder);  // while it is full: whatever comes of it, nothing is lost
  ASSERT_TRUE(std::filesystem::remove(folder_.path() / "filler"));
  auto opened = open_rocks_log_store(folder);
  ASSERT_TRUE(opened.ok()) << opened.error().detail;
  ASSERT_FALSE(opened->was_replaced) << opened->why_replaced;
  const LoadedLog log = opened->store->load().value();
  EXPECT_EQ(log.log_id, before.log_id);
  EXPECT_EQ(log.hard_state, before.hard_state);
  // The write that failed may be there or not; what was acknowledged is.
  ASSERT_GE(log.entries.size(), before.entries.size());
  EXPECT_TRUE(std::equal(before.entries.begin(), before.entries.end(), log.entries.begin()));
}

}  // namespace
}  // namespace idunno
