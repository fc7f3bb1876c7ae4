#include "nodes/runtime/logging.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>

#include <mutex>
#include <string>
#include <utility>

namespace idunno {
namespace {

std::shared_ptr<LogFiles>& the_log() {
  static std::shared_ptr<LogFiles> log;
  return log;
}

class FilesSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit FilesSink(std::shared_ptr<LogFiles> log) : log_(std::move(log)) {}

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    line_.clear();
    formatter_->format(message, line_);
    log_->append({line_.data(), line_.size()});
  }
  void flush_() override { log_->flush(); }

 private:
  std::shared_ptr<LogFiles> log_;
  spdlog::memory_buf_t line_;
};

}  // namespace

Status open_log(NodeId node, LogFiles::Options options) {
  auto log = LogFiles::open(std::move(options));
  if (!log) return log.error();
  the_log() = std::move(*log);
  auto sink = std::make_shared<FilesSink>(the_log());
  // No line end: the files add it, and keep every message on one line.
  sink->set_formatter(std::make_unique<spdlog::pattern_formatter>("%Y-%m-%dT%H:%M:%S.%eZ %l %n %v",
                                                                  spdlog::pattern_time_type::utc, std::string()));
  auto logger = std::make_shared<spdlog::logger>(to_string(node), sink);
  logger->flush_on(spdlog::level::warn);
  spdlog::set_default_logger(std::move(logger));
  return {};
}

std::shared_ptr<LogFiles> opened_log() { return the_log(); }

void log_event(const Event& event) {
  const bool warns = event.type == "alarm" || event.type == "node_dead" || event.type == "job_failed";
  const auto level = warns ? spdlog::level::warn : spdlog::level::info;
  if (!event.job) {
    spdlog::log(level, "event={} {}", event.type, event.text);
  } else if (event.batch < 0) {
    spdlog::log(level, "[{}] event={} {}", to_string(event.job), event.type, event.text);
  } else {
    spdlog::log(level, "[{}/b{}] event={} {}", to_string(event.job), event.batch, event.type, event.text);
  }
}

void flush_log() {
  const auto& log = the_log();
  if (log && log->waiting()) log->flush();
}

}  // namespace idunno
