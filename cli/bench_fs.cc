/// `idunno bench fs`: what replication and the network cost. In one run, on one disk: as many bare RocksDB stores as a block has
/// copies, written at once and synced, and then SDFS; the ratios are what counts.
///
/// For a quiet machine: on a busy one the kernel shares the cores by session (sched_autogroup), the nodes are sessions of their
/// own and the bare stores are not, so the ratios would tell about the scheduler.

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <thread>

#include "bus/base/random.h"
#include "bus/clock.h"
#include "bus/hash.h"
#include "bus/units.h"
#include "cli/bench.h"
#include "cli/local_cluster.h"
#include "storage/block_store.h"

namespace idunno::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMega = 1'000'000;
constexpr double kPutWanted = 0.6;
constexpr double kGetWanted = 0.4;

struct Options {
  std::uint64_t size = 256ULL << 20U;
  unsigned nodes = 4;
  unsigned rounds = 3;
  std::uint64_t files = 2000;
  std::uint64_t file_bytes = 4096;
  /// The client has at most so many large blocks on their way to a node, so a node never syncs more of them together.
  unsigned group = BlockClient::Options{}.requests_per_node_max;
  std::string folder;
  std::string csv;
};

/// MB/s (10^6) of one round.
struct Round {
  double bare_put = 0;  ///< mean of the stores
  double bare_put_sum = 0;
  double bare_get_warm = 0;
  double bare_get_cold = 0;
  double put = 0;
  double get_warm = 0;
  double get_cold = 0;  ///< 0 = the nodes' files are not on this machine
};

/// Removes a folder of ours when it goes.
struct Scratch {
  fs::path path;
  ~Scratch() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
};

double rate(std::uint64_t bytes, Time begin) {
  const double seconds = std::chrono::duration<double>(monotonic_now() - begin).count();
  return static_cast<double>(bytes) / static_cast<double>(kMega) / std::max(1e-6, seconds);
}

Bytes random_block(std::uint64_t seed) {
  Random random(seed);
  Bytes block(kBlockBytesMax, '\0');
  for (std::size_t i = 0; i + 8 <= block.size(); i += 8) {
    const std::uint64_t value = random.next();
    std::copy_n(reinterpret_cast<const char*>(&value), 8, block.begin() + static_cast<std::ptrdiff_t>(i));
  }
  return block;
}

/// The kernel forgets what it has cached of these files; only what is on disk already, so they are synced first.
void drop_cache(const fs::path& folder) {
  std::error_code error;
  for (fs::recursive_directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (!it->is_regular_file(error)) continue;
    const int file = ::open(it->path().c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) continue;
    (void)::fdatasync(file);
    (void)::posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
    ::close(file);
  }
}

RocksStoreOptions store_options(const fs::path& folder, std::size_t number) {
  RocksStoreOptions options;
  options.folder = folder / fmt::format("bare-{}", number);
  return options;
}

/// One synced batch of `group` blocks after the other, as a program would that keeps its data in RocksDB; its MB/s.
Result<double> fill_store(const RocksStoreOptions& options, std::uint64_t blocks, std::uint64_t group, std::uint64_t seed,
                          std::vector<BlockKey>& keys) {
  auto opened = open_rocks_block_store(options);
  if (!opened) return opened.error();
  std::vector<Bytes> buffers;
  for (std::uint64_t i = 0; i < group; ++i) buffers.push_back(random_block(seed * group + i));
  const Time begin = monotonic_now();
  for (std::uint64_t first = 0; first < blocks; first += group) {
    std::vector<BlockWrite> batch;
    for (std::uint64_t i = first; i < std::min(first + group, blocks); ++i) {
      Bytes& bytes = buffers[i - first];
      std::copy_n(reinterpret_cast<const char*>(&i), sizeof(i), bytes.begin());  // no two alike
      const BlockKey key{BlockId{seed, i + 1}, static_cast<std::uint32_t>(bytes.size()), hash128(bytes)};
      batch.push_back(BlockWrite{key, bytes});
      keys.push_back(key);
    }
    auto statuses = opened->store->put(batch, wall_now_ms());
    if (!statuses) return statuses.error();
    for (const BlockStatus status : *statuses) {
      if (status == BlockStatus::full) return Error{Errc::full, "the disk is full; give a smaller --size or another --folder"};
      if (status != BlockStatus::ok) return Error{Errc::internal, "a bare store refused a block"};
    }
  }
  return rate(blocks * kBlockBytesMax, begin);
}

