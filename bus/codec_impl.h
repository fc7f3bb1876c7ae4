#pragma once
/// The template part of bus/codec.h: one walk over `T::tie` for writing and one for reading. Include bus/codec.h, not this file.
///
/// Kinds of members: bool, integers, enums, ids, strings, and of those vector, deque, array, map, set, optional, pair and structs
/// with `tie`. Floating point is left out on purpose: nothing replicated may depend on it. msgpack itself appears in codec.cc
/// only, so that including this header stays cheap.
///
/// Reading first checks the bytes as a whole (codec.cc, `tokenize`: bounds, shortest forms, no byte left over) into a flat list
/// of tokens in the order of the bytes; that list is the only thing sized by the sender, and it is bounded by the bytes that
/// really came. Then the walk takes token after token and checks each against the type.

#include <array>
#include <concepts>
#include <cstdint>
#include <deque>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "bus/codec.h"

namespace idunno {

/// Every enum that travels says which numbers are known: a contiguous one by its last value.
template <class E>
struct EnumRange;  // an enum without a specialisation does not compile

template <class E, E kLast, E kFirst = E{}>
struct ContiguousEnum {
  static bool is_known(std::uint64_t number) {
    return number >= static_cast<std::uint64_t>(kFirst) && number <= static_cast<std::uint64_t>(kLast);
  }
};
template <>
struct EnumRange<Errc> : ContiguousEnum<Errc, Errc::cancelled, Errc::internal> {};
template <>
struct EnumRange<Role> : ContiguousEnum<Role, Role::node> {};
template <>
struct EnumRange<ItemKind> : ContiguousEnum<ItemKind, ItemKind::nothing> {};
template <>
struct EnumRange<JobState> : ContiguousEnum<JobState, JobState::stopped> {};
template <>
struct EnumRange<NodeState> : ContiguousEnum<NodeState, NodeState::unknown> {};
template <>
struct EnumRange<BlockStatus> : ContiguousEnum<BlockStatus, BlockStatus::failed> {};
template <>
struct EnumRange<JobAction> : ContiguousEnum<JobAction, JobAction::remove> {};
template <>
struct EnumRange<CommitOutcome> : ContiguousEnum<CommitOutcome, CommitOutcome::not_wanted> {};
template <>
struct EnumRange<BatchFailure> : ContiguousEnum<BatchFailure, BatchFailure::trial_passed> {};
template <>
struct EnumRange<HeldStage> : ContiguousEnum<HeldStage, HeldStage::finished> {};
template <>
struct EnumRange<Phase> : ContiguousEnum<Phase, Phase::inference> {};
template <>
struct EnumRange<JobKind> : ContiguousEnum<JobKind, JobKind::training> {};
template <>
struct EnumRange<MessageType> {
  static bool is_known(std::uint64_t number);
};
template <>
struct EnumRange<CommandKind> {
  static bool is_known(std::uint64_t number);
};

namespace codec {

inline constexpr std::size_t kStringBytesMax = 64U << 10U;  ///< of one string in a message or a command
inline constexpr std::size_t kElementsMax = 65536;          ///< of one array in a message or a command
inline constexpr std::size_t kDepthMax = 16;
inline constexpr std::size_t kCommandBytesMax = 4U << 20U;  ///< an fs_commit of a full control message fits with its stamp

enum class TokenKind : std::uint8_t { boolean, number, negative, text, array };

/// One msgpack value: a number, a text that points into the bytes, or the head of an array whose elements follow.
struct Token {
  TokenKind kind = TokenKind::boolean;
  std::uint32_t size = 0;  ///< bytes of a text, elements of an array
  union {
    std::uint64_t number = 0;
    std::int64_t negative;
    const char* text;
  };
};

struct Limits {
  std::size_t bytes = kControlMessageBytesMax;
  std::size_t string_bytes = kStringBytesMax;
  std::size_t elements = kElementsMax;
};

/// All values of `bytes`, which the tokens point into. invalid or too_large with the reason when anything is out of bounds.
[[nodiscard]] Result<std::vector<Token>> tokenize(ByteView bytes, const Limits& limits);

/// Appends msgpack, always in the shortest form.
class Writer {
 public:
  Writer() { out_.reserve(512); }
  void array(std::size_t elements);
  void boolean(bool value);
  void number(std::uint64_t value);
  void signed_number(std::int64_t value);
  void text(ByteView value);
  void raw(ByteView encoded) { out_.append(encoded); }
  [[nodiscard]] Bytes take() { return std::move(out_); }

 private:
  Bytes out_;
};

/// Takes token after token. After the first failure every read fails; `error` then says where and why.
class Reader {
 public:
  Reader(const std::vector<Token>& tokens, std::size_t first)
      : next_(tokens.data() + first), end_(tokens.data() + tokens.size()) {}

