#pragma once
/// The engine in one process, without a cluster: `idunno-executor run` prints the rows that a job must give, `bench-loop` is the
/// bare loop over cv::dnn that `bench infer` compares the cluster with.

#include <cstdint>
#include <string>

#include "bus/base/result.h"
#include "storage/models/model_spec.h"

namespace idunno {

struct RunOptions {
  std::string onnx_file;
  std::string spec_file;
  std::string labels_file;  ///< empty: the one the spec names, beside the spec
  std::string data;         ///< a folder of images, an IDX file (.idx, *-ubyte) or a CSV file
  std::string prefix;       ///< put before the file name to make the query's name, e.g. "/photographs/"
  std::uint32_t batch = 1;
};
/// Prints one row for each input, in the order a job has. 0 = done, 1 = an error (one line on stderr).
[[nodiscard]] int run_all(const RunOptions& options);

struct BenchLoopOptions {
  std::string onnx_file;
  std::string spec_file;
  std::string images;  ///< folder; empty: made-up JPEGs
  std::uint32_t batch = 16;
  double seconds = 10;
};
/// Decodes, prepares and infers batch after batch, then prints {images, seconds, images_per_s}.
[[nodiscard]] int bench_loop(const BenchLoopOptions& options);

[[nodiscard]] Result<ModelSpec> read_spec_file(const std::string& file);
/// Path of the labels file the spec names, or empty.
[[nodiscard]] std::string labels_beside(const ModelSpec& spec, const std::string& spec_file);

}  // namespace idunno
