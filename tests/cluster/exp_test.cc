// Experiments end to end: a small file of one's own in real clusters of a few nodes, and the report that is made of it.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "tests/cluster/harness.h"

namespace idunno::testing {
namespace {

namespace fs = std::filesystem;

constexpr char kExperiment[] = R"(
name = "tiny"
title = "Tiny <one>"
measure = "failure"
[cluster]
nodes = 3
[[model]]
name = "known"
service = "10ms"
[[job]]
name = "a"
model = "known"
batch = 4
[[job]]
name = "b"
model = "known"
batch = 4
[[action]]
at = "3s"
do = "kill"
who = ["worker"]
[run]
duration = "40s"
repeat = 1
settle = "500ms"
[[wanted]]
figure = "lost_queries"
of = "max"
max = 0
)";

std::string text_of(const fs::path& file) {
  const std::ifstream in(file);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

fs::path write(const fs::path& file, const std::string& text) {
  std::ofstream(file) << text;
  return file;
}

std::string program() { return (bin_dir() / "idunno").string(); }

TEST(Experiments, AreMeasuredKeptAndReported) {
  const TempDir temp;
  const fs::path file = write(temp.path() / "tiny.toml", kExperiment);
  const fs::path out = temp.path() / "runs" / "one";
  const CommandResult run = run_program({program(), "exp", "run", file.string(), "--out", out.string(), "--assert", "--json"},
                                        std::chrono::seconds(300));
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const nlohmann::json json = run.json();
  EXPECT_EQ(json.value("schema", ""), "idunno.experiment.v1");
  EXPECT_EQ(json.value("complete", false), true);
  const nlohmann::json& figures = json["cases"][0]["figures"];
  for (const char* name : {"detected_ms", "reassigned_ms", "normal_s", "dip_pct", "gap_s", "lost_queries"})
    EXPECT_TRUE(figures.contains(name)) << name << " of " << figures.dump();
  EXPECT_EQ(figures["lost_queries"]["max"], 0.0);
  EXPECT_EQ(json["wanted"][0]["met"], true);
  EXPECT_FALSE(json["machine"].value("cpu", "").empty());

  EXPECT_EQ(nlohmann::json::parse(text_of(out / "result.json"))["name"], "tiny");
  EXPECT_EQ(text_of(out / "experiment.toml"), kExperiment);
  const std::string batches = text_of(out / "raw" / "case01-round01.batches.csv");
  EXPECT_EQ(batches.rfind("job,batch,queries,node,leased_s,started_s,committed_s,done_milli\n", 0), 0U);
  EXPECT_GT(std::count(batches.begin(), batches.end(), '\n'), 50) << "every committed batch is a line";
  EXPECT_NE(text_of(out / "raw" / "case01-round01.events.jsonl").find("node_dead"), std::string::npos);
  EXPECT_NE(text_of(out / "rates.gnuplot").find("no real inference"), std::string::npos) << "titles say what the engine is";

  const CommandResult report = run_program({program(), "exp", "report", (temp.path() / "runs").string(), "--json"});
  ASSERT_EQ(report.exit_code, 0) << report.err;
  const std::string page = text_of(report.json().value("file", ""));
  EXPECT_NE(page.find("Tiny &lt;one&gt;"), std::string::npos);
  EXPECT_NE(page.find("normal_s"), std::string::npos);
  if (fs::exists(out / "rates.svg")) {
    EXPECT_NE(page.find("<svg"), std::string::npos) << "pictures are inside";
  }
  // The same folder is not written over.
  EXPECT_EQ(run_program({program(), "exp", "run", file.string(), "--out", out.string()}).exit_code, 9);
}

TEST(Experiments, AssertTellsWhatWasMissed) {
  const TempDir temp;
  std::string text = kExperiment;
  text.replace(text.find("[run]\nduration = \"40s\""), 22, "[run]\nduration = \"4s\"");
  const fs::path file = write(temp.path() / "tiny.toml", text + "[[wanted]]\nfigure = \"detected_ms\"\nmax = 0\n");
  const CommandResult run =
      run_program({program(), "exp", "run", file.string(), "--out", (temp.path() / "out").string(), "--assert", "--json"},
                  std::chrono::seconds(300));
  EXPECT_EQ(run.exit_code, 11) << run.err;
  EXPECT_NE(run.err.find("detected_ms"), std::string::npos) << run.err;
}

TEST(Experiments, WrongFilesAreRefusedBeforeAnythingStarts) {
  const TempDir temp;
  const fs::path file = write(temp.path() / "wrong.toml", std::string(kExperiment) + "[clustr]\nnodes = 3\n");
  const CommandResult wrong = run_program({program(), "exp", "run", file.string()});
  EXPECT_EQ(wrong.exit_code, 2) << wrong.err;
  EXPECT_NE(wrong.err.find("clustr"), std::string::npos) << wrong.err;
  // Programs of a build folder elsewhere do not find the files that come with them.
  setenv("IDUNNO_EXPERIMENTS", IDUNNO_SOURCE_DIR "/configs/experiments", 1);
  const CommandResult none = run_program({program(), "exp", "run", "no-such-thing"});
  EXPECT_EQ(none.exit_code, 3) << none.err;
  const CommandResult list = run_program({program(), "exp", "list", "--json"});
  ASSERT_EQ(list.exit_code, 0) << list.err;
  EXPECT_GE(list.json()["experiments"].size(), 8U);
  EXPECT_EQ(run_program({program(), "exp", "report", temp.path().string()}).exit_code, 3) << "nothing to report";
}

}  // namespace
}  // namespace idunno::testing
