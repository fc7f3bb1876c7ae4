/// What only the log on disk can show: survival, damage of every kind, and that nothing acknowledged is ever lost unseen.

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <functional>

#include "storage/log_store.h"
#include "storage/rocks_common.h"
#include "tests/unit/storage/temp_folder.h"

namespace idunno {
namespace {

namespace fs = std::filesystem;

LogEntry entry(std::uint64_t index, std::uint64_t epoch, std::string command) {
  return LogEntry{LogIndex{index}, Epoch{epoch}, std::move(command)};
}

class RocksLogStore : public ::testing::Test {
 protected:
  [[nodiscard]] fs::path folder() const { return folder_.path() / "log"; }

  void open() {
    store_.reset();
    auto opened = open_rocks_log_store(folder());
    ASSERT_TRUE(opened.ok()) << opened.error().detail;
    ASSERT_FALSE(opened->was_replaced) << opened->why_replaced;
    store_ = std::move(opened->store);
  }
  void write(const LogWrite& write) { ASSERT_TRUE(store_->write(write).ok()); }
  void append(std::uint64_t index, std::uint64_t epoch, std::size_t bytes) {
    write(LogWrite{{}, {}, {entry(index, epoch, std::string(bytes, static_cast<char>('a' + index % 26)))}});
  }

  /// Two lives, so that there are two write-ahead logs: votes, entries, a truncation, a snapshot.
  void small_history() {
    open();
    write(LogWrite{HardState{Epoch{1}, NodeId{1}}, {}, {entry(1, 1, "one"), entry(2, 1, "two")}});
    append(3, 1, 40);
    ASSERT_TRUE(store_->save_snapshot(Snapshot{LogIndex{1}, Epoch{1}, "state of one"}).ok());
    write(LogWrite{HardState{Epoch{2}, NodeId{3}}, LogIndex{3}, {entry(3, 2, "three, another")}});
    open();
    append(4, 2, 20);
    write(LogWrite{HardState{Epoch{7}, NodeId{2}}, {}, {}});
    finish();
  }

  /// The same with tables: a value larger than the write buffers is flushed.
  void large_history() {
    open();
    for (std::uint64_t index = 1; index <= 5; ++index) append(index, 1, 1U << 20U);
    ASSERT_TRUE(store_->save_snapshot(Snapshot{LogIndex{2}, Epoch{1}, std::string(5U << 20U, 's')}).ok());
    for (std::uint64_t index = 6; index <= 20; ++index) append(index, 2, 300);
    write(LogWrite{HardState{Epoch{9}, NodeId{2}}, LogIndex{20}, {entry(20, 3, "last")}});
    finish();
  }

  void finish() {
    acknowledged_ = store_->load().value();
    store_.reset();
  }

  /// Opens a copy that `spoil` has worked on: it must hold all that was acknowledged, or be another log. Returns whether it is
  /// another.
  bool replaced_after(const std::string& what, const std::function<void(const fs::path&)>& spoil) {
    const fs::path copy = folder_.path() / "copy";
    fs::copy(folder(), copy, fs::copy_options::recursive);
    spoil(copy);
    bool replaced = false;
    {
      auto opened = open_rocks_log_store(copy);
      EXPECT_TRUE(opened.ok()) << what << ": " << opened.error().detail;
      if (opened.ok()) {
        const LoadedLog log = opened->store->load().value();
        replaced = opened->was_replaced;
        if (replaced) {
          EXPECT_NE(log.log_id, acknowledged_.log_id) << what;
          EXPECT_TRUE(log.entries.empty() && !log.snapshot && log.hard_state == HardState{}) << what;
          EXPECT_TRUE(fs::exists(copy.string() + ".broken-1")) << what;
        } else {
          expect_all_there(log, what);
        }
      }
    }
    fs::remove_all(copy);
    fs::remove_all(copy.string() + ".broken-1");
    return replaced;
  }

  void expect_all_there(const LoadedLog& log, const std::string& what) const {
    EXPECT_EQ(log.log_id, acknowledged_.log_id) << what;
    EXPECT_EQ(log.hard_state, acknowledged_.hard_state) << what;
    EXPECT_TRUE(log.snapshot == acknowledged_.snapshot) << what;
    EXPECT_TRUE(log.entries == acknowledged_.entries) << what << ": " << log.entries.size() << " entries";
  }

  static std::vector<fs::path> files(const fs::path& in, const std::string& kind) {
    std::vector<fs::path> found;
    for (const auto& file : fs::directory_iterator(in)) {
      const bool match = file.path().extension() == kind || file.path().filename().string().starts_with(kind);
      if (match && file.is_regular_file() && file.file_size() > 0) found.push_back(file.path().filename());
    }
    std::sort(found.begin(), found.end());
    return found;
  }

