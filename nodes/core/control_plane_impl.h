#pragma once
/// Private to control_plane*.cc. Files: control_plane.cc (turns, office, life), _requests (clients and nodes).

#include <deque>
#include <functional>
#include <optional>
#include <set>

#include "nodes/core/control_plane.h"
#include "nodes/jobs/state_reads.h"

namespace idunno {

inline constexpr Duration kTransferTimeout = std::chrono::seconds(2);  ///< for a transfer of leadership, then it is given up
inline constexpr std::size_t kTransferAskersMax = 16;

struct ControlPlane::Impl {
  struct Read {
    Ticket ticket = 0;
    std::function<void(Time now)> answer;
  };
  struct Member {
    NodeState state = NodeState::unknown;
    Incarnation incarnation;
    WallMs since_ms = 0;
  };
  struct Transfer {
    NodeId to;
    Time give_up{};
    std::vector<Ticket> askers;
  };

  Impl(ControlConfig c, Random r, WallMs wall);

  // control_plane.cc
  /// The first entry of a term.
  [[nodiscard]] Bytes begin_command(Epoch epoch) const;
  [[nodiscard]] Status restore(const Snapshot& snapshot);
  /// This node coordinates, and may still do so.
  [[nodiscard]] bool in_office() const;
  void enter_office(Time now, WallMs wall);
  void leave_office();
  void obey(CoordinatorOutput&& done);
  [[nodiscard]] bool propose_waiting();
  void apply(const LogEntry& entry, Time now, WallMs wall);
  void answer_reads(Time now);
  [[nodiscard]] Status turn(Time now, WallMs wall);
  [[nodiscard]] Status compact_when_due();
  void set_wall(Time now, WallMs at);
  [[nodiscard]] WallMs wall_at(Time now) const;
  [[nodiscard]] const ClusterState& state() const { return coordinator_ ? coordinator_->state() : state_; }
  void check_invariants() const;

  // control_plane_requests.cc
  template <class Req>
  void read(const RequestInfo& info, const Req& request, Time now);
  template <class Req>
  void ask_coordinator(const RequestInfo& info, const Req& request, Time now);
  /// What this node knows; none when only the coordinator can say it.
  template <class Req>
  [[nodiscard]] std::optional<Answer> stale_answer(const Req& request) const;
  [[nodiscard]] StatusReply stale_status() const;
  [[nodiscard]] LogServers servers() const;
  void reply(Ticket ticket, Answer answer, bool stale = false);
  void reply_error(Ticket ticket, Errc code, std::string detail);
  void reply_not_leader(Ticket ticket);
  void transfer(const RequestInfo& info, const TransferLeadership& request, Time now);
  void settle_transfer(Time now);

  ControlConfig config_;
  Random random_;
  std::unique_ptr<RaftLog> log_;
  ClusterState state_;                        ///< while there is no coordinator here
  std::unique_ptr<Coordinator> coordinator_;  ///< while this node coordinates
  Epoch reign_;                               ///< of coordinator_
  Status failure_;                            ///< of the log: final
  ControlOutput out_;                         ///< of this turn; nothing of it leaves before the flush

  std::deque<Bytes> proposals_;  ///< not taken by the log yet; bounded as the coordinator's pending requests are
  bool turn_again_ = false;      ///< the bound of flushes was reached with proposals left
  std::set<Ticket> waiting_;     ///< the coordinator's, unanswered
  std::map<std::uint64_t, Read> reads_;
  std::uint64_t last_read_ = 0;
  std::optional<Transfer> transfer_;
  std::map<NodeId, Member> members_;  ///< as membership says

  std::size_t log_bytes_ = 0;  ///< applied since the last snapshot
  std::size_t snapshot_bytes_ = 0;
  Time wall_read_at_{};
  WallMs wall_ = 0;
};

}  // namespace idunno
