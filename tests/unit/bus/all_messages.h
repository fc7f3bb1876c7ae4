#pragma once
/// Every message and every command type, for tests that have to see them all. codec_test.cc checks that none is left out.

#include <tuple>

#include "bus/commands.h"
#include "bus/log_messages.h"
#include "bus/messages.h"
#include "bus/swim_messages.h"

namespace idunno::test {

using AllMessages = std::tuple<
    ErrorReply, StatusRequest, StatusReply, PlacementRequest, PlacementReply, FsListRequest, FsListReply, FsStatRequest,
    FsStatReply, FsCommitRequest, FsCommitReply, FsRemoveRequest, FsRemoveReply, FsMoveReplicasRequest, FsMoveReplicasReply,
    FsStoreRequest, FsStoreReply, ModelAddRequest, ModelAddReply, ModelListRequest, ModelListReply, ModelRemoveRequest,
    ModelRemoveReply, SubmitRequest, SubmitReply, JobControlRequest, JobControlReply, JobSetRequest, JobSetReply,
    JobReportsRequest, JobReportsReply, JobResultsRequest, JobResultsReply, NodeHello, NodeHelloReply, Heartbeat, HeartbeatReply,
    LeaseGrant, LeaseDrop, CommitBatches, CommitBatchesReply, BatchFailed, BatchFailedReply, ReplicaTask, ReplicaReport,
    ReplicaReportReply, Inventory, InventoryReply, DamagedBlocks, DamagedBlocksReply, TransferLeadership, TransferLeadershipReply,
    PutBlocks, PutBlocksReply, GetBlocks, GetBlocksReply, CheckBlocks, CheckBlocksReply, PullBlocks, PullBlocksReply,
    DeleteBlocks, DeleteBlocksReply, ListBlocks, ListBlocksReply, Ping, Pong, EventNotice, StatsNotice, SwimProbe, SwimAck,
    MemberListRequest, MemberListReply, MemberHistoryRequest, MemberHistoryReply, PhaseRequest, PhaseReply, JobOrder,
    PrefetchModel, LogSearchRequest, LogSearchReply, LogTail, LogTailReply, BatchLivesRequest, BatchLivesReply>;

using AllCommands = std::tuple<NewEpoch, RegisterNode, CommitFiles, RemoveFiles, MoveReplicas, ForgetBlocks, AddModel,
                               RemoveModel, SubmitJob, ControlJob, SetJob, FailJob, CommitBatchResults, SetPhase, ExtendJob>;

/// Calls visit.template operator()<T>() for each type of the tuple.
template <class Tuple, class Visit>
void for_each_type(Visit visit) {
  [&]<class... T>(std::tuple<T...>*) { (visit.template operator()<T>(), ...); }(static_cast<Tuple*>(nullptr));
}

}  // namespace idunno::test