  static void flip(const fs::path& file, std::uint64_t at, unsigned bit) {
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekg(static_cast<std::streamoff>(at));
    const int byte = stream.get();
    stream.seekp(static_cast<std::streamoff>(at));
    stream.put(static_cast<char>(static_cast<unsigned>(byte) ^ (1U << bit)));
  }

  /// The first and last bytes of a file and some between: headers, lengths, contents, index and footer.
  static std::vector<std::uint64_t> places(std::uint64_t size, std::uint64_t between) {
    std::vector<std::uint64_t> at;
    for (std::uint64_t i = 0; i < size; i += std::max<std::uint64_t>(1, size / between)) at.push_back(i);
    for (std::uint64_t i = 0; i < std::min<std::uint64_t>(size, 8); i += 2) at.push_back(i);
    for (std::uint64_t i = 1; i <= std::min<std::uint64_t>(size, 56); i += 9) at.push_back(size - i);
    return at;
  }

  TempFolder folder_{true};
  std::unique_ptr<LogStore> store_;
  LoadedLog acknowledged_;
};

TEST_F(RocksLogStore, ABitFlippedAnywhereInTheWriteAheadLogsLosesNothingUnseen) {
  small_history();
  const auto logs = files(folder(), ".log");
  ASSERT_EQ(logs.size(), 2U);
  int replaced = 0;
  for (const fs::path& log : logs) {
    const std::uint64_t size = fs::file_size(folder() / log);
    for (std::uint64_t at = log == logs.back() ? 0 : size / 2; at < size; at += 3) {
      const std::string what = log.string() + ", byte " + std::to_string(at);
      if (replaced_after(what, [&](const fs::path& copy) { flip(copy / log, at, at % 8); })) ++replaced;
    }
  }
  EXPECT_GT(replaced, 50);
}

TEST_F(RocksLogStore, AWriteAheadLogCutAnywhereLosesNothingUnseen) {
  small_history();
  int replaced = 0;
  for (const fs::path& log : files(folder(), ".log")) {
    const std::uint64_t size = fs::file_size(folder() / log);
    for (std::uint64_t cut = 1; cut <= size; cut += 11) {
      const std::string what = log.string() + ", less " + std::to_string(cut);
      if (replaced_after(what, [&](const fs::path& copy) { fs::resize_file(copy / log, size - cut); })) ++replaced;
    }
  }
  EXPECT_GT(replaced, 20);
}

/// The newest write is sound and the mark content, but entries of the life before are missing at the end.
TEST_F(RocksLogStore, AVoteOfANewLifeDoesNotHideEntriesThatAnOlderOneLost) {
  open();
  for (std::uint64_t index = 1; index <= 3; ++index) append(index, 1, 100);
  open();
  write(LogWrite{HardState{Epoch{4}, NodeId{1}}, {}, {}});
  finish();
  const fs::path older = files(folder(), ".log").front();
  const std::uint64_t size = fs::file_size(folder() / older);
  for (const std::uint64_t cut : {10U, 150U, 300U}) {
    EXPECT_TRUE(
        replaced_after("less " + std::to_string(cut), [&](const fs::path& copy) { fs::resize_file(copy / older, size - cut); }));
  }
}

TEST_F(RocksLogStore, ABitFlippedInTablesOrTheManifestLosesNothingUnseen) {
  large_history();
  ASSERT_FALSE(files(folder(), ".sst").empty());
  int replaced = 0;
  int damages = 0;
  for (const char* kind : {".sst", "MANIFEST", "CURRENT", ".log", "mark", "OPTIONS"}) {
    for (const fs::path& file : files(folder(), kind)) {
      for (const std::uint64_t at : places(fs::file_size(folder() / file), 5)) {
        const std::string what = file.string() + ", byte " + std::to_string(at);
        ++damages;
        if (replaced_after(what, [&](const fs::path& copy) { flip(copy / file, at, at % 8); })) ++replaced;
      }
    }
  }
  EXPECT_GT(replaced, 20);
  EXPECT_LT(replaced, damages);  // the mark, for one, may be damaged without harm
}

TEST_F(RocksLogStore, AMissingFileLosesNothingUnseen) {
  large_history();
  for (const char* kind : {"MANIFEST", "CURRENT", ".sst", ".log"}) {
    for (const fs::path& file : files(folder(), kind)) {
      EXPECT_TRUE(replaced_after("without " + file.string(), [&](const fs::path& copy) { fs::remove(copy / file); }));
    }
  }
  for (const char* kind : {"mark", "IDENTITY", "OPTIONS"}) {
    for (const fs::path& file : files(folder(), kind)) {
      EXPECT_FALSE(replaced_after("without " + file.string(), [&](const fs::path& copy) { fs::remove(copy / file); }));
    }
  }
  const fs::path manifest = files(folder(), "MANIFEST").back();
  for (std::uint64_t left = 0; left < fs::file_size(folder() / manifest); left += 40) {
    (void)replaced_after("with a manifest cut at " + std::to_string(left),
                         [&](const fs::path& copy) { fs::resize_file(copy / manifest, left); });
  }
}

TEST_F(RocksLogStore, SurvivesTheDeathOfTheProcess) {
  large_history();
  open();
  write(LogWrite{HardState{Epoch{12}, NodeId{1}}, {}, {entry(21, 12, "unclosed")}});
  acknowledged_ = store_->load().value();
  // What a killed process leaves is what lies in the files now.
  const fs::path copy = folder_.path() / "killed";
  fs::copy(folder(), copy, fs::copy_options::recursive);
  auto opened = open_rocks_log_store(copy);
  ASSERT_TRUE(opened.ok()) << opened.error().detail;
  ASSERT_FALSE(opened->was_replaced) << opened->why_replaced;
  expect_all_there(opened->store->load().value(), "killed");
}

/// After a power cut the mark may be of any earlier moment. A write that was torn was never acknowledged.
TEST_F(RocksLogStore, ATornTailLosesOnlyTheWriteThatWasTorn) {
  open();
  for (std::uint64_t index = 1; index <= 3; ++index) append(index, 1, 1000);
  acknowledged_ = store_->load().value();
  const std::string log = files(folder(), ".log").back().string();
  const fs::path mark = folder_.path() / "mark of before";
  fs::copy_file(folder() / "mark", mark);
  const std::uint64_t size = fs::file_size(folder() / log);
  append(4, 1, 1000);
  store_.reset();
  const std::uint64_t torn = fs::file_size(folder() / log);
  ASSERT_GT(torn, size + 1000);
  for (std::uint64_t left = size; left < torn; left += 50) {
    EXPECT_FALSE(replaced_after("torn at " + std::to_string(left), [&](const fs::path& copy) {
      fs::copy_file(mark, copy / "mark", fs::copy_options::overwrite_existing);
      fs::resize_file(copy / log, left);
    }));
  }
}

TEST_F(RocksLogStore, GoesOnAfterItWasReplacedAndIsReplacedAgain) {
  std::uint64_t before = 0;
  for (int round = 1; round <= 3; ++round) {
    auto opened = open_rocks_log_store(folder());
    ASSERT_TRUE(opened.ok()) << opened.error().detail;
    EXPECT_EQ(opened->was_replaced, round > 1);
    if (round > 1) {
      EXPECT_NE(opened->why_replaced.find(".broken-" + std::to_string(round - 1)), std::string::npos) << opened->why_replaced;
    }
    const LoadedLog log = opened->store->load().value();
    EXPECT_NE(log.log_id, before);
    before = log.log_id;
    for (std::uint64_t index = 1; index <= 3; ++index) {
      ASSERT_TRUE(opened->store->write(LogWrite{{}, {}, {entry(index, 1, "e")}}).ok());
    }
    opened->store.reset();
    fs::remove(folder() / "CURRENT");
  }
}

TEST_F(RocksLogStore, ALogOfTheFormerFormatIsPutAsideAndTheTextSaysSo) {
  {
    ASSERT_TRUE(rocks::make_folder(folder()).ok());
    rocksdb::DB* raw = nullptr;
    rocksdb::Options options;
    options.create_if_missing = true;
    ASSERT_TRUE(rocksdb::DB::Open(options, folder().string(), &raw).ok());
    const std::unique_ptr<rocksdb::DB> database(raw);
    ASSERT_TRUE(database->Put(rocks::synced(), "!format", "idunno log 1").ok());
  }
  auto opened = open_rocks_log_store(folder());
  ASSERT_TRUE(opened.ok()) << opened.error().detail;
  EXPECT_TRUE(opened->was_replaced);
  EXPECT_NE(opened->why_replaced.find("of the format 'idunno log 1'"), std::string::npos) << opened->why_replaced;
  EXPECT_TRUE(fs::exists(folder().string() + ".broken-1"));
}

TEST_F(RocksLogStore, AWipedLogHasAnotherId) {
  small_history();
  fs::remove_all(folder());
  open();
  EXPECT_NE(store_->load()->log_id, acknowledged_.log_id);
}

TEST_F(RocksLogStore, OneProcessAtATime) {
  open();
  const auto second = open_rocks_log_store(folder());
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, Errc::conflict) << second.error().detail;
  EXPECT_FALSE(fs::exists(folder().string() + ".broken-1"));
}

}  // namespace
}  // namespace idunno
