#pragma once
/// What every command family shares: global options, the connection to the cluster, output in four formats, exit codes.
/// A family is one file with `void add_<family>_commands(CLI::App& app, App& context)`, called by cli/main.cc; its callbacks set
/// `context.exit_code`. stdout is data, stderr is messages; an error is one or two lines that end in what to do next.

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "bus/base/result.h"
#include "bus/cluster_config.h"
#include "bus/event_loop.h"
#include "bus/rpc.h"
#include "storage/sdfs/client.h"

namespace idunno::cli {

using Json = nlohmann::ordered_json;

/// cli.md, "Exit codes".
enum ExitCode : int {
  kDone = 0,
  kFailed = 1,
  kUsage = 2,
  kNotFound = 3,
  kNoCoordinator = 4,
  kTimedOut = 5,
  kJobFailed = 6,
  kJobStopped = 7,
  kQueryErrors = 8,
  kNotNow = 9,
  kNotAllowed = 10,
  kAssertion = 11,
  kDamaged = 12,
};
[[nodiscard]] ExitCode exit_code_of(Errc code);

enum class Format { table, json, jsonl, csv };

struct Globals {
  std::filesystem::path dir;     ///< --dir, IDUNNO_DIR, ./.idunno
  std::filesystem::path config;  ///< --config, IDUNNO_CONFIG, else <dir>/cluster.toml
  std::filesystem::path key;     ///< --key, else <keys dir>/admin.key
  Duration timeout = std::chrono::seconds(30);
  bool timeout_given = false;  ///< then it also bounds `--wait` and `job wait`, which have no bound otherwise
  Format format = Format::table;
  bool yes = false;
  bool quiet = false;
  bool verbose = false;
  bool stale = false;  ///< --stale of commands that read: any node that keeps the log may answer
};

/// A connected client of the cluster; everything in one thread.
class Session {
 public:
  [[nodiscard]] static Result<std::unique_ptr<Session>> open(const Globals& globals);
  ~Session();

  [[nodiscard]] const ClusterConfig& config() const;
  [[nodiscard]] const AdmittedKeys& admitted() const;
  [[nodiscard]] const KeyPair& keys() const;
  [[nodiscard]] EventLoop& loop();
  [[nodiscard]] ZmqContext& zmq();
  [[nodiscard]] RpcClient& rpc();
  [[nodiscard]] MetadataClient& metadata();
  [[nodiscard]] BlockClient& blocks();
  [[nodiscard]] SdfsClient& sdfs();

 private:
  Session();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// One value of a table: text for people, a JSON value for scripts.
struct Column {
  std::string name;    ///< JSON/CSV name, snake_case with the unit: "size_bytes"
  std::string title;   ///< table heading: "SIZE"; empty = not in the table
  bool right = false;  ///< numbers are right-aligned
};
/// Rows in the format of --output. JSON: {"schema": "idunno.<thing>.v1", "<rows_name>": [...], ...extra}; jsonl: one object a
/// row; csv: RFC 4180.
class Listing {
 public:
  Listing(std::string schema, std::string rows_name, std::vector<Column> columns);
  struct Cell {
    Json value;
    std::string text;  ///< empty = made from value
  };
  void add(std::vector<Cell> row);
  Json extra = Json::object();  ///< further fields of the JSON form
  std::string footer;           ///< lines under the table, to stdout
  void print(const Globals& globals) const;

 private:
  std::string schema_;
  std::string rows_name_;
  std::vector<Column> columns_;
  std::vector<std::vector<Cell>> rows_;
};

/// A single object: JSON in json/jsonl, "key  value" lines in a table, one row in CSV. `schema` becomes the first field.
void print_object(const Globals& globals, const std::string& schema, const Json& object);
/// What a command did, for programs: nothing as a table, for its notes have told people.
void print_outcome(const Globals& globals, const std::string& schema, const Json& object);

/// A line on stderr that a terminal redraws in place (queries or bytes done, rate, ETA); plain lines every few seconds when
/// piped; nothing with --quiet.
class ProgressBar {
 public:
  ProgressBar(const Globals& globals, std::string what, std::string unit, std::uint64_t total, bool bytes = false);
  ~ProgressBar();  ///< ends the line
  void update(std::uint64_t done);
  void set_total(std::uint64_t total);
  void finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

[[nodiscard]] bool stdout_is_terminal();
[[nodiscard]] bool stderr_is_terminal();
[[nodiscard]] bool colours();  ///< terminal and no NO_COLOR

struct App {
  Globals globals;
  int exit_code = kDone;

  /// The session, opened at first use; on failure prints the error, sets exit_code and returns null.
  Session* session();
  /// Prints "idunno: <doing>: <why>" (+ next step) on stderr and sets exit_code. `next` may be empty.
  void fail(const Error& error, const std::string& doing, const std::string& next = "");
  void usage(const std::string& what, const std::string& next = "");  ///< exit code 2
  void note(const std::string& line) const;                           ///< stderr, unless --quiet
  /// With --stale: `"stale"` in the output says whether an answer came from a node that does not lead, and stderr too.
  void mark_stale(Json& output) const;
  void note_stale() const;

 private:
  std::shared_ptr<Session> session_;
};

/// "j12", "12" or a job's unique name or prefix; "n3" or "3". not_found / invalid say what is wrong.
[[nodiscard]] Result<NodeId> parse_node(const std::string& text, const ClusterConfig& config);
[[nodiscard]] Result<JobId> resolve_job(Session& session, const std::string& text);

/// `--stale`, for a command that only reads.
void add_stale_flag(CLI::App& command, App& app);

// One function a family.
void add_cluster_commands(CLI::App& app, App& context);  // up, down, node, kill-node cli/cluster_commands.cc
void add_status_commands(CLI::App& app, App& context);   // status, member cli/status_commands.cc
void add_keys_commands(CLI::App& app, App& context);   // keys                                                cli/keys_commands.cc
void add_fs_commands(CLI::App& app, App& context);     // fs                                                  cli/fs_commands.cc
void add_model_commands(CLI::App& app, App& context);  // model cli/model_commands.cc
void add_submit_command(CLI::App& app, App& context);  // submit cli/submit_command.cc
void add_job_commands(CLI::App& app, App& context);    // job                                                 cli/job_commands.cc
void add_query_command(CLI::App& app, App& context);   // query                                               cli/query_command.cc
void add_phase_command(CLI::App& app, App& context);   // phase                                               cli/phase_command.cc
void add_stats_command(CLI::App& app, App& context);   // stats                                               cli/stats_command.cc
void add_explain_command(CLI::App& job, App& context);  // job explain                                          cli/explain_command.cc
void add_grep_command(CLI::App& app, App& context);    // grep                                                cli/grep_command.cc
void add_watch_command(CLI::App& app, App& context);   // watch                                               cli/watch_command.cc
void add_dash_command(CLI::App& app, App& context);    // dash                                                cli/dash_command.cc
void add_bench_commands(CLI::App& app, App& context);  // bench                                               cli/bench_*.cc
void add_exp_commands(CLI::App& app, App& context);    // exp                                                 cli/experiments/
void add_completion_command(CLI::App& app, App& context);  // completion bash|zsh|fish, man cli/completion.cc

}  // namespace idunno::cli
