#pragma once
/// Blocks for tests: reproducible bytes and the keys that belong to them.

#include <utility>
#include <vector>

#include "bus/base/random.h"
#include "bus/hash.h"
#include "storage/block_store.h"

namespace idunno {

inline Bytes random_bytes(std::uint64_t seed, std::size_t length) {
  Random random(seed);
  Bytes bytes(length, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random.next() & 0xFFU);
  return bytes;
}

inline BlockKey key_for(BlockId id, ByteView bytes) {
  return BlockKey{id, static_cast<std::uint32_t>(bytes.size()), hash128(bytes)};
}

struct TestBlock {
  BlockKey key;
  Bytes bytes;
};

inline TestBlock make_block(std::uint64_t number, std::size_t length) {
  Bytes bytes = random_bytes(number, length);
  const BlockKey key = key_for(BlockId{7, number}, bytes);
  return TestBlock{key, std::move(bytes)};
}

inline BlockWrite write_of(const TestBlock& block) { return BlockWrite{block.key, block.bytes}; }

}  // namespace idunno
