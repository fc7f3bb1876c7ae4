#pragma once
/// The web server of `idunno dash`: the page and its files, the stream of news, and the few requests that change something. It
/// runs in threads of its own; what concerns the cluster is done by the `Backend`, which hands it to the session's thread.

#include <functional>
#include <memory>
#include <string>

#include "bus/base/result.h"
#include "cli/app.h"
#include "cli/dash_guard.h"
#include "cli/dash_hub.h"

namespace idunno::cli {

class DashServer {
 public:
  /// Called in the server's threads; each may wait.
  struct Backend {
    /// Joins a new page to the hub; nullptr when there are too many, or at the end.
    std::function<std::shared_ptr<DashHub::Client>()> join;
    /// "submit" or "job" with what the page sent; the answer for the page.
    std::function<Result<Json>(const std::string& action, const Json& request)> act;
    /// Models and folders to choose from.
    std::function<Result<Json>()> choices;
  };
  struct Options {
    std::string listen = "127.0.0.1";
    std::uint16_t port = 0;  ///< 0 = any
    bool actions = false;    ///< the page may change something
  };

  /// Binds; conflict when the port is taken. The hub must outlive the server.
  [[nodiscard]] static Result<std::unique_ptr<DashServer>> start(const Options& options, DashHub& hub, Backend backend);
  ~DashServer();  ///< ends all connections
  DashServer(const DashServer&) = delete;
  DashServer& operator=(const DashServer&) = delete;

  [[nodiscard]] std::uint16_t port() const;
  [[nodiscard]] std::string url() const;

 private:
  DashServer();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// HTTP status of a refused action.
[[nodiscard]] int http_status_of(Errc code);

}  // namespace idunno::cli
