/// What only the log on disk can show.

#include <gtest/gtest.h>

#include <fstream>

#include "storage/log_store.h"
#include "tests/unit/storage/temp_folder.h"

namespace idunno {
namespace {

namespace fs = std::filesystem;

fs::path write_ahead_log(const fs::path& folder) {
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".log" && entry.file_size() > 0) return entry.path();
  }
  return {};
}

void write_entries(const fs::path& folder) {
  auto store = open_rocks_log_store(folder);
  ASSERT_TRUE(store.ok()) << store.error().detail;
  for (std::uint64_t i = 1; i <= 3; ++i) {
    const LogEntry entry{LogIndex{i}, Epoch{1}, std::string(1000, static_cast<char>('a' + i))};
    ASSERT_TRUE((*store)->write(LogWrite{{}, {}, {entry}}).ok());
  }
}

TEST(RocksLogStore, ATornTailLosesOnlyTheWriteThatWasTorn) {
  TempFolder folder;
  write_entries(folder.path());
  const fs::path log = write_ahead_log(folder.path());
  fs::resize_file(log, fs::file_size(log) - 100);
  auto store = open_rocks_log_store(folder.path());
  ASSERT_TRUE(store.ok()) << store.error().detail;
  EXPECT_EQ((*store)->load()->entries.size(), 2U);
}

TEST(RocksLogStore, DamageInTheMiddleIsAnErrorNotAShorterLog) {
  TempFolder folder;
  write_entries(folder.path());
  const fs::path log = write_ahead_log(folder.path());
  std::fstream file(log, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(static_cast<std::streamoff>(fs::file_size(log) / 2));
  file.put('!');
  file.close();
  auto store = open_rocks_log_store(folder.path());
  ASSERT_FALSE(store.ok());
  EXPECT_EQ(store.error().code, Errc::damaged);
  EXPECT_TRUE(fs::exists(log));  // nothing is thrown away: the log is the cluster's memory
}

TEST(RocksLogStore, OneProcessAtATime) {
  TempFolder folder;
  auto first = open_rocks_log_store(folder.path());
  ASSERT_TRUE(first.ok());
  EXPECT_FALSE(open_rocks_log_store(folder.path()).ok());
}

}  // namespace
}  // namespace idunno
