#pragma once
/// Compile time only: the codec of every message and command is instantiated once, in codec_instances.cc, instead of in each of
/// the hundreds of files that send or receive it. A type that is missing here still works: its users instantiate it themselves.
/// Include bus/codec.h, not this file; the messages of bus/swim_messages.h and bus/log_messages.h declare theirs at the end of
/// those.

#include "bus/codec_impl.h"

// clang-format off
#define IDUNNO_MESSAGES(X) \
  X(ErrorReply) X(StatusReply) X(StatusRequest) X(PhaseReply) X(PhaseRequest) X(PlacementReply) X(PlacementRequest) \
  X(FsListReply) X(FsListRequest) X(FsStatReply) X(FsStatRequest) X(FsCommitReply) X(FsCommitRequest) X(FsRemoveReply) \
  X(FsRemoveRequest) X(FsMoveReplicasReply) X(FsMoveReplicasRequest) X(FsStoreReply) X(FsStoreRequest) \
  X(ModelAddReply) X(ModelAddRequest) X(ModelListReply) X(ModelListRequest) X(ModelRemoveReply) X(ModelRemoveRequest) \
  X(SubmitReply) X(SubmitRequest) X(JobControlReply) X(JobControlRequest) X(JobSetReply) X(JobSetRequest) \
  X(JobReportsReply) X(JobReportsRequest) X(JobResultsReply) X(JobResultsRequest) X(NodeHelloReply) X(NodeHello) \
  X(HeartbeatReply) X(Heartbeat) X(LeaseGrant) X(JobOrder) X(PrefetchModel) X(LeaseDrop) X(CommitBatchesReply) X(CommitBatches) \
  X(BatchFailedReply) X(BatchFailed) X(ReplicaTask) X(ReplicaReportReply) X(ReplicaReport) X(InventoryReply) \
  X(Inventory) X(DamagedBlocksReply) X(DamagedBlocks) X(TransferLeadershipReply) X(TransferLeadership) \
  X(PutBlocksReply) X(PutBlocks) X(GetBlocksReply) X(GetBlocks) X(CheckBlocksReply) X(CheckBlocks) X(PullBlocksReply) \
  X(PullBlocks) X(DeleteBlocksReply) X(DeleteBlocks) X(ListBlocksReply) X(ListBlocks) X(Pong) X(Ping) X(EventNotice) \
  X(StatsNotice)

#define IDUNNO_COMMANDS(X) \
  X(NewEpoch) X(RegisterNode) X(CommitFiles) X(RemoveFiles) X(MoveReplicas) X(ForgetBlocks) X(AddModel) X(RemoveModel) \
  X(SubmitJob) X(ControlJob) X(SetJob) X(FailJob) X(SetPhase) X(ExtendJob) X(CommitBatchResults)
// clang-format on

#define IDUNNO_MESSAGE_CODEC(prefix, T)                                  \
  prefix template Bytes encode_message<T>(Header header, const T& body); \
  prefix template Result<T> Envelope::body<T>() const;                   \
  IDUNNO_VALUE_CODEC(prefix, T)
#define IDUNNO_COMMAND_CODEC(prefix, T)                                                       \
  prefix template Bytes encode_command<T>(WallMs stamp_ms, RequestId request, const T& body); \
  prefix template Result<T> CommandEnvelope::body<T>() const;                                 \
  IDUNNO_VALUE_CODEC(prefix, T)
#define IDUNNO_VALUE_CODEC(prefix, T)              \
  prefix template Bytes encode<T>(const T& value); \
  prefix template Result<T> decode<T>(ByteView bytes, std::size_t bytes_max);

#define IDUNNO_DECLARED_MESSAGE(T) IDUNNO_MESSAGE_CODEC(extern, T)
#define IDUNNO_DECLARED_COMMAND(T) IDUNNO_COMMAND_CODEC(extern, T)
#define IDUNNO_DEFINED_MESSAGE(T) IDUNNO_MESSAGE_CODEC(, T)
#define IDUNNO_DEFINED_COMMAND(T) IDUNNO_COMMAND_CODEC(, T)

namespace idunno {
IDUNNO_MESSAGES(IDUNNO_DECLARED_MESSAGE)
IDUNNO_COMMANDS(IDUNNO_DECLARED_COMMAND)
}  // namespace idunno
