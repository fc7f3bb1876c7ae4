#pragma once
/// Keeps a ClusterPicture up to date from a running cluster: the event stream of all nodes, the coordinator's status now and
/// then, and, while there is no coordinator, what the other nodes think of the members. One thread: the session's.

#include <functional>
#include <memory>

#include "cli/app.h"
#include "cli/watch_picture.h"

namespace idunno::cli {

class ClusterFeed {
 public:
  struct Hooks {
    std::function<void(const Event&)> on_event;  ///< after the picture has it
    std::function<void(const StatsNotice&)> on_stats;
    std::function<void()> on_status;
  };
  /// Asks for the status first: a publisher that is not there cannot be told from one with nothing to say.
  [[nodiscard]] static Result<std::unique_ptr<ClusterFeed>> start(Session& session, Hooks hooks);
  ~ClusterFeed();
  ClusterFeed(const ClusterFeed&) = delete;
  ClusterFeed& operator=(const ClusterFeed&) = delete;

  [[nodiscard]] ClusterPicture& picture() { return picture_; }

 private:
  ClusterFeed(Session& session, Hooks hooks);
  void on_notice(const Envelope& envelope);
  void look();
  void ask_status();
  void ask_members();

  Session& session_;
  Hooks hooks_;
  ClusterPicture picture_;
  std::unique_ptr<Subscriber> subscriber_;
  EventLoop::TimerId timer_ = 0;
  Time status_due_;
  std::size_t next_node_ = 0;
  // Answers that come after this object are dropped.
  std::shared_ptr<bool> asking_status_ = std::make_shared<bool>(false);
  std::shared_ptr<bool> asking_members_ = std::make_shared<bool>(false);
};

}  // namespace idunno::cli
