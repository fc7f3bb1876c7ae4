#pragma once
/// Virtual time: events in the order of (time, sequence), so that equal times happen in the order in which they were planned and
/// a run is a function of its seed. Also the trace: a hash over everything that happened, and its text when somebody wants to
/// read it.

#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "bus/base/bytes.h"
#include "bus/base/time.h"
#include "bus/hash.h"

namespace idunno::sim {

class Agenda {
 public:
  using Action = std::function<void()>;

  [[nodiscard]] Time now() const { return now_; }
  void at(Time when, Action action) {
    heap_.push_back(Event{std::max(when, now_), ++sequence_, std::move(action)});
    std::push_heap(heap_.begin(), heap_.end(), later);
  }
  void after(Duration wait, Action action) { at(now_ + wait, std::move(action)); }
  /// Does the next event that is due by `end`; false, and it is `end`, when there is none.
  bool step(Time end) {
    if (heap_.empty() || heap_.front().when > end) {
      now_ = std::max(now_, end);
      return false;
    }
    std::pop_heap(heap_.begin(), heap_.end(), later);
    Event event = std::move(heap_.back());
    heap_.pop_back();
    now_ = event.when;
    ++done_;
    event.action();
    return true;
  }
  [[nodiscard]] std::uint64_t done() const { return done_; }

 private:
  struct Event {
    Time when;
    std::uint64_t sequence = 0;
    Action action;
  };
  static bool later(const Event& a, const Event& b) { return std::pair(a.when, a.sequence) > std::pair(b.when, b.sequence); }

  Time now_ = Time{} + std::chrono::seconds(1000);
  std::vector<Event> heap_;
  std::uint64_t sequence_ = 0;
  std::uint64_t done_ = 0;
};

class Trace {
 public:
  explicit Trace(const Agenda& agenda) : agenda_(agenda) {}
  void print_to(std::FILE* file) { file_ = file; }
  [[nodiscard]] bool printing() const { return file_ != nullptr; }

  void mix(std::uint64_t value) { hash_ = (hash_ ^ value) * 0x9E3779B97F4A7C15ULL + (hash_ >> 29U); }
  void mix(ByteView bytes) { mix(hash64(bytes)); }
  /// Something that happened: counts in the hash, with its time. `text` is made only when it is printed.
  template <class Text>
  void note(std::uint64_t what, Text&& text) {
    mix(static_cast<std::uint64_t>(agenda_.now().time_since_epoch().count()));
    mix(what);
    if (file_ != nullptr) print(text());
  }
  void print(const std::string& text) const {
    if (file_ == nullptr) return;
    const auto us = (agenda_.now() - (Time{} + std::chrono::seconds(1000))).count();
    std::fprintf(file_, "%4lld.%06lld %s\n", static_cast<long long>(us / 1000000), static_cast<long long>(us % 1000000),
                 text.c_str());
  }
  [[nodiscard]] std::uint64_t hash() const { return hash_; }

 private:
  const Agenda& agenda_;
  std::FILE* file_ = nullptr;
  std::uint64_t hash_ = 0x243F6A8885A308D3ULL;
};

}  // namespace idunno::sim
