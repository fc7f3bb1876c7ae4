#pragma once
/// Inside bus/ only: libzmq sockets as this project uses them. Owns the options that every socket of ours must have
/// (security, bounds, time-outs), and the only functions that send and receive, none of which throws, blocks or can be ignored.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>
#include <zmq.hpp>

#include "bus/base/bytes.h"
#include "bus/base/result.h"
#include "bus/security.h"

namespace idunno::sockets {

inline constexpr int kControlHighWaterMark = 1000;  ///< messages each way for each peer
inline constexpr int kDataHighWaterMark = 16;
inline constexpr int kEventsHighWaterMark = 4000;
inline constexpr std::size_t kFramesMax = 3;    ///< of a message, the routing id included
inline constexpr char kZapDomain[] = "idunno";  ///< every admitted key; the log's domain is in bus/log_link.h
inline constexpr char kZapEndpoint[] = "inproc://zeromq.zap.01";

/// Owns a socket; closes it in the destructor. Move only.
class Socket {
 public:
  Socket() = default;
  explicit Socket(void* handle) : handle_(handle) {}
  Socket(Socket&& other) noexcept : handle_(other.handle_) { other.handle_ = nullptr; }
  Socket& operator=(Socket&& other) noexcept;
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  ~Socket() { close(); }

  void close();
  [[nodiscard]] void* raw() const { return handle_; }
  explicit operator bool() const { return handle_ != nullptr; }

  [[nodiscard]] bool set(int option, int value);
  [[nodiscard]] bool set(int option, std::int64_t value);
  [[nodiscard]] bool set(int option, const std::string& value);

 private:
  void* handle_ = nullptr;
};

struct Limits {
  int high_water_mark = kControlHighWaterMark;
  std::size_t bytes_max = 0;  ///< of one frame
};

/// A socket with the common options set.
[[nodiscard]] Result<Socket> make(void* context, int type, const Limits& limits);
/// `zap_domain` decides which keys the ZAP handler admits there.
[[nodiscard]] Status make_curve_server(Socket& socket, const KeyPair& keys, const char* zap_domain = kZapDomain);
/// `server_key`: of the peer that the next connect goes to.
[[nodiscard]] Status make_curve_client(Socket& socket, const KeyPair& keys, const std::string& server_key);
/// unavailable when the address is in use or not of this machine.
[[nodiscard]] Status bind(Socket& socket, const std::string& endpoint);
[[nodiscard]] Status connect(Socket& socket, const std::string& endpoint);

enum class Sent : std::uint8_t { yes, full, unreachable, failed };
/// Sends the frames as one message without waiting. They are taken only when the answer is `yes`.
[[nodiscard]] Sent send(void* socket, std::vector<zmq::message_t>& frames);

enum class Received : std::uint8_t { yes, nothing, malformed };
/// Reads one whole message; one with more than kFramesMax frames is read, thrown away and called malformed.
[[nodiscard]] Received receive(void* socket, std::vector<zmq::message_t>& frames);

/// A frame that keeps the owner of `payload` alive until libzmq has sent it; nothing is copied.
[[nodiscard]] zmq::message_t frame_of(Payload payload);
[[nodiscard]] zmq::message_t frame_of(Bytes bytes);
/// The bytes of a received frame, owned by the frame itself.
[[nodiscard]] Payload payload_of(zmq::message_t frame);
[[nodiscard]] inline ByteView view_of(const zmq::message_t& frame) { return {frame.data<char>(), frame.size()}; }

/// "what: reason" with libzmq's errno.
[[nodiscard]] Error last_error(const std::string& what);

}  // namespace idunno::sockets
