#include <fmt/core.h>

#include <algorithm>
#include <cctype>
#include <csignal>

#include "cli/local_cluster.h"

namespace idunno::cli {

namespace fs = std::filesystem;

namespace {

struct AddOptions {
  std::string name;
  std::string role;
  std::string public_key;
};

/// The configuration and list of keys; keys work on files alone, so no node needs to run.
struct Keyring {
  ClusterConfig config;
  fs::path list;
  AdmittedKeys admitted;
};

Result<Keyring> open_keyring(const Globals& globals) {
  std::error_code error;
  if (!fs::exists(globals.config, error)) {
    return Error{Errc::not_found,
                 fmt::format("no cluster here: {} does not exist; start one with `idunno up` or name one with --config",
                             globals.config.string())};
  }
  auto config = ClusterConfig::load(globals.config);
  if (!config) return config.error();
  Keyring ring{std::move(config).value(), {}, {}};
  ring.list = ring.config.keys_dir / "admitted.toml";
  if (fs::exists(ring.list, error)) {
    auto admitted = AdmittedKeys::load(ring.list);
    if (!admitted) return admitted.error();
    ring.admitted = std::move(admitted).value();
  }
  return ring;
}

/// Nodes read the list again on SIGHUP. Those of a local cluster get it from here; others are the operator's.
void tell_nodes(const App& app, const Keyring& ring) {
  auto local = LocalCluster::open(app.globals.config);
  if (!local) {
    return app.note(fmt::format("copy {} to the keys folder of every machine and send SIGHUP to its idunnod: they read it again",
                                ring.list.string()));
  }
  unsigned told = 0;
  for (const auto& [node, pid] : local->running()) told += kill(pid, SIGHUP) == 0 ? 1U : 0U;
  if (told > 0) app.note(fmt::format("{} running nodes read the list again", told));
}

void gen(App& app) {
  auto ring = open_keyring(app.globals);
  if (!ring) return app.fail(ring.error(), "keys gen");
  auto made = make_missing_keys(ring->config, false);
  if (!made) return app.fail(made.error(), "keys gen");
  Listing listing("idunno.keys_gen.v1", "keys", {{"name", "NAME"}, {"file", "SECRET KEY FILE"}});
  for (const std::string& name : *made) listing.add({{name, ""}, {(ring->config.keys_dir / (name + ".key")).string(), ""}});
  if (made->empty()) {
    app.note(fmt::format("all keys are there already, in {}", ring->config.keys_dir.string()));
  } else {
    app.note("each machine needs admitted.toml and its own nK.key; nothing else belongs there");
    tell_nodes(app, *ring);
  }
  listing.print(app.globals);
}

void list(App& app) {
  auto ring = open_keyring(app.globals);
  if (!ring) return app.fail(ring.error(), "keys list");
  Listing listing("idunno.keys.v1", "keys",
                  {{"name", "NAME"}, {"role", "ROLE"}, {"public", "PUBLIC KEY"}, {"secret_here", "SECRET HERE"}});
  for (const AdmittedKey& key : ring->admitted.keys()) {
    std::error_code error;
    listing.add({{key.name, ""},
                 {to_string(key.role), ""},
                 {key.public_key, ""},
                 {fs::exists(ring->config.keys_dir / (key.name + ".key"), error), ""}});
  }
  listing.print(app.globals);
}

/// Key names become file names.
bool is_name(const std::string& name) {
  static constexpr std::size_t kNameMax = 64;
  return !name.empty() && name.size() <= kNameMax && name.front() != '.' &&
         std::all_of(name.begin(), name.end(),
                     [](unsigned char c) { return std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.' || c == '@'; });
}

void add(App& app, const AddOptions& options) {
  static constexpr char kDoing[] = "keys add";
  if (!is_name(options.name))
    return app.usage(fmt::format("keys add: '{}' is no key name: use letters, digits, - _ . @", options.name));
  const auto role = role_from_string(options.role);
  if (!role || *role == Role::none)
    return app.usage(fmt::format("keys add: '{}' is no role; roles are read, submit, admin, node", options.role));
  static constexpr std::size_t kZ85Length = 40;
  if (!options.public_key.empty() && options.public_key.size() != kZ85Length) {
    return app.usage(
        fmt::format("keys add: a public key has {} characters (Z85), this one has {}", kZ85Length, options.public_key.size()));
  }
  auto ring = open_keyring(app.globals);
  if (!ring) return app.fail(ring.error(), kDoing);
  if (ring->admitted.by_name(options.name) != nullptr) {
    return app.fail(Error{Errc::conflict, fmt::format("a key '{}' is there already; `idunno keys revoke {}` removes it",
                                                      options.name, options.name)},
                    kDoing);
  }
  KeyPair keys{options.name, *role, options.public_key, ""};
  const fs::path secret = ring->config.keys_dir / (options.name + ".key");
  std::error_code error;
  if (options.public_key.empty()) {
    if (fs::exists(secret, error)) {
      return app.fail(
          Error{Errc::conflict, fmt::format("{} exists; move it away, or give its public key with --public", secret.string())},
          kDoing);
    }
    auto made = generate_key_pair(options.name, *role);
    if (!made) return app.fail(made.error(), kDoing);
    keys = std::move(made).value();
  }
  // The list is checked before a file is written, so that a refused key leaves nothing behind.
  if (auto added = ring->admitted.add({keys.name, keys.role, keys.public_key}); !added) return app.fail(added.error(), kDoing);
  fs::create_directories(ring->config.keys_dir, error);
  if (!keys.secret_key.empty()) {
    if (auto saved = save_secret_key(ring->config.keys_dir, keys); !saved) return app.fail(saved.error(), kDoing);
  }
  if (auto saved = ring->admitted.save(ring->list); !saved) return app.fail(saved.error(), kDoing);
  tell_nodes(app, *ring);
  Json out = Json::object();
  out["name"] = keys.name;
  out["role"] = to_string(keys.role);
  out["public"] = keys.public_key;
  out["secret_file"] = keys.secret_key.empty() ? Json(nullptr) : Json(secret.string());
  print_object(app.globals, "idunno.key.v1", out);
}

void revoke(App& app, const std::string& name) {
  static constexpr char kDoing[] = "keys revoke";
  auto ring = open_keyring(app.globals);
  if (!ring) return app.fail(ring.error(), kDoing);
  const AdmittedKey* key = ring->admitted.by_name(name);
  if (key == nullptr)
    return app.fail(Error{Errc::not_found, fmt::format("no key '{}' in {}", name, ring->list.string())}, kDoing);
  const bool is_node = std::any_of(ring->config.nodes.begin(), ring->config.nodes.end(),
                                   [&](const NodeConfig& n) { return to_string(n.id) == name; });
  if (is_node) {
    return app.fail(Error{Errc::conflict, fmt::format("'{}' is the key of a node of this cluster; take the node out of {} first",
                                                      name, ring->config.file.string())},
                    kDoing);
  }
  if (auto removed = ring->admitted.remove(name); !removed) return app.fail(removed.error(), kDoing);
  if (auto saved = ring->admitted.save(ring->list); !saved) return app.fail(saved.error(), kDoing);
  std::error_code error;
  const fs::path secret = ring->config.keys_dir / (name + ".key");
  if (fs::remove(secret, error)) app.note(fmt::format("{} removed", secret.string()));
  tell_nodes(app, *ring);
  app.note(fmt::format("'{}' is no longer admitted; connections that it has open end with their process", name));
  Json out = Json::object();
  out["name"] = name;
  print_outcome(app.globals, "idunno.key_revoked.v1", out);
}

}  // namespace

void add_keys_commands(CLI::App& root, App& app) {
  CLI::App* keys = root.add_subcommand("keys", "who may talk to the cluster: keys with roles");
  keys->require_subcommand(1);
  keys->footer(
      "Example:\n  idunno keys add alice --role submit\n  idunno --key alice.key submit --model resnet18 --data /data/photos");

  CLI::App* gen_command = keys->add_subcommand("gen", "make the keys a configuration needs: admin and one for each node");
  gen_command->callback([&app] { gen(app); });
  gen_command->footer("Example:\n  idunno keys gen --config lab-10.toml");

  CLI::App* list_command = keys->add_subcommand("list", "admitted keys");
  list_command->callback([&app] { list(app); });
  list_command->footer("Example:\n  idunno keys list");

  auto options = std::make_shared<AddOptions>();
  CLI::App* add_command = keys->add_subcommand("add", "admit a key: a new one, or one whose public half is given");
  add_command->add_option("name", options->name, "name of the key")->required()->type_name("NAME");
  add_command->add_option("--role", options->role, "read, submit, admin or node")->required()->type_name("ROLE");
  add_command->add_option("--public", options->public_key, "public key (Z85, 40 characters); without it a pair is made")
      ->type_name("Z85");
  add_command->callback([&app, options] { add(app, *options); });
  add_command->footer("Example:\n  idunno keys add alice --role submit");

  auto name = std::make_shared<std::string>();
  CLI::App* revoke_command = keys->add_subcommand("revoke", "admit a key no longer");
  revoke_command->add_option("name", *name, "name of the key")->required()->type_name("NAME");
  revoke_command->callback([&app, name] { revoke(app, *name); });
  revoke_command->footer("Example:\n  idunno keys revoke alice");
}

}  // namespace idunno::cli