Result<double> read_store(const RocksStoreOptions& options, const std::vector<BlockKey>& keys) {
  auto opened = open_rocks_block_store(options);
  if (!opened) return opened.error();
  const Time begin = monotonic_now();
  for (const BlockKey& key : keys) {
    auto bytes = opened->store->get(key);
    if (!bytes) return bytes.error();
  }
  return rate(keys.size() * kBlockBytesMax, begin);
}

Status measure_bare(const fs::path& folder, std::size_t stores, std::uint64_t blocks, std::uint64_t group, Round& round) {
  std::vector<Result<double>> rates(stores, Result<double>(0.0));
  std::vector<std::vector<BlockKey>> keys(stores);
  const Time begin = monotonic_now();
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < stores; ++i) {
      threads.emplace_back([&, i] { rates[i] = fill_store(store_options(folder, i), blocks, group, i + 1, keys[i]); });
    }
  }
  round.bare_put_sum = rate(stores * blocks * kBlockBytesMax, begin);
  for (const auto& each : rates) {
    if (!each) return each.error();
    round.bare_put += *each / static_cast<double>(stores);
  }
  auto warm = read_store(store_options(folder, 0), keys[0]);
  if (!warm) return warm.error();
  round.bare_get_warm = *warm;
  drop_cache(store_options(folder, 0).folder);
  auto cold = read_store(store_options(folder, 0), keys[0]);
  if (!cold) return cold.error();
  round.bare_get_cold = *cold;
  for (std::size_t i = 0; i < stores; ++i) fs::remove_all(store_options(folder, i).folder);
  return {};
}

Result<double> get_rate(Session& session, const std::string& path) {
  std::uint64_t bytes = 0;
  const Time begin = monotonic_now();
  const Status got = session.sdfs().get(path, 0, [&bytes](ByteView block) {
    bytes += block.size();
    return Status();
  });
  if (!got) return got.error();
  return rate(bytes, begin);
}

/// `nodes`: data folders on this machine, whose cached pages are dropped for the cold read.
Status measure_sdfs(Session& session, const fs::path& file, std::uint64_t bytes, const std::vector<fs::path>& nodes,
                    Round& round) {
  const std::string path = fmt::format("/bench-fs-{:x}/large", session.rpc().fresh_request_id().client);
  if (auto ready = session.sdfs().refresh_placement(); !ready) return ready;
  const Time begin = monotonic_now();
  auto put = session.sdfs().put({SdfsClient::PutItem{file.string(), path}}, nullptr);
  if (!put) return put.error();
  round.put = rate(bytes, begin);
  auto warm = get_rate(session, path);
  if (!warm) return warm.error();
  round.get_warm = *warm;
  if (!nodes.empty()) {
    for (const fs::path& node : nodes) drop_cache(node);
    auto cold = get_rate(session, path);
    if (!cold) return cold.error();
    round.get_cold = *cold;
  }
  auto removed = session.metadata().call_and_wait(FsRemoveRequest{{path}, false});
  if (!removed) return removed.error();
  return {};
}

struct SmallFiles {
  double put_per_s = 0;
  double get_per_s = 0;
};

Result<SmallFiles> measure_small(Session& session, const fs::path& folder, const Options& options) {
  const std::string target = fmt::format("/bench-fs-{:x}/small", session.rpc().fresh_request_id().client);
  std::vector<SdfsClient::PutItem> items;
  const Bytes content = random_block(77);
  fs::create_directories(folder / "small");
  for (std::uint64_t i = 0; i < options.files; ++i) {
    const fs::path local = folder / "small" / fmt::format("{:06}", i);
    std::ofstream(local, std::ios::binary)
        .write(content.data() + (i * 8) % (content.size() / 2), static_cast<std::streamsize>(options.file_bytes));
    items.push_back(SdfsClient::PutItem{local.string(), fmt::format("{}/{:06}", target, i)});
  }
  const auto per_second = [&](Time begin) {
    return static_cast<double>(options.files) / std::max(1e-6, std::chrono::duration<double>(monotonic_now() - begin).count());
  };
  SmallFiles out;
  Time begin = monotonic_now();
  auto put = session.sdfs().put(items, nullptr);
  if (!put) return put.error();
  out.put_per_s = per_second(begin);
  begin = monotonic_now();
  auto listed = session.sdfs().list_all(target, true);
  if (!listed) return listed.error();
  std::vector<SdfsClient::GetItem> fetch;
  fs::create_directories(folder / "back");
  for (FileVersion& file : *listed) {
    const std::string local = (folder / "back" / file.path.substr(file.path.rfind('/') + 1)).string();
    fetch.push_back(SdfsClient::GetItem{std::move(file), local});
  }
  if (auto got = session.sdfs().get_files(fetch, nullptr); !got) return got.error();
  out.get_per_s = per_second(begin);
  auto removed = session.metadata().call_and_wait(FsRemoveRequest{{target}, true});
  if (!removed) return removed.error();
  return out;
}

