#pragma once
/// Real clusters for tests: processes, sockets and disks of their own in a temporary folder, driven through the command line as a
/// user would. Everything is gone when the object is.

#include <chrono>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace idunno::testing {

struct CommandResult {
  int exit_code = -1;
  std::string out;
  std::string err;
  [[nodiscard]] nlohmann::json json() const;  ///< of stdout; null when it does not parse
};

/// All time limits given to this harness are for a release build and are multiplied by this: IDUNNO_TEST_PATIENCE, else 1, in
/// builds with a sanitizer 6.
[[nodiscard]] int patience();
/// `--rate` of a job that something is to happen to while it runs: as many queries per second, fewer by the same factor.
[[nodiscard]] std::string paced(int queries_per_s);

/// Runs a program to its end (killed after `limit`), stdin closed.
[[nodiscard]] CommandResult run_program(const std::vector<std::string>& arguments,
                                        std::chrono::seconds limit = std::chrono::seconds(120));

/// Folder of the built programs: IDUNNO_BIN_DIR, else where this test was built.
[[nodiscard]] std::filesystem::path bin_dir();
/// Real models and data, or an empty path when they are not there: IDUNNO_SHARED_DATA, else ../shared/data beside the source.
[[nodiscard]] std::filesystem::path shared_data();

/// A folder that is removed with its contents.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// Polls until `holds` or the deadline; for conditions, never for mere waiting.
[[nodiscard]] bool eventually(const std::function<bool()>& holds, std::chrono::seconds limit = std::chrono::seconds(60));

class TestCluster {
 public:
  /// Starts `nodes` nodes and fails the test when they do not come up.
  explicit TestCluster(int nodes, std::vector<std::string> up_options = {});
  ~TestCluster();

  /// `idunno --dir ... <arguments>`.
  CommandResult idunno(std::vector<std::string> arguments, std::chrono::seconds limit = std::chrono::seconds(120)) const;
  /// The same; the test fails when the exit code is another one.
  CommandResult expect(int exit_code, std::vector<std::string> arguments,
                       std::chrono::seconds limit = std::chrono::seconds(120)) const;
  /// Submits and returns the job's id.
  [[nodiscard]] std::string submit(std::vector<std::string> arguments) const;
  [[nodiscard]] nlohmann::json job(const std::string& id) const;
  [[nodiscard]] nlohmann::json status() const;
  [[nodiscard]] bool healthy() const;
  /// Waits for the end of the job and verifies it; returns its digest.
  [[nodiscard]] std::string finish(const std::string& id, int exit_code = 0) const;

  [[nodiscard]] const std::filesystem::path& dir() const { return dir_; }  ///< of the cluster
  [[nodiscard]] const std::filesystem::path& scratch() const { return temp_.path(); }
  [[nodiscard]] std::string node_log(int node) const;

  /// PNG files "image-00000.png", ... in scratch()/name; made from the seed.
  [[nodiscard]] std::filesystem::path make_images(const std::string& name, int count, int side, int seed = 1) const;

 private:
  TempDir temp_;
  std::filesystem::path dir_;
};

}  // namespace idunno::testing
