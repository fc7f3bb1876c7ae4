#pragma once
/// What the cluster does while it is hurt: two jobs whose results are known from an undisturbed run, and files that must not get
/// lost.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/chaos/lab.h"

namespace idunno::testing {

class Work {
 public:
  /// Puts pictures and two models into the cluster and runs both jobs once undisturbed.
  explicit Work(const Lab& lab, int pictures = 240);

  /// Submits both jobs, held to `rate` queries a second each, so that there is time to hurt them.
  void begin(int rate = 40);
  /// Waits until the jobs that began have done `part` per cent of their queries.
  [[nodiscard]] bool reached(int part) const;
  /// Waits for both, compares their digests with the undisturbed ones, and that no query is missing.
  void check() const;
  /// All blocks back at their copies, every node alive, everything readable and right; no command by hand.
  void check_whole() const;

  /// Puts a small file through the command line and remembers it when that was acknowledged.
  void put_file();
  /// Reads all files that were acknowledged and compares them.
  void check_files() const;
  [[nodiscard]] std::size_t acknowledged() const { return files_.size(); }

 private:
  [[nodiscard]] std::vector<std::string> job(const std::string& model, int rate) const;

  const Lab& lab_;
  int pictures_;
  std::map<std::string, std::string> undisturbed_;  ///< digest by model
  std::map<std::string, std::string> running_;      ///< job id by model
  std::map<std::string, std::string> files_;        ///< contents by path
};

/// Puts small files as fast as one client can, from a thread of its own, through the same client library as the command line;
/// every acknowledgement is remembered. Errors are counted and retried with the next file: what was not acknowledged may be there
/// or not.
class Acknowledger {
 public:
  explicit Acknowledger(const Lab& lab);
  ~Acknowledger();
  void stop();  ///< ends the thread
  [[nodiscard]] std::uint64_t acknowledged() const;
  /// Reads every acknowledged file and compares; how many are missing or wrong.
  [[nodiscard]] std::uint64_t missing();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace idunno::testing
