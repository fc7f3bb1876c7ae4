#include <fmt/core.h>

#include "cli/bench.h"
#include "cli/image_set.h"

namespace idunno::cli {

namespace {

struct ImageOptions {
  std::string folder;
  std::uint64_t count = 100;
  std::uint32_t side = 256;
  std::uint64_t seed = 1;
};

}  // namespace

void add_bench_commands(CLI::App& root, App& app) {
  CLI::App* bench =
      root.add_subcommand("bench", "measure: inference, dispatch, storage and failover, in temporary clusters of their own");
  bench->require_subcommand(1);
  bench->footer("Example:\n  idunno bench infer --csv infer.csv\n  idunno bench dispatch --workers 1,4,16");
  add_bench_infer_command(*bench, app);
  add_bench_curve_command(*bench, app);
  add_bench_dispatch_command(*bench, app);
  add_bench_fs_command(*bench, app);
  add_bench_grep_command(*bench, app);
  add_bench_failover_command(*bench, app);
  add_bench_query_command(*bench, app);

  auto options = std::make_shared<ImageOptions>();
  CLI::App* images = bench->add_subcommand("make-images", "write made-up PNG photographs, the same for the same seed");
  images->add_option("folder", options->folder, "where to")->required()->type_name("DIR");
  images->add_option("--count", options->count, "how many (default 100)")->check(CLI::Range(1, 1000000))->type_name("N");
  images->add_option("--size", options->side, "width and height in pixels (default 256)")
      ->check(CLI::Range(1U, kImageSideMax))
      ->type_name("PIXELS");
  images->add_option("--seed", options->seed, "another seed, other images (default 1)")->type_name("S");
  images->callback([&app, options] {
    if (auto made = make_images(options->folder, options->count, options->side, options->seed); !made)
      return app.fail(made.error(), "bench make-images");
    app.note(fmt::format("{} images in {}", options->count, options->folder));
  });
  images->footer("Example:\n  idunno bench make-images photos --count 200 --size 256 --seed 7");
}

}  // namespace idunno::cli
