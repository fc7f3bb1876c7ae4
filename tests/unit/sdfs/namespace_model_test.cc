/// Random sequences of changes against a naive model that keeps everything in plain maps and searches them.

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "bus/base/random.h"
#include "storage/sdfs/namespace.h"

namespace idunno {
namespace {

constexpr std::uint32_t kVersionsMax = 3;

class Model {
 public:
  std::map<std::string, std::vector<FileVersion>> files;
  std::map<std::uint64_t, FileVersion> uploads;

  bool used(BlockId id) const {
    bool found = false;
    each([&](const FileVersion&, const BlockRef& block) { found = found || block.id == id; });
    for (const auto& [upload, file] : uploads) {
      for (const BlockRef& block : file.blocks) found = found || block.id == id;
    }
    return found;
  }
  template <class Visit>
  void each(Visit visit) const {
    for (const auto& [path, versions] : files) {
      for (const FileVersion& file : versions) {
        for (const BlockRef& block : file.blocks) {
          if (block.id != BlockId{}) visit(file, block);
        }
      }
    }
  }
  template <class Change>
  void change_blocks(Change change) {
    for (auto& [path, versions] : files) {
      for (FileVersion& file : versions) {
        for (std::size_t i = 0; i < file.blocks.size(); ++i) {
          if (file.blocks[i].id != BlockId{}) change(file, i);
        }
      }
    }
    for (auto& [upload, file] : uploads) {
      for (std::size_t i = 0; i < file.blocks.size(); ++i) change(file, i);
    }
  }
  bool folder(const std::string& path) const {
    return std::any_of(files.begin(), files.end(), [&](const auto& entry) { return entry.first.rfind(path + "/", 0) == 0; });
  }
  bool below_file(const std::string& path) const {
    return std::any_of(files.begin(), files.end(), [&](const auto& entry) { return path.rfind(entry.first + "/", 0) == 0; });
  }
  /// One part; false leaves everything as it was.
  bool apply(const FsFilePart& part, WallMs now) {
    const auto old = files.find(part.path);
    if (old != files.end() && old->second.back().open) return false;
    if (folder(part.path) || below_file(part.path)) return false;
    const auto upload = uploads.find(part.upload);
    const bool known = part.upload != 0 && upload != uploads.end();
    const FileVersion begun = known ? upload->second : FileVersion{part.path, 0, 0, 0, false, {}};
    if (begun.path != part.path || begun.blocks.size() != part.first_block) return false;
    std::set<BlockId> ids;
    for (const BlockRef& block : part.blocks) {
      if (used(block.id) || !ids.insert(block.id).second) return false;
    }
    FileVersion file = begun;
    file.blocks.insert(file.blocks.end(), part.blocks.begin(), part.blocks.end());
    for (const BlockRef& block : part.blocks) file.size += block.length;
    if (part.more) {
      uploads[part.upload] = file;
      return true;
    }
    uploads.erase(part.upload);
    auto& versions = files[part.path];
    file.version = versions.empty() ? 1 : versions.back().version + 1;
    file.created_ms = now;
    versions.push_back(file);
    if (versions.size() > kVersionsMax) versions.erase(versions.begin());
    return true;
  }
};

class Play {
 public:
  explicit Play(std::uint64_t seed) : random_(seed) {}

  void step() {
    switch (random_.below(10)) {
      case 0:
      case 1:
      case 2:
      case 3:
        return commit();
      case 4:
        return remove();
      case 5:
        return open_file();
      case 6:
        return fill_or_close();
      case 7:
        return move();
      case 8:
        return forget();
      default:
        return snapshot();
    }
  }

