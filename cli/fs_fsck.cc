/// `idunno fs fsck`: what was found, in rows and numbers.

#include <fmt/format.h>

#include <algorithm>

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

struct Problem {
  std::size_t block = 0;  ///< in CheckReport::blocks
  std::string what;
  NodeId node;  ///< 0 = of the block as a whole
  bool operator==(const Problem&) const = default;
};

std::vector<Problem> problems_of(const CheckReport& report) {
  std::vector<Problem> problems;
  for (std::size_t i = 0; i < report.blocks.size(); ++i) {
    const CheckedBlock& block = report.blocks[i];
    for (const NodeId node : block.damaged) problems.push_back({i, "damaged", node});
    for (const NodeId node : block.missing) problems.push_back({i, "missing", node});
    if (block.good.empty())
      problems.push_back({i, "lost", {}});
    else if (block.good.size() < report.wanted)
      problems.push_back({i, "under_replicated", {}});
  }
  return problems;
}

/// `left`: what is still wrong after a repair; null when none was made.
Listing problem_listing(const FsckOptions& options, const CheckReport& report, const std::vector<Problem>& found,
                        const std::vector<Problem>* left, const std::vector<Orphan>& orphans) {
  Listing listing(options.scrub ? "idunno.fs_scrub.v1" : "idunno.fs_fsck.v1", "problems",
                  {{"problem", "PROBLEM"},
                   {"node", "NODE"},
                   {"version", "VERSION", true},
                   {"block", "BLOCK", true},
                   {"id", "ID"},
                   {"path", "PATH"},
                   {"mended", options.repair ? "MENDED" : ""}});
  for (const Problem& problem : found) {
    const BlockPlace& place = report.blocks[problem.block].place;
    Listing::Cell mended{nullptr, "-"};
    if (left != nullptr) {
      const bool done = std::find(left->begin(), left->end(), problem) == left->end();
      mended = {done, done ? "yes" : "no"};
    }
    listing.add({{problem.what, ""},
                 {problem.node ? Json(to_string(problem.node)) : Json(nullptr), ""},
                 {place.version, ""},
                 {place.index, ""},
                 {to_string(place.block.id), ""},
                 {place.path, ""},
                 mended});
  }
  for (const Orphan& orphan : orphans) {
    listing.add({{"orphan", ""},
                 {to_string(orphan.node), ""},
                 {nullptr, "-"},
                 {nullptr, "-"},
                 {to_string(orphan.block.id), ""},
                 {nullptr, "-"},
                 {nullptr, "-"}});
  }
  return listing;
}

}  // namespace

void fs_fsck(App& app, const FsckOptions& options) {
  const std::string command = options.scrub ? "scrub" : options.repair ? "fsck --repair" : "fsck";
  const auto path = clean_path(options.path);
  if (!path) return app.fail(path.error(), command);
  Session* session = app.session();
  if (session == nullptr) return;
  const Time begin = monotonic_now();
  auto report = find_blocks(*session, *path);
  if (!report) return app.fail(report.error(), command + " " + *path);
  std::uint64_t copies = 0;
  for (const CheckedBlock& block : report->blocks) copies += block.place.block.replicas.size();
  {
    ProgressBar bar(app.globals, options.scrub ? "scrub" : "fsck", "copies", copies);
    check_copies(*session, *report, [&bar](std::uint64_t done) { bar.update(done); });
    bar.finish();
  }
  std::vector<Orphan> orphans;
  if (*path == "/" && !options.scrub) orphans = find_orphans(*session, *report, options.orphan_age);

  const Counts found = count(*report);
  const std::vector<Problem> problems = problems_of(*report);
  std::vector<Problem> problems_left;
  std::uint64_t repaired = 0;
  Counts left = found;
  if (options.repair) {
    auto made = repair_blocks(*session, *report);
    if (!made) return app.fail(made.error(), command + " " + *path);
    repaired = *made;
    left = count(*report);
    problems_left = problems_of(*report);
  }
  Listing listing = problem_listing(options, *report, problems, options.repair ? &problems_left : nullptr, orphans);
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
