/// An uncompressed tar file of images, read with libarchive. Only the headers are read: the data of a member is skipped, and
/// where it lies is what libarchive has consumed when it hands out the member's header.

#include <archive.h>
#include <archive_entry.h>

#include <algorithm>
#include <cerrno>
#include <optional>

#include "storage/sdfs/dataset_formats.h"
#include "storage/sdfs/namespace.h"

namespace idunno {
namespace {

constexpr std::size_t kReadBytes = 16U << 10U;

/// What libarchive's callbacks share.
struct Feed {
  ByteSource& source;
  std::uint64_t at = 0;
  Bytes buffer;
  std::optional<Error> error;
};

la_ssize_t feed_read(archive* reader, void* client, const void** out) {
  auto& feed = *static_cast<Feed*>(client);
  auto bytes = feed.source.read(feed.at, kReadBytes);
  if (!bytes) {
    feed.error = bytes.error();
    archive_set_error(reader, EIO, "read failed");
    return ARCHIVE_FATAL;
  }
  feed.buffer = std::move(bytes).value();
  feed.at += feed.buffer.size();
  *out = feed.buffer.data();
  return static_cast<la_ssize_t>(feed.buffer.size());
}

la_int64_t feed_skip(archive*, void* client, la_int64_t count) {
  auto& feed = *static_cast<Feed*>(client);
  const std::uint64_t left = feed.source.size() - std::min(feed.source.size(), feed.at);
  const std::uint64_t skipped = std::min(left, static_cast<std::uint64_t>(std::max<la_int64_t>(count, 0)));
  feed.at += skipped;
  return static_cast<la_int64_t>(skipped);
}

struct CloseArchive {
  void operator()(archive* reader) const { archive_read_free(reader); }
};

std::string member_name(archive_entry* entry) {
  const char* name = archive_entry_pathname(entry);  // null when the locale cannot express it
  if (name == nullptr) name = archive_entry_pathname_utf8(entry);
  std::string text = name == nullptr ? "" : name;
  while (text.compare(0, 2, "./") == 0) text.erase(0, 2);
  while (!text.empty() && text.front() == '/') text.erase(0, 1);
  return text;
}

class TarFormat : public DatasetFormat {
 public:
  std::string name() const override { return "tar"; }

  bool recognises(const std::string& path, ByteView head) const override {
    return (head.size() >= 262 && head.substr(257, 5) == "ustar") || lower_extension(path) == ".tar";
  }

  Status index(ByteSource& source, const std::string& path, DatasetIndex& out) const override {
    out.kind = ItemKind::image;
    const std::unique_ptr<archive, CloseArchive> reader(archive_read_new());
    if (!reader) return Error{Errc::internal, "libarchive cannot be started"};
    Feed feed{source, 0, {}, std::nullopt};
    archive_read_support_format_tar(reader.get());
    archive_read_set_callback_data(reader.get(), &feed);
    archive_read_set_read_callback(reader.get(), feed_read);
    archive_read_set_skip_callback(reader.get(), feed_skip);
    const auto unreadable = [&] {
      if (feed.error) return *feed.error;
      const char* why = archive_error_string(reader.get());
      return Error{Errc::invalid, "the tar file '" + path + "' cannot be read: " + (why == nullptr ? "it is damaged" : why)};
    };
    if (archive_read_open1(reader.get()) != ARCHIVE_OK) return unreadable();
    while (true) {
      archive_entry* entry = nullptr;
      const int code = archive_read_next_header(reader.get(), &entry);
      if (code == ARCHIVE_EOF) break;
      if (code != ARCHIVE_OK && code != ARCHIVE_WARN) return unreadable();
      const auto offset = static_cast<std::uint64_t>(archive_filter_bytes(reader.get(), 0));
      if (auto status = add_member(entry, offset, source.size(), path, out); !status) return status;
    }
    if (out.items.empty()) {
      return Error{Errc::invalid, "the tar file '" + path + "' holds no JPEG or PNG images (.jpg, .jpeg, .png)"};
    }
    sort_items(out.items);
    return {};
  }

 private:
  static Status add_member(archive_entry* entry, std::uint64_t offset, std::uint64_t file_size, const std::string& path,
                           DatasetIndex& out) {
    const std::string member = member_name(entry);
    if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry) != nullptr) return {};
    const auto size = static_cast<std::uint64_t>(std::max<la_int64_t>(archive_entry_size(entry), 0));
    if (offset > file_size || size > file_size - offset) {
      return Error{Errc::invalid, "the tar file '" + path + "' is truncated: it ends within '" + member + "'"};
    }
    if (!has_image_name(member)) return {};
    if (archive_entry_sparse_count(entry) > 0) {
      return Error{Errc::invalid,
                   "the tar file '" + path + "' stores '" + member + "' as a sparse file: make it anew without --sparse"};
    }
    if (auto status = check_path("/" + member); !status) {
      return Error{Errc::invalid, "the tar file '" + path + "' has a member with an unusable name: " + status.error().detail};
    }
    if (out.items.size() >= kDatasetItemsMax) return Error{Errc::too_large, "the tar file '" + path + "' has too many members"};
    out.items.push_back(DatasetItem{path + "#" + member, offset, size, 0});
    return {};
  }

  /// By name; of members with the same name the last one counts, as when unpacking.
  static void sort_items(std::vector<DatasetItem>& items) {
    std::stable_sort(items.begin(), items.end(), [](const DatasetItem& a, const DatasetItem& b) { return a.query < b.query; });
    std::vector<DatasetItem> kept;
    kept.reserve(items.size());
    for (DatasetItem& item : items) {
      if (!kept.empty() && kept.back().query == item.query) {
        kept.back() = std::move(item);
      } else {
        kept.push_back(std::move(item));
      }
    }
    items = std::move(kept);
  }
};

}  // namespace

std::unique_ptr<DatasetFormat> make_tar_format() { return std::make_unique<TarFormat>(); }

}  // namespace idunno
