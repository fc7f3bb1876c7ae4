/// idunno-executor: `serve` is the child of idunnod; the other commands run the same engine in one process.

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <string_view>

#include "nodes/worker/dnn_engine.h"
#include "nodes/worker/executor_environment.h"
#include "nodes/worker/executor_service.h"
#include "nodes/worker/local_runs.h"
#include "nodes/worker/model_check.h"

namespace {

/// Libraries have read the environment before main, so a process that was started without the settings starts itself once more.
void ensure_environment(char** arguments) {
  bool complete = true;
  for (const auto& [name, value] : idunno::kExecutorEnvironment) {
    const char* present = std::getenv(name);
    complete &= present != nullptr && std::string_view(present) == value;
    setenv(name, value, 1);
  }
  if (!complete) execv("/proc/self/exe", arguments);  // on failure it goes on without them
}

int run(int argc, char** argv) {
  CLI::App app{"IDunno's executor: loads models and computes batches. Started by idunnod; the commands below work alone."};
  app.set_version_flag("--version", std::string("idunno-executor ") + IDUNNO_VERSION);
  app.require_subcommand(1);

  idunno::ServeOptions serve;
  auto* serve_command = app.add_subcommand("serve", "compute batches for the parent process, on descriptor 3");
  serve_command->add_option("--memory", serve.memory_bytes, "limit in bytes")->required();
  serve_command->add_option("--parent", serve.parent_pid, "its process id")->required();

  idunno::CheckOptions check;
  std::uint64_t check_memory = 0;
  auto* check_command = app.add_subcommand("check", "load a model, run it, print what it is as JSON");
  check_command->add_option("--onnx", check.onnx_file)->required();
  check_command->add_option("--spec", check.spec_file)->required();
  check_command->add_option("--labels", check.labels_file, "default: the file that the spec names, beside the spec");
  check_command->add_option("--batch", check.batches, "batch sizes to time")->delimiter(',')->check(CLI::Range(1, 4096));
  check_command->add_option("--memory", check_memory, "limit in bytes; 0 = none");

  idunno::RunOptions rows;
  auto* run_command = app.add_subcommand("run", "print the rows for all inputs, in order");
  run_command->add_option("--onnx", rows.onnx_file)->required();
  run_command->add_option("--spec", rows.spec_file)->required();
  run_command->add_option("--labels", rows.labels_file, "default: the file that the spec names, beside the spec");
  run_command->add_option("--data", rows.data, "a folder of images, an IDX file or a CSV file")->required();
  run_command->add_option("--batch", rows.batch)->check(CLI::Range(1, 4096));
  run_command->add_option("--prefix", rows.prefix, "put before each file name in the rows");

  idunno::BenchLoopOptions bench;
  auto* bench_command = app.add_subcommand("bench-loop", "decode and infer in a loop, print images per second");
  bench_command->add_option("--onnx", bench.onnx_file)->required();
  bench_command->add_option("--spec", bench.spec_file)->required();
  bench_command->add_option("--images", bench.images, "folder of images; default: made-up ones");
  bench_command->add_option("--batch", bench.batch)->check(CLI::Range(1, 4096));
  bench_command->add_option("--seconds", bench.seconds)->check(CLI::Range(0.1, 3600.0));

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  idunno::set_up_opencv();
  if (*serve_command) return idunno::serve(serve);
  idunno::limit_memory(check_memory);
  if (*check_command) return idunno::check_model(check);
  if (*run_command) return idunno::run_all(rows);
  return idunno::bench_loop(bench);
}

}  // namespace

int main(int argc, char** argv) {
  ensure_environment(argv);
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "idunno-executor: %s\n", error.what());
    return 1;
  }
}
