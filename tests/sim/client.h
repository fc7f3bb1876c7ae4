#pragma once
/// A client as the command line is one: puts files (blocks on their replicas first, then the metadata), reads them back, removes
/// some, submits jobs. One request after the other, each with an id that it keeps over all tries; it finds the coordinator,
/// follows not_leader and tries again as storage/sdfs/metadata_client.cc does, but never gives up. What it was told goes into
/// Truth.

#include <functional>
#include <string>
#include <vector>

#include "bus/base/random.h"
#include "tests/sim/block_io.h"
#include "tests/sim/truth.h"

namespace idunno::sim {

class SimClient final : public Process {
 public:
  SimClient(Env& env, Truth& truth, std::uint32_t number, std::uint64_t seed);

  void start();
  [[nodiscard]] bool done() const { return next_ == plan_.size(); }
  [[nodiscard]] std::string waits_for() const { return waits_for_; }

  void on_request(const ConnectionId& from, Bytes frame, Payload payload) override;
  void on_message(const ConnectionId& from, const Bytes& frame, const Payload& payload) override;
  void on_broken(const ConnectionId& connection) override;

 private:
  template <class Req>
  struct Attempt {
    Req request;
    RequestId id;
    bool stale_ok = false;
    std::function<void(Result<typename Req::Reply>)> done;
    std::vector<NodeId> to_ask;
    std::uint32_t hops = 0;
    Duration pause{};
  };

  void plan();
  void next();
  /// Asks until there is an answer that is final.
  template <class Req>
  void ask(const Req& request, std::function<void(Result<typename Req::Reply>)> done, bool stale_ok = false);
  template <class Req>
  void try_next(const std::shared_ptr<Attempt<Req>>& attempt);

  void add_model();
  void put(const std::string& path, std::function<void()> done);
  void put_blocks(const std::shared_ptr<struct PutState>& put);
  void commit(const std::shared_ptr<struct PutState>& put);
  void read(const std::string& path);
  void check_read(const std::string& path, const Result<FsStatReply>& answer);
  void remove(const std::string& path);
  void submit(std::uint32_t number);
  void send_submit(const JobSpec& spec);

  Truth& truth_;
  std::string name_;
  Random random_;
  Caller caller_;
  BlockIo blocks_;
  std::vector<std::function<void()>> plan_;
  std::size_t next_ = 0;
  std::string waits_for_ = "its start";
  NodeId hint_;
};

}  // namespace idunno::sim
