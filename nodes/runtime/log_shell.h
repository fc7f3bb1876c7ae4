#pragma once
/// The logs' part of a node's control thread: answers searches (its own log, and the ends of others' that it keeps), sends the
/// end of its own log to two others, keeps theirs. Files are read and written by threads of its own: a search delays the node by
/// no more than taking it in and sending the answer.

#include <memory>

#include "bus/rpc.h"
#include "nodes/runtime/log_files.h"
#include "nodes/runtime/node_context.h"
#include "nodes/swim/swim.h"

namespace idunno {

class LogShell {
 public:
  /// `log` may be null: then there is nothing to search or send, and only others' ends are kept. `context` and `rpc` outlive
  /// this.
  LogShell(NodeContext& context, RpcServer& rpc, std::shared_ptr<LogFiles> log);
  ~LogShell();
  LogShell(const LogShell&) = delete;
  LogShell& operator=(const LogShell&) = delete;

  void member_changed(const MemberChange& change);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace idunno
