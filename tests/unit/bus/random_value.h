#pragma once
/// Fills any value that the codec knows with random content: edge values of numbers, known enumerators, strings with any byte.

#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "bus/base/random.h"
#include "bus/codec.h"

namespace idunno::test {

template <codec::Tied T>
void fill(Random& random, T& value);

template <codec::Integer T>
void fill(Random& random, T& value) {
  switch (random.below(4)) {
    case 0:
      value = static_cast<T>(random.below(100));
      return;
    case 1:
      value = std::numeric_limits<T>::max();
      return;
    case 2:
      value = std::numeric_limits<T>::min();
      return;
    default:
      value = static_cast<T>(random.next() >> random.below(64));
      return;
  }
}
inline void fill(Random& random, bool& value) { value = random.chance(0.5); }
inline void fill(Random& random, std::string& value) {
  static constexpr std::size_t kSizes[] = {0, 1, 31, 32, 255, 256};
  value.resize(random.chance(0.5) ? random.below(20) : kSizes[random.below(6)]);
  for (char& c : value) c = static_cast<char>(random.below(256));
}
template <class E>
requires std::is_enum_v<E>
void fill(Random& random, E& value) {
  std::uint64_t number = 0;
  do {
    number = random.below(256);
  } while (!EnumRange<E>::is_known(number));
  value = static_cast<E>(number);
}
template <class Tag, class Rep>
void fill(Random& random, StrongId<Tag, Rep>& id) {
  fill(random, id.value);
}
template <codec::Pair128 T>
void fill(Random& random, T& value) {
  fill(random, value.hi);
  fill(random, value.lo);
}
inline void fill(Random& random, RequestId& id) {
  fill(random, id.client);
  fill(random, id.sequence);
}
template <class T>
void fill(Random& random, std::vector<T>& values) {
  values.resize(random.chance(0.1) ? 17 : random.below(3));  // 16 is where the head of an array grows
  for (T& value : values) fill(random, value);
}
template <codec::Tied T>
void fill(Random& random, T& value) {
  std::apply([&](auto&... member) { (fill(random, member), ...); }, T::tie(value));
}

template <class T>
T random_value(Random& random) {
  T value{};
  fill(random, value);
  return value;
}

}  // namespace idunno::test
