#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "bus/base/random.h"
#include "storage/sdfs/datasets.h"
#include "storage/sdfs/manifest_reader.h"
#include "tests/unit/sdfs/fake_cluster.h"

namespace idunno::test {
namespace {

Bytes random_bytes(std::size_t size, std::uint64_t seed) {
  Random random(seed);
  Bytes bytes(size, '\0');
  for (char& c : bytes) c = static_cast<char>(random.next());
  return bytes;
}

class SdfsClientTest : public FakeClusterFixture {
 protected:
  std::string local(const std::string& name) const { return (folder.path / name).string(); }
  void make_file(const std::string& name, const Bytes& bytes) const {
    std::filesystem::create_directories((folder.path / name).parent_path());
    std::ofstream(local(name), std::ios::binary) << bytes;
  }
  Bytes content(const std::string& name) const {
    std::ifstream file(local(name), std::ios::binary);
    return Bytes(std::istreambuf_iterator<char>(file), {});
  }
  Result<Bytes> get(const std::string& path, std::uint32_t version = 0) {
    Bytes all;
    auto status = sdfs->get(path, version, [&](ByteView bytes) {
      all += bytes;
      return Status{};
    });
    if (!status) return status.error();
    return all;
  }
  TemporaryFolder folder;
};

TEST_F(SdfsClientTest, MetadataFollowsTheLeaderAndKeepsTheRequestId) {
  start(3);
  leader = NodeId{3};
  refusals = 5;
  EXPECT_TRUE(sdfs->refresh_placement().ok());
  EXPECT_EQ(metadata->coordinator_hint(), NodeId{3});
  ASSERT_GE(requests.size(), 6U);
  for (const RequestId& request : requests) EXPECT_EQ(request, requests.front());
}

TEST_F(SdfsClientTest, MetadataSaysWhoWasTriedWhenNobodyLeads) {
  start(3);
  for (std::uint32_t i = 1; i <= 3; ++i) kill(i);
  metadata = std::make_unique<MetadataClient>(loop, *rpc_client, std::vector<NodeId>{NodeId{1}, NodeId{2}, NodeId{3}},
                                              std::chrono::milliseconds(500));
  const auto reply = metadata->call_and_wait(PlacementRequest{});
  ASSERT_FALSE(reply.ok());
  EXPECT_EQ(reply.error().code, Errc::no_coordinator);
  EXPECT_NE(reply.error().detail.find("tried n1, n2, n3"), std::string::npos) << reply.error().detail;
}

TEST_F(SdfsClientTest, MetadataTakesForbiddenAsFinal) {
  start(2);
  const auto reader = make_client(Role::read);
  MetadataClient client(loop, *reader, {NodeId{1}, NodeId{2}}, std::chrono::seconds(20));
  const auto reply = client.call_and_wait(FsCommitRequest{});
  ASSERT_FALSE(reply.ok());
  EXPECT_EQ(reply.error().code, Errc::forbidden);
}

TEST_F(SdfsClientTest, PutsAndGetsFilesOfAnySize) {
  start(5);
  std::vector<SdfsClient::PutItem> items;
  std::map<std::string, Bytes> expected;
  const std::size_t sizes[] = {0, 1, 1000, kBlockBytesMax - 1, kBlockBytesMax, kBlockBytesMax + 1, 9U * kBlockBytesMax + 17};
  for (const std::size_t size : sizes) {
    const std::string name = std::to_string(size);
    expected["/d/" + name] = random_bytes(size, size + 1);
    make_file(name, expected["/d/" + name]);
    items.push_back({local(name), "/d/" + name});
  }
  TransferProgress last;
  const auto versions = sdfs->put(items, [&](const TransferProgress& progress) { last = progress; });
  ASSERT_TRUE(versions.ok()) << versions.error().detail;
  EXPECT_EQ(last.files_done, items.size());
  EXPECT_EQ(commits, 1U);  // all in one request: they become visible together
  for (std::size_t i = 0; i < items.size(); ++i) {
    EXPECT_EQ((*versions)[i].path, items[i].sdfs_path);
    EXPECT_EQ((*versions)[i].version, 1U);
    EXPECT_EQ((*versions)[i].size, sizes[i]);
    const auto back = get(items[i].sdfs_path);
    ASSERT_TRUE(back.ok()) << back.error().detail;
    EXPECT_TRUE(*back == expected[items[i].sdfs_path]) << sizes[i];
  }
  const auto listed = sdfs->list_all("/d", true);
  ASSERT_TRUE(listed.ok());
  std::vector<SdfsClient::GetItem> wanted;
  for (const FileVersion& file : *listed) wanted.push_back({file, local("out" + file.path)});
  wanted.back().file.blocks.clear();  // is fetched
  ASSERT_TRUE(sdfs->get_files(wanted, {}).ok());
  for (const auto& [path, bytes] : expected) EXPECT_TRUE(content("out" + path) == bytes) << path;
}

TEST_F(SdfsClientTest, PutsManySmallFilesInFewRequests) {
  start(3);
  std::vector<SdfsClient::PutItem> items;
  for (int i = 0; i < 3000; ++i) {
    make_file("f" + std::to_string(i), "content " + std::to_string(i));
    items.push_back({local("f" + std::to_string(i)), "/many/" + std::to_string(i)});
  }
  ASSERT_TRUE(sdfs->put(items, {}).ok());
  EXPECT_EQ(commits, 3U);
  EXPECT_LE(nodes[NodeId{1}].puts, 60U);
  EXPECT_EQ(sdfs->list_all("/many", true)->size(), 3000U);
  EXPECT_EQ(*get("/many/1234"), "content 1234");
}

TEST_F(SdfsClientTest, PutSurvivesTheDeathOfANode) {
  start(5);
  make_file("big", random_bytes(20U * kBlockBytesMax, 3));
  bool killed = false;
  const auto versions = sdfs->put({{local("big"), "/big"}}, [&](const TransferProgress& progress) {
    if (progress.bytes_done > 4U * kBlockBytesMax && !std::exchange(killed, true)) kill(4);
  });
  ASSERT_TRUE(versions.ok()) << versions.error().detail;
  EXPECT_TRUE(killed);
  EXPECT_TRUE(*get("/big") == content("big"));
}

TEST_F(SdfsClientTest, RefusesBadPutsBeforeAnythingIsWritten) {
  start(2);
  make_file("good", "x");
  const std::vector<SdfsClient::PutItem> bad[] = {{{local("good"), "/a"}, {local("none"), "/b"}},
                                                  {{local("good"), "/a"}, {local("."), "/b"}},
                                                  {{local("good"), "/a"}, {local("good"), "b"}},
                                                  {{local("good"), "/a"}, {local("good"), "/a"}}};
  for (const auto& items : bad) EXPECT_FALSE(sdfs->put(items, {}).ok());
  EXPECT_EQ(commits, 0U);
  EXPECT_EQ(nodes[NodeId{1}].puts + nodes[NodeId{2}].puts, 0U);
}

TEST_F(SdfsClientTest, AFailedGetLeavesNothingBehind) {
  start(2);
  make_file("a", "aaa");
  make_file("b", "bbb");
  ASSERT_TRUE(sdfs->put({{local("a"), "/d/a"}, {local("b"), "/d/b"}}, {}).ok());
  const FileVersion lost = sdfs->stat("/d/b", 0).value();
  for (auto& [id, node] : nodes) ASSERT_TRUE(node.store->remove({lost.blocks[0].id}).ok());
  const auto listed = sdfs->list_all("/d", true).value();
  EXPECT_FALSE(sdfs->get_files({{listed[0], local("out/a")}, {listed[1], local("out/b")}}, {}).ok());
  EXPECT_FALSE(std::filesystem::exists(local("out")));
  EXPECT_FALSE(get("/d/b").ok());
  EXPECT_EQ(get("/none").error().code, Errc::not_found);
  EXPECT_EQ(get("/d").error().code, Errc::invalid);
}

TEST_F(SdfsClientTest, KeepsTheBordersOfPieces) {
  start(2);
  ASSERT_TRUE(sdfs->put_pieces("/m", {"one", "three", "x"}).ok());
  const auto file = sdfs->stat("/m", 0);
  ASSERT_TRUE(file.ok());
  ASSERT_EQ(file->blocks.size(), 3U);
  EXPECT_EQ(file->blocks[1].length, 5U);
  EXPECT_EQ(sdfs->put_pieces("/m", {Bytes(kBlockBytesMax + 1, 'x')}).error().code, Errc::too_large);
}

TEST_F(SdfsClientTest, DatasetsAreReadBackByTheirManifest) {
  start(3);
  Bytes csv = "x,y\n";
  for (int i = 0; i < 200000; ++i) csv += std::to_string(i) + "," + std::to_string(i + 1) + "\n";
  make_file("data.csv", csv);
  make_file("bad.csv.gz", "\x1F\x8B\x08 compressed");
  make_file("img/b.png", "png bytes");
  make_file("img/a.jpg", random_bytes(2500000, 1));
  make_file("img/notes.txt", "no image");
  ASSERT_TRUE(sdfs->put({{local("data.csv"), "/data.csv"},
                         {local("bad.csv.gz"), "/bad.csv.gz"},
                         {local("img/b.png"), "/img/b.png"},
                         {local("img/a.jpg"), "/img/a.jpg"},
                         {local("img/notes.txt"), "/img/notes.txt"}},
                        {})
                  .ok());
  const auto refused = index_dataset(*sdfs, "/bad.csv.gz");
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().detail.find("gunzip"), std::string::npos);
  EXPECT_EQ(index_dataset(*sdfs, "/none").error().code, Errc::not_found);
  EXPECT_EQ(index_dataset(*sdfs, "/img/notes.txt").error().code, Errc::invalid);

