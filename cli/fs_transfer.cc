/// `idunno fs put`, `get` and `cat`.

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <set>
#include <system_error>

#include "bus/clock.h"
#include "bus/units.h"
#include "cli/fs_common.h"
#include "cli/roles.h"

namespace idunno::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kRowsShownMax = 20;  ///< of a table; JSON and CSV have all

/// Everything a put is to copy, found before anything is written.
struct PutPlan {
  std::vector<SdfsClient::PutItem> items;
  std::uint64_t bytes = 0;
  std::uint64_t empty_folders = 0;
};

Error cannot_read(const fs::path& path, const std::error_code& why) {
  Errc code = Errc::internal;
  if (why == std::errc::no_such_file_or_directory || why == std::errc::not_a_directory) code = Errc::not_found;
  if (why == std::errc::permission_denied) code = Errc::forbidden;
  return Error{code, fmt::format("{}: {}", path.string(), why.message())};
}

Status add_file(const fs::path& local, const std::string& target, PutPlan& plan) {
  std::error_code error;
  const std::uint64_t size = fs::file_size(local, error);
  if (error) return cannot_read(local, error);
  plan.items.push_back(SdfsClient::PutItem{local.string(), target});
  plan.bytes += size;
  return {};
}

/// Nothing is skipped silently: what can not be stored is refused by name.
Status add_entry(const fs::directory_entry& entry, const std::string& target, PutPlan& plan);

Status add_folder(const fs::path& local, const std::string& target, PutPlan& plan) {
  std::error_code error;
  std::vector<fs::directory_entry> entries;
  for (fs::directory_iterator it(local, error), end; !error && it != end; it.increment(error)) entries.push_back(*it);
  if (error) return cannot_read(local, error);
  if (entries.empty()) ++plan.empty_folders;
  std::sort(entries.begin(), entries.end());
  for (const fs::directory_entry& entry : entries) {
    if (auto added = add_entry(entry, join_path(target, entry.path().filename().string()), plan); !added) return added;
  }
  return {};
}

Status add_entry(const fs::directory_entry& entry, const std::string& target, PutPlan& plan) {
  std::error_code error;
  const fs::file_status status = entry.status(error);  // of what a symbolic link points to
  if (error) return cannot_read(entry.path(), error);
  if (fs::is_regular_file(status)) return add_file(entry.path(), target, plan);
  if (fs::is_directory(status) && !entry.is_symlink(error)) return add_folder(entry.path(), target, plan);
  const char* what = fs::is_directory(status) ? "a symbolic link to a folder" : "neither a file nor a folder";
  return Error{Errc::invalid, fmt::format("{} is {}; nothing was put. Move it away, or name what you want one by one",
                                          entry.path().string(), what)};
}

/// `target_is_folder`: the files keep their names below it.
Status add_argument(const std::string& argument, const std::string& target, bool target_is_folder, bool recursive,
                    PutPlan& plan) {
  const fs::path local(argument);
  std::error_code error;
  const fs::file_status status = fs::status(local, error);
  if (!fs::exists(status)) return Error{Errc::not_found, fmt::format("{}: no such file or folder", argument)};
  // "photos/" and "." have their names in the absolute path.
  fs::path absolute = fs::absolute(local, error).lexically_normal();
  if (!absolute.has_filename()) absolute = absolute.parent_path();
  const std::string place = target_is_folder ? join_path(target, absolute.filename().string()) : target;
  if (fs::is_directory(status)) {
    if (!recursive) return Error{Errc::invalid, fmt::format("{} is a folder; add -r to put everything below it", argument)};
    return add_folder(local, place, plan);
  }
  return add_entry(fs::directory_entry(local), place, plan);
}

Result<PutPlan> plan_put(Session& session, const PutOptions& options) {
  const std::string& given = options.paths.back();
  auto target = clean_path(given);
  if (!target) return Error{target.error().code, target.error().detail + "; the last argument is the path in SDFS"};
  const std::vector<std::string> locals(options.paths.begin(), options.paths.end() - 1);
  std::error_code ignored;
  bool into_folder = locals.size() > 1;
  if (!into_folder && !fs::is_directory(locals.front(), ignored)) {
    into_folder = given.back() == '/';
    if (!into_folder) {
      const auto there = look_up(session, *target, 0);
      if (!there && there.error().code != Errc::not_found) return there.error();
      into_folder = there.ok() && there->is_folder;
    }
  }
  PutPlan plan;
  for (const std::string& local : locals) {
    if (auto added = add_argument(local, *target, into_folder, options.recursive, plan); !added) return added.error();
  }
  if (plan.items.empty()) return Error{Errc::invalid, fmt::format("{} holds no files; nothing was put", locals.front())};
  std::set<std::string> targets;
  for (const auto& item : plan.items) {
    if (auto good = clean_path(item.sdfs_path); !good)
      return Error{good.error().code, item.local_path + ": " + good.error().detail};
    if (!targets.insert(item.sdfs_path).second) {
      return Error{Errc::invalid, fmt::format("two of the files would become {}; nothing was put", item.sdfs_path)};
    }
  }
  return plan;
}

std::string amount(std::size_t files, std::uint64_t bytes, Duration took) {
  const double seconds = std::max(1e-6, std::chrono::duration<double>(took).count());
  return fmt::format("{} file{}, {} in {} ({}/s)", files, files == 1 ? "" : "s", format_size(bytes), format_duration(took),
                     format_size(static_cast<std::uint64_t>(static_cast<double>(bytes) / seconds)));
}

