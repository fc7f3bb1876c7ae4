// `idunno watch` on a terminal: a real pseudo terminal, real keys, real signals.

#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>

#include "tests/cluster/harness.h"

namespace idunno::testing {
namespace {

/// A program on a terminal of its own.
class Terminal {
 public:
  Terminal(const TestCluster& cluster, const std::vector<std::string>& arguments, unsigned short columns, unsigned short rows) {
    winsize size{rows, columns, 0, 0};
    const std::string program = (bin_dir() / "idunno").string();
    const std::string dir = cluster.dir().string();
    child_ = forkpty(&fd_, nullptr, nullptr, &size);
    if (child_ != 0) return;
    setenv("TERM", "xterm-256color", 1);
    setenv("LC_ALL", "C.UTF-8", 1);
    unsetenv("NO_COLOR");
    std::vector<std::string> words{program, "--dir", dir};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    execv(program.c_str(), argv.data());
    _exit(127);
  }
  ~Terminal() {
    if (child_ > 0 && !exited_) {
      kill(child_, SIGKILL);
      (void)waitpid(child_, nullptr, 0);
    }
    close(fd_);
  }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  /// Reads what is there; all that was ever shown.
  const std::string& output() {
    pollfd ready{fd_, POLLIN, 0};
    while (poll(&ready, 1, 20) > 0) {
      std::array<char, 4096> buffer{};
      const ssize_t got = read(fd_, buffer.data(), buffer.size());
      if (got <= 0) break;
      output_.append(buffer.data(), static_cast<std::size_t>(got));
    }
    return output_;
  }
  bool shows(const std::string& text) {
    return eventually([&] { return output().find(text, from_) != std::string::npos; });
  }
  void forget() { from_ = output().size(); }
  void type(const std::string& keys) { ASSERT_EQ(write(fd_, keys.data(), keys.size()), static_cast<ssize_t>(keys.size())); }
  void resize(unsigned short columns, unsigned short rows) {
    const winsize size{rows, columns, 0, 0};
    ASSERT_EQ(ioctl(fd_, TIOCSWINSZ, &size), 0);  // the kernel sends SIGWINCH
  }
  /// Waits for the end; the exit code, -1 after a signal.
  int wait() {
    int status = 0;
    const bool ended = eventually([&] {
      (void)output();
      return waitpid(child_, &status, WNOHANG) == child_;
    });
    exited_ = ended;
    return ended && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

 private:
  int fd_ = -1;
  pid_t child_ = -1;
  bool exited_ = false;
  std::string output_;
  std::size_t from_ = 0;
};

constexpr char kEnter[] = "\x1b[?1049h";
constexpr char kLeave[] = "\x1b[?25h\x1b[?1049l";

TEST(WatchCluster, FollowsAFailoverInAnySizeAndLeavesTheTerminalAsItWas) {
  const TestCluster cluster(3);
  Terminal terminal(cluster, {"watch"}, 100, 30);
  EXPECT_TRUE(terminal.shows(kEnter));
  EXPECT_TRUE(terminal.shows("coordinator n1"));
  EXPECT_TRUE(terminal.shows("slots busy"));

  terminal.forget();
  terminal.resize(20, 5);
  EXPECT_TRUE(terminal.shows("\x1b[2J"));
  terminal.resize(120, 40);
  EXPECT_TRUE(terminal.shows("slots busy"));

  terminal.forget();
  terminal.type("?");
  EXPECT_TRUE(terminal.shows("What the columns mean"));
  terminal.type("?p");
  EXPECT_TRUE(terminal.shows("PAUSED"));
  terminal.type("p\t");

  terminal.forget();
  cluster.expect(0, {"kill-node", "--coordinator"});
  EXPECT_TRUE(terminal.shows("took over from n1"));

  terminal.type("q");
  EXPECT_EQ(terminal.wait(), 0);
  EXPECT_NE(terminal.output().find(kLeave), std::string::npos);
  EXPECT_EQ(cluster.status()["nodes"].size(), 3U);
}

TEST(WatchCluster, CtrlCLeavesTheViewAndNothingElse) {
  const TestCluster cluster(1);
  Terminal terminal(cluster, {"watch", "nodes"}, 80, 24);
  EXPECT_TRUE(terminal.shows("slots busy"));
  terminal.type("\x03");
  EXPECT_EQ(terminal.wait(), 0);
  EXPECT_NE(terminal.output().find(kLeave), std::string::npos);
  EXPECT_TRUE(cluster.healthy());
}

TEST(WatchCluster, JsonOnATerminalIsLinesToo) {
  const TestCluster cluster(1);
  Terminal terminal(cluster, {"watch", "nodes", "-o", "jsonl", "--for", "3s"}, 80, 24);
  EXPECT_TRUE(terminal.shows("\"type\":\"stats\""));
  EXPECT_EQ(terminal.wait(), 0);
  EXPECT_EQ(terminal.output().find('\x1b'), std::string::npos);
}

TEST(WatchCluster, WithoutAClusterItSaysSo) {
  const TempDir empty;
  const CommandResult result = run_program({(bin_dir() / "idunno").string(), "--dir", empty.path().string(), "watch"});
  EXPECT_NE(result.exit_code, 0);
  EXPECT_NE(result.err.find("idunno up"), std::string::npos) << result.err;
}

}  // namespace
}  // namespace idunno::testing