  for (const std::string path : {"/img", "/data.csv"}) {
    const auto index = index_dataset(*sdfs, path);
    ASSERT_TRUE(index.ok()) << index.error().detail;
    std::uint32_t per_chunk = 0;
    ASSERT_TRUE(sdfs->put_pieces("/manifest", build_manifest(*index, per_chunk)).ok());
    const FileVersion manifest = sdfs->stat("/manifest", 0).value();
    const auto relocate = [](const std::string&, std::uint32_t, std::uint64_t,
                             const std::function<void(Result<BlockRef>)>& done) {
      done(Error{Errc::not_found, "nowhere"});
    };
    ManifestReader reader(loop, *blocks, manifest, per_chunk, relocate, {});
    const auto fetch = [&](std::uint64_t first, std::uint32_t count) {
      std::optional<Result<std::vector<BatchItem>>> answer;
      reader.fetch_batch(first, count, [&](Result<std::vector<BatchItem>> items) { answer = std::move(items); });
      EXPECT_FALSE(answer.has_value());
      run_until([&] { return answer.has_value(); });
      return std::move(*answer);
    };
    EXPECT_EQ(fetch(index->items.size(), 1).error().code, Errc::invalid);
    EXPECT_TRUE(fetch(0, 0)->empty());
    if (path == "/img") {
      const auto items = fetch(0, 2);
      ASSERT_TRUE(items.ok()) << items.error().detail;
      EXPECT_EQ((*items)[0].query, "/img/a.jpg");
      EXPECT_TRUE((*items)[0].bytes.view() == content("img/a.jpg"));
      EXPECT_EQ((*items)[1].bytes.view(), "png bytes");
      continue;
    }
    for (std::uint64_t first = 500; first < 200000; first += 17000) {
      const auto items = fetch(first, 64);
      ASSERT_TRUE(items.ok()) << items.error().detail;
      for (std::uint64_t i = 0; i < 64; ++i) {
        EXPECT_EQ((*items)[i].query, "/data.csv#" + std::to_string(first + i));
        EXPECT_EQ((*items)[i].bytes.view(), std::to_string(first + i) + "," + std::to_string(first + i + 1));
      }
    }
  }
}

TEST_F(SdfsClientTest, ManifestReaderJoinsReadsAndLooksForMovedBlocksOnce) {
  start(3, 1);
  make_file("d.csv", "1\n2\n3\n4\n");
  ASSERT_TRUE(sdfs->put({{local("d.csv"), "/d.csv"}}, {}).ok());
  const auto index = index_dataset(*sdfs, "/d.csv");
  ASSERT_TRUE(index.ok());
  std::uint32_t per_chunk = 0;
  ASSERT_TRUE(sdfs->put_pieces("/manifest", build_manifest(*index, per_chunk)).ok());
  const FileVersion manifest = sdfs->stat("/manifest", 0).value();
  // The data's block moves to another node after the manifest was written.
  BlockRef moved = index->files[0].blocks[0];
  const NodeId from = moved.replicas[0];
  const NodeId to{from.value % 3 + 1};
  const BlockKey key{moved.id, moved.length, moved.hash};
  const Bytes bytes(nodes[from].store->get(key)->view());
  ASSERT_TRUE(nodes[to].store->put({BlockWrite{key, bytes}}, 1).ok());
  ASSERT_TRUE(nodes[from].store->remove({moved.id}).ok());
  moved.replicas = {to};
  int asked = 0;
  const auto relocate = [&](const std::string& path, std::uint32_t version, std::uint64_t block,
                            const std::function<void(Result<BlockRef>)>& done) {
    ++asked;
    EXPECT_EQ(path, "/d.csv");
    EXPECT_EQ(version, 1U);
    EXPECT_EQ(block, 0U);
    done(moved);
  };
  ManifestReader reader(loop, *blocks, manifest, per_chunk, relocate, {});
  int done = 0;
  for (std::uint64_t q = 0; q < 4; ++q) {
    reader.fetch_batch(q, 1, [&, q](const Result<std::vector<BatchItem>>& items) {
      ASSERT_TRUE(items.ok()) << items.error().detail;
      EXPECT_EQ(items->front().bytes.view(), std::to_string(q + 1));
      ++done;
    });
  }
  ASSERT_TRUE(run_until([&] { return done == 4; }));
  EXPECT_EQ(asked, 1);
  for (auto& [id, node] : nodes) ASSERT_TRUE(node.store->remove({moved.id}).ok());
  bool failed = false;
  ManifestReader fresh(loop, *blocks, manifest, per_chunk, relocate, {});
  fresh.fetch_batch(0, 4, [&](const Result<std::vector<BatchItem>>& items) { failed = !items.ok(); });
  ASSERT_TRUE(run_until([&] { return failed; }));
  EXPECT_EQ(asked, 2);
}

}  // namespace
}  // namespace idunno::test
