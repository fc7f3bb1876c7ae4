#include "nodes/runtime/logging.h"

#include <spdlog/sinks/rotating_file_sink.h>
#include <spdlog/spdlog.h>

#include <string>

namespace idunno {
namespace {

bool lines_waiting = false;  // only the control thread logs events

}  // namespace

Status open_log(const std::filesystem::path& data_dir, NodeId node, std::uint64_t file_bytes, std::uint32_t files) {
  const auto folder = data_dir / "log";
  try {
    std::filesystem::create_directories(folder);
    auto logger = spdlog::rotating_logger_mt(to_string(node), (folder / "idunnod.log").string(), file_bytes, files);
    logger->set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %^%l%$ %n %v", spdlog::pattern_time_type::utc);
    logger->flush_on(spdlog::level::warn);
    spdlog::set_default_logger(std::move(logger));
  } catch (const std::exception& error) {
    return Error{Errc::internal, "opening the log in " + folder.string() + ": " + error.what()};
  }
  return {};
}

void log_event(const Event& event) {
  lines_waiting = true;
  const bool warns = event.type == "alarm" || event.type == "node_dead" || event.type == "job_failed";
  const auto level = warns ? spdlog::level::warn : spdlog::level::info;
  if (!event.job) {
    spdlog::log(level, "event={} {}", event.type, event.text);
  } else if (event.batch < 0) {
    spdlog::log(level, "event={} job={} {}", event.type, to_string(event.job), event.text);
  } else {
    spdlog::log(level, "event={} job={} batch={} {}", event.type, to_string(event.job), event.batch, event.text);
  }
}

void flush_log() {
  if (!lines_waiting) return;
  lines_waiting = false;
  spdlog::default_logger_raw()->flush();
}

}  // namespace idunno
