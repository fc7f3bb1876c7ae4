/// `idunno fs fsck`: what was found, in rows and numbers.

#include <fmt/format.h>

#include "bus/clock.h"
#include "bus/units.h"
#include "cli/fs_check.h"
#include "cli/fs_common.h"

namespace idunno::cli {
namespace {

/// Copies, but for `under_replicated` and `lost`, which are blocks.
struct Counts {
  std::uint64_t damaged = 0;
  std::uint64_t missing = 0;
  std::uint64_t unknown = 0;
  std::uint64_t under_replicated = 0;
  std::uint64_t lost = 0;
};

Counts count(const CheckReport& report) {
  Counts counts;
  for (const CheckedBlock& block : report.blocks) {
    counts.damaged += block.damaged.size();
    counts.missing += block.missing.size();
    counts.unknown += block.unknown.size();
    if (block.good.empty())
      ++counts.lost;
    else if (block.good.size() < report.wanted)
      ++counts.under_replicated;
  }
  return counts;
}

Listing problem_listing() {
  return Listing("idunno.fs_fsck.v1", "problems",
                 {{"problem", "PROBLEM"},
                  {"node", "NODE"},
                  {"version", "VERSION", true},
                  {"block", "BLOCK", true},
                  {"id", "ID"},
                  {"path", "PATH"}});
}

void add_problems(Listing& listing, const CheckReport& report) {
  const auto add = [&listing](const CheckedBlock& block, const char* problem, const Json& node) {
    listing.add({{problem, ""},
                 {node, ""},
                 {block.place.version, ""},
                 {block.place.index, ""},
                 {to_string(block.place.block.id), ""},
                 {block.place.path, ""}});
  };
  for (const CheckedBlock& block : report.blocks) {
    for (const NodeId node : block.damaged) add(block, "damaged", to_string(node));
    for (const NodeId node : block.missing) add(block, "missing", to_string(node));
    if (block.good.empty())
      add(block, "lost", nullptr);
    else if (block.good.size() < report.wanted)
      add(block, "under_replicated", nullptr);
  }
}

}  // namespace

void fs_fsck(App& app, const FsckOptions& options) {
  const auto path = clean_path(options.path);
  if (!path) return app.fail(path.error(), "fsck");
  Session* session = app.session();
  if (session == nullptr) return;
  const Time begin = monotonic_now();
  auto report = find_blocks(*session, *path);
  if (!report) return app.fail(report.error(), "fsck " + *path);
  std::uint64_t copies = 0;
  for (const CheckedBlock& block : report->blocks) copies += block.place.block.replicas.size();
  {
    ProgressBar bar(app.globals, "fsck", "copies", copies);
    check_copies(*session, *report, [&bar](std::uint64_t done) { bar.update(done); });
    bar.finish();
  }
  std::vector<Orphan> orphans;
  if (*path == "/") orphans = find_orphans(*session, *report, options.orphan_age);

  const Counts found = count(*report);
  Listing listing = problem_listing();
  add_problems(listing, *report);
  for (const Orphan& orphan : orphans) {
    listing.add({{"orphan", ""},
                 {to_string(orphan.node), ""},
                 {nullptr, "-"},
                 {nullptr, "-"},
                 {to_string(orphan.block.id), ""},
                 {nullptr, "-"}});
  }
  std::uint64_t repaired = 0;
  Counts left = found;
  if (options.repair) {
    auto made = repair_blocks(*session, *report);
    if (!made) return app.fail(made.error(), "fsck --repair " + *path);
    repaired = *made;
    left = count(*report);
  }
  Json& extra = listing.extra;
  extra["file_versions"] = report->files;
  extra["blocks"] = report->blocks.size();
  extra["copies_checked"] = report->copies;
  extra["bytes_checked"] = report->bytes;
  extra["damaged_copies"] = found.damaged;
  extra["missing_copies"] = found.missing;
  extra["copies_not_checked"] = found.unknown;
  extra["under_replicated_blocks"] = found.under_replicated;
  extra["lost_blocks"] = found.lost;
  extra["orphans"] = orphans.size();
  extra["copies_repaired"] = repaired;
  const bool bad = left.damaged + left.missing + left.lost > 0;
  extra["healthy"] = !bad && left.under_replicated == 0;
  listing.footer = fmt::format(
      "{} copies of {} blocks in {} file versions read ({} in {}): {} damaged, {} missing, {} on nodes that do not answer; {} "
      "blocks "
      "under-replicated, {} lost, {} orphans",
      report->copies, report->blocks.size(), report->files, format_size(report->bytes), format_duration(monotonic_now() - begin),
      found.damaged, found.missing, found.unknown, found.under_replicated, found.lost, orphans.size());
  if (options.repair) {
    listing.footer += fmt::format("\n{} copies made; left: {} damaged, {} missing, {} under-replicated, {} lost", repaired,
                                  left.damaged, left.missing, left.under_replicated, left.lost);
  }
  listing.print(app.globals);
  if (!bad) return;
  app.exit_code = kDamaged;
  if (!options.repair)
    app.note("idunno fs fsck: bad copies were found; `idunno fs fsck --repair` mends what has a good copy left");
}

}  // namespace idunno::cli
