#include "nodes/worker/local_runs.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

#include "nodes/worker/dnn_engine.h"

namespace idunno {
namespace {

using Clock = std::chrono::steady_clock;

struct Inputs {
  ItemKind kind = ItemKind::image;
  std::vector<std::uint32_t> shape;
  std::vector<std::string> names;
  std::vector<Bytes> items;
};

int failed(const std::string& why) {
  fmt::print(stderr, "idunno-executor: {}\n", why);
  return 1;
}

Result<Bytes> read_file(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  Bytes bytes{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  if (!in) return Error{Errc::not_found, fmt::format("cannot read {}", file.string())};
  return bytes;
}

/// Files with the endings of images, as a data set has them; others (a list of labels, say) are no queries.
Result<Inputs> read_folder(const std::filesystem::path& folder, const std::string& prefix) {
  Inputs inputs;
  std::vector<std::filesystem::path> files;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    std::string ending = entry.path().extension().string();
    std::transform(ending.begin(), ending.end(), ending.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    if (entry.is_regular_file() && (ending == ".jpg" || ending == ".jpeg" || ending == ".png")) files.push_back(entry.path());
  }
  if (error) return Error{Errc::not_found, fmt::format("cannot list {}: {}", folder.string(), error.message())};
  if (files.empty()) return Error{Errc::invalid, fmt::format("no .jpg, .jpeg or .png files in {}", folder.string())};
  std::sort(files.begin(), files.end());
  for (const auto& file : files) {
    auto bytes = read_file(file);
    if (!bytes) return bytes.error();
    inputs.names.push_back(prefix + file.filename().string());
    inputs.items.push_back(std::move(bytes).value());
  }
  return inputs;
}

std::uint32_t big_endian(const Bytes& bytes, std::size_t offset) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < 4; ++i) value = (value << 8U) | static_cast<unsigned char>(bytes[offset + i]);
  return value;
}

/// IDX of unsigned bytes with three dimensions: images, rows, columns (the MNIST format).
Result<Inputs> read_idx(const std::filesystem::path& file, const std::string& prefix) {
  constexpr std::size_t kHeader = 16;
  auto bytes = read_file(file);
  if (!bytes) return bytes.error();
  if (bytes->size() < kHeader || big_endian(*bytes, 0) != 0x00000803U) {
    return Error{Errc::invalid, fmt::format("{} is not an IDX file of 8-bit images", file.string())};
  }
  Inputs inputs;
  inputs.kind = ItemKind::pixels;
  inputs.shape = {big_endian(*bytes, 8), big_endian(*bytes, 12)};
  const std::size_t count = big_endian(*bytes, 4);
  const std::size_t item = std::size_t{inputs.shape[0]} * inputs.shape[1];
  if (item == 0 || (bytes->size() - kHeader) / item < count)
    return Error{Errc::invalid, fmt::format("{} is cut off", file.string())};
  for (std::size_t i = 0; i < count; ++i) {
    inputs.names.push_back(fmt::format("{}{}#{}", prefix, file.filename().string(), i));
    inputs.items.push_back(bytes->substr(kHeader + i * item, item));
  }
  return inputs;
}

Result<Inputs> read_csv(const std::filesystem::path& file, const std::string& prefix) {
  std::ifstream in(file);
  if (!in) return Error{Errc::not_found, fmt::format("cannot read {}", file.string())};
  Inputs inputs;
  inputs.kind = ItemKind::numbers;
  for (std::string line; std::getline(in, line);) {
    if (line.empty() || line == "\r") continue;
    inputs.names.push_back(fmt::format("{}{}#{}", prefix, file.filename().string(), inputs.names.size()));
    inputs.items.push_back(line);
  }
  return inputs;
}

Result<Inputs> read_inputs(const std::filesystem::path& data, const std::string& prefix) {
  std::error_code ignored;
  if (std::filesystem::is_directory(data, ignored)) return read_folder(data, prefix);
  const std::string name = data.filename().string();
  if (name.ends_with(".idx") || name.ends_with("-ubyte")) return read_idx(data, prefix);
  return read_csv(data, prefix);
}

/// Items [begin, end) as a request, the payload appended to `payload`.
ExecuteBatch request(const Inputs& inputs, std::size_t begin, std::size_t end, std::uint32_t batch_size, Bytes& payload) {
  ExecuteBatch batch;
  batch.model_key = "local";
  batch.item_kind = inputs.kind;
  batch.item_shape = inputs.shape;
  batch.batch_size = batch_size;
  batch.first_query = begin;
  payload.clear();
  for (std::size_t i = begin; i < end; ++i) {
    batch.queries.push_back(inputs.names[i]);
    batch.item_lengths.push_back(static_cast<std::uint32_t>(inputs.items[i].size()));
    payload += inputs.items[i];
  }
  return batch;
}

/// Smooth shapes with a little noise: they compress like photographs (some 30 KB each), at the size of ImageNet pictures.
Inputs made_up_images(std::size_t count) {
  constexpr int kWidth = 500;
  constexpr int kHeight = 375;
  cv::RNG random(12345);
  Inputs inputs;
  for (std::size_t i = 0; i < count; ++i) {
    cv::Mat image(kHeight / 15, kWidth / 20, CV_8UC3);
    random.fill(image, cv::RNG::UNIFORM, 0, 256);
    cv::resize(image, image, cv::Size(kWidth, kHeight), 0, 0, cv::INTER_CUBIC);
    cv::Mat noise(image.size(), CV_8UC3);
    random.fill(noise, cv::RNG::UNIFORM, 0, 24);
    image += noise;
    std::vector<unsigned char> encoded;
    cv::imencode(".jpg", image, encoded, {cv::IMWRITE_JPEG_QUALITY, 85});
    inputs.names.push_back(fmt::format("made-up-{}.jpg", i));
    inputs.items.emplace_back(encoded.begin(), encoded.end());
  }
  return inputs;
}

Status infer_once(DnnEngine& engine, const ExecuteBatch& batch, ByteView payload) {
  engine.begin_batch(batch.batch_size);
  for (std::size_t item = 0, offset = 0; item < batch.queries.size(); offset += batch.item_lengths[item++]) {
    if (const Status status = engine.decode(batch, item, payload.substr(offset, batch.item_lengths[item])); !status)
      engine.clear_item(item);
  }
  const auto output = engine.forward();
  if (!output) return output.error();
  return {};
}

}  // namespace

