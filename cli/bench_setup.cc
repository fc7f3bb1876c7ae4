/// What the benchmarks put into their temporary clusters.

#include <fmt/core.h>

#include <algorithm>
#include <fstream>

#include "cli/bench.h"
#include "cli/model_store.h"
#include "cli/models/architectures.h"
#include "storage/models/model_spec.h"

namespace idunno::cli {

namespace fs = std::filesystem;

namespace {

Status write_file(const fs::path& file, ByteView bytes) {
  std::ofstream out(file, std::ios::binary | std::ios::trunc);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  out.flush();
  return out ? Status() : Status(Error{Errc::full, "writing " + file.string()});
}

}  // namespace

Result<BenchModel> make_bench_model(const std::string& name, const fs::path& folder, std::uint64_t seed) {
  auto architecture = models::find_architecture(name);
  if (!architecture) return architecture.error();
  auto onnx = models::build_architecture(name, seed);
  if (!onnx) return onnx.error();
  BenchModel model{name, folder / (name + ".onnx"), folder / (name + ".toml"), to_toml(models::architecture_spec(*architecture))};
  if (auto written = write_file(model.onnx, *onnx); !written) return written.error();
  if (auto written = write_file(model.spec, model.spec_toml); !written) return written.error();
  return model;
}

Status upload_images(Session& session, const fs::path& folder, std::uint64_t count, const std::string& to) {
  std::vector<fs::path> files;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string ending = it->path().extension().string();
    if (ending == ".png" || ending == ".jpg" || ending == ".jpeg") files.push_back(it->path());
  }
  if (error || files.empty()) return Error{Errc::not_found, fmt::format("no .png or .jpg images in {}", folder.string())};
  std::sort(files.begin(), files.end());
  std::vector<SdfsClient::PutItem> items;
  for (std::uint64_t i = 0; i < count; ++i) {
    const fs::path& file = files[i % files.size()];
    items.push_back({file.string(), fmt::format("{}/{:06}{}", to, i, file.extension().string())});
  }
  if (auto ready = session.sdfs().refresh_placement(); !ready) return ready;
  auto put = session.sdfs().put(items, [](const TransferProgress&) {});
  return put ? Status() : Status(put.error());
}

Status prepare_nothing(Session& session, const std::string& data, const std::string& model, Duration service,
                       std::uint64_t queries) {
  auto scratch = ScratchFolder::make();
  if (!scratch) return scratch.error();
  const auto file = (*scratch)->path() / "lines.csv";
  {
    std::ofstream out(file);
    for (std::uint64_t i = 0; i < queries; ++i) out << i % 10 << ',' << i << '\n';
    out.flush();
    if (!out) return Error{Errc::full, "writing " + file.string()};
  }
  ModelSpec spec;
  spec.nothing = true;
  spec.nothing_us = static_cast<std::uint32_t>(service.count());
  auto version = add_model(session, model, "", to_toml(spec), "", "bench: computes nothing");
  if (!version) return version.error();
  if (auto ready = session.sdfs().refresh_placement(); !ready) return ready;
  auto put = session.sdfs().put({{file.string(), data}}, [](const TransferProgress&) {});
  return put ? Status() : Status(put.error());
}

}  // namespace idunno::cli
