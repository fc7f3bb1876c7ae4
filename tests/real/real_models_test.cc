// Real networks over real data: a five-node cluster gives exactly the rows that a single process looping over cv::dnn gives,
// before and after two workers are killed. Skipped where the data is absent.

#include <gtest/gtest.h>
#include <zlib.h>

#include <cmath>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "tests/cluster/harness.h"

namespace idunno::testing {
namespace {

using Rows = std::vector<nlohmann::json>;

Rows parse_rows(const std::string& text) {
  Rows rows;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) rows.push_back(nlohmann::json::parse(line, nullptr, false));
  return rows;
}

/// "a/b.jpg" -> "b.jpg", "x.idx#7" -> "7".
std::string short_name(const std::string& query) { return query.substr(query.find_last_of("/#") + 1); }

void expect_same_rows(const Rows& cluster, const Rows& reference) {
  ASSERT_EQ(cluster.size(), reference.size());
  for (std::size_t i = 0; i < cluster.size(); ++i) {
    ASSERT_TRUE(cluster[i].contains("top")) << cluster[i].dump();
    EXPECT_EQ(cluster[i]["index"], reference[i]["index"]);
    EXPECT_EQ(short_name(cluster[i].value("query", "")), short_name(reference[i].value("query", "")));
    const auto& ours = cluster[i]["top"];
    const auto& theirs = reference[i]["top"];
    ASSERT_EQ(ours.size(), theirs.size());
    for (std::size_t k = 0; k < ours.size(); ++k) {
      EXPECT_EQ(ours[k]["label"], theirs[k]["label"]) << cluster[i].dump() << reference[i].dump();
      EXPECT_NEAR(ours[k].value("p", -1.0), theirs[k].value("p", -2.0), 1.01e-4);
    }
  }
}

struct Accuracy {
  int top1 = 0;
  int top5 = 0;
};

Accuracy accuracy(const Rows& rows, const std::map<std::string, int>& truth) {
  Accuracy counts;
  for (const auto& row : rows) {
    const auto wanted = truth.find(short_name(row.value("query", "")));
    if (wanted == truth.end()) continue;
    for (std::size_t k = 0; k < row["top"].size() && k < 5; ++k) {
      if (row["top"][k].value("index", -1) != wanted->second) continue;
      ++counts.top5;
      if (k == 0) ++counts.top1;
    }
  }
  return counts;
}

std::string gunzip(const std::filesystem::path& file) {
  std::string bytes;
  gzFile in = gzopen(file.c_str(), "rb");
  EXPECT_NE(in, nullptr) << file;
  std::vector<char> buffer(1 << 20);
  for (int got = 0; (got = gzread(in, buffer.data(), static_cast<unsigned>(buffer.size()))) > 0;) {
    bytes.append(buffer.data(), static_cast<std::size_t>(got));
  }
  gzclose(in);
  return bytes;
}

class RealModels : public ::testing::Test {
 protected:
  void SetUp() override {
    data_ = shared_data();
    if (data_.empty()) GTEST_SKIP() << "no real data: set IDUNNO_SHARED_DATA to try it";
  }

  [[nodiscard]] Rows reference(const std::string& model, const std::filesystem::path& inputs, int batch) const {
    const CommandResult run = run_program(
        {(bin_dir() / "idunno-executor").string(), "run", "--onnx", (data_ / "models" / (model + ".onnx")).string(), "--spec",
         (data_ / "models" / (model + ".toml")).string(), "--batch", std::to_string(batch), "--data", inputs.string()},
        std::chrono::seconds(300));
    EXPECT_EQ(run.exit_code, 0) << run.err;
    return parse_rows(run.out);
  }

  /// The rows of the job undisturbed, and again with two workers killed on the way: both must be the reference's.
  Rows compare(const TestCluster& cluster, const std::string& model, const std::string& data, const Rows& wanted,
               int batch) const {
    cluster.expect(0, {"model", "add", model, (data_ / "models" / (model + ".onnx")).string()});
    const std::vector<std::string> job{"--model", model, "--data", data, "--batch", std::to_string(batch)};
    const std::string calm = cluster.submit(job);
    const std::string digest = cluster.finish(calm);
    Rows rows = parse_rows(cluster.expect(0, {"job", "results", calm}).out);
    expect_same_rows(rows, wanted);

    const std::string disturbed = cluster.submit(job);
    EXPECT_TRUE(eventually([&] { return cluster.job(disturbed).value("done", 0) > 0; }));
    cluster.expect(0, {"kill-node", "n4", "n5"});
    EXPECT_EQ(cluster.finish(disturbed), digest);
    expect_same_rows(parse_rows(cluster.expect(0, {"job", "results", disturbed}).out), wanted);
    cluster.expect(0, {"node", "start", "n4"});
    cluster.expect(0, {"node", "start", "n5"});
    EXPECT_TRUE(eventually([&] { return cluster.healthy(); }));
    return rows;
  }

  std::filesystem::path data_;
};

TEST_F(RealModels, PhotographsGetTheRowsOfASingleProcess) {
  std::map<std::string, int> truth;
  std::ifstream labels(data_ / "imagenet" / "labels.csv");
  for (std::string line; std::getline(labels, line);) {
    std::istringstream fields(line);
    std::string file;
    std::string wnid;
    std::string index;
    std::getline(fields, file, ',');
    std::getline(fields, wnid, ',');
    std::getline(fields, index, ',');
    if (file != "file") truth[file] = std::stoi(index);
  }
  ASSERT_EQ(truth.size(), 100U);
  const TestCluster cluster(5);
  const auto photographs = cluster.scratch() / "photographs";
  std::filesystem::create_directories(photographs);
  for (const auto& [file, index] : truth) std::filesystem::copy_file(data_ / "imagenet" / file, photographs / file);
  cluster.expect(0, {"fs", "put", "-r", photographs.string(), "/photographs"});
  for (const std::string model : {"squeezenet1.0", "mobilenet_v2"}) {
    const Rows rows = compare(cluster, model, "/photographs", reference(model, photographs, 4), 4);
    const Accuracy counts = accuracy(rows, truth);
    std::printf("%s: %d of 100 top 1, %d of 100 top 5\n", model.c_str(), counts.top1, counts.top5);
    EXPECT_GE(counts.top1, model == "mobilenet_v2" ? 78 : 58);
  }
}

TEST_F(RealModels, MnistTestSetGetsTheRowsOfASingleProcess) {
  const TestCluster cluster(5);
  const auto images = cluster.scratch() / "t10k.idx";
  std::ofstream(images, std::ios::binary) << gunzip(data_ / "mnist" / "t10k-images-idx3-ubyte.gz");
  const std::string labels = gunzip(data_ / "mnist" / "t10k-labels-idx1-ubyte.gz");
  ASSERT_EQ(labels.size(), 10008U);
  std::map<std::string, int> truth;
  for (std::size_t i = 0; i < 10000; ++i) truth[std::to_string(i)] = labels[i + 8];
  cluster.expect(0, {"fs", "put", images.string(), "/mnist/t10k.idx"});
  // The file as it was published ends in a reshape to one row, so by itself it computes one image at a time.
  const Rows rows = compare(cluster, "mnist-8", "/mnist/t10k.idx", reference("mnist-8", images, 1), 50);
  const Accuracy counts = accuracy(rows, truth);
  std::printf("mnist-8: %d of 10000 top 1\n", counts.top1);
  EXPECT_GE(counts.top1, 9850);
}

}  // namespace
}  // namespace idunno::testing