  [[nodiscard]] bool array(std::uint32_t& elements);
  /// An array of exactly so many.
  [[nodiscard]] bool array_of(std::size_t elements);
  [[nodiscard]] bool boolean(bool& value);
  [[nodiscard]] bool number(std::uint64_t& value, std::uint64_t max);
  [[nodiscard]] bool signed_number(std::int64_t& value, std::int64_t min, std::int64_t max);
  [[nodiscard]] bool text(ByteView& value);

  [[nodiscard]] std::size_t tokens_left() const { return static_cast<std::size_t>(end_ - next_); }
  bool fail(std::string why);                             ///< returns false
  bool inside(std::string_view type, std::size_t index);  ///< puts the place in front of the error; returns false
  [[nodiscard]] Error error(std::string_view type) const;

 private:
  const Token* take(TokenKind kind, const char* wanted);
  const Token* next_;
  const Token* end_;
  std::string place_;
  std::string why_;
};

/// "SubmitRequest" for idunno::SubmitRequest.
template <class T>
constexpr std::string_view type_name() {
  std::string_view text = __PRETTY_FUNCTION__;  // "... type_name() [with T = idunno::X; ...]" or "... [T = idunno::X]"
  const auto start = text.find("T = ") + 4;
  text = text.substr(start, text.find_first_of(";]", start) - start);
  constexpr std::string_view kPrefix = "idunno::";
  return text.substr(0, kPrefix.size()) == kPrefix ? text.substr(kPrefix.size()) : text;
}

template <class T>
concept Tied = requires(T& value) {
  T::tie(value);
};
template <class T>
concept Integer = std::integral<T> && !std::same_as<T, bool> && !std::same_as<T, char>;
template <class T>
concept Pair128 = std::same_as<T, BlockId> || std::same_as<T, Hash128>;

/// The least number of tokens of a T: a count that could not be followed by so many is refused before anything is reserved.
template <class T>
constexpr std::size_t min_tokens() {
  if constexpr (Tied<T>) {
    return 1 + std::tuple_size_v<decltype(T::tie(std::declval<T&>()))>;
  } else {
    return 1;
  }
}

// ---- writing --------------------------------------------------------------------------------------------------------
// Declared first so that every kind may hold every other.

template <Tied T>
void write(Writer& w, const T& value);
template <class A, class B>
void write(Writer& w, const std::pair<A, B>& value);
template <class T>
void write(Writer& w, const std::vector<T>& values);
template <class T>
void write(Writer& w, const std::deque<T>& values);
template <class T, std::size_t N>
void write(Writer& w, const std::array<T, N>& values);
template <class T>
void write(Writer& w, const std::set<T>& values);
template <class K, class V>
void write(Writer& w, const std::map<K, V>& values);
template <class T>
void write(Writer& w, const std::optional<T>& value);

inline void write(Writer& w, const std::string& value) { w.text(value); }
template <std::same_as<bool> T>
void write(Writer& w, T value) {
  w.boolean(value);
}
template <Integer T>
void write(Writer& w, T value) {
  if constexpr (std::is_signed_v<T>) {
    w.signed_number(value);
  } else {
    w.number(value);
  }
}
template <class E>
requires std::is_enum_v<E>
void write(Writer& w, E value) { w.number(static_cast<std::uint64_t>(value)); }
template <class Tag, class Rep>
void write(Writer& w, const StrongId<Tag, Rep>& id) {
  w.number(id.value);
}
template <Pair128 T>
void write(Writer& w, const T& value) {
  w.array(2);
  w.number(value.hi);
  w.number(value.lo);
}
inline void write(Writer& w, const RequestId& id) {
  w.array(2);
  w.number(id.client);
  w.number(id.sequence);
}

template <class Range>
void write_range(Writer& w, const Range& values) {
  w.array(values.size());
  for (const auto& value : values) write(w, value);
}
template <Tied T>
void write(Writer& w, const T& value) {
  const auto members = T::tie(value);
  w.array(std::tuple_size_v<decltype(members)>);
  std::apply([&w](const auto&... member) { (write(w, member), ...); }, members);
}
template <class A, class B>
void write(Writer& w, const std::pair<A, B>& value) {
  w.array(2);
  write(w, value.first);
  write(w, value.second);
}
template <class T>
void write(Writer& w, const std::vector<T>& values) {
  w.array(values.size());
  for (const auto& value : values) write(w, static_cast<const T&>(value));  // the cast is for vector<bool>
}
template <class T>
void write(Writer& w, const std::deque<T>& values) {
  write_range(w, values);
}
template <class T, std::size_t N>
void write(Writer& w, const std::array<T, N>& values) {
  write_range(w, values);
}
template <class T>
void write(Writer& w, const std::set<T>& values) {
  write_range(w, values);
}
template <class K, class V>
void write(Writer& w, const std::map<K, V>& values) {
  write_range(w, values);  // an array of pairs, in key order
}
template <class T>
void write(Writer& w, const std::optional<T>& value) {
  w.array(value ? 1 : 0);
  if (value) write(w, *value);
}

// ---- reading --------------------------------------------------------------------------------------------------------

template <Tied T>
[[nodiscard]] bool read(Reader& r, T& value);
template <class A, class B>
[[nodiscard]] bool read(Reader& r, std::pair<A, B>& value);
template <class T>
[[nodiscard]] bool read(Reader& r, std::vector<T>& values);
template <class T>
[[nodiscard]] bool read(Reader& r, std::deque<T>& values);
template <class T, std::size_t N>
[[nodiscard]] bool read(Reader& r, std::array<T, N>& values);
template <class T>
[[nodiscard]] bool read(Reader& r, std::set<T>& values);
template <class K, class V>
[[nodiscard]] bool read(Reader& r, std::map<K, V>& values);
template <class T>
[[nodiscard]] bool read(Reader& r, std::optional<T>& value);

[[nodiscard]] inline bool read(Reader& r, std::string& value) {
  ByteView text;
  if (!r.text(text)) return false;
  value.assign(text);
  return true;
}
[[nodiscard]] inline bool read(Reader& r, bool& value) { return r.boolean(value); }
template <Integer T>
[[nodiscard]] bool read(Reader& r, T& value) {
  using Bounds = std::numeric_limits<T>;
  if constexpr (std::is_signed_v<T>) {
    std::int64_t number = 0;
    if (!r.signed_number(number, Bounds::min(), Bounds::max())) return false;
    value = static_cast<T>(number);
  } else {
    std::uint64_t number = 0;
    if (!r.number(number, Bounds::max())) return false;
    value = static_cast<T>(number);
  }
  return true;
}
template <class E>
requires std::is_enum_v<E>
[[nodiscard]] bool read(Reader& r, E& value) {
  std::uint64_t number = 0;
  if (!r.number(number, std::numeric_limits<std::uint64_t>::max())) return false;
  if (!EnumRange<E>::is_known(number)) {
    return r.fail(std::to_string(number) + " is no known " + std::string(type_name<E>()));
  }
  value = static_cast<E>(number);
  return true;
}
template <class Tag, class Rep>
[[nodiscard]] bool read(Reader& r, StrongId<Tag, Rep>& id) {
  return read(r, id.value);
}
template <Pair128 T>
[[nodiscard]] bool read(Reader& r, T& value) {
  return r.array_of(2) && read(r, value.hi) && read(r, value.lo);
}
[[nodiscard]] inline bool read(Reader& r, RequestId& id) { return r.array_of(2) && read(r, id.client) && read(r, id.sequence); }

template <class T, class Members, std::size_t... I>
[[nodiscard]] bool read_members(Reader& r, Members& members, std::index_sequence<I...>) {
  return ((read(r, std::get<I>(members)) || r.inside(type_name<T>(), I)) && ...);
}
template <Tied T>
[[nodiscard]] bool read(Reader& r, T& value) {
  auto members = T::tie(value);
  constexpr std::size_t kMembers = std::tuple_size_v<decltype(members)>;
  if (!r.array_of(kMembers)) return false;
  return read_members<T>(r, members, std::make_index_sequence<kMembers>{});
}
template <class A, class B>
[[nodiscard]] bool read(Reader& r, std::pair<A, B>& value) {
  return r.array_of(2) && read(r, value.first) && read(r, value.second);
}
/// The head of an array of T.
template <class T>
[[nodiscard]] bool read_count(Reader& r, std::uint32_t& count) {
  if (!r.array(count)) return false;
  if (r.tokens_left() / min_tokens<T>() >= count) return true;
  return r.fail("an array of " + std::to_string(count) + " " + std::string(type_name<T>()) + " is larger than what follows");
}
template <class Sequence>
[[nodiscard]] bool read_sequence(Reader& r, Sequence& values) {
  using T = typename Sequence::value_type;
  std::uint32_t count = 0;
  if (!read_count<T>(r, count)) return false;
  values.clear();
  if constexpr (requires { values.reserve(count); }) values.reserve(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    if constexpr (std::same_as<T, bool>) {
      bool value = false;
      if (!read(r, value)) return r.inside("element", i);
      values.push_back(value);
    } else {
      if (!read(r, values.emplace_back())) return r.inside("element", i);
    }
  }
  return true;
}
template <class T>
[[nodiscard]] bool read(Reader& r, std::vector<T>& values) {
  return read_sequence(r, values);
}
template <class T>
[[nodiscard]] bool read(Reader& r, std::deque<T>& values) {
  return read_sequence(r, values);
}
template <class T, std::size_t N>
[[nodiscard]] bool read(Reader& r, std::array<T, N>& values) {
  if (!r.array_of(N)) return false;
  for (std::size_t i = 0; i < N; ++i) {
    if (!read(r, values[i])) return r.inside("element", i);
  }
  return true;
}
template <class T>
[[nodiscard]] bool read(Reader& r, std::set<T>& values) {
  std::uint32_t count = 0;
  if (!read_count<T>(r, count)) return false;
  values.clear();
  for (std::uint32_t i = 0; i < count; ++i) {
    T value{};
    if (!read(r, value)) return r.inside("element", i);
    if (!values.empty() && !(*values.rbegin() < value)) return r.fail("elements out of order") || r.inside("element", i);
    values.insert(values.end(), std::move(value));
  }
  return true;
}
template <class K, class V>
[[nodiscard]] bool read(Reader& r, std::map<K, V>& values) {
  std::uint32_t count = 0;
  if (!read_count<V>(r, count)) return false;
  values.clear();
  for (std::uint32_t i = 0; i < count; ++i) {
    K key{};
    V value{};
    if (!r.array_of(2) || !read(r, key) || !read(r, value)) return r.inside("entry", i);
    if (!values.empty() && !(values.rbegin()->first < key)) return r.fail("keys out of order") || r.inside("entry", i);
    values.emplace_hint(values.end(), std::move(key), std::move(value));
  }
  return true;
}
template <class T>
[[nodiscard]] bool read(Reader& r, std::optional<T>& value) {
  std::uint32_t count = 0;
  if (!r.array(count)) return false;
  if (count > 1) return r.fail("an optional value has 0 or 1 elements, not " + std::to_string(count));
  value.reset();
  return count == 0 || read(r, value.emplace());
}

/// Everything from token `first` on as one T.
template <class T>
[[nodiscard]] Result<T> read_all(const std::vector<Token>& tokens, std::size_t first) {
  Reader reader(tokens, first);
  T value{};
  if (!read(reader, value)) return reader.error(type_name<T>());
  if (reader.tokens_left() != 0) return Error{Errc::invalid, std::string(type_name<T>()) + ": values left over at the end"};
  return value;
}

[[nodiscard]] Error wrong_type(const std::string& is, const std::string& wanted);
void write_header(Writer& w, const Header& header);
void write_command_header(Writer& w, const CommandHeader& header);
[[nodiscard]] std::string command_name(CommandKind kind);

/// The part of a message's header that every version keeps: enough to answer a message that cannot be decoded. Gives what could
/// be read; the rest stays as in a default Header.
[[nodiscard]] Header salvage_header(ByteView frame);

}  // namespace codec

/// The bytes of a message or command and their tokens. `body` is the index of the body's first token.
struct Envelope::Parsed {
  Bytes bytes;
  std::vector<codec::Token> tokens;
  std::size_t body = 0;
};

template <class T>
Result<T> Envelope::body() const {
  if (header.type != T::kType) return codec::wrong_type(message_name(header.type), message_name(T::kType));
  return codec::read_all<T>(parsed->tokens, parsed->body);
}

template <class T>
Result<T> CommandEnvelope::body() const {
  if (header.kind != T::kKind) return codec::wrong_type(codec::command_name(header.kind), codec::command_name(T::kKind));
  return codec::read_all<T>(parsed->tokens, parsed->body);
}

template <class T>
Bytes encode_message(Header header, const T& body) {
  header.type = T::kType;
  codec::Writer writer;
  codec::write_header(writer, header);
  codec::write(writer, body);
  return writer.take();
}

template <class T>
Bytes encode_command(WallMs stamp_ms, RequestId request, const T& body) {
  codec::Writer writer;
  codec::write_command_header(writer, CommandHeader{T::kKind, stamp_ms, request});
  codec::write(writer, body);
  return writer.take();
}

template <class T>
Bytes encode(const T& value) {
  codec::Writer writer;
  codec::write(writer, value);
  return writer.take();
}

template <class T>
Result<T> decode(ByteView bytes, std::size_t bytes_max) {
  const auto tokens = codec::tokenize(bytes, codec::Limits{bytes_max, bytes_max, bytes_max});
  if (!tokens) return annotate(tokens.error(), codec::type_name<T>());
  return codec::read_all<T>(*tokens, 0);
}

}  // namespace idunno