Result<ModelSpec> read_spec_file(const std::string& file) {
  auto text = read_file(file);
  if (!text) return text.error();
  return parse_model_spec(*text, file);
}

std::string labels_beside(const ModelSpec& spec, const std::string& spec_file) {
  if (spec.output.labels.empty()) return {};
  return (std::filesystem::path(spec_file).parent_path() / spec.output.labels).string();
}

int run_all(const RunOptions& options) {
  const auto spec = read_spec_file(options.spec_file);
  if (!spec) return failed(spec.error().detail);
  const std::string labels = options.labels_file.empty() ? labels_beside(*spec, options.spec_file) : options.labels_file;
  auto engine = DnnEngine::load(*spec, options.onnx_file, labels);
  if (!engine) return failed(fmt::format("{}: {}", options.onnx_file, engine.error().detail));
  const auto inputs = read_inputs(options.data, options.prefix);
  if (!inputs) return failed(inputs.error().detail);
  Bytes payload;
  std::string rows;
  for (std::size_t begin = 0; begin < inputs->items.size(); begin += options.batch) {
    const std::size_t end = std::min(inputs->items.size(), begin + options.batch);
    const ExecuteBatch batch = request(*inputs, begin, end, options.batch, payload);
    rows.clear();
    const BatchExecuted done = (*engine)->run(batch, payload, rows);
    if (!done.ok) return failed(done.detail);
    std::fwrite(rows.data(), 1, rows.size(), stdout);
  }
  return std::fflush(stdout) == 0 ? 0 : failed("cannot write the rows to stdout");
}

int bench_loop(const BenchLoopOptions& options) {
  constexpr std::size_t kMadeUpImages = 64;
  const auto spec = read_spec_file(options.spec_file);
  if (!spec) return failed(spec.error().detail);
  auto engine = DnnEngine::load(*spec, options.onnx_file, "");
  if (!engine) return failed(fmt::format("{}: {}", options.onnx_file, engine.error().detail));
  auto inputs = options.images.empty() ? Result<Inputs>(made_up_images(kMadeUpImages)) : read_inputs(options.images, "");
  if (!inputs) return failed(inputs.error().detail);
  // All requests stand ready, so that the loop does nothing but decode, prepare and infer.
  std::vector<ExecuteBatch> batches;
  std::vector<Bytes> payloads;
  while (inputs->items.size() < options.batch) {
    inputs->names.push_back(inputs->names[inputs->items.size() % inputs->names.size()]);
    inputs->items.push_back(Bytes(inputs->items[inputs->items.size() % inputs->names.size()]));
  }
  for (std::size_t begin = 0; begin + options.batch <= inputs->items.size(); begin += options.batch) {
    payloads.emplace_back();
    batches.push_back(request(*inputs, begin, begin + options.batch, options.batch, payloads.back()));
  }
  if (const Status warm = infer_once(**engine, batches[0], payloads[0]); !warm) return failed(warm.error().detail);

  std::uint64_t images = 0;
  double elapsed = 0;
  const auto begin = Clock::now();
  for (std::size_t i = 0; elapsed < options.seconds; i = (i + 1) % batches.size()) {
    if (const Status status = infer_once(**engine, batches[i], payloads[i]); !status) return failed(status.error().detail);
    images += options.batch;
    elapsed = std::chrono::duration<double>(Clock::now() - begin).count();
  }
  fmt::print("{{\"images\":{},\"seconds\":{:.3f},\"images_per_s\":{:.3f}}}\n", images, elapsed,
             static_cast<double>(images) / elapsed);
  return 0;
}

}  // namespace idunno