Status write_input(const fs::path& file, std::uint64_t blocks) {
  std::ofstream out(file, std::ios::binary);
  for (std::uint64_t i = 0; i < blocks; ++i) {
    const Bytes block = random_block(1000 + i);
    out.write(block.data(), static_cast<std::streamsize>(block.size()));
  }
  out.close();
  if (out.fail()) return Error{Errc::full, fmt::format("writing {}: no space?", file.string())};
  return {};
}

/// Which cluster is measured, and where its nodes keep their blocks when that is on this machine.
struct Target {
  std::unique_ptr<TemporaryCluster> temporary;
  Session* session = nullptr;
  std::vector<fs::path> node_folders;
  fs::path folder;  ///< for the bare stores: the disk of the nodes if that is known
};

Result<Target> find_target(App& app, const Options& options) {
  Target target;
  auto local = LocalCluster::open(app.globals.config);
  const bool local_up = local.ok() && !local->running().empty();
  const bool elsewhere = !local.ok() && local.error().code == Errc::conflict;
  const auto take_nodes = [&target](const LocalCluster& cluster) {
    for (const NodeConfig& node : cluster.config().nodes) target.node_folders.push_back(node.data_dir / "blocks");
    target.folder = cluster.folder();
  };
  if (local_up || elsewhere) {
    target.session = app.session();
    if (target.session == nullptr) return Error{Errc::cancelled, ""};  // said already
    if (local_up)
      take_nodes(*local);
    else
      target.folder = fs::temp_directory_path();
    return target;
  }
  LocalCluster::Options wanted;
  wanted.nodes = options.nodes;
  wanted.slots = 1;
  auto cluster = TemporaryCluster::up(wanted, app.globals.timeout);
  if (!cluster) return cluster.error();
  target.temporary = std::move(*cluster);
  target.session = &target.temporary->session();
  take_nodes(target.temporary->cluster());
  return target;
}

Spread over(const std::vector<Round>& rounds, const std::function<double(const Round&)>& value) {
  std::vector<double> values;
  for (const Round& round : rounds) values.push_back(value(round));
  return spread_of(std::move(values));
}

Status report(const App& app, const Options& options, const std::vector<Round>& rounds, const SmallFiles& small,
              std::uint32_t copies) {
  BenchTable table("idunno.bench_fs.v1", {{"measure", "MEASURE"},
                                          {"unit", "UNIT"},
                                          {"median", "MEDIAN", true},
                                          {"min", "MIN", true},
                                          {"max", "MAX", true},
                                          {"wanted", "WANTED", true}});
  const auto add = [&](const char* name, const char* unit, int digits, const Json& wanted,
                       const std::function<double(const Round&)>& value) {
    const Spread spread = over(rounds, value);
    table.add({{name, ""},
               {unit, ""},
               {rounded_to(spread.median, digits), ""},
               {rounded_to(spread.min, digits), ""},
               {rounded_to(spread.max, digits), ""},
               {wanted, ""}});
  };
  const bool cold = rounds.front().get_cold > 0;
  add("bare put, each store", "MB/s", 0, nullptr, [](const Round& r) { return r.bare_put; });
  add("bare put, all stores", "MB/s", 0, nullptr, [](const Round& r) { return r.bare_put_sum; });
  add("bare get, warm", "MB/s", 0, nullptr, [](const Round& r) { return r.bare_get_warm; });
  add("bare get, cold", "MB/s", 0, nullptr, [](const Round& r) { return r.bare_get_cold; });
  add("SDFS put", "MB/s", 0, nullptr, [](const Round& r) { return r.put; });
  add("SDFS get, warm", "MB/s", 0, nullptr, [](const Round& r) { return r.get_warm; });
  if (cold) add("SDFS get, cold", "MB/s", 0, nullptr, [](const Round& r) { return r.get_cold; });
  add("put / bare", "ratio", 2, kPutWanted, [](const Round& r) { return r.put / r.bare_put; });
  add("get / bare, warm", "ratio", 2, kGetWanted, [](const Round& r) { return r.get_warm / r.bare_get_warm; });
  if (cold) add("get / bare, cold", "ratio", 2, kGetWanted, [](const Round& r) { return r.get_cold / r.bare_get_cold; });
  for (const auto& [name, value] : {std::pair{"small files put", small.put_per_s}, {"small files get", small.get_per_s}}) {
    const double shown = rounded_to(value, 0);
    table.add({{name, ""}, {"files/s", ""}, {shown, ""}, {shown, ""}, {shown, ""}, {nullptr, ""}});
  }
  table.footer = fmt::format(
      "one file of {} with {} copies, {} round{}; {} bare stores written at once, each synced after every {} blocks of 1 MiB, "
      "which "
      "is the most that a node syncs together for one client; {} files of {}",
      format_size(options.size), copies, options.rounds, options.rounds == 1 ? "" : "s", copies, options.group, options.files,
      format_size(options.file_bytes));
  return table.finish(app.globals, options.csv);
}

