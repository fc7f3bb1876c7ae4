#include "cli/manifest_names.h"

#include <fmt/core.h>

#include <algorithm>
#include <optional>

#include "bus/codec.h"

namespace idunno::cli {

namespace {

Error damaged(const std::string& what) { return Error{Errc::damaged, "the job's list of queries " + what}; }

}  // namespace

Status ManifestNames::open() {
  const JobSpec& spec = report_.spec;
  if (!spec.manifest_path.empty()) {
    auto file = session_.sdfs().stat(spec.manifest_path, spec.manifest_version);
    if (!file) return annotate(file.error(), "reading the job's list of queries");
    if (spec.items_per_chunk == 0) return damaged("has no chunk size");
    if (!spec.follow) {
      parts_.push_back({std::move(*file), 0, spec.queries, spec.items_per_chunk});
      return {};
    }
    if (auto added = add(std::move(*file), spec.items_per_chunk); !added) return added;
  }
  return spec.follow ? open_segments() : Status{};
}

/// They lie beside the result, numbered.
Status ManifestNames::open_segments() {
  const std::string folder = report_.result_path.substr(0, report_.result_path.rfind('/')) + "/segments";
  auto files = session_.sdfs().list_all(folder, true);
  if (!files && files.error().code == Errc::not_found) return {};
  if (!files) return files.error();
  for (FileVersion& file : *files) {
    if (auto added = add(std::move(file), 0); !added) return added;
  }
  loaded_ = nullptr;
  return {};
}

/// All chunks but the last have as many items as the first.
Status ManifestNames::add(FileVersion file, std::uint32_t items_per_chunk) {
  if (file.blocks.empty()) return damaged(file.path + " is empty");
  Part part{std::move(file), parts_.empty() ? 0 : parts_.back().first + parts_.back().count, 0, items_per_chunk};
  const std::uint64_t last = part.file.blocks.size() - 1;
  if (items_per_chunk == 0) {
    if (auto first = load(part, 0); !first) return first;
    part.items_per_chunk = static_cast<std::uint32_t>(std::max<std::size_t>(chunk_.items.size(), 1));
  }
  if (last > 0 || items_per_chunk != 0) {
    if (auto loaded = load(part, last); !loaded) return loaded;
  }
  part.count = last * part.items_per_chunk + chunk_.items.size();
  parts_.push_back(std::move(part));
  loaded_ = nullptr;
  return {};
}

const ManifestNames::Part* ManifestNames::part_of(std::uint64_t query) const {
  const auto after =
      std::upper_bound(parts_.begin(), parts_.end(), query, [](std::uint64_t q, const Part& part) { return q < part.first; });
  if (after == parts_.begin()) return nullptr;
  const Part& part = *(after - 1);
  return query - part.first < part.count ? &part : nullptr;
}

std::uint64_t ManifestNames::part_end(std::uint64_t query) const {
  const Part* part = part_of(query);
  return part == nullptr ? query : part->first + part->count;
}

Result<std::string> ManifestNames::name(std::uint64_t query) {
  const std::uint64_t place = report_.spec.follow || report_.spec.queries == 0 ? query : query % report_.spec.queries;
  const Part* part = part_of(place);
  if (part == nullptr) return damaged(fmt::format("has no query {}", query));
  const std::uint64_t item = place - part->first;
  const std::uint64_t chunk = item / part->items_per_chunk;
  if (loaded_ != &part->file || loaded_chunk_ != chunk) {
    if (auto loaded = load(*part, chunk); !loaded) return loaded.error();
  }
  const std::uint64_t at = item % part->items_per_chunk;
  if (at >= chunk_.items.size()) return damaged(fmt::format("has no query {}", query));
  return chunk_.items[at].query;
}

Status ManifestNames::load(const Part& part, std::uint64_t chunk) {
  if (chunk >= part.file.blocks.size()) return damaged(fmt::format("has no part {}", chunk));
  auto out = std::make_shared<std::optional<Result<Payload>>>();
  session_.blocks().read(part.file.blocks[chunk], [out](Result<Payload> bytes) { *out = std::move(bytes); });
  (void)session_.loop().run_until([&] { return out->has_value(); }, kNever);
  if (!**out) return annotate((*out)->error(), "reading the job's list of queries");
  auto decoded = decode<ManifestChunk>((*out)->value().view());
  if (!decoded) return damaged("cannot be read: " + decoded.error().detail);
  chunk_ = std::move(decoded).value();
  loaded_ = &part.file;
  loaded_chunk_ = chunk;
  return {};
}

}  // namespace idunno::cli
