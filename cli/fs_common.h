#pragma once
/// What the commands of `idunno fs` share, and one function for each command. Every function sets app.exit_code through
/// App::fail.

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "cli/app.h"

namespace idunno::cli {

/// "/a/b" for "/a/b/"; "/" stays. invalid, with how a path looks, when it is none.
[[nodiscard]] Result<std::string> clean_path(const std::string& text);
/// The part behind the last '/'.
[[nodiscard]] std::string base_name(const std::string& path);
[[nodiscard]] std::string join_path(const std::string& folder, const std::string& name);

/// What lies at a path, without its blocks.
struct PathInfo {
  bool is_folder = false;
  FileVersion file;  ///< when it is a file
};
[[nodiscard]] Result<PathInfo> look_up(Session& session, const std::string& path, std::uint32_t version);

/// All nodes that hold a part of the file.
[[nodiscard]] std::set<NodeId> holders(const FileVersion& file);
/// Copies of the block that has fewest; 0 for a file without blocks.
[[nodiscard]] std::size_t fewest_copies(const FileVersion& file);
/// JSON ["n1", "n2"].
[[nodiscard]] Json nodes_json(const std::set<NodeId>& nodes);

/// Runs the session's loop until `done()`. The calls that `done` waits for have time-outs of their own.
void run_until_done(Session& session, const std::function<bool()>& done);

struct PutOptions {
  std::vector<std::string> paths;  ///< local ones, then the one in SDFS
  bool recursive = false;
};
struct GetOptions {
  std::string path;
  std::string local = ".";
  bool recursive = false;
  std::uint32_t version = 0;
};
struct CatOptions {
  std::vector<std::string> paths;
  std::uint32_t version = 0;
};
struct LsOptions {
  std::string path = "/";
  bool recursive = false;
};
struct RmOptions {
  std::vector<std::string> paths;
  bool recursive = false;
};
struct OneFileOptions {
  std::string path;
  std::uint32_t version = 0;
  std::uint32_t last = 0;  ///< of `versions`: only so many, 0 = all
};
struct FsckOptions {
  std::string path = "/";
  bool repair = false;
  bool scrub = false;  ///< `fs scrub`: repair, and tell of each problem whether it is mended
  Duration orphan_age = std::chrono::minutes(10);
};

void fs_put(App& app, const PutOptions& options);  // cli/fs_transfer.cc
void fs_get(App& app, const GetOptions& options);
void fs_cat(App& app, const CatOptions& options);
void fs_ls(App& app, const LsOptions& options);  // cli/fs_show.cc
void fs_stat(App& app, const OneFileOptions& options);
void fs_locate(App& app, const OneFileOptions& options);
void fs_versions(App& app, const OneFileOptions& options);
void fs_store(App& app, const std::string& node);
void fs_df(App& app);
void fs_rm(App& app, const RmOptions& options);
void fs_fsck(App& app, const FsckOptions& options);  // fsck and scrub: cli/fs_fsck.cc

}  // namespace idunno::cli
