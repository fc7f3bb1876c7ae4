#include <gtest/gtest.h>

#include "cli/text.h"

namespace idunno::cli {
namespace {

TEST(CsvField, QuotesCommasQuotesAndLineBreaks) {
  EXPECT_EQ(csv_field("plain"), "plain");
  EXPECT_EQ(csv_field("a,b"), "\"a,b\"");
  EXPECT_EQ(csv_field("say \"hi\""), "\"say \"\"hi\"\"\"");
  EXPECT_EQ(csv_field("two\nlines"), "\"two\nlines\"");
}

TEST(CsvField, WritesNumbersBooleansAndNullsForPrograms) {
  EXPECT_EQ(csv_field(1.5), "1.5");
  EXPECT_EQ(csv_field(18446744073709551615U), "18446744073709551615");
  EXPECT_EQ(csv_field(true), "true");
  EXPECT_EQ(csv_field(nullptr), "");
  EXPECT_EQ(csv_field(Json::array()), "");
  EXPECT_EQ(csv_field(Json({"n1", "n2"})), "n1 n2");
}

TEST(Dump, ReplacesBytesThatAreNotUtf8) { EXPECT_EQ(dump(Json(std::string("a\xff")), -1), "\"a\xEF\xBF\xBD\""); }

TEST(Table, AlignsColumnsByCharactersNotBytes) {
  const std::vector<Column> columns{{"name", "NAME"}, {"n", "N", true}, {"hidden", ""}};
  const std::vector<std::vector<Listing::Cell>> rows{{{"é", ""}, {5, ""}, {"x", ""}},
                                                     {{"long name", ""}, {12345, "12 K"}, {"y", ""}}};
  EXPECT_EQ(render_table(columns, rows),
            "NAME          N\n"
            "é             5\n"
            "long name  12 K\n");
}

TEST(Table, LetsNoTerminalCommandThrough) {
  const std::string table = render_table({{"name", "NAME"}}, {{{std::string("a\x1b[2Jb\n"), ""}}});
  EXPECT_EQ(table, "NAME\na?[2Jb?\n");
}

TEST(Csv, HasAHeaderOfFieldNamesAndAllColumns) {
  EXPECT_EQ(render_csv({{"id", "JOB"}, {"hidden", ""}}, {{{"j1", ""}, {"a,b", "shown"}}}), "id,hidden\nj1,\"a,b\"\n");
}

class ListingOutput : public ::testing::Test {
 protected:
  static std::string printed(Format format) {
    Listing listing("idunno.things.v1", "things", {{"id", "ID"}, {"size_bytes", "SIZE", true}});
    listing.add({{"a", ""}, {10, "10 B"}});
    listing.add({{"b", ""}, {20, "20 B"}});
    listing.extra["total"] = 30;
    listing.footer = "two things";
    Globals globals;
    globals.format = format;
    ::testing::internal::CaptureStdout();
    listing.print(globals);
    std::fflush(stdout);
    return ::testing::internal::GetCapturedStdout();
  }
};

TEST_F(ListingOutput, JsonBeginsWithTheSchemaAndHoldsRowsAndExtras) {
  const Json json = Json::parse(printed(Format::json));
  EXPECT_EQ(json.begin().key(), "schema");
  EXPECT_EQ(json["schema"], "idunno.things.v1");
  EXPECT_EQ(json["things"].size(), 2U);
  EXPECT_EQ(json["things"][1]["size_bytes"], 20);
  EXPECT_EQ(json["total"], 30);
}

TEST_F(ListingOutput, JsonLinesIsOneObjectARow) {
  EXPECT_EQ(printed(Format::jsonl),
            "{\"schema\":\"idunno.things.v1\",\"id\":\"a\",\"size_bytes\":10}\n"
            "{\"schema\":\"idunno.things.v1\",\"id\":\"b\",\"size_bytes\":20}\n");
}

TEST_F(ListingOutput, TableShowsTextsAndTheFooter) {
  EXPECT_EQ(printed(Format::table), "ID  SIZE\na   10 B\nb   20 B\ntwo things\n");
}

TEST_F(ListingOutput, CsvHoldsRawValues) { EXPECT_EQ(printed(Format::csv), "id,size_bytes\na,10\nb,20\n"); }

TEST(PrintObject, WritesOneCsvRow) {
  Globals globals;
  globals.format = Format::csv;
  ::testing::internal::CaptureStdout();
  print_object(globals, "idunno.x.v1", Json{{"id", "j1"}, {"text", "a,b"}, {"none", nullptr}});
  std::fflush(stdout);
  EXPECT_EQ(::testing::internal::GetCapturedStdout(), "id,text,none\nj1,\"a,b\",\n");
}

}  // namespace
}  // namespace idunno::cli
