#pragma once
/// `Result<T>` and `Status`: what a function that can fail returns. Expected failures (timeout, not found, damaged bytes,
/// full disk) are values; broken invariants are ASSERT; exceptions stay inside the file that wraps the library.
/// `Error::detail` says what was being done, to what, and why it failed, as a sentence a user can act upon.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "bus/base/assert.h"

namespace idunno {

/// Why something failed. The comment says who may try again. The numbers travel in ErrorReply: never renumber.
enum class Errc : std::uint8_t {
  internal = 1,        ///< a bug or a broken library call; do not retry
  invalid = 2,         ///< the input is wrong (usage, malformed file or message); never retry unchanged
  not_found = 3,       ///< the named thing does not exist
  no_coordinator = 4,  ///< nobody leads now; the client library retries until its time-out
  timeout = 5,         ///< no answer in time; retry with the same request id is safe
  unavailable = 6,     ///< the peer cannot be reached now; retry elsewhere or later
  not_leader = 7,      ///< the node does not lead; ErrorReply names who does; the client library follows
  conflict = 8,        ///< not now: exists already, is in use, wrong state or phase
  forbidden = 9,       ///< the key's role does not allow it
  damaged = 10,        ///< stored bytes do not match their checksum; read another replica
  full = 11,           ///< no space or a bound reached; retry after space is made
  stale_epoch = 12,    ///< sent under an older coordinator; ask who leads now
  too_large = 13,      ///< over a size bound; never retry unchanged
  cancelled = 14,      ///< the caller or a shutdown gave it up
};

struct Error {
  Errc code = Errc::internal;
  std::string detail;
};

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}  // NOLINT(google-explicit-constructor): reads as return
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT(google-explicit-constructor)

  [[nodiscard]] bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  /// The value. ASSERTs ok().
  T& value() & { return check(), std::get<0>(state_); }
  const T& value() const& { return check(), std::get<0>(state_); }
  T&& value() && { return check(), std::get<0>(std::move(state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  /// The error. ASSERTs !ok().
  [[nodiscard]] const Error& error() const {
    ASSERT(!ok());
    return std::get<1>(state_);
  }

 private:
  void check() const { ASSERT(ok()); }
  std::variant<T, Error> state_;
};

/// A Result without a value.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Error error) : error_(std::move(error)), ok_(false) {}  // NOLINT(google-explicit-constructor): reads as return

  [[nodiscard]] bool ok() const { return ok_; }
  explicit operator bool() const { return ok_; }
  [[nodiscard]] const Error& error() const {
    ASSERT(!ok_);
    return error_;
  }

 private:
  Error error_;
  bool ok_ = true;
};

/// Puts "what was being done" in front of an error that comes from below.
inline Error annotate(const Error& error, std::string_view doing) {
  return Error{error.code, std::string(doing) + ": " + error.detail};
}

}  // namespace idunno
