#pragma once
/// What builds with a sanitizer (presets `dev` and `tsan`, see tests/README.md) must know. Both compilers name their sanitizers
/// in ways of their own; here is the only place that knows them. In every other build all of this is nothing.

#if defined(__SANITIZE_ADDRESS__)
#define IDUNNO_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define IDUNNO_ADDRESS_SANITIZER 1
#endif
#endif

#if defined(__SANITIZE_THREAD__)
#define IDUNNO_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define IDUNNO_THREAD_SANITIZER 1
#endif
#endif

#if defined(IDUNNO_THREAD_SANITIZER)
extern "C" void __tsan_acquire(void* address);  // NOLINT: the run-time library's name
extern "C" void __tsan_release(void* address);  // NOLINT
#endif

namespace idunno {

#if defined(IDUNNO_ADDRESS_SANITIZER) || defined(IDUNNO_THREAD_SANITIZER)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

/// For memory that goes from one thread to another through code that ThreadSanitizer does not see: all that the giver did before
/// `handed_over(p)` came before what the taker does after `taken_over(p)`.
inline void handed_over([[maybe_unused]] const void* what) {
#if defined(IDUNNO_THREAD_SANITIZER)
  __tsan_release(const_cast<void*>(what));
#endif
}
inline void taken_over([[maybe_unused]] const void* what) {
#if defined(IDUNNO_THREAD_SANITIZER)
  __tsan_acquire(const_cast<void*>(what));
#endif
}

}  // namespace idunno
