#pragma once
/// Structs to msgpack and back. Encoding: a struct is an array of its `tie` members in order; ids are unsigned integers; ids and
/// hashes of 128 bits are arrays of two; enums are their number; vectors are arrays; strings are str. Decoding is strict and
/// trusts nothing: every array must have the exact length, every number must fit and (for enums) be a known value, bounds on
/// size, count and depth hold before memory is asked for, and no byte may be left over. All errors are `Errc::invalid` with what
/// was wrong; no exception leaves this file. Thread-safe: no state.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bus/base/bytes.h"
#include "bus/base/ids.h"
#include "bus/base/result.h"
#include "bus/commands.h"
#include "bus/messages.h"

namespace idunno {

/// Header::flags. In a request: any log node may answer from its own state, which may be old. In an answer: it did.
inline constexpr std::uint8_t kFlagStale = 1;

/// What stands before every body on the wire: [version, cluster, type, [client, sequence], epoch, deadline_ms, flags, body].
struct Header {
  std::uint8_t version = kProtocolVersion;
  std::uint64_t cluster = 0;  ///< xxh3-64 of the cluster's id: a stranger's message is refused by this
  MessageType type = MessageType::error_reply;
  RequestId request;              ///< the answer carries the request's; {0,0} in pushes
  Epoch epoch;                    ///< of the sender; 0 from clients
  std::uint32_t deadline_ms = 0;  ///< how long the sender waits; 0 = does not say
  std::uint8_t flags = 0;         ///< kFlag...; unknown ones are ignored
  bool operator==(const Header&) const = default;
};

/// A decoded frame whose body has not been looked at yet. Cheap to move; owns what it refers to.
class Envelope {
 public:
  Header header;
  /// The body as T. invalid when the header's type is not T's or the body is not exactly a T.
  template <class T>
  [[nodiscard]] Result<T> body() const;

  struct Parsed;  ///< the bytes and their msgpack tokens (bus/codec_impl.h)
  std::shared_ptr<const Parsed> parsed;
};

template <class T>
[[nodiscard]] Bytes encode_message(Header header, const T& body);  ///< sets header.type

/// The same for a body that is encoded already (`encode`): the pure core makes answers as (type, bytes).
[[nodiscard]] Bytes encode_raw_message(const Header& header, ByteView body);

/// `bytes_max`: kControlMessageBytesMax or, on the data service, kDataMessageBytesMax.
[[nodiscard]] Result<Envelope> decode_message(ByteView frame, std::size_t bytes_max = kControlMessageBytesMax);

/// An entry of the log, decoded as far as its kind.
struct CommandHeader {
  CommandKind kind = CommandKind::new_epoch;
  WallMs stamp_ms = 0;
  RequestId request;  ///< whose answer is remembered; {0,0} = none
  bool operator==(const CommandHeader&) const = default;
};
class CommandEnvelope {
 public:
  CommandHeader header;
  template <class T>
  [[nodiscard]] Result<T> body() const;
  std::shared_ptr<const Envelope::Parsed> parsed;
};
template <class T>
[[nodiscard]] Bytes encode_command(WallMs stamp_ms, RequestId request, const T& body);
[[nodiscard]] Result<CommandEnvelope> decode_command(ByteView bytes);

/// Any struct with `tie`, alone: manifests, snapshots, executor messages. `bytes_max` bounds the input and what it may ask for.
template <class T>
[[nodiscard]] Bytes encode(const T& value);
template <class T>
[[nodiscard]] Result<T> decode(ByteView bytes, std::size_t bytes_max = kControlMessageBytesMax);

/// The name of a type for error messages and logs, "submit"; "type 999" when unknown.
[[nodiscard]] std::string message_name(MessageType type);

}  // namespace idunno

#include "bus/codec_impl.h"       // IWYU pragma: export
#include "bus/codec_instances.h"  // IWYU pragma: export
