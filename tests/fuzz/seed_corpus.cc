// Writes one valid example of every message, command and body into a folder, for the fuzzer to start from: `seed_corpus DIR`.

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "tests/unit/bus/all_messages.h"
#include "tests/unit/bus/random_value.h"

int main(int argc, char** argv) {
  using namespace idunno;  // NOLINT(google-build-using-namespace): one function
  if (argc != 2) {
    std::fprintf(stderr, "usage: seed_corpus DIR\n");
    return 2;
  }
  const std::filesystem::path folder = argv[1];
  std::error_code ec;
  std::filesystem::create_directories(folder, ec);
  Random random(1);
  std::size_t index = 0;
  const auto save = [&](const char* kind, const Bytes& bytes) {
    std::ofstream(folder / (kind + std::to_string(index)), std::ios::binary) << bytes;
  };
  const auto body = [&]<class T>() {
    save("body", static_cast<char>(index) + encode(test::random_value<T>(random)));
    ++index;
  };
  test::for_each_type<test::AllMessages>([&]<class T>() {
    save("message", encode_message(Header{}, test::random_value<T>(random)));
    body.template operator()<T>();
  });
  test::for_each_type<test::AllCommands>([&]<class T>() {
    save("command", encode_command(1, {2, 3}, test::random_value<T>(random)));
    body.template operator()<T>();
  });
  return ec ? 1 : 0;
}
