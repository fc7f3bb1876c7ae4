#include "cli/dash_server.h"

#include <fmt/core.h>
#include <httplib.h>
#include <sys/socket.h>

#include <thread>

#include "cli/dash_assets.h"
#include "cli/text.h"

namespace idunno::cli {

namespace {

constexpr std::size_t kRequestBytesMax = 64U << 10U;
/// A thread for each page, and some for the files of pages that are being opened.
constexpr std::size_t kThreads = DashHub::kClientsMax + 8;
/// A page that has heard nothing for so long gets a comment: this is how a connection that is gone is noticed.
constexpr Duration kQuiet = std::chrono::seconds(5);
constexpr int kReadSeconds = 5;
constexpr int kWriteSeconds = 5;
constexpr char kPage[] = "/index.html";
constexpr char kTokenMark[] = "@TOKEN@";
constexpr char kTokenHeader[] = "X-Idunno-Token";

const char* type_of(const std::string& path) {
  const auto ends = [&](const std::string& suffix) {
    return path.size() >= suffix.size() && path.compare(path.size() - suffix.size(), suffix.size(), suffix) == 0;
  };
  if (ends(".html")) return "text/html; charset=utf-8";
  if (ends(".js")) return "text/javascript; charset=utf-8";
  if (ends(".css")) return "text/css; charset=utf-8";
  if (ends(".svg")) return "image/svg+xml";
  return "text/plain; charset=utf-8";
}

void set_json(httplib::Response& response, int status, const Json& body) {
  response.status = status;
  response.set_content(dump(body), "application/json");
}

void refuse(httplib::Response& response, int status, const std::string& why) { set_json(response, status, Json{{"error", why}}); }

}  // namespace

int http_status_of(Errc code) {
  switch (exit_code_of(code)) {
    case kUsage:
      return 400;
    case kNotAllowed:
      return 403;
    case kNotFound:
      return 404;
    case kNotNow:
      return 409;
    case kNoCoordinator:
    case kTimedOut:
      return 503;
    default:
      return 500;
  }
}

struct DashServer::Impl {
  Impl(Options wanted, DashHub& shared, Backend calls) : options(std::move(wanted)), hub(shared), backend(std::move(calls)) {}

  void set_up();
  void serve_assets();
  void serve_stream();
  void serve_actions();
  [[nodiscard]] bool admit(const httplib::Request& request, httplib::Response& response) const;

