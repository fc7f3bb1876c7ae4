#pragma once
/// Writes the segments of jobs that follow a folder (nodes/jobs/follow.h) while this node coordinates: looks at what the lists of
/// queries cover and what the folder holds, collects what is new for a moment, writes it as one list of queries into SDFS, and
/// has the control plane propose it. An ordinary SDFS client in a thread of its own, which begins with the first following job: a
/// slow cluster never delays the control thread. Control thread, but for that one.

#include <memory>

#include "nodes/jobs/follow.h"
#include "nodes/runtime/own_client.h"

namespace idunno {

class ControlShell;

/// Files that land within this time become one segment.
inline constexpr Duration kFollowLinger = std::chrono::milliseconds(200);
inline constexpr std::size_t kSegmentFilesMax = 4096;    ///< in one segment; the rest goes into the next
inline constexpr std::size_t kFollowWaitingMax = 65536;  ///< files remembered for a job; beyond, the folder is compared again

class FollowShell {
 public:
  using Options = OwnClient::Options;
  /// `loop` is the control thread's; it, `context` and `control` outlive this.
  FollowShell(EventLoop& loop, ZmqContext& context, ControlShell& control, Options options);
  /// Ends what is under way without waiting for its answer.
  ~FollowShell();

  /// What the coordinator says, under the epoch of its reign.
  void notice(Epoch epoch, const FollowNotice& notice);

 private:
  class Writer;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace idunno