Status run(App& app, const Options& options) {
  auto target = find_target(app, options);
  if (!target) return target.error();
  Session& session = *target->session;
  const auto placement = session.metadata().call_and_wait(PlacementRequest{});
  if (!placement) return placement.error();
  const fs::path base = options.folder.empty() ? target->folder : fs::path(options.folder);
  const Scratch scratch{base / fmt::format("bench-fs-{}", ::getpid())};
  std::error_code error;
  fs::create_directories(scratch.path, error);
  if (error) return Error{Errc::internal, fmt::format("making {}: {}", scratch.path.string(), error.message())};
  const std::uint64_t blocks = std::max<std::uint64_t>(1, options.size / kBlockBytesMax);
  if (auto written = write_input(scratch.path / "input", blocks); !written) return written;
  std::vector<Round> rounds;
  for (unsigned i = 0; i < options.rounds; ++i) {
    app.note(fmt::format("round {} of {}", i + 1, options.rounds));
    Round round;
    ::sync();  // what earlier rounds left behind is not measured
    if (auto done = measure_bare(scratch.path, placement->replication, blocks, options.group, round); !done)
      return annotate(done.error(), "bare stores");
    ::sync();
    if (auto done = measure_sdfs(session, scratch.path / "input", blocks * kBlockBytesMax, target->node_folders, round); !done)
      return done;
    rounds.push_back(round);
  }
  auto small = measure_small(session, scratch.path, options);
  if (!small) return small.error();
  return report(app, options, rounds, *small, placement->replication);
}

/// An option with units, "256M".
void add_size(CLI::App* command, const char* name, std::uint64_t& value, const char* what) {
  command
      ->add_option_function<std::string>(
          name,
          [name, &value](const std::string& text) {
            auto size = parse_size(text);
            if (!size) throw CLI::ValidationError(name, size.error().detail);
            if (*size == 0) throw CLI::ValidationError(name, "must be more than 0");
            value = *size;
          },
          what)
      ->type_name("SIZE");
}

}  // namespace

void add_bench_fs_command(CLI::App& bench, App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = bench.add_subcommand("fs", "SDFS put and get against bare, synced RocksDB stores on the same disk");
  add_size(command, "--size", options->size, "of the large file (default 256M)");
  command->add_option("--nodes", options->nodes, "of the temporary cluster, when the one of --dir is not up (default 4)")
      ->check(CLI::Range(1U, kLocalNodesMax))
      ->type_name("N");
  command->add_option("--rounds", options->rounds, "the median counts (default 3)")->check(CLI::Range(1U, 100U))->type_name("N");
  command->add_option("--files", options->files, "small files (default 2000)")->check(CLI::Range(1U, 1000000U))->type_name("N");
  command->add_option("--file-size", options->file_bytes, "bytes of each (default 4096)")
      ->check(CLI::Range(1U, kBlockBytesMax / 2))
      ->type_name("BYTES");
  command
      ->add_option("--group", options->group, "blocks of 1 MiB that a bare store syncs together (default: the most a node does)")
      ->check(CLI::Range(1U, 64U))
      ->type_name("N");
  command->add_option("--folder", options->folder, "where the bare stores are written (default: the cluster's folder)")
      ->type_name("DIR");
  command->add_option("--csv", options->csv, "write the table there as well")->type_name("FILE");
  command->callback([&app, options] {
    clean_up_when_interrupted();
    const Status status = run(app, *options);
    if (!status && app.exit_code == kDone) app.fail(status.error(), "bench fs");
  });
  command->footer("Example:\n  idunno bench fs --size 256M --csv fs.csv");
}

}  // namespace idunno::cli