  Options options;
  DashHub& hub;
  Backend backend;
  httplib::Server server;
  std::unique_ptr<DashGuard> guard;
  std::string page;
  std::thread thread;
};

/// For every request, before anything else.
bool DashServer::Impl::admit(const httplib::Request& request, httplib::Response& response) const {
  if (!guard->host_allowed(request.get_header_value("Host"))) {
    refuse(response, 421, "this server is not known by that name; open it by its address");
    return false;
  }
  if (request.method == "GET" || request.method == "HEAD") return true;
  if (!guard->origin_allowed(request.get_header_value("Origin")) ||
      !guard->token_matches(request.get_header_value(kTokenHeader))) {
    refuse(response, 403, "not sent by this dashboard's own page; load it again");
    return false;
  }
  if (!options.actions) {
    refuse(response, 403, "this dashboard only shows; its key or its options do not let it change anything");
    return false;
  }
  return true;
}

void DashServer::Impl::set_up() {
  server.new_task_queue = [] { return new httplib::ThreadPool(kThreads); };  // owned by the server
  server.set_read_timeout(kReadSeconds);
  server.set_write_timeout(kWriteSeconds);
  server.set_payload_max_length(kRequestBytesMax);
  // One request a connection: the body of a refused one is never taken for another request.
  server.set_keep_alive_max_count(1);
  server.set_tcp_nodelay(true);
  // Not SO_REUSEPORT, which is the library's choice: two servers on one port must not share its visitors.
  server.set_socket_options([](socket_t socket) {
    const int yes = 1;
    (void)setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  });
  server.set_default_headers(
      {{"X-Content-Type-Options", "nosniff"},
       {"Referrer-Policy", "no-referrer"},
       {"X-Frame-Options", "DENY"},
       {"Cross-Origin-Resource-Policy", "same-origin"},
       {"Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"}});
  server.set_pre_routing_handler([this](const httplib::Request& request, httplib::Response& response) {
    return admit(request, response) ? httplib::Server::HandlerResponse::Unhandled : httplib::Server::HandlerResponse::Handled;
  });
  server.set_exception_handler([](const httplib::Request&, httplib::Response& response, std::exception_ptr) {
    refuse(response, 500, "the dashboard failed on this request");
  });
  serve_assets();
  serve_stream();
  serve_actions();
}

void DashServer::Impl::serve_assets() {
  for (const DashAsset& asset : dash_assets()) {
    if (asset.path == kPage) {
      page = std::string(asset.body);
      if (const auto mark = page.find(kTokenMark); mark != std::string::npos)
        page.replace(mark, sizeof kTokenMark - 1, options.actions ? guard->token() : "");
      continue;
    }
    server.Get(asset.path, [&asset](const httplib::Request& request, httplib::Response& response) {
      const std::string tag = "\"" + asset.tag + "\"";
      response.set_header("ETag", tag);
      response.set_header("Cache-Control", "no-cache");
      if (request.get_header_value("If-None-Match") == tag) {
        response.status = 304;
        return;
      }
      response.set_content(asset.body.data(), asset.body.size(), type_of(asset.path));
    });
  }
  server.Get("/", [this](const httplib::Request&, httplib::Response& response) {
    response.set_header("Cache-Control", "no-store");
    response.set_content(page, type_of(kPage));
  });
}

void DashServer::Impl::serve_stream() {
  server.Get("/api/stream", [this](const httplib::Request&, httplib::Response& response) {
    const std::shared_ptr<DashHub::Client> client = backend.join();
    if (client == nullptr) return refuse(response, 503, fmt::format("{} pages are open already", DashHub::kClientsMax));
    response.set_header("Cache-Control", "no-store");
    response.set_chunked_content_provider(
        "text/event-stream",
        [this, client](std::size_t, httplib::DataSink& sink) {
          std::string message;
          switch (hub.next(*client, message, kQuiet)) {
            case DashHub::Next::ended:
              sink.done();
              return false;
            case DashHub::Next::nothing:
              message = ": still here\n\n";
              break;
            case DashHub::Next::message:
              break;
          }
          return sink.write(message.data(), message.size());
        },
        [this, client](bool) { hub.leave(client); });
  });
}

void DashServer::Impl::serve_actions() {
  server.Get("/api/choices", [this](const httplib::Request&, httplib::Response& response) {
    auto choices = backend.choices();
    if (!choices) return refuse(response, http_status_of(choices.error().code), choices.error().detail);
    response.set_header("Cache-Control", "no-store");
    set_json(response, 200, *choices);
  });
  server.Post(R"(/api/(submit|job))", [this](const httplib::Request& request, httplib::Response& response) {
    const Json body = Json::parse(request.body, nullptr, false);
    if (!body.is_object()) return refuse(response, 400, "a JSON object is wanted");
    auto done = backend.act(request.matches[1], body);
    if (!done) return refuse(response, http_status_of(done.error().code), done.error().detail);
    set_json(response, 200, *done);
  });
}

DashServer::DashServer() = default;

Result<std::unique_ptr<DashServer>> DashServer::start(const Options& options, DashHub& hub, Backend backend) {
  std::unique_ptr<DashServer> dash(new DashServer());
  dash->impl_ = std::make_unique<Impl>(options, hub, std::move(backend));
  Impl& impl = *dash->impl_;
  impl.server.set_socket_options([](socket_t socket) {
    const int yes = 1;
    (void)setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  });
  if (options.port == 0) {
    const int port = impl.server.bind_to_any_port(options.listen);
    if (port <= 0)
      return Error{Errc::invalid, fmt::format("cannot listen on {}; --listen takes an address of this machine", options.listen)};
    impl.options.port = static_cast<std::uint16_t>(port);
  } else if (!impl.server.bind_to_port(options.listen, options.port)) {
    return Error{Errc::conflict,
                 fmt::format("cannot listen on {} port {}: it is in use or not an address of this machine; --port 0 "
                             "takes any free port",
                             options.listen, options.port)};
  }
  impl.guard = std::make_unique<DashGuard>(options.listen, impl.options.port, random_token());
  impl.set_up();
  impl.thread = std::thread([&impl] { (void)impl.server.listen_after_bind(); });
  return dash;
}

DashServer::~DashServer() {
  if (impl_ == nullptr || !impl_->thread.joinable()) return;
  impl_->hub.close();
  // stop() before the thread listens would be lost.
  while (!impl_->server.is_running()) std::this_thread::yield();
  impl_->server.stop();
  impl_->thread.join();
}

std::uint16_t DashServer::port() const { return impl_->options.port; }

std::string DashServer::url() const {
  const std::string& listen = impl_->options.listen;
  const bool any = listen == "0.0.0.0" || listen == "::";
  const std::string host = any ? "127.0.0.1" : listen.find(':') != std::string::npos ? "[" + listen + "]" : listen;
  return fmt::format("http://{}:{}/", host, impl_->options.port);
}

}  // namespace idunno::cli
