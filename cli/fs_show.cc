/// `idunno fs ls`, `stat`, `locate`, `versions`, `store`, `df` and `rm`.

#include <fmt/format.h>
#include <unistd.h>

#include <iostream>

#include "bus/clock.h"
#include "bus/units.h"
#include "cli/fs_common.h"

namespace idunno::cli {
namespace {

std::string joined(const std::set<NodeId>& nodes) {
  std::string text;
  for (const NodeId node : nodes) text += (text.empty() ? "" : " ") + to_string(node);
  return text.empty() ? "-" : text;
}

/// All pages of a listing, files with their blocks.
Result<FsListReply> list(Session& session, FsListRequest request) {
  FsListReply all;
  do {
    auto page = session.metadata().call_and_wait(request);
    if (!page) return page.error();
    for (FileVersion& file : page->files) {
      // A file too large for a page comes without its blocks.
      if (request.with_blocks && file.size > 0 && file.blocks.empty()) {
        auto whole = session.sdfs().stat(file.path, file.version);
        if (!whole) return whole.error();
        file = std::move(*whole);
      }
      all.files.push_back(std::move(file));
    }
    for (std::string& folder : page->folders) all.folders.push_back(std::move(folder));
    request.after = std::move(page->next);
  } while (!request.after.empty());
  return all;
}

Listing file_listing(const char* schema, const char* rows) {
  return Listing(schema, rows,
                 {{"type", ""},
                  {"size_bytes", "SIZE", true},
                  {"version", "VERSION", true},
                  {"created_at", "CREATED"},
                  {"replicas", "COPIES", true},
                  {"nodes", "NODES"},
                  {"open", ""},
                  {"path", "PATH"}});
}

void add_file(Listing& listing, const FileVersion& file) {
  const std::set<NodeId> nodes = holders(file);
  listing.add({{"file", ""},
               {file.size, format_size(file.size)},
               {file.version, ""},
               {rfc3339(file.created_ms), ""},
               {fewest_copies(file), ""},
               {nodes_json(nodes), joined(nodes)},
               {file.open, ""},
               {file.path, file.open ? file.path + " (being written)" : ""}});
}

Json file_json(const FileVersion& file) {
  Json json;
  json["path"] = file.path;
  json["type"] = "file";
  json["version"] = file.version;
  json["size_bytes"] = file.size;
  json["created_at"] = rfc3339(file.created_ms);
  json["open"] = file.open;
  json["blocks"] = file.blocks.size();
  json["replicas"] = fewest_copies(file);
  json["nodes"] = nodes_json(holders(file));
  return json;
}

/// Asks on a terminal; a script is taken at its word.
bool confirmed(const App& app, const std::string& question) {
  if (app.globals.yes || ::isatty(STDIN_FILENO) == 0 || !stderr_is_terminal()) return true;
  std::cerr << question << " [y/N] " << std::flush;
  std::string answer;
  std::getline(std::cin, answer);
  return !answer.empty() && (answer.front() == 'y' || answer.front() == 'Y');
}

}  // namespace

void fs_ls(App& app, const LsOptions& options) {
  const auto path = clean_path(options.path);
  if (!path) return app.fail(path.error(), "ls");
  Session* session = app.session();
  if (session == nullptr) return;
  FsListRequest request;
  request.path = *path;
  request.recursive = options.recursive;
  request.with_blocks = true;
  auto found = list(*session, request);
  if (!found) return app.fail(found.error(), "ls " + *path);
  Listing listing = file_listing("idunno.fs_ls.v1", "files");
  for (const std::string& folder : found->folders) {
    listing.add({{"folder", ""},
                 {nullptr, "-"},
                 {nullptr, "-"},
                 {nullptr, "-"},
                 {nullptr, "-"},
                 {nullptr, "-"},
                 {false, ""},
                 {folder, folder + "/"}});
  }
  std::uint64_t bytes = 0;
  for (const FileVersion& file : found->files) {
    add_file(listing, file);
    bytes += file.size;
  }
  listing.extra["total_files"] = found->files.size();
  listing.extra["total_bytes"] = bytes;
  app.mark_stale(listing.extra);
  listing.footer = fmt::format("{} files, {} folders, {}", found->files.size(), found->folders.size(), format_size(bytes));
  listing.print(app.globals);
}

void fs_stat(App& app, const OneFileOptions& options) {
  const auto path = clean_path(options.path);
  if (!path) return app.fail(path.error(), "stat");
  Session* session = app.session();
  if (session == nullptr) return;
  const auto there = look_up(*session, *path, options.version);
  if (!there) return app.fail(there.error(), "stat " + *path);
  if (!there->is_folder) {
    const auto file = session->sdfs().stat(*path, options.version);
    if (!file) return app.fail(file.error(), "stat " + *path);
    Json json = file_json(*file);
    app.mark_stale(json);
    return print_object(app.globals, "idunno.fs_stat.v1", json);
  }
  const auto files = session->sdfs().list_all(*path, false);
  if (!files) return app.fail(files.error(), "stat " + *path);
  std::uint64_t bytes = 0;
  for (const FileVersion& file : *files) bytes += file.size;
  Json json;
  json["path"] = *path;
  json["type"] = "folder";
  json["files"] = files->size();
  json["size_bytes"] = bytes;
  app.mark_stale(json);
  print_object(app.globals, "idunno.fs_stat.v1", json);
}

void fs_locate(App& app, const OneFileOptions& options) {
  const auto path = clean_path(options.path);
  if (!path) return app.fail(path.error(), "locate");
  Session* session = app.session();
  if (session == nullptr) return;
  const auto file = session->sdfs().stat(*path, options.version);
  if (!file) return app.fail(file.error(), "locate " + *path);
  Listing listing("idunno.fs_locate.v1", "blocks",
                  {{"block", "BLOCK", true},
                   {"offset_bytes", "OFFSET", true},
                   {"length_bytes", "LENGTH", true},
                   {"nodes", "NODES"},
                   {"id", "ID"},
                   {"xxh3_128", "XXH3-128"}});
  std::uint64_t offset = 0;
  for (std::size_t i = 0; i < file->blocks.size(); ++i) {
    const BlockRef& block = file->blocks[i];
    const std::set<NodeId> nodes(block.replicas.begin(), block.replicas.end());
    listing.add({{i, ""},
                 {offset, ""},
                 {block.length, ""},
                 {nodes_json(nodes), joined(nodes)},
                 {to_string(block.id), ""},
                 {to_string(block.hash), ""}});
    offset += block.length;
  }
  listing.extra["path"] = file->path;
  listing.extra["version"] = file->version;
  app.mark_stale(listing.extra);
  listing.print(app.globals);
}

void fs_versions(App& app, const OneFileOptions& options) {
  const auto path = clean_path(options.path);
  if (!path) return app.fail(path.error(), "versions");
  Session* session = app.session();
  if (session == nullptr) return;
  const auto there = look_up(*session, *path, 0);
  if (!there) return app.fail(there.error(), "versions " + *path);
  if (there->is_folder) return app.fail(Error{Errc::invalid, "it is a folder; name a file"}, "versions " + *path);
  FsListRequest request;
  request.path = *path;
  request.all_versions = true;
  request.with_blocks = true;
  auto found = list(*session, request);
  if (!found) return app.fail(found.error(), "versions " + *path);
  if (options.last != 0 && found->files.size() > options.last) found->files.resize(options.last);
  Listing listing = file_listing("idunno.fs_versions.v1", "versions");
  for (const FileVersion& file : found->files) add_file(listing, file);
  listing.print(app.globals);
}

void fs_store(App& app, const std::string& node) {
  Session* session = app.session();
  if (session == nullptr) return;
  const auto id = parse_node(node, session->config());
  if (!id) return app.fail(id.error(), "store");
  Listing listing("idunno.fs_store.v1", "files",
                  {{"version", "VERSION", true}, {"blocks", "BLOCKS", true}, {"size_bytes", "SIZE", true}, {"path", "PATH"}});
  FsStoreRequest request;
  request.node = *id;
  std::uint64_t files = 0;
  std::uint64_t bytes = 0;
  do {
    auto page = session->metadata().call_and_wait(request);
    if (!page) return app.fail(page.error(), "store " + to_string(*id));
    for (const StoreEntry& entry : page->entries) {
      listing.add({{entry.version, ""}, {entry.blocks, ""}, {entry.bytes, format_size(entry.bytes)}, {entry.path, ""}});
      ++files;
      bytes += entry.bytes;
    }
    request.after = std::move(page->next);
  } while (!request.after.empty());
  listing.extra["node"] = to_string(*id);
  listing.extra["total_bytes"] = bytes;
  app.mark_stale(listing.extra);
  listing.footer = fmt::format("{} file versions, {} on {}", files, format_size(bytes), to_string(*id));
  listing.print(app.globals);
}

void fs_df(App& app) {
  Session* session = app.session();
  if (session == nullptr) return;
  const auto status = session->metadata().call_and_wait(StatusRequest{});
  if (!status) return app.fail(status.error(), "df");
  Listing listing("idunno.fs_df.v1", "nodes",
                  {{"id", "NODE"},
                   {"alive", "ALIVE"},
                   {"capacity_bytes", "DISK", true},
                   {"free_bytes", "FREE", true},
                   {"blocks", "BLOCKS", true},
                   {"block_bytes", "STORED", true},
                   {"read_only", "READ-ONLY"}});
  NodeReport total;
  for (const NodeReport& node : status->nodes) {
    const bool alive = node.state == NodeState::alive || node.state == NodeState::suspect;
    listing.add({{to_string(node.id), ""},
                 {alive, alive ? "yes" : "no"},
                 {node.capacity_bytes, format_size(node.capacity_bytes)},
                 {node.free_bytes, format_size(node.free_bytes)},
                 {node.blocks, ""},
                 {node.block_bytes, format_size(node.block_bytes)},
                 {node.read_only, node.read_only ? "yes" : "no"}});
    if (!alive) continue;
    total.blocks += node.blocks;
    total.block_bytes += node.block_bytes;
  }
  listing.extra["files"] = status->files;
  listing.extra["blocks"] = status->blocks;
  listing.extra["logical_bytes"] = status->logical_bytes;
  listing.extra["stored_blocks"] = total.blocks;
  listing.extra["stored_bytes"] = total.block_bytes;
  listing.extra["under_replicated_blocks"] = status->under_replicated_blocks;
  listing.footer = fmt::format("total: {} files, {} in {} blocks; {} in {} copies on live nodes; {} blocks under-replicated",
                               status->files, format_size(status->logical_bytes), status->blocks, format_size(total.block_bytes),
                               total.blocks, status->under_replicated_blocks);
  listing.print(app.globals);
}

void fs_rm(App& app, const RmOptions& options) {
  FsRemoveRequest request;
  request.recursive = options.recursive;
  for (const std::string& given : options.paths) {
    const auto path = clean_path(given);
    if (!path) return app.fail(path.error(), "rm");
    request.paths.push_back(*path);
  }
  if (request.paths.size() > kFilesPerRequestMax) {
    return app.usage(fmt::format("rm: {} paths at once; at most {}", request.paths.size(), kFilesPerRequestMax),
                     "name their folder with -r");
  }
  Session* session = app.session();
  if (session == nullptr) return;
  const std::string what = request.paths.size() == 1 ? request.paths.front() : fmt::format("{} paths", request.paths.size());
  if (options.recursive && !confirmed(app, fmt::format("Remove {} and everything below?", what))) {
    return app.fail(Error{Errc::cancelled, "not confirmed; nothing was removed"}, "rm " + what);
  }
  const auto removed = session->metadata().call_and_wait(request);
  if (!removed) return app.fail(removed.error(), "rm " + what);
  if (app.globals.format == Format::table) {
    app.note(fmt::format("removed {} files ({} blocks)", removed->files, removed->blocks));
  } else {
    print_object(app.globals, "idunno.fs_rm.v1", Json{{"files", removed->files}, {"blocks", removed->blocks}});
  }
}

}  // namespace idunno::cli
