#include "storage/sdfs/namespace.h"

#include <gtest/gtest.h>

#include "bus/codec.h"

namespace idunno {
namespace {

BlockRef block(std::uint64_t lo, std::uint32_t length = 100, std::vector<std::uint32_t> nodes = {1, 2, 3}) {
  BlockRef ref{BlockId{7, lo}, length, Hash128{lo, lo}, {}};
  for (const auto node : nodes) ref.replicas.push_back(NodeId{node});
  return ref;
}

FsFilePart whole(const std::string& path, std::vector<BlockRef> blocks) {
  return FsFilePart{path, 0, 0, std::move(blocks), false};
}

/// A namespace and what its changes freed.
struct Files {
  Namespace files{3};
  FreedBlocks freed;
  std::uint64_t next_block = 1;

  Result<std::vector<std::uint32_t>> commit(const std::vector<FsFilePart>& parts, const std::set<std::string>& pinned = {}) {
    return files.commit(parts, 5, pinned, freed);
  }
  std::uint32_t put(const std::string& path, const std::set<std::string>& pinned = {}) {
    auto made = commit({whole(path, {block(next_block++)})}, pinned);
    EXPECT_TRUE(made.ok()) << (made.ok() ? "" : made.error().detail);
    return made.ok() ? made->front() : 0;
  }
};

Errc code_of(const Result<std::vector<std::uint32_t>>& result) {
  EXPECT_FALSE(result.ok());
  return result.ok() ? Errc::internal : result.error().code;
}

std::vector<std::string> paths_of(const std::vector<FileVersion>& files) {
  std::vector<std::string> paths;
  for (const FileVersion& file : files) paths.push_back(file.path);
  return paths;
}

TEST(Path, IsAbsoluteWithoutEmptyOrDotParts) {
  for (const std::string good : {"/a", "/a/b", "/a.b/c d", "/...", "/\xC3\xA4/\xE2\x82\xAC", "/a/..b"})
    EXPECT_TRUE(check_path(good).ok()) << good;
  const std::string bad[] = {"",
                             "a",
                             "/",
                             "//",
                             "/a/",
                             "/a//b",
                             "/./a",
                             "/a/..",
                             "/..",
                             "/a\n",
                             std::string("/a\0b", 4),
                             "/\x7F",
                             "/\xC3",
                             "/\xFF",
                             "/\xC0\xAF",
                             "/\xED\xA0\x80",
                             "/\xF4\x90\x80\x80"};
  for (const std::string& path : bad) EXPECT_FALSE(check_path(path).ok()) << path;
  EXPECT_TRUE(check_path("/" + std::string(kPathBytesMax - 1, 'x')).ok());
  EXPECT_FALSE(check_path("/" + std::string(kPathBytesMax, 'x')).ok());
}

TEST(NamespaceCommit, CountsVersionsOfAPathFromOne) {
  Files f;
  EXPECT_EQ(f.put("/a"), 1U);
  EXPECT_EQ(f.put("/a"), 2U);
  EXPECT_EQ(f.put("/b"), 1U);
  ASSERT_NE(f.files.find("/a"), nullptr);
  EXPECT_EQ(f.files.find("/a")->version, 2U);
  EXPECT_EQ(f.files.find("/a", 1)->blocks.front().id.lo, 1U);
  EXPECT_EQ(f.files.find("/a", 3), nullptr);
  EXPECT_EQ(f.files.find("/a")->size, 100U);
  EXPECT_EQ(f.files.find("/a")->created_ms, 5U);
}

TEST(NamespaceCommit, KeepsTheNewestVersionsAndFreesTheRest) {
  Files f;
  for (int i = 0; i < 5; ++i) f.put("/a");
  EXPECT_EQ(f.files.find("/a", 2), nullptr);
  EXPECT_NE(f.files.find("/a", 3), nullptr);
  ASSERT_EQ(f.freed.size(), 2U);
  EXPECT_EQ(f.freed[0].id.lo, 1U);
  EXPECT_EQ(f.freed[0].replicas.size(), 3U);
  EXPECT_FALSE(f.files.refers_to(BlockId{7, 1}));
  EXPECT_EQ(f.files.blocks(), 3U);
  EXPECT_EQ(f.files.logical_bytes(), 300U);
}

TEST(NamespaceCommit, KeepsAllVersionsOfPinnedFilesAndFolders) {
  for (const std::string pin : {"/d/a", "/d", "/"}) {
    Files f;
    for (int i = 0; i < 5; ++i) f.put("/d/a", {pin});
    EXPECT_NE(f.files.find("/d/a", 1), nullptr) << pin;
    f.put("/d/a", {"/d/ab", "/dd", "/d/a/x"});
    EXPECT_EQ(f.files.find("/d/a", 1), nullptr) << pin;
  }
}

TEST(NamespaceCommit, AcceptsEmptyFiles) {
  Files f;
  ASSERT_TRUE(f.commit({whole("/empty", {})}).ok());
  EXPECT_EQ(f.files.find("/empty")->size, 0U);
}

TEST(NamespaceCommit, RefusesAllPartsWhenOneIsWrong) {
  const struct {
    const char* name;
    FsFilePart part;
    Errc code;
  } cases[] = {
      {"path", whole("b", {block(9)}), Errc::invalid},
      {"file is a folder", whole("/dir", {block(9)}), Errc::conflict},
      {"folder is a file", whole("/file/x/y", {block(9)}), Errc::conflict},
      {"folder made in the same commit is a file", whole("/new/x", {block(9)}), Errc::conflict},
      {"no id", whole("/b", {BlockRef{BlockId{}, 1, {}, {NodeId{1}}}}), Errc::invalid},
      {"too long", whole("/b", {block(9, kBlockBytesMax + 1)}), Errc::invalid},
      {"no bytes", whole("/b", {block(9, 0)}), Errc::invalid},
      {"no replicas", whole("/b", {block(9, 1, {})}), Errc::invalid},
      {"same replica twice", whole("/b", {block(9, 1, {2, 1, 2})}), Errc::invalid},
      {"node 0", whole("/b", {block(9, 1, {0})}), Errc::invalid},
      {"too many replicas", whole("/b", {block(9, 1, {1, 2, 3, 4, 5})}), Errc::invalid},
      {"block in use", whole("/b", {block(1)}), Errc::conflict},
      {"block twice in the commit", whole("/b", {block(20)}), Errc::conflict},
      {"block of an upload", whole("/b", {block(50)}), Errc::conflict},
      {"does not start at 0", FsFilePart{"/b", 77, 3, {block(9)}, false}, Errc::conflict},
      {"hole in an upload", FsFilePart{"/up", 5, 2, {block(9)}, true}, Errc::invalid},
      {"upload of another path", FsFilePart{"/b", 5, 1, {block(9)}, true}, Errc::invalid},
      {"part without an upload", FsFilePart{"/b", 0, 0, {block(9)}, true}, Errc::invalid},
  };
  for (const auto& c : cases) {
    Files f;
    ASSERT_TRUE(
        f.commit({whole("/file", {block(1)}), whole("/dir/x", {block(2)}), FsFilePart{"/up", 5, 0, {block(50)}, true}}).ok());
    const Namespace before = f.files;
    EXPECT_EQ(code_of(f.commit({whole("/new", {block(20)}), c.part})), c.code) << c.name;
    EXPECT_EQ(f.files, before) << c.name;
    EXPECT_TRUE(f.freed.empty());
  }
}

TEST(NamespaceCommit, RefusesTooManyFilesAtOnce) {
  Files f;
  std::vector<FsFilePart> parts;
  for (std::size_t i = 0; i <= kFilesPerRequestMax; ++i) parts.push_back(whole("/f" + std::to_string(i), {}));
  EXPECT_EQ(code_of(f.commit(parts)), Errc::too_large);
  parts.pop_back();
  EXPECT_TRUE(f.commit(parts).ok());
}

TEST(NamespaceUpload, IsVisibleOnlyWhenComplete) {
  Files f;
  EXPECT_EQ(f.commit({FsFilePart{"/big", 9, 0, {block(1), block(2)}, true}}).value(), std::vector<std::uint32_t>{0});
  EXPECT_EQ(f.files.find("/big"), nullptr);
  EXPECT_FALSE(f.files.is_folder("/big"));
  EXPECT_TRUE(f.files.refers_to(BlockId{7, 1}));
  EXPECT_EQ(f.files.blocks(), 0U);
  EXPECT_EQ(f.commit({FsFilePart{"/big", 9, 2, {block(3)}, true}}).value(), std::vector<std::uint32_t>{0});
  EXPECT_EQ(f.commit({FsFilePart{"/big", 9, 3, {block(4)}, false}}).value(), std::vector<std::uint32_t>{1});
  EXPECT_EQ(f.files.find("/big")->blocks.size(), 4U);
  EXPECT_EQ(f.files.find("/big")->size, 400U);
  EXPECT_EQ(f.files.blocks(), 4U);
  EXPECT_EQ(f.files.uploads(), 0U);
}

TEST(NamespaceUpload, IsRefusedAtTheEndWhenThePathWasTakenByAFolder) {
  Files f;
  ASSERT_TRUE(f.commit({FsFilePart{"/big", 9, 0, {block(1)}, true}}).ok());
  ASSERT_TRUE(f.commit({whole("/big/x", {block(2)})}).ok());
  EXPECT_EQ(code_of(f.commit({FsFilePart{"/big", 9, 1, {block(3)}, false}})), Errc::conflict);
}

TEST(NamespaceUpload, DropsTheLeastRecentlyFedBeyondTheBound) {
  Files f;
  for (std::uint64_t i = 1; i <= kUploadsMax; ++i) {
    ASSERT_TRUE(f.commit({FsFilePart{"/u" + std::to_string(i), i, 0, {block(i)}, true}}).ok());
  }
  ASSERT_TRUE(f.commit({FsFilePart{"/u1", 1, 1, {block(1001)}, true}}).ok());  // feeds the oldest
  EXPECT_TRUE(f.freed.empty());
  ASSERT_TRUE(f.commit({FsFilePart{"/u100", 100, 0, {block(100)}, true}}).ok());
  EXPECT_EQ(f.files.uploads(), kUploadsMax);
  ASSERT_EQ(f.freed.size(), 1U);
  EXPECT_EQ(f.freed[0].id.lo, 2U);
  EXPECT_EQ(code_of(f.commit({FsFilePart{"/u2", 2, 1, {block(2000)}, false}})), Errc::conflict);
  EXPECT_TRUE(f.commit({FsFilePart{"/u1", 1, 2, {}, false}}).ok());
}

TEST(NamespaceRemove, TakesFilesAndFolders) {
  Files f;
  for (const std::string path : {"/a/1", "/a/2", "/a-b", "/a/c/3", "/z"}) f.put(path);
  f.put("/z");
  auto removed = f.files.remove({"/z"}, false, f.freed);
  ASSERT_TRUE(removed.ok());
  EXPECT_EQ(removed->files, 1U);
  EXPECT_EQ(removed->blocks, 2U);
  removed = f.files.remove({"/a", "/a/1"}, true, f.freed);
  ASSERT_TRUE(removed.ok());
  EXPECT_EQ(removed->files, 3U);
  EXPECT_EQ(f.freed.size(), 5U);
  EXPECT_EQ(f.files.files(), 1U);
  EXPECT_NE(f.files.find("/a-b"), nullptr);
  EXPECT_TRUE(f.files.remove({"/"}, true, f.freed).ok());
  EXPECT_EQ(f.files.files(), 0U);
  EXPECT_EQ(f.files, Namespace(3));
}

TEST(NamespaceRemove, RefusesWithoutChangingAnything) {
  Files f;
  f.put("/a/1");
  f.put("/b");
  ASSERT_TRUE(f.files.create_open("/r/job", 3, 1).ok());
  const Namespace before = f.files;
  EXPECT_EQ(f.files.remove({"/b", "/nothing"}, true, f.freed).error().code, Errc::not_found);
  EXPECT_EQ(f.files.remove({"/b", "/a"}, false, f.freed).error().code, Errc::invalid);
  EXPECT_EQ(f.files.remove({"/b", "/r/job"}, false, f.freed).error().code, Errc::conflict);
  EXPECT_EQ(f.files.remove({"/b", "/r"}, true, f.freed).error().code, Errc::conflict);
  EXPECT_EQ(f.files.remove({"/"}, true, f.freed).error().code, Errc::conflict);
  EXPECT_EQ(f.files, before);
  EXPECT_TRUE(f.freed.empty());
}

TEST(NamespaceOpenFile, FillsInAnyOrderAndDropsEmptyPlacesWhenClosed) {
  Files f;
  ASSERT_TRUE(f.files.create_open("/r/1", 4, 1).ok());
  EXPECT_EQ(f.files.create_open("/r/1", 4, 1).error().code, Errc::conflict);
  EXPECT_EQ(f.files.create_open("/r", 4, 1).error().code, Errc::conflict);
  EXPECT_EQ(f.files.create_open("/r/1/x", 4, 1).error().code, Errc::conflict);
  EXPECT_EQ(code_of(f.commit({whole("/r/1", {block(9)})})), Errc::conflict);
  EXPECT_TRUE(f.files.fill_open("/r/1", 3, block(1, kResultBlockBytesMax)));
  EXPECT_TRUE(f.files.fill_open("/r/1", 1, block(2)));
  EXPECT_FALSE(f.files.fill_open("/r/1", 0, block(2)));
  EXPECT_TRUE(f.files.find("/r/1")->open);
  EXPECT_EQ(f.files.find("/r/1")->size, kResultBlockBytesMax + 100ULL);
  EXPECT_EQ(f.files.blocks(), 2U);
  f.files.close_open("/r/1", 77);
  const FileVersion* file = f.files.find("/r/1");
  ASSERT_EQ(file->blocks.size(), 2U);
  EXPECT_EQ(file->blocks[0].id.lo, 2U);
  EXPECT_FALSE(file->open);
  EXPECT_EQ(f.files.move_replicas({{"/r/1", 1, 1, BlockId{7, 1}, {NodeId{9}}, {}}}), 1U);
  f.next_block = 10;
  EXPECT_EQ(f.put("/r/1"), 2U);
  f.files.remove_open("/r/1", f.freed);  // not open any more: stays
  EXPECT_EQ(f.files.files(), 1U);
}

TEST(NamespaceOpenFile, CanBeRemoved) {
  Files f;
  ASSERT_TRUE(f.files.create_open("/r/1", 2, 1).ok());
  f.files.fill_open("/r/1", 1, block(1));
  f.files.remove_open("/r/1", f.freed);
  EXPECT_EQ(f.files.find("/r/1"), nullptr);
  EXPECT_EQ(f.freed.size(), 1U);
  EXPECT_EQ(f.files, Namespace(3));
}

TEST(NamespaceReplicas, MoveOnlyWhereTheBlockStillIs) {
  Files f;
  f.put("/a");
  f.put("/a");
  const BlockId first{7, 1};
  const std::vector<NodeId> seen{NodeId{1}, NodeId{2}, NodeId{3}};
  EXPECT_EQ(f.files.move_replicas({{"/a", 2, 0, first, {NodeId{8}}, seen},
                                   {"/b", 1, 0, first, {NodeId{8}}, seen},
                                   {"/a", 1, 1, first, {NodeId{8}}, seen},
                                   {"/a", 1, 0, BlockId{7, 99}, {NodeId{8}}, seen},
                                   {"/a", 1, 0, first, {}, seen},
                                   {"/a", 1, 0, first, {NodeId{8}, NodeId{8}}, seen},
                                   {"/a", 1, 0, first, seen, seen}}),
            0U);
  EXPECT_EQ(f.files.move_replicas({{"/a", 1, 0, first, {NodeId{8}, NodeId{2}}, seen}}), 1U);
  EXPECT_EQ(f.files.find("/a", 1)->blocks[0].replicas, (std::vector<NodeId>{NodeId{2}, NodeId{8}}));
  EXPECT_EQ(f.files.held_by(NodeId{8}, BlockId{}, BlockId{UINT64_MAX, UINT64_MAX}), std::vector<BlockId>{first});
}

TEST(NamespaceReplicas, AMoveChangesOnlyWhatItsMakerWanted) {
  Files f;
  f.put("/a");
  const BlockId id{7, 1};
  const std::vector<NodeId> seen{NodeId{1}, NodeId{2}, NodeId{3}};
  const auto now = [&] { return f.files.find("/a")->blocks[0].replicas; };
  // n3 is forgotten while a move is on its way that adds n4 and takes n1 off: n3 does not come back.
  EXPECT_EQ(f.files.forget_blocks(NodeId{3}, {id}), 1U);
  EXPECT_EQ(f.files.move_replicas({{"/a", 1, 0, id, {NodeId{2}, NodeId{3}, NodeId{4}}, seen}}), 1U);
  EXPECT_EQ(now(), (std::vector<NodeId>{NodeId{2}, NodeId{4}}));
  // A move that would leave nobody, or adds one who is refused, does nothing: its removals relied on that.
  EXPECT_EQ(f.files.move_replicas({{"/a", 1, 0, id, {NodeId{3}}, {NodeId{2}, NodeId{3}, NodeId{4}}}}), 0U);
  EXPECT_EQ(f.files.move_replicas({{"/a", 1, 0, id, {NodeId{5}}, now()}}, {NodeId{5}}), 0U);
  EXPECT_EQ(now(), (std::vector<NodeId>{NodeId{2}, NodeId{4}}));
  std::vector<NodeId> many;
  for (std::uint32_t i = 10; i < 10 + kReplicasListedMax; ++i) many.push_back(NodeId{i});
  EXPECT_EQ(f.files.move_replicas({{"/a", 1, 0, id, many, {}}}), 0U) << "the list would be too long";
}

TEST(NamespaceReplicas, AreForgottenByNodeAndByBlock) {
  Files f;
  for (int i = 0; i < 3; ++i) f.put("/f" + std::to_string(i));
  ASSERT_TRUE(f.commit({FsFilePart{"/up", 5, 0, {block(50)}, true}}).ok());
  EXPECT_EQ(f.files.forget_blocks(NodeId{1}, {BlockId{7, 1}, BlockId{7, 3}, BlockId{1, 1}}), 2U);
  EXPECT_EQ(f.files.forget_blocks(NodeId{1}, {BlockId{7, 1}}), 0U);
  EXPECT_EQ(f.files.forget_node(NodeId{2}), 4U);
  EXPECT_EQ(f.files.forget_node(NodeId{9}), 0U);
  EXPECT_EQ(f.files.find("/f0")->blocks[0].replicas, std::vector<NodeId>{NodeId{3}});
  EXPECT_EQ(f.files.held_by(NodeId{1}, BlockId{7, 1}, BlockId{7, 50}), (std::vector<BlockId>{{7, 2}, {7, 50}}));
}

TEST(NamespaceMisplaced, PutsTheMostEndangeredFirstAndTheLostLast) {
  Files f;
  ASSERT_TRUE(f.commit({whole("/ok", {block(1, 9, {1, 2})}), whole("/many", {block(2, 9, {1, 2, 3})}),
                        whole("/one", {block(3, 9, {1, 9})}), whole("/lost", {block(4, 9, {8, 9})})})
                  .ok());
  const std::set<NodeId> live{NodeId{1}, NodeId{2}, NodeId{3}};
  std::uint64_t under = 0;
  auto places = f.files.misplaced(live, 2, 100, under);
  EXPECT_EQ(under, 2U);
  ASSERT_EQ(places.size(), 3U);
  EXPECT_EQ(places[0].path, "/one");
  EXPECT_EQ(places[1].path, "/many");
  EXPECT_EQ(places[2].path, "/lost");
  EXPECT_EQ(f.files.misplaced(live, 2, 1, under).size(), 1U);
  EXPECT_EQ(under, 2U);
  places = f.files.misplaced({NodeId{1}}, 4, 100, under);  // one live node: one copy is all there can be
  EXPECT_EQ(places.size(), 1U);
  EXPECT_EQ(under, 1U);
}

TEST(NamespaceList, ShowsDirectEntriesOrEverythingBelow) {
  Files f;
  for (const std::string path : {"/a/1", "/a/2", "/a-b", "/a/c/3", "/a/c/d/4", "/z"}) f.put(path);
  f.put("/z");
  FsListRequest request;
  request.path = "/a";
  auto reply = f.files.list(request);
  ASSERT_TRUE(reply.ok());
  EXPECT_EQ(paths_of(reply->files), (std::vector<std::string>{"/a/1", "/a/2"}));
  EXPECT_EQ(reply->folders, std::vector<std::string>{"/a/c"});
  EXPECT_EQ(reply->next, "");
  EXPECT_TRUE(reply->files[0].blocks.empty());
  request.recursive = true;
  request.with_blocks = true;
  reply = f.files.list(request);
  EXPECT_EQ(paths_of(reply->files), (std::vector<std::string>{"/a/1", "/a/2", "/a/c/3", "/a/c/d/4"}));
  EXPECT_EQ(reply->files[0].blocks.size(), 1U);
  request.path = "/";
  request.recursive = false;
  reply = f.files.list(request);
  EXPECT_EQ(paths_of(reply->files), (std::vector<std::string>{"/a-b", "/z"}));
  EXPECT_EQ(reply->folders, std::vector<std::string>{"/a"});
  request.path = "/z";
  request.all_versions = true;
  reply = f.files.list(request);
  ASSERT_EQ(reply->files.size(), 2U);
  EXPECT_EQ(reply->files[0].version, 2U);
  request.path = "/nothing";
  EXPECT_EQ(f.files.list(request).error().code, Errc::not_found);
  EXPECT_TRUE(Namespace().list(FsListRequest{"/", false, false, false, "", 10}).ok());
}

TEST(NamespaceList, PagesMeetWithoutGapOrOverlap) {
  Files f;
  for (int i = 0; i < 7; ++i) {
    f.put("/d/f" + std::to_string(i));
    f.put("/d/f" + std::to_string(i));
    f.put("/d/s" + std::to_string(i) + "/x");
  }
  for (const bool recursive : {false, true}) {
    for (const bool all_versions : {false, true}) {
      FsListRequest request{"/d", recursive, true, all_versions, "", kListPageMax};
      const auto whole_list = f.files.list(request);
      for (std::uint32_t limit : {1U, 2U, 3U, 5U}) {
        FsListReply joined;
        request.limit = limit;
        request.after.clear();
        do {
          auto page = f.files.list(request);
          ASSERT_TRUE(page.ok());
          ASSERT_LE(page->files.size() + page->folders.size(), limit);
          joined.files.insert(joined.files.end(), page->files.begin(), page->files.end());
          joined.folders.insert(joined.folders.end(), page->folders.begin(), page->folders.end());
          request.after = page->next;
        } while (!request.after.empty());
        EXPECT_EQ(joined, *whole_list) << recursive << all_versions << limit;
      }
    }
  }
}

TEST(NamespaceList, PagesFitAMessageWhateverTheNames) {
  Files f;
  std::uint64_t id = 1;
  for (int batch = 0; batch < 3; ++batch) {
    std::vector<FsFilePart> parts;
    for (int i = 0; i < 600; ++i) {
      const std::string number = std::to_string(batch * 1000 + i);
      const std::string folder = "/" + number + std::string(500 - number.size(), 'x');
      parts.push_back(whole(folder + "/" + std::string(500, 'y'),
                            {block(UINT64_MAX - id++, 1U << 20U, {4000000001U, 4000000002U, 4000000003U, 4000000004U})}));
    }
    ASSERT_TRUE(f.commit(parts).ok());
  }
  for (const bool recursive : {true, false}) {
    FsListRequest request{"/", recursive, true, true, "", kListPageMax};
    std::size_t entries = 0;
    do {
      auto page = f.files.list(request);
      ASSERT_TRUE(page.ok());
      EXPECT_LE(encode(*page).size(), kPageBytesMax + 4096);
      entries += page->files.size() + page->folders.size();
      request.after = page->next;
    } while (!request.after.empty());
    EXPECT_EQ(entries, 1800U);
  }
  FsStoreRequest store{NodeId{4000000001U}, "", kListPageMax};
  std::size_t entries = 0;
  do {
    const FsStoreReply page = f.files.store(store);
    EXPECT_LE(encode(page).size(), kPageBytesMax + 4096);
    entries += page.entries.size();
    store.after = page.next;
  } while (!store.after.empty());
  EXPECT_EQ(entries, 1800U);
}

TEST(NamespaceList, LeavesTheBlocksOfLargeFilesToStat) {
  Files f;
  ASSERT_TRUE(f.files.create_open("/r", 5000, 1).ok());
  for (std::uint64_t i = 0; i < 5000; ++i) ASSERT_TRUE(f.files.fill_open("/r", i, block(i + 1)));
  const auto listed = f.files.list(FsListRequest{"/r", false, true, false, "", 10});
  ASSERT_EQ(listed->files.size(), 1U);
  EXPECT_TRUE(listed->files[0].blocks.empty());
  EXPECT_EQ(listed->files[0].size, 500000U);
  FsStatRequest request{"/r", 0, 0, 100000};
  std::uint64_t seen = 0;
  while (seen < 5000) {
    request.first_block = seen;
    const auto page = f.files.stat(request);
    ASSERT_TRUE(page.ok());
    EXPECT_EQ(page->total_blocks, 5000U);
    ASSERT_FALSE(page->file.blocks.empty());
    EXPECT_LE(page->file.blocks.size(), kBlocksPerRequestMax);
    EXPECT_EQ(page->file.blocks[0].id.lo, seen + 1);
    seen += page->file.blocks.size();
  }
}

TEST(NamespaceStat, TellsFilesFoldersAndNothingApart) {
  Files f;
  f.put("/a/b");
  EXPECT_TRUE(f.files.stat({"/a", 0, 0, 10})->is_folder);
  EXPECT_TRUE(f.files.stat({"/", 0, 0, 10})->is_folder);
  EXPECT_FALSE(f.files.stat({"/a/b", 1, 0, 10})->is_folder);
  EXPECT_EQ(f.files.stat({"/a/b", 2, 0, 10}).error().code, Errc::not_found);
  EXPECT_EQ(f.files.stat({"/x", 0, 0, 10}).error().code, Errc::not_found);
  EXPECT_TRUE(f.files.stat({"/a/b", 0, 99, 10})->file.blocks.empty());
}

TEST(NamespaceStore, CountsWhatANodeHolds) {
  Files f;
  ASSERT_TRUE(
      f.commit({whole("/a", {block(1, 10, {1}), block(2, 20, {1, 2}), block(3, 40, {2})}), whole("/b", {block(4, 80, {2})})})
          .ok());
  ASSERT_TRUE(f.commit({whole("/a", {block(5, 160, {1})})}).ok());
  const FsStoreReply reply = f.files.store({NodeId{1}, "", 10});
  EXPECT_EQ(reply.entries, (std::vector<StoreEntry>{{"/a", 2, 1, 160}, {"/a", 1, 2, 30}}));
  const FsStoreReply first = f.files.store({NodeId{1}, "", 1});
  EXPECT_EQ(f.files.store({NodeId{1}, first.next, 1}).entries, (std::vector<StoreEntry>{{"/a", 1, 2, 30}}));
}

TEST(NamespaceSnapshot, RefusesDamagedBytes) {
  Files f;
  f.put("/a");
  f.put("/a");
  ASSERT_TRUE(f.commit({FsFilePart{"/up", 5, 0, {block(50)}, true}}).ok());
  ASSERT_TRUE(f.files.create_open("/r", 3, 1).ok());
  const Bytes good = f.files.encode();
  const auto again = Namespace::decode(good);
  ASSERT_TRUE(again.ok()) << again.error().detail;
  EXPECT_EQ(again->encode(), good);
  for (std::size_t cut = 0; cut < good.size(); ++cut) EXPECT_FALSE(Namespace::decode(ByteView(good).substr(0, cut)).ok()) << cut;
  EXPECT_FALSE(Namespace::decode(good + "x").ok());
  for (std::size_t at = 0; at < good.size(); ++at) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      Bytes flipped = good;
      flipped[at] = static_cast<char>(static_cast<unsigned char>(flipped[at]) ^ (1U << bit));
      (void)Namespace::decode(flipped).ok();  // must not crash; a changed number may be another valid snapshot
    }
  }
}

}  // namespace
}  // namespace idunno
