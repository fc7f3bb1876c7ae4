#include "bus/strict_toml.h"

#include <gtest/gtest.h>

#include <functional>

namespace idunno {
namespace {

std::string error_of(std::string_view text, const std::function<void(TomlTable&)>& read) {
  auto table = TomlTable::parse(text, "cluster.toml");
  if (!table) return table.error().detail;
  read(*table);
  const Status status = table->finish();
  return status ? "" : status.error().detail;
}

TEST(StrictToml, ReadsEveryKind) {
  auto table = TomlTable::parse(
      "s='x'\nb=true\ni=3\nd=2.5\nds=[1,2.5]\nis=[1,2]\nss=['a','b']\nt='250ms'\nz='64K'\n[sub]\nk=1\n[[many]]\n[[many]]\n", "f");
  ASSERT_TRUE(table.ok());
  std::string s;
  bool b = false;
  std::int64_t i = 0;
  double d = 0;
  std::vector<double> ds;
  std::vector<std::int64_t> is;
  std::vector<std::string> ss;
  std::int64_t t = 0;
  std::uint64_t z = 0;
  table->get("s", s);
  table->get("b", b);
  table->get("i", i, 0, 10);
  table->get("d", d, 0, 10);
  table->get("ds", ds);
  table->get("is", is, 0, 10);
  table->get("ss", ss);
  table->get_duration("t", t, 0, 1'000'000);
  table->get_size("z", z, 0, 1U << 20U);
  std::int64_t k = 0;
  table->table("sub")->get("k", k, 0, 10);
  EXPECT_EQ(table->tables("many").size(), 2U);
  EXPECT_FALSE(table->table("absent").has_value());
  ASSERT_TRUE(table->finish().ok()) << table->finish().error().detail;
  EXPECT_EQ(s, "x");
  EXPECT_TRUE(b);
  EXPECT_EQ(i, 3);
  EXPECT_EQ(d, 2.5);
  EXPECT_EQ(ds, (std::vector<double>{1, 2.5}));
  EXPECT_EQ(is, (std::vector<std::int64_t>{1, 2}));
  EXPECT_EQ(ss, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(t, 250'000);
  EXPECT_EQ(z, 65536U);
  EXPECT_EQ(k, 1);
}

TEST(StrictToml, UnknownKeysAreNamedWithTheNearestKnownOne) {
  const auto read = [](TomlTable& table) {
    auto tuning = table.table("tuning");
    std::int64_t value = 0;
    if (tuning) tuning->get("replication", value, 1, 4);
  };
  EXPECT_EQ(error_of("# comment\n[tuning]\nreplicaton = 3\n", read),
            "cluster.toml:3: unknown key \"replicaton\" in [tuning]; did you mean \"replication\"?");
  EXPECT_EQ(error_of("[tuning]\nzzz = 3\n", read), "cluster.toml:2: unknown key \"zzz\" in [tuning]");
  EXPECT_EQ(error_of("[tunning]\n", read), "cluster.toml:1: unknown key \"tunning\"; did you mean \"tuning\"?");
}

TEST(StrictToml, WrongTypesAndRangesNameKeyLineAndWish) {
  const auto read = [](TomlTable& table) {
    std::int64_t i = 0;
    table.get("i", i, 1, 10);
    std::int64_t t = 0;
    table.get_duration("t", t, 1000, 2'000'000);
    std::string s;
    table.get("s", s);
  };
  EXPECT_EQ(error_of("i = 'x'", read), "cluster.toml:1: \"i\" is a string, expected an integer");
  EXPECT_EQ(error_of("\ni = 11", read), "cluster.toml:2: \"i\" is 11, expected 1 to 10");
  EXPECT_EQ(error_of("t = 5", read),
            "cluster.toml:1: \"t\" is an integer, expected a duration as text, like \"250ms\" or \"10s\"");
  EXPECT_EQ(error_of("t = '5s'", read), "cluster.toml:1: \"t\" is 5.0 s, expected 1.0 ms to 2.0 s");
  EXPECT_EQ(error_of("t = 'soon'", read), "cluster.toml:1: \"t\": \"soon\" is no duration; write for example 250ms, 10s, 5m");
  EXPECT_EQ(error_of("s = [1]\ni = 'x'", read), "cluster.toml:2: \"i\" is a string, expected an integer");
}

TEST(StrictToml, MissingKeysAndBrokenTextAreErrors) {
  EXPECT_EQ(error_of("[a]\n", [](TomlTable& table) { table.table("a")->require("id"); }),
            "cluster.toml:1: missing key \"id\" in [a]");
  EXPECT_EQ(error_of("a = = 1", [](TomlTable&) {}).substr(0, 15), "cluster.toml:1:");
  const auto missing = TomlTable::parse_file("/nonexistent/x.toml");
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code, Errc::not_found);
  EXPECT_FALSE(TomlTable::parse_file("/").ok());
}

TEST(NearestWord, FindsOnlyWhatIsNear) {
  EXPECT_EQ(nearest_word("wieght", {"weight", "rate"}), "weight");
  EXPECT_EQ(nearest_word("weight", {"weights", "weight"}), "weight");
  EXPECT_EQ(nearest_word("abcdefg", {"weight", "rate"}), "");
  EXPECT_EQ(nearest_word("x", {}), "");
}

}  // namespace
}  // namespace idunno