/// What there is to fetch, and where each file goes.
Result<std::vector<SdfsClient::GetItem>> plan_get(Session& session, const GetOptions& options, const std::string& path) {
  auto there = look_up(session, path, options.version);
  if (!there) return there.error();
  std::vector<SdfsClient::GetItem> items;
  std::error_code ignored;
  if (!there->is_folder) {
    there->file.blocks.clear();  // fetched with the file
    fs::path local(options.local);
    if (fs::is_directory(local, ignored) || options.local.back() == '/') local /= base_name(path);
    items.push_back(SdfsClient::GetItem{std::move(there->file), local.string()});
    return items;
  }
  if (!options.recursive) return Error{Errc::invalid, fmt::format("{} is a folder; add -r to get everything below it", path)};
  if (options.version != 0) return Error{Errc::invalid, "--version is for a single file"};
  auto files = session.sdfs().list_all(path, true);
  if (!files) return files.error();
  const std::size_t prefix = path == "/" ? 1 : path.size() + 1;
  for (FileVersion& file : *files) {
    const fs::path local = fs::path(options.local) / file.path.substr(prefix);
    items.push_back(SdfsClient::GetItem{std::move(file), local.string()});
  }
  return items;
}

Status make_parents(const std::vector<SdfsClient::GetItem>& items) {
  std::set<fs::path> made;
  for (const auto& item : items) {
    const fs::path parent = fs::path(item.local_path).parent_path();
    if (parent.empty() || !made.insert(parent).second) continue;
    std::error_code error;
    fs::create_directories(parent, error);
    if (error) return cannot_read(parent, error);
  }
  return {};
}

}  // namespace

void fs_put(App& app, const PutOptions& options) {
  Session* session = app.session();
  if (session == nullptr) return;
  if (auto allowed = check_role(*session, Role::submit); !allowed) return app.fail(allowed.error(), "put");
  auto plan = plan_put(*session, options);
  if (!plan) return app.fail(plan.error(), "put");
  if (auto ready = session->sdfs().refresh_placement(); !ready) return app.fail(ready.error(), "put");
  const Time begin = monotonic_now();
  ProgressBar bar(app.globals, "put", "bytes", plan->bytes, true);
  auto put = session->sdfs().put(plan->items, [&](const TransferProgress& progress) { bar.update(progress.bytes_done); });
  bar.finish();
  if (!put) return app.fail(put.error(), "put");
  if (plan->empty_folders > 0) app.note(fmt::format("{} empty folders were left out: SDFS has none", plan->empty_folders));

  Listing listing("idunno.fs_put.v1", "files", {{"path", "PATH"}, {"version", "VERSION", true}, {"size_bytes", "SIZE", true}});
  std::uint64_t bytes = 0;
  for (const FileVersion& file : *put) bytes += file.size;
  const bool all = app.globals.format != Format::table || put->size() <= kRowsShownMax;
  for (std::size_t i = 0; i < (all ? put->size() : kRowsShownMax); ++i) {
    const FileVersion& file = (*put)[i];
    listing.add({{file.path, ""}, {file.version, ""}, {file.size, format_size(file.size)}});
  }
  if (!all) listing.footer = fmt::format("... and {} more", put->size() - kRowsShownMax);
  listing.extra["total_bytes"] = bytes;
  listing.print(app.globals);
  app.note(amount(put->size(), bytes, monotonic_now() - begin));
}

void fs_get(App& app, const GetOptions& options) {
  Session* session = app.session();
  if (session == nullptr) return;
  if (options.local.empty()) return app.usage("get: the local path is empty");
  const auto path = clean_path(options.path);
  if (!path) return app.fail(path.error(), "get");
  auto items = plan_get(*session, options, *path);
  if (!items) return app.fail(items.error(), "get " + *path);
  if (auto made = make_parents(*items); !made) return app.fail(made.error(), "get " + *path);
  std::uint64_t bytes = 0;
  for (const auto& item : *items) bytes += item.file.size;
  const Time begin = monotonic_now();
  ProgressBar bar(app.globals, "get", "bytes", bytes, true);
  const Status got =
      session->sdfs().get_files(*items, [&](const TransferProgress& progress) { bar.update(progress.bytes_done); });
  bar.finish();
  if (!got) return app.fail(got.error(), "get " + *path);
  if (app.globals.format != Format::table) {
    Listing listing("idunno.fs_get.v1", "files", {{"path", ""}, {"local", ""}, {"version", ""}, {"size_bytes", ""}});
    for (const auto& item : *items) {
      listing.add({{item.file.path, ""}, {item.local_path, ""}, {item.file.version, ""}, {item.file.size, ""}});
    }
    if (app.globals.stale) listing.extra["stale"] = session->metadata().stale_answers() > 0;
    listing.print(app.globals);
  }
  app.note_stale();
  app.note(amount(items->size(), bytes, monotonic_now() - begin));
}

void fs_cat(App& app, const CatOptions& options) {
  Session* session = app.session();
  if (session == nullptr) return;
  for (const std::string& given : options.paths) {
    const auto path = clean_path(given);
    if (!path) return app.fail(path.error(), "cat");
    const Status status = session->sdfs().get(*path, options.version, [](ByteView bytes) -> Status {
      if (std::fwrite(bytes.data(), 1, bytes.size(), stdout) == bytes.size()) return {};
      return Error{Errc::internal, fmt::format("writing to standard output: {}", std::strerror(errno))};
    });
    if (!status) return app.fail(status.error(), "cat " + *path);
  }
  app.note_stale();
  if (std::fflush(stdout) != 0)
    app.fail(Error{Errc::internal, fmt::format("writing to standard output: {}", std::strerror(errno))}, "cat");
}

}  // namespace idunno::cli
