#include "nodes/runtime/metrics_endpoint.h"

#include <fmt/format.h>
#include <netdb.h>
#include <prometheus/collectable.h>
#include <prometheus/exposer.h>
#include <sys/socket.h>
#include <unistd.h>

#include <condition_variable>
#include <future>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

namespace idunno {
namespace {

// The exposer's server keeps a thread busy for each connection: one for Prometheus, one for whoever looks by hand.
constexpr char kThreads[] = "2";
constexpr char kRequestTimeoutMs[] = "10000";
constexpr auto kKnockEvery = std::chrono::milliseconds(10);
constexpr int kKnocksMax = 100;

/// Brings the question of a scraping thread to the loop. Outlives the endpoint while a question is posted.
class Scraper final : public prometheus::Collectable, public std::enable_shared_from_this<Scraper> {
 public:
  Scraper(EventLoop& loop, std::function<NodeFigures()> figures) : loop_(loop), figures_(std::move(figures)) {}

  std::vector<prometheus::MetricFamily> Collect() const override {
    auto answer = std::make_shared<std::optional<NodeFigures>>();
    std::unique_lock lock(mutex_);
    if (closed_) return incomplete_scrape();
    loop_.post([self = shared_from_this(), answer] { self->ask(*answer); });
    answered_.wait_for(lock, kScrapeWaitMax, [&] { return closed_ || answer->has_value(); });
    if (!answer->has_value()) return incomplete_scrape();
    const NodeFigures figures = std::move(**answer);
    lock.unlock();
    return metric_families(figures);
  }

  void close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    answered_.notify_all();
  }

 private:
  void ask(std::optional<NodeFigures>& answer) const {
    {
      const std::lock_guard lock(mutex_);
      if (closed_) return;
    }
    NodeFigures figures = figures_();  // closed only by this thread
    const std::lock_guard lock(mutex_);
    answer = std::move(figures);
    answered_.notify_all();
  }

  EventLoop& loop_;
  const std::function<NodeFigures()> figures_;
  mutable std::mutex mutex_;
  mutable std::condition_variable answered_;
  bool closed_ = false;
};

/// A connection that is closed at once.
void knock(const std::string& host, const std::string& port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(host.c_str(), port.c_str(), &hints, &found) != 0) return;
  const int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd >= 0) {
    (void)connect(fd, found->ai_addr, found->ai_addrlen);
    close(fd);
  }
  freeaddrinfo(found);
}

}  // namespace

struct MetricsEndpoint::Impl {
  std::string address;
  std::shared_ptr<Scraper> scraper;
  std::unique_ptr<prometheus::Exposer> exposer;
};

MetricsEndpoint::MetricsEndpoint() : impl_(std::make_unique<Impl>()) {}

Result<std::unique_ptr<MetricsEndpoint>> MetricsEndpoint::start(EventLoop& loop, const std::string& address,
                                                                std::function<NodeFigures()> figures) {
  std::unique_ptr<MetricsEndpoint> endpoint(new MetricsEndpoint());
  try {
    endpoint->impl_->exposer = std::make_unique<prometheus::Exposer>(
        std::vector<std::string>{"listening_ports", address, "num_threads", kThreads, "request_timeout_ms", kRequestTimeoutMs});
  } catch (const std::exception& error) {
    return Error{Errc::unavailable, fmt::format("serve metrics at {}: {}", address, error.what())};
  }
  endpoint->impl_->address = address;
  endpoint->impl_->scraper = std::make_shared<Scraper>(loop, std::move(figures));
  endpoint->impl_->exposer->RegisterCollectable(endpoint->impl_->scraper);
  return endpoint;
}

MetricsEndpoint::~MetricsEndpoint() {
  if (impl_->scraper) impl_->scraper->close();
  if (!impl_->exposer) return;
  // Its server looks only every two seconds whether it is to end, or when somebody connects.
  auto ended = std::async(std::launch::async, [this] { impl_->exposer.reset(); });
  const auto colon = impl_->address.rfind(':');
  for (int i = 0; i < kKnocksMax && ended.wait_for(kKnockEvery) != std::future_status::ready; ++i) {
    knock(impl_->address.substr(0, colon), impl_->address.substr(colon + 1));
  }
  ended.wait();
}

}  // namespace idunno
