#pragma once
/// Who may talk to the dashboard. The cluster's nodes check what the key in use may do; this keeps other web sites, which a
/// browser would let send requests to a server on loopback, from using that key. Pure.
///
///  - Host must name this server: a loopback name or an address (never another name: DNS rebinding), with its port.
///  - A request that changes something must carry the random token that only the page has, as a header that no HTML form can
///    send, and its Origin, when there is one, must be this server.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace idunno::cli {

class DashGuard {
 public:
  /// `listen`: the address or name that was asked for. `token`: of random_token().
  DashGuard(std::string listen, std::uint16_t port, std::string token);

  [[nodiscard]] bool host_allowed(std::string_view host) const;
  /// `origin` is empty when the header is missing; "null" is never allowed.
  [[nodiscard]] bool origin_allowed(std::string_view origin) const;
  [[nodiscard]] bool token_matches(std::string_view token) const;  ///< in constant time
  [[nodiscard]] const std::string& token() const { return token_; }

 private:
  std::string listen_;
  std::uint16_t port_;
  std::string token_;
};

/// 256 bits, as hexadecimal digits.
[[nodiscard]] std::string random_token();
/// 127.0.0.0/8, ::1, localhost.
[[nodiscard]] bool is_loopback(const std::string& address);

}  // namespace idunno::cli
