#include "nodes/runtime/process_usage.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>

namespace idunno {
namespace {

// Places in /proc/<pid>/stat, counted from the state that follows the name.
constexpr std::size_t kUserTime = 11;
constexpr std::size_t kSystemTime = 12;
constexpr std::size_t kStartTime = 19;
constexpr std::size_t kResidentPages = 21;

std::uint64_t page_bytes() { return static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE)); }
double ticks_per_s() { return static_cast<double>(sysconf(_SC_CLK_TCK)); }

std::optional<ProcessStat> read_process(const std::string& who) {
  std::ifstream in(fmt::format("/proc/{}/stat", who));
  const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  return parse_process_stat(text);
}

}  // namespace

std::optional<ProcessStat> parse_process_stat(std::string_view text) {
  // The name stands in brackets and may contain spaces and brackets itself.
  const std::size_t end_of_name = text.rfind(')');
  if (end_of_name == std::string_view::npos) return std::nullopt;
  text.remove_prefix(end_of_name + 1);
  ProcessStat stat;
  for (std::size_t place = 0; place <= kResidentPages; ++place) {
    const std::size_t begin = text.find_first_not_of(' ');
    if (begin == std::string_view::npos) return std::nullopt;
    text.remove_prefix(begin);
    const std::string_view word = text.substr(0, text.find(' '));
    text.remove_prefix(word.size());
    if (place != kUserTime && place != kSystemTime && place != kStartTime && place != kResidentPages) continue;
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
    if (error != std::errc{} || (end != word.data() + word.size() && *end != '\n')) return std::nullopt;
    if (place == kUserTime || place == kSystemTime) stat.cpu_ticks += number;
    if (place == kStartTime) stat.started_at = number;
    if (place == kResidentPages) stat.rss_pages = number;
  }
  return stat;
}

std::uint32_t parse_runnable(std::string_view text) {
  constexpr int kAverages = 3;  // stand before "2/431"
  for (int word = 0; word < kAverages; ++word) {
    const std::size_t space = text.find(' ');
    if (space == std::string_view::npos) return 0;
    text.remove_prefix(space + 1);
  }
  std::uint32_t runnable = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), runnable);
  return error == std::errc{} && end != text.data() + text.size() && *end == '/' ? runnable : 0;
}

ProcessorLoad processor_load() {
  std::ifstream in("/proc/loadavg");
  std::string text;
  std::getline(in, text);
  return {parse_runnable(text), std::thread::hardware_concurrency()};
}

ProcessUsage::Sample ProcessUsage::sample(const std::vector<int>& executors, Time now) {
  Sample out;
  std::uint64_t used = 0;
  if (const auto own = read_process("self")) {
    used += at_ ? own->cpu_ticks - std::min(own_ticks_, own->cpu_ticks) : 0;
    own_ticks_ = own->cpu_ticks;
    out.rss_bytes = own->rss_pages * page_bytes();
  }
  std::map<int, ProcessStat> seen;
  for (const int pid : executors) {
    const auto stat = read_process(std::to_string(pid));
    if (!stat) continue;
    const auto before = executors_.find(pid);
    const bool same = before != executors_.end() && before->second.started_at == stat->started_at;
    const std::uint64_t since = same ? stat->cpu_ticks - std::min(before->second.cpu_ticks, stat->cpu_ticks) : stat->cpu_ticks;
    used += since;
    executor_ticks_ += since;
    out.executor_rss_bytes += stat->rss_pages * page_bytes();
    seen[pid] = *stat;
  }
  executors_ = std::move(seen);
  out.own_cpu_s = static_cast<double>(own_ticks_) / ticks_per_s();
  out.executor_cpu_s = static_cast<double>(executor_ticks_) / ticks_per_s();
  const double elapsed_s = at_ ? std::chrono::duration<double>(now - *at_).count() : 0;
  if (elapsed_s > 0) out.cpu_milli = static_cast<std::uint32_t>(1000.0 * static_cast<double>(used) / ticks_per_s() / elapsed_s);
  at_ = now;
  last_ = out;
  return out;
}

}  // namespace idunno
