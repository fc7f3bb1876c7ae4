// libFuzzer target for everything that decodes bytes of the network or of the log. Besides crashes it checks the codec's promise
// that whatever decodes encodes to the very same bytes.

#include <cstddef>
#include <cstdint>

#include "bus/base/assert.h"
#include "bus/codec.h"
#include "tests/unit/bus/all_messages.h"

namespace {

using namespace idunno;  // NOLINT(google-build-using-namespace): one function

void check_message(ByteView bytes) {
  (void)codec::salvage_header(bytes);
  const auto envelope = decode_message(bytes);
  if (!envelope) return;
  test::for_each_type<test::AllMessages>([&]<class T>() {
    const auto body = envelope->template body<T>();
    if (body.ok()) ASSERT(encode_message(envelope->header, *body) == bytes);
  });
}

void check_command(ByteView bytes) {
  const auto command = decode_command(bytes);
  if (!command) return;
  test::for_each_type<test::AllCommands>([&]<class T>() {
    const auto body = command->template body<T>();
    if (body.ok()) ASSERT(encode_command(command->header.stamp_ms, command->header.request, *body) == bytes);
  });
}

/// Bodies alone, so that the fuzzer need not find a header first: the first byte picks the type.
void check_body(ByteView bytes) {
  if (bytes.empty()) return;
  const auto wanted = static_cast<std::uint8_t>(bytes.front());
  bytes.remove_prefix(1);
  std::size_t index = 0;
  const auto check = [&]<class T>() {
    if (index++ != wanted) return;
    const auto value = decode<T>(bytes);
    if (value.ok()) ASSERT(encode(*value) == bytes);
  };
  test::for_each_type<test::AllMessages>(check);
  test::for_each_type<test::AllCommands>(check);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ByteView bytes(reinterpret_cast<const char*>(data), size);
  check_message(bytes);
  check_command(bytes);
  check_body(bytes);
  return 0;
}