  void compare() {
    std::uint64_t blocks = 0;
    std::uint64_t bytes = 0;
    std::map<NodeId, std::vector<BlockId>> held;
    std::map<std::pair<std::string, std::uint32_t>, int> seen;
    std::set<BlockId> under;
    std::set<BlockId> wrong;
    const std::set<NodeId> live{NodeId{1}, NodeId{2}, NodeId{3}};
    model_.each([&](const FileVersion&, const BlockRef& block) {
      ++blocks;
      bytes += block.length;
      std::size_t living = 0;
      for (const NodeId node : block.replicas) living += live.count(node);
      if (living < 2) under.insert(block.id);
      if (living != 2) wrong.insert(block.id);
    });
    model_.change_blocks([&](const FileVersion& file, std::size_t i) {
      for (const NodeId node : file.blocks[i].replicas) held[node].push_back(file.blocks[i].id);
    });
    ASSERT_EQ(files_.files(), model_.files.size());
    ASSERT_EQ(files_.blocks(), blocks);
    ASSERT_EQ(files_.logical_bytes(), bytes);
    ASSERT_EQ(files_.uploads(), model_.uploads.size());
    for (const auto& [path, versions] : model_.files) {
      for (const FileVersion& file : versions) {
        const FileVersion* found = files_.find(path, file.version);
        ASSERT_NE(found, nullptr);
        ASSERT_EQ(*found, file);
      }
      ASSERT_EQ(*files_.find(path), versions.back());
    }
    for (std::uint32_t node = 1; node <= 6; ++node) {
      std::sort(held[NodeId{node}].begin(), held[NodeId{node}].end());
      const BlockId from{1, next_block_ / 3};
      const BlockId to{1, next_block_ * 2 / 3};
      std::vector<BlockId> expected;
      for (const BlockId id : held[NodeId{node}]) {
        if (from < id && id <= to) expected.push_back(id);
      }
      ASSERT_EQ(files_.held_by(NodeId{node}, from, to), expected);
    }
    std::uint64_t under_total = 0;
    std::set<BlockId> told;
    for (const BlockPlace& place : files_.misplaced(live, 2, 100000, under_total)) {
      ASSERT_EQ(files_.find(place.path, place.version)->blocks[place.index], place.block);
      told.insert(place.block.id);
    }
    ASSERT_EQ(told, wrong);
    ASSERT_EQ(under_total, under.size());
  }

