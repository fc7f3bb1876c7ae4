#pragma once
/// ASSERT(x): a broken invariant of our own code. On in release builds too: it prints and aborts, because a node that carries
/// on after one can lose data. Never on bytes that came from a user, a file or the network: those get a `Status`.

#include <cstdio>
#include <cstdlib>

namespace idunno {

[[noreturn]] inline void assertion_failed(const char* what, const char* file, int line) {
  std::fprintf(stderr, "idunno: invariant broken: %s (%s:%d)\n", what, file, line);
  std::abort();
}

}  // namespace idunno

#define ASSERT(condition) ((condition) ? static_cast<void>(0) : ::idunno::assertion_failed(#condition, __FILE__, __LINE__))
