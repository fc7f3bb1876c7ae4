#pragma once
/// Files of a tiny model in a folder of their own, and requests for it.

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "nodes/worker/dnn_engine.h"
#include "tests/unit/worker/tiny_onnx.h"

namespace idunno::testing {

/// Two inputs, three classes: the outputs for (a, b) are a + 2 b + 0.5, 3 a + 4 b and 5 a + 6 b - 1.
inline std::string small_gemm() { return gemm_model(2, 3, {1, 2, 3, 4, 5, 6}, {0.5F, 0, -1}); }

class EngineFiles : public ::testing::Test {
 protected:
  EngineFiles() : folder_(std::filesystem::temp_directory_path() / ("idunno-engine-test-" + std::to_string(getpid()))) {
    std::filesystem::create_directories(folder_);
  }
  ~EngineFiles() override { std::filesystem::remove_all(folder_); }

  std::string write(const std::string& name, const std::string& bytes) {
    const auto file = folder_ / name;
    std::ofstream(file, std::ios::binary) << bytes;
    return file.string();
  }

  /// The engine for a model and spec given as text; a failure of the test when it does not load.
  std::unique_ptr<DnnEngine> load(const std::string& onnx, const std::string& spec_toml, const std::string& labels = "") {
    const auto spec = parse_model_spec(spec_toml, "spec");
    EXPECT_TRUE(spec.ok()) << spec.error().detail;
    auto engine = DnnEngine::load(*spec, write("model.onnx", onnx), labels.empty() ? "" : write("labels.txt", labels));
    EXPECT_TRUE(engine.ok()) << (engine.ok() ? "" : engine.error().detail);
    return engine.ok() ? std::move(engine).value() : nullptr;
  }

  std::filesystem::path folder_;
};

struct Request {
  ExecuteBatch batch;
  Bytes payload;
};

inline Request request(ItemKind kind, const std::vector<Bytes>& items, std::uint32_t batch_size, std::uint64_t first_query = 0) {
  Request out;
  out.batch.model_key = "tiny:1";
  out.batch.item_kind = kind;
  out.batch.batch_size = batch_size;
  out.batch.first_query = first_query;
  for (const Bytes& item : items) {
    out.batch.queries.push_back("/q" + std::to_string(first_query + out.batch.queries.size()));
    out.batch.item_lengths.push_back(static_cast<std::uint32_t>(item.size()));
    out.payload += item;
  }
  return out;
}

/// The rows of a batch that must succeed.
inline std::string rows_of(DnnEngine& engine, const Request& request) {
  std::string rows;
  const BatchExecuted done = engine.run(request.batch, request.payload, rows);
  EXPECT_TRUE(done.ok) << done.detail;
  return rows;
}

}  // namespace idunno::testing
