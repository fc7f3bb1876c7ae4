#include "tests/chaos/work.h"

#include <gtest/gtest.h>

#include <atomic>
#include <fstream>
#include <mutex>
#include <thread>

#include "cli/app.h"

namespace idunno::testing {

Work::Work(const Lab& lab, int pictures) : lab_(lab), pictures_(pictures) {
  constexpr int kSide = 28;
  const auto folder = lab.make_images("pictures", pictures, kSide);
  lab.expect(0, {"fs", "put", "-r", folder.string(), "/pictures"});
  int seed = 1;
  for (const char* model : {"left", "right"}) {
    lab.expect(0, {"model", "init", "lenet5", "--name", model, "--seed", std::to_string(seed++)});
    undisturbed_[model] = lab.finish(lab.submit(job(model, 0)));
    EXPECT_FALSE(undisturbed_[model].empty());
  }
}

std::vector<std::string> Work::job(const std::string& model, int rate) const {
  std::vector<std::string> line{"--model", model, "--data", "/pictures", "--batch", "4"};
  if (rate > 0) line.insert(line.end(), {"--rate", std::to_string(rate) + "/s"});
  return line;
}

void Work::begin(int rate) {
  running_.clear();
  for (const auto& [model, digest] : undisturbed_) running_[model] = lab_.submit(job(model, rate));
}

bool Work::reached(int part) const {
  return eventually([&] {
    for (const auto& [model, id] : running_) {
      if (lab_.job(id).value("done", 0) * 100 < part * pictures_) return false;
    }
    return true;
  });
}

void Work::check() const {
  for (const auto& [model, id] : running_) {
    EXPECT_EQ(lab_.finish(id), undisturbed_.at(model)) << "job " << id << " of model " << model;
    const nlohmann::json job = lab_.job(id);
    EXPECT_EQ(job.value("done", 0), pictures_);
    EXPECT_EQ(job.value("errors", -1), 0);
  }
}

void Work::check_whole() const {
  EXPECT_TRUE(eventually(
      [&] {
        const nlohmann::json now = lab_.status();
        return now.is_object() && now.value("healthy", false) && now.value("under_replicated_blocks", -1) == 0;
      },
      std::chrono::seconds(120)))
      << lab_.status().dump(1);
  lab_.expect(0, {"fs", "fsck"});
}

void Work::put_file() {
  const std::string path = "/kept/" + std::to_string(files_.size());
  const std::string content = "file " + std::to_string(files_.size()) + " of the chaos tests\n";
  const auto local = lab_.scratch() / "put";
  std::ofstream(local) << content;
  const CommandResult put = lab_.idunno({"fs", "put", local.string(), path});
  if (put.exit_code == 0) {
    files_[path] = content;
  } else {
    std::printf("%s was not acknowledged: %s", path.c_str(), put.err.c_str());
  }
}

void Work::check_files() const {
  for (const auto& [path, content] : files_) EXPECT_EQ(lab_.expect(0, {"fs", "cat", path}).out, content) << path;
}

// ---- acknowledgements ---------------------------------------------------------------------------------------------------

struct Acknowledger::Impl {
  cli::Globals globals;
  std::unique_ptr<cli::Session> session;
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> acknowledged{0};
  std::vector<std::uint64_t> numbers;  ///< of the files that were acknowledged; the thread's until stop
  std::thread thread;

  static std::string path_of(std::uint64_t number) { return "/acknowledged/" + std::to_string(number); }
  static std::string content_of(std::uint64_t number) { return "acknowledged " + std::to_string(number * 0x9E3779B97F4A7C15ULL); }

  void run() {
    for (std::uint64_t number = 1; !stop; ++number) {
      if (!session->sdfs().refresh_placement()) continue;
      if (!session->sdfs().put_pieces(path_of(number), {Bytes(content_of(number))})) continue;
      numbers.push_back(number);
      ++acknowledged;
    }
  }
};

Acknowledger::Acknowledger(const Lab& lab) : impl_(std::make_unique<Impl>()) {
  impl_->globals.config = lab.config_file();
  impl_->globals.timeout = std::chrono::seconds(20);
  auto session = cli::Session::open(impl_->globals);
  EXPECT_TRUE(session.ok()) << (session ? "" : session.error().detail);
  if (!session) return;
  impl_->session = std::move(*session);
  impl_->thread = std::thread([impl = impl_.get()] { impl->run(); });
}

Acknowledger::~Acknowledger() { stop(); }

void Acknowledger::stop() {
  impl_->stop = true;
  if (impl_->thread.joinable()) impl_->thread.join();
}

std::uint64_t Acknowledger::acknowledged() const { return impl_->acknowledged; }

std::uint64_t Acknowledger::missing() {
  stop();
  std::uint64_t missing = 0;
  for (const std::uint64_t number : impl_->numbers) {
    std::string found;
    const Status read = impl_->session->sdfs().get(Impl::path_of(number), 0, [&](ByteView bytes) {
      found += bytes;
      return Status{};
    });
    if (read && found == Impl::content_of(number)) continue;
    ++missing;
    ADD_FAILURE() << Impl::path_of(number) << " was acknowledged and is "
                  << (read ? "wrong" : "not there: " + read.error().detail);
  }
  return missing;
}

}  // namespace idunno::testing
