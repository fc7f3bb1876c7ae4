#include "nodes/worker/executor_service.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <new>
#include <string>

#include "bus/base/sanitizer.h"
#include "nodes/worker/executor_channel.h"

namespace idunno {
namespace {

constexpr const char* kOomScoreAdjustment = "800";
constexpr unsigned long kTimerSlackNs = 1000;
/// Address space beyond the data: shared libraries (imgcodecs brings some 150) and mapped model files.
constexpr std::uint64_t kAddressSpaceExtra = 4ULL << 30U;
constexpr int kExitBroken = 2;
constexpr int kExitMemory = 3;

void set_limit(int what, std::uint64_t bytes) {
  const rlimit limit{bytes, bytes};
  setrlimit(static_cast<__rlimit_resource>(what), &limit);
}

int broken(const std::string& why) {
  fmt::print(stderr, "idunno-executor: {}\n", why);
  return kExitBroken;
}

/// Lack of memory ends this executor: what is left of its heap is of no use to the batches that follow, and a fresh one may have
/// room. Only where nothing but zeros was to be computed (the control of an isolation) is it the model's or the batch size's
/// fault.
void judge_memory(const ExecuteBatch& batch, BatchExecuted& done) {
  if (done.ok || done.why != BatchFailure::executor_died) return;
  if (batch.trial && batch.masked.size() == batch.queries.size()) {
    done.why = BatchFailure::model_unusable;
    done.detail = fmt::format(
        "model {} cannot be used: a batch of {} does not fit into the executor's memory, whatever is in it; submit with a "
        "smaller "
        "batch",
        batch.model_key, batch.batch_size);
  } else {
    done.detail = "ran out of its memory";
  }
}

/// Not all kernels have all of them: computing works without.
void write_setting(const char* path, const std::string& value) {
  if (std::FILE* file = std::fopen(path, "we"); file != nullptr) {
    std::fputs(value.c_str(), file);
    std::fclose(file);
  }
}

}  // namespace

void limit_memory(std::uint64_t bytes) {
  // A sanitizer's shadow is terabytes of address space, and its quarantine and records count as data: under a limit no such
  // program gets as far as main. The rules that follow from the limit are tested by the other builds.
  if (bytes == 0 || kSanitized) return;
  set_limit(RLIMIT_DATA, bytes);
  set_limit(RLIMIT_AS, bytes + kAddressSpaceExtra);
}

bool confine(const ServeOptions& options) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  // The parent may have gone before that call; then nobody would ever send the signal.
  if (options.parent_pid != 0 && getppid() != options.parent_pid) return false;
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  prctl(PR_SET_TIMERSLACK, kTimerSlackNs);
  write_setting("/proc/self/oom_score_adj", kOomScoreAdjustment);
  set_limit(RLIMIT_CORE, 0);
  limit_memory(options.memory_bytes);
  return true;
}

BatchExecuted execute(EngineCache& engines, const ExecuteBatch& batch, ByteView payload, std::string& rows,
                      const std::function<void(std::uint64_t load_us)>& on_loaded) {
  BatchExecuted done;
  rows.clear();
  std::uint64_t load_us = 0;
  try {
    if (const Status status = check_batch(batch, payload.size()); !status) {
      done.detail = "malformed request: " + status.error().detail;
      return done;
    }
    const auto engine = engines.get(batch, load_us);
    if (!engine) {
      done.detail = engine.error().detail;
    } else {
      if (load_us != 0 && on_loaded) on_loaded(load_us);
      done = (*engine)->run(batch, payload, rows);
    }
  } catch (const std::bad_alloc&) {
    done = BatchExecuted{};
    done.why = BatchFailure::executor_died;
  } catch (const std::exception& error) {
    done = BatchExecuted{};
    done.detail = fmt::format("model {} cannot be used: {}", batch.model_key, error.what());
  }
  done.load_us = load_us;
  done.unloaded = engines.take_unloaded();
  if (done.ok && rows.size() > kResultBlockBytesMax) {
    done.ok = false;
    done.why = BatchFailure::result_too_large;
    done.detail = fmt::format("the rows of a batch of {} have {} bytes, more than {}; submit with a smaller batch",
                              batch.batch_size, rows.size(), kResultBlockBytesMax);
  }
  judge_memory(batch, done);
  if (!done.ok || batch.trial) rows.clear();
  return done;
}

int serve(const ServeOptions& options) {
  if (!confine(options)) return kExitBroken;
  EngineCache engines(options.memory_bytes);
  FrameReader reader(kExecutorPayloadBytesMax);
  FrameWriter writer;
  std::string rows;
  while (true) {
    const auto got = reader.read_some(kExecutorFd);
    if (!got) return broken(got.error().detail);
    if (*got == FrameReader::Read::closed) return 0;
    while (true) {
      const auto frame = reader.next();
      if (!frame) return broken(frame.error().detail);
      if (!frame->has_value()) break;
      const auto batch = decode_head<ExecuteBatch>((*frame)->head);
      if (!batch) return broken("a request that cannot be read: " + batch.error().detail);
      // What cannot be written now goes with the answer, whose writing fails as well when nobody reads any more.
      const auto tell_loaded = [&writer](std::uint64_t load_us) {
        writer.push(encode_head(ModelLoaded{load_us}), {});
        (void)writer.flush(kExecutorFd);
      };
      const BatchExecuted done = execute(engines, *batch, (*frame)->payload, rows, tell_loaded);
      // `rows` is written before it is used again: the payload may borrow it.
      writer.push(encode_head(done), {Payload(nullptr, rows)});
      if (const auto written = writer.flush(kExecutorFd); !written) return 0;  // the parent is gone or does not want it any more
      if (!done.ok && done.why == BatchFailure::executor_died) return kExitMemory;
    }
  }
}

}  // namespace idunno