 private:
  std::string path() {
    std::string text;
    const std::uint64_t depth = 1 + random_.below(3);
    for (std::uint64_t i = 0; i < depth; ++i) text += "/" + std::string(1, static_cast<char>('a' + random_.below(3)));
    return text;
  }
  std::vector<NodeId> replicas() {
    std::vector<NodeId> nodes;
    for (std::uint32_t node = 1; node <= 6; ++node) nodes.push_back(NodeId{node});
    random_.shuffle(nodes);
    nodes.resize(1 + random_.below(4));
    return nodes;
  }
  BlockRef block() {
    const bool again = random_.chance(0.02) && next_block_ > 1;
    const std::uint64_t lo = again ? 1 + random_.below(next_block_ - 1) : next_block_++;
    return BlockRef{BlockId{1, lo}, 1 + static_cast<std::uint32_t>(random_.below(1000)), Hash128{lo, lo}, replicas()};
  }
  FsFilePart part() {
    FsFilePart part;
    part.path = path();
    part.upload = random_.below(6);
    if (const auto it = model_.uploads.find(part.upload); it != model_.uploads.end() && random_.chance(0.9)) {
      part.path = it->second.path;
      part.first_block = it->second.blocks.size();
    }
    part.more = part.upload != 0 && random_.chance(0.5);
    for (std::uint64_t i = random_.below(4); i > 0; --i) part.blocks.push_back(block());
    return part;
  }
  void commit() {
    std::vector<FsFilePart> parts;
    for (std::uint64_t i = 1 + random_.below(3); i > 0; --i) parts.push_back(part());
    Model after = model_;
    const bool good = std::all_of(parts.begin(), parts.end(), [&](const FsFilePart& one) { return after.apply(one, now_); });
    FreedBlocks freed;
    const auto made = files_.commit(parts, now_, {}, freed);
    ++now_;
    ASSERT_EQ(made.ok(), good) << (made.ok() ? "accepted" : made.error().detail);
    if (good) {
      check_freed(model_, after, parts, freed);
      model_ = after;
    }
  }
  /// What was there, or came with the commit, and is there no more was freed, and nothing else.
  static void check_freed(const Model& before, const Model& after, const std::vector<FsFilePart>& parts,
                          const FreedBlocks& freed) {
    std::set<BlockId> gone;
    const auto note = [&](BlockId id) {
      if (!after.used(id)) gone.insert(id);
    };
    before.each([&](const FileVersion&, const BlockRef& block) { note(block.id); });
    for (const auto& [upload, file] : before.uploads) {
      for (const BlockRef& block : file.blocks) note(block.id);
    }
    for (const FsFilePart& part : parts) {
      for (const BlockRef& block : part.blocks) note(block.id);
    }
    std::set<BlockId> told;
    for (const BlockRef& block : freed) told.insert(block.id);
    ASSERT_EQ(told, gone);
  }
  void remove() {
    const std::string target = path();
    const bool recursive = random_.chance(0.3);
    Model after = model_;
    const auto gone = std::erase_if(after.files, [&](const auto& entry) {
      return entry.first == target || (recursive && entry.first.rfind(target + "/", 0) == 0);
    });
    bool open = false;
    for (const auto& [file, versions] : model_.files) open = open || (after.files.count(file) == 0 && versions.back().open);
    FreedBlocks freed;
    const auto removed = files_.remove({target}, recursive, freed);
    ASSERT_EQ(removed.ok(), gone > 0 && !open);
    if (!removed) return;
    check_freed(model_, after, {}, freed);
    model_ = after;
  }
  void open_file() {
    const std::string target = path();
    const bool free = model_.files.count(target) == 0 && !model_.folder(target) && !model_.below_file(target);
    const std::uint64_t blocks = random_.below(4);
    ASSERT_EQ(files_.create_open(target, blocks, now_).ok(), free);
    if (!free) return;
    FileVersion file{target, 1, 0, now_, true, {}};
    file.blocks.resize(blocks);
    model_.files[target].push_back(file);
  }
  void fill_or_close() {
    for (auto& [target, versions] : model_.files) {
      FileVersion& file = versions.back();
      if (!file.open) continue;
      const auto empty =
          std::find_if(file.blocks.begin(), file.blocks.end(), [](const BlockRef& ref) { return ref.id == BlockId{}; });
      if (empty != file.blocks.end() && random_.chance(0.7)) {
        const BlockRef ref = block();
        const bool fresh = !model_.used(ref.id);
        ASSERT_EQ(files_.fill_open(target, static_cast<std::uint64_t>(empty - file.blocks.begin()), ref), fresh);
        if (!fresh) continue;
        file.size += ref.length;
        *empty = ref;
      } else if (random_.chance(0.5)) {
        files_.close_open(target, now_);
        file.open = false;
        file.created_ms = now_;
        std::erase_if(file.blocks, [](const BlockRef& ref) { return ref.id == BlockId{}; });
      } else if (random_.chance(0.2)) {
        FreedBlocks freed;
        files_.remove_open(target, freed);
        model_.files.erase(target);
        return;
      }
    }
  }
  void move() {
    std::vector<ReplicaMove> moves;
    model_.each([&](const FileVersion& file, const BlockRef& ref) {
      if (!random_.chance(0.1)) return;
      const auto index = static_cast<std::uint64_t>(&ref - file.blocks.data());
      moves.push_back({file.path, file.version, random_.chance(0.9) ? index : index + 1, ref.id, replicas(),
                       random_.chance(0.7) ? ref.replicas : replicas()});
    });
    std::uint32_t changed = 0;
    for (const ReplicaMove& one : moves) {
      for (FileVersion& file : model_.files.at(one.path)) {
        if (file.version != one.version || one.block_index >= file.blocks.size()) continue;
        BlockRef& ref = file.blocks[one.block_index];
        if (ref.id != one.id) continue;
        const auto in = [](const std::vector<NodeId>& nodes, NodeId node) {
          return std::count(nodes.begin(), nodes.end(), node) > 0;
        };
        std::vector<NodeId> now;
        for (const NodeId node : ref.replicas) {
          if (!in(one.seen, node) || in(one.replicas, node)) now.push_back(node);
        }
        for (const NodeId node : one.replicas) {
          if (!in(one.seen, node) && !in(ref.replicas, node)) now.push_back(node);
        }
        if (now.empty() || now.size() > kReplicasListedMax || now == ref.replicas) continue;
        ref.replicas = now;
        ++changed;
      }
    }
    ASSERT_EQ(files_.move_replicas(moves), changed);
  }
  void forget() {
    const NodeId node{static_cast<std::uint32_t>(1 + random_.below(6))};
    const bool all = random_.chance(0.1);
    std::vector<BlockId> blocks;
    for (int i = 0; i < 5; ++i) blocks.push_back(BlockId{1, 1 + random_.below(next_block_)});
    std::sort(blocks.begin(), blocks.end());
    blocks.erase(std::unique(blocks.begin(), blocks.end()), blocks.end());
    std::uint64_t forgotten = 0;
    model_.change_blocks([&](FileVersion& file, std::size_t i) {
      BlockRef& ref = file.blocks[i];
      if (all || std::find(blocks.begin(), blocks.end(), ref.id) != blocks.end()) forgotten += std::erase(ref.replicas, node);
    });
    ASSERT_EQ(all ? files_.forget_node(node) : files_.forget_blocks(node, blocks), forgotten);
  }
  void snapshot() {
    const Bytes bytes = files_.encode();
    auto again = Namespace::decode(bytes);
    ASSERT_TRUE(again.ok()) << again.error().detail;
    ASSERT_EQ(*again, files_);
    files_ = std::move(again).value();  // go on with the restored one: its indexes must be as good
  }

  Random random_;
  Namespace files_{kVersionsMax};
  Model model_;
  std::uint64_t next_block_ = 1;
  WallMs now_ = 1;
};

TEST(NamespaceModel, AgreesWithANaiveModelUnderRandomChanges) {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Play play(seed);
    for (int i = 0; i < 200; ++i) {
      play.step();
      if (testing::Test::HasFatalFailure()) return;
      if (i % 5 == 0) play.compare();
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

}  // namespace
}  // namespace idunno
