#include <fmt/core.h>

#include <cstdint>

#include "bus/clock.h"
#include "bus/cluster_client.h"
#include "bus/entropy.h"
#include "cli/app.h"

namespace idunno::cli {

struct Session::Impl {
  // Later members use earlier ones and die before them.
  ClusterConfig config;
  AdmittedKeys admitted;
  KeyPair keys;
  EventLoop loop;
  std::unique_ptr<ZmqContext> zmq;
  std::unique_ptr<RpcClient> rpc;
  std::unique_ptr<MetadataClient> metadata;
  std::unique_ptr<BlockClient> blocks;
  std::unique_ptr<BlockIdSource> ids;
  std::unique_ptr<SdfsClient> sdfs;
};

namespace {

Result<KeyPair> load_keys(const Globals& globals, const ClusterConfig& config, const AdmittedKeys& admitted) {
  const auto file = globals.key.empty() ? config.keys_dir / "admin.key" : globals.key;
  auto keys = load_secret_key(file);
  if (!keys) {
    if (keys.error().code == Errc::not_found) {
      return Error{Errc::not_found,
                   fmt::format("no key file {}; name yours with --key FILE, or make one with `idunno keys add`", file.string())};
    }
    return keys.error();
  }
  const AdmittedKey* known = admitted.by_public_key(keys->public_key);
  if (known == nullptr) {
    return Error{Errc::forbidden, fmt::format("the key '{}' ({}) is not admitted by {}; where the cluster's keys are kept: "
                                              "idunno keys add {} --role submit --public '{}'",
                                              keys->name, file.string(), (config.keys_dir / "admitted.toml").string(), keys->name,
                                              keys->public_key)};
  }
  keys->name = known->name;
  keys->role = known->role;
  return keys;
}

}  // namespace

Session::Session() : impl_(std::make_unique<Impl>()) {}
Session::~Session() = default;

Result<std::unique_ptr<Session>> Session::open(const Globals& globals) {
  std::error_code ignored;
  if (!std::filesystem::exists(globals.config, ignored)) {
    return Error{Errc::not_found,
                 fmt::format("no cluster here: {} does not exist; start one with `idunno up` or name one with --config",
                             globals.config.string())};
  }
  std::unique_ptr<Session> session(new Session());
  Impl& impl = *session->impl_;

  auto config = ClusterConfig::load(globals.config);
  if (!config) return config.error();
  impl.config = std::move(config).value();
  auto admitted = AdmittedKeys::load(impl.config.keys_dir / "admitted.toml");
  if (!admitted) {
    return Error{admitted.error().code, admitted.error().detail + "; `idunno keys gen --config " + globals.config.string() +
                                            "` makes the cluster's keys"};
  }
  impl.admitted = std::move(admitted).value();
  auto keys = load_keys(globals, impl.config, impl.admitted);
  if (!keys) return keys.error();
  impl.keys = std::move(keys).value();
  auto zmq = ZmqContext::create();
  if (!zmq) return zmq.error();
  impl.zmq = std::move(zmq).value();
  auto rpc = make_cluster_client(impl.loop, *impl.zmq, impl.config, impl.admitted, impl.keys);
  if (!rpc) return rpc.error();
  impl.rpc = std::move(rpc).value();

  impl.metadata = std::make_unique<MetadataClient>(impl.loop, *impl.rpc, impl.config.log_nodes(), globals.timeout);
  impl.metadata->set_stale_reads(globals.stale);
  impl.blocks = std::make_unique<BlockClient>(impl.loop, *impl.rpc, BlockClient::Options{});
  impl.ids = std::make_unique<BlockIdSource>(random_nonzero());
  impl.sdfs = std::make_unique<SdfsClient>(*impl.metadata, *impl.blocks, *impl.ids);
  return session;
}

const ClusterConfig& Session::config() const { return impl_->config; }
const AdmittedKeys& Session::admitted() const { return impl_->admitted; }
const KeyPair& Session::keys() const { return impl_->keys; }
EventLoop& Session::loop() { return impl_->loop; }
ZmqContext& Session::zmq() { return *impl_->zmq; }
RpcClient& Session::rpc() { return *impl_->rpc; }
MetadataClient& Session::metadata() { return *impl_->metadata; }
BlockClient& Session::blocks() { return *impl_->blocks; }
SdfsClient& Session::sdfs() { return *impl_->sdfs; }

}  // namespace idunno::cli
