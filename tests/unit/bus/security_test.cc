#include "bus/security.h"

#include <sys/stat.h>

#include <fstream>

#include "tests/unit/bus/cluster_fixture.h"

namespace idunno {
namespace {

namespace fs = std::filesystem;

class KeyFiles : public testing::Test {
 protected:
  void write(const fs::path& file, const std::string& text, unsigned mode = 0600) const {
    std::ofstream(file) << text;
    ::chmod(file.c_str(), mode);
  }
  std::string read(const fs::path& file) const {
    std::ifstream in(file);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  test::TemporaryFolder folder;
};

TEST_F(KeyFiles, ASecretKeyComesBackFromAFileOnlyItsOwnerCanRead) {
  const auto keys = generate_key_pair("n1", Role::node);
  ASSERT_TRUE(keys.ok());
  EXPECT_EQ(keys->public_key.size(), 40U);
  EXPECT_NE(keys->public_key, keys->secret_key);
  const fs::path dir = folder.path / "keys";
  ::umask(0);
  ASSERT_TRUE(save_secret_key(dir, *keys).ok());
  ::umask(022);
  struct stat info {};
  ASSERT_EQ(::stat((dir / "n1.key").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777U, 0600U);
  const auto back = load_secret_key(dir / "n1.key");
  ASSERT_TRUE(back.ok()) << back.error().detail;
  EXPECT_EQ(back->name, "n1");
  EXPECT_EQ(back->role, Role::node);
  EXPECT_EQ(back->public_key, keys->public_key);
  EXPECT_EQ(back->secret_key, keys->secret_key);
  EXPECT_EQ(std::distance(fs::directory_iterator(dir), {}), 1) << "no temporary file is left";
}

TEST_F(KeyFiles, AKeyIsNeverOverwritten) {
  const auto keys = generate_key_pair("n1", Role::node);
  ASSERT_TRUE(save_secret_key(folder.path, *keys).ok());
  const auto other = generate_key_pair("n1", Role::node);
  const Status again = save_secret_key(folder.path, *other);
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.error().code, Errc::conflict);
  EXPECT_EQ(load_secret_key(folder.path / "n1.key")->secret_key, keys->secret_key);
}

TEST_F(KeyFiles, AFileThatOthersMayReadIsRefused) {
  const auto keys = generate_key_pair("n1", Role::node);
  ASSERT_TRUE(save_secret_key(folder.path, *keys).ok());
  for (const unsigned mode : {0640U, 0604U, 0660U, 0644U, 0601U}) {
    ::chmod((folder.path / "n1.key").c_str(), mode);
    const auto loaded = load_secret_key(folder.path / "n1.key");
    ASSERT_FALSE(loaded.ok()) << mode;
    EXPECT_EQ(loaded.error().code, Errc::forbidden);
  }
}

TEST_F(KeyFiles, DamagedKeyFilesAreRefused) {
  const auto keys = generate_key_pair("n1", Role::node);
  const auto other = generate_key_pair("n2", Role::node);
  ASSERT_TRUE(save_secret_key(folder.path, *keys).ok());
  const std::string good = read(folder.path / "n1.key");
  const fs::path bad = folder.path / "bad.key";
  const auto refused = [&](const std::string& text) {
    write(bad, text);
    const auto loaded = load_secret_key(bad);
    return !loaded.ok() && loaded.error().code == Errc::invalid &&
           loaded.error().detail.find(keys->secret_key) == std::string::npos;
  };
  EXPECT_TRUE(refused(""));
  EXPECT_TRUE(refused(good + "extra = 1\n"));
  EXPECT_TRUE(refused(good.substr(0, good.size() / 2)));
  std::string swapped = good;
  swapped.replace(swapped.find(keys->public_key), 40, other->public_key);
  EXPECT_TRUE(refused(swapped));
  std::string role = good;
  role.replace(role.find("\"node\""), 6, "\"root\"");
  EXPECT_TRUE(refused(role));
  EXPECT_EQ(load_secret_key(folder.path / "absent.key").error().code, Errc::not_found);
  EXPECT_EQ(load_secret_key(folder.path).error().code, Errc::invalid);
}

TEST_F(KeyFiles, NamesCannotLeaveTheFolder) {
  for (const char* name : {"", "../n1", "a/b", ".hidden", "-x", "a b", "a\"b"})
    EXPECT_FALSE(generate_key_pair(name, Role::read).ok()) << name;
  KeyPair keys = generate_key_pair("n1", Role::node).value();
  keys.name = "../n1";
  EXPECT_FALSE(save_secret_key(folder.path / "sub", keys).ok());
}

TEST_F(KeyFiles, TheAdmittedListComesBackAndKeepsItsRules) {
  AdmittedKeys admitted;
  const auto a = generate_key_pair("alice", Role::submit).value();
  const auto b = generate_key_pair("bob", Role::read).value();
  ASSERT_TRUE(admitted.add({"alice", Role::submit, a.public_key}).ok());
  ASSERT_TRUE(admitted.add({"bob", Role::read, b.public_key}).ok());
  EXPECT_EQ(admitted.add({"alice", Role::read, generate_key_pair("x", Role::read)->public_key}).error().code, Errc::conflict);
  EXPECT_EQ(admitted.add({"carol", Role::read, a.public_key}).error().code, Errc::conflict);
  EXPECT_EQ(admitted.add({"carol", Role::read, "short"}).error().code, Errc::invalid);
  const fs::path file = folder.path / "admitted.toml";
  ASSERT_TRUE(admitted.save(file).ok());
  ASSERT_TRUE(admitted.save(file).ok());  // replaces
  const auto back = AdmittedKeys::load(file);
  ASSERT_TRUE(back.ok()) << back.error().detail;
  EXPECT_EQ(back->keys(), admitted.keys());
  EXPECT_EQ(back->by_public_key(b.public_key)->name, "bob");
  EXPECT_EQ(back->by_name("carol"), nullptr);
  EXPECT_EQ(admitted.remove("carol").error().code, Errc::not_found);
  EXPECT_TRUE(admitted.remove("bob").ok());
  EXPECT_EQ(admitted.keys().size(), 1U);
}

TEST_F(KeyFiles, AWrongAdmittedListNamesLineAndReason) {
  const auto key = generate_key_pair("a", Role::read)->public_key;
  const fs::path file = folder.path / "admitted.toml";
  const auto error_of = [&](const std::string& text) {
    write(file, text, 0644);
    const auto loaded = AdmittedKeys::load(file);
    return loaded.ok() ? "" : loaded.error().detail;
  };
  const std::string entry = "[[key]]\nname = \"a\"\nrole = \"read\"\npublic = \"" + key + "\"\n";
  EXPECT_EQ(error_of(entry), "");
  EXPECT_NE(error_of(entry + entry).find("a key named a is admitted already"), std::string::npos);
  EXPECT_NE(error_of("[[key]]\nname = \"a\"\n").find(":1: missing key \"role\" in [[key]]"), std::string::npos);
  EXPECT_NE(error_of(entry + "rol = 1\n").find("did you mean \"role\"?"), std::string::npos);
}

TEST(Roles, IncludeTheOnesBelow) {
  const std::vector<Role> order{Role::read, Role::submit, Role::admin, Role::node};
  for (std::size_t has = 0; has < order.size(); ++has) {
    for (std::size_t needs = 0; needs < order.size(); ++needs) EXPECT_EQ(role_allows(order[has], order[needs]), has >= needs);
  }
  EXPECT_FALSE(role_allows(Role::none, Role::none));
  for (const Role role : order) EXPECT_EQ(role_from_string(to_string(role)), role);
  EXPECT_EQ(role_from_string("root"), std::nullopt);
}

}  // namespace
}  // namespace idunno
