/// The tree of `idunno fs` and what its commands share.

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "bus/clock.h"
#include "bus/units.h"
#include "cli/fs_common.h"
#include "storage/sdfs/namespace.h"

namespace idunno::cli {
namespace {

constexpr Duration kWaitStep = std::chrono::seconds(60);

CLI::App* command(CLI::App* fs, const char* name, const char* what, const char* example) {
  CLI::App* made = fs->add_subcommand(name, what);
  made->footer(fmt::format("Example:\n  {}", example));
  return made;
}

void add_version(CLI::App* to, std::uint32_t& version) {
  to->add_option("--version", version, "an older version (default: the newest)")->check(CLI::Range(1U, ~0U))->type_name("N");
}

void add_transfers(CLI::App* fs, App& app) {
  auto put = std::make_shared<PutOptions>();
  CLI::App* made = command(fs, "put", "copy local files into SDFS; an existing file gets a new version",
                           "idunno fs put photo.jpg /data/photo.jpg\n  idunno fs put -r photos /data/photos");
  made->add_option("paths", put->paths,
                   "local files, then the SDFS path: a folder when it ends in '/', is one, or several files are given")
      ->required()
      ->type_name("LOCAL... /PATH")
      ->expected(2, -1);
  made->add_flag("-r,--recursive", put->recursive, "folders, with everything below them");
  made->callback([&app, put] { fs_put(app, *put); });

  auto get = std::make_shared<GetOptions>();
  made = command(fs, "get", "copy a file, or with -r a folder, out of SDFS",
                 "idunno fs get /data/photo.jpg .\n  idunno fs get -r /data/photos photos");
  made->add_option("path", get->path, "file or folder in SDFS")->required()->type_name("/PATH");
  made->add_option("local", get->local, "file or folder here (default: this folder)")->type_name("LOCAL");
  made->add_flag("-r,--recursive", get->recursive, "a folder, with everything below it");
  add_version(made, get->version);
  add_stale_flag(*made, app);
  made->callback([&app, get] { fs_get(app, *get); });

  auto cat = std::make_shared<CatOptions>();
  made = command(fs, "cat", "write files to standard output", "idunno fs cat /data/labels.txt | head");
  made->add_option("path", cat->paths, "files in SDFS")->required()->type_name("/PATH...");
  add_version(made, cat->version);
  add_stale_flag(*made, app);
  made->callback([&app, cat] { fs_cat(app, *cat); });
}

void add_file_commands(CLI::App* fs, App& app) {
  auto ls = std::make_shared<LsOptions>();
  CLI::App* made = command(fs, "ls", "what lies in a folder, and which nodes hold it", "idunno fs ls -R /data");
  made->add_option("path", ls->path, "folder or file (default /)")->type_name("/PATH");
  made->add_flag("-R,-r,--recursive", ls->recursive, "everything below");
  add_stale_flag(*made, app);
  made->callback([&app, ls] { fs_ls(app, *ls); });

  auto rm = std::make_shared<RmOptions>();
  made = command(fs, "rm", "remove files with all their versions, with -r folders too", "idunno fs rm -r /data/photos");
  made->add_option("path", rm->paths, "files or folders in SDFS")->required()->type_name("/PATH...");
  made->add_flag("-r,--recursive", rm->recursive, "folders, with everything below them");
  made->callback([&app, rm] { fs_rm(app, *rm); });

  auto stat = std::make_shared<OneFileOptions>();
  made = command(fs, "stat", "size, version, time, blocks and copies of a file", "idunno fs stat /data/photo.jpg --json");
  made->add_option("path", stat->path, "file or folder in SDFS")->required()->type_name("/PATH");
  add_version(made, stat->version);
  add_stale_flag(*made, app);
  made->callback([&app, stat] { fs_stat(app, *stat); });

  auto locate = std::make_shared<OneFileOptions>();
  made = command(fs, "locate", "which nodes hold which block of a file", "idunno fs locate /data/photo.jpg");
  made->add_option("path", locate->path, "file in SDFS")->required()->type_name("/PATH");
  add_version(made, locate->version);
  add_stale_flag(*made, app);
  made->callback([&app, locate] { fs_locate(app, *locate); });

  auto versions = std::make_shared<OneFileOptions>();
  made = command(fs, "versions", "the versions of a file, newest first", "idunno fs versions /data/photo.jpg --last 5");
  made->add_option("path", versions->path, "file in SDFS")->required()->type_name("/PATH");
  made->add_option("-n,--last", versions->last, "only the last N")->check(CLI::Range(1U, ~0U))->type_name("N");
  made->callback([&app, versions] { fs_versions(app, *versions); });
}

void add_cluster_wide(CLI::App* fs, App& app) {
  auto node = std::make_shared<std::string>();
  CLI::App* made = command(fs, "store", "the files that have blocks on one node", "idunno fs store n3");
  made->add_option("node", *node, "n3 or 3")->required()->type_name("N");
  add_stale_flag(*made, app);
  made->callback([&app, node] { fs_store(app, *node); });

  made = command(fs, "df", "space on each node and in total", "idunno fs df");
  made->callback([&app] { fs_df(app); });

  auto fsck = std::make_shared<FsckOptions>();
  made = command(fs, "fsck", "read and verify every copy of every block (exit code 12 when something is damaged)",
                 "idunno fs fsck --repair");
  made->add_option("path", fsck->path, "only what lies here (default: everything, and orphans too)")->type_name("/PATH");
  made->add_flag("--repair", fsck->repair, "mend damaged, missing and too few copies from good ones");
  made->add_option_function<std::string>(
          "--orphan-age",
          [fsck](const std::string& text) {
            auto age = parse_duration(text);
            if (!age) throw CLI::ValidationError("--orphan-age", age.error().detail);
            fsck->orphan_age = *age;
          },
          "blocks nobody refers to count when they are older (default 10m); younger ones may belong to a put in progress")
      ->type_name("TIME");
  made->callback([&app, fsck] { fs_fsck(app, *fsck); });

  auto scrub = std::make_shared<FsckOptions>();
  scrub->repair = true;
  scrub->scrub = true;
  made = command(fs, "scrub", "read every copy of every block now, mend what is bad, and tell what was mended",
                 "idunno fs scrub\n  idunno fs scrub /data --json");
  made->add_option("path", scrub->path, "only what lies here (default: everything)")->type_name("/PATH");
  made->callback([&app, scrub] { fs_fsck(app, *scrub); });
}

}  // namespace

void add_fs_commands(CLI::App& root, App& context) {
  CLI::App* fs = root.add_subcommand("fs", "files in SDFS, the cluster's replicated file system");
  fs->require_subcommand(1);
  fs->footer("Example:\n  idunno fs put -r photos /data/photos && idunno fs ls /data/photos");
  add_transfers(fs, context);
  add_file_commands(fs, context);
  add_cluster_wide(fs, context);
}

Result<std::string> clean_path(const std::string& text) {
  std::string path = text;
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  if (path == "/") return path;
  if (auto good = check_path(path); !good) return good.error();
  return path;
}

std::string base_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

std::string join_path(const std::string& folder, const std::string& name) {
  return folder == "/" ? "/" + name : folder + "/" + name;
}

Result<PathInfo> look_up(Session& session, const std::string& path, std::uint32_t version) {
  if (path == "/") return PathInfo{true, {}};
  FsStatRequest request;
  request.path = path;
  request.version = version;
  request.max_blocks = 1;
  auto reply = session.metadata().call_and_wait(request);
  if (!reply) return reply.error();
  return PathInfo{reply->is_folder, std::move(reply->file)};
}

std::set<NodeId> holders(const FileVersion& file) {
  std::set<NodeId> nodes;
  for (const BlockRef& block : file.blocks) nodes.insert(block.replicas.begin(), block.replicas.end());
  return nodes;
}

std::size_t fewest_copies(const FileVersion& file) {
  const auto fewest = std::min_element(file.blocks.begin(), file.blocks.end(), [](const BlockRef& a, const BlockRef& b) {
    return a.replicas.size() < b.replicas.size();
  });
  return fewest == file.blocks.end() ? 0 : fewest->replicas.size();
}

Json nodes_json(const std::set<NodeId>& nodes) {
  Json names = Json::array();
  for (const NodeId node : nodes) names.push_back(to_string(node));
  return names;
}

void run_until_done(Session& session, const std::function<bool()>& done) {
  while (!session.loop().run_until(done, monotonic_now() + kWaitStep)) {
  }
}

}  // namespace idunno::cli
