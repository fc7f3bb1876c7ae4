#include "nodes/jobs/batch_layout.h"

#include <algorithm>

namespace idunno {

JobShape shape_of(const JobSpec& spec, const std::vector<JobSegment>& segments) {
  return {segments.empty() ? spec.queries : segments.front().first_query, spec.batch, spec.repeat};
}

std::uint64_t batches_for(std::uint64_t queries, std::uint32_t batch) {
  return batch == 0 ? 0 : queries / batch + (queries % batch != 0 ? 1 : 0);
}

std::uint64_t batches_per_pass(const JobShape& shape) { return batches_for(shape.queries, shape.batch); }

std::uint64_t batches_of(const JobShape& shape, const std::vector<JobSegment>& segments) {
  if (!segments.empty()) return segments.back().first_batch + batches_for(segments.back().queries, shape.batch);
  const std::uint64_t pass = batches_per_pass(shape);
  if (pass == 0) return 0;
  if (shape.repeat == 0) return kBatchNumbersMax / pass * pass;
  return pass > UINT64_MAX / shape.repeat ? UINT64_MAX : pass * shape.repeat;
}

BatchPlace place_of(const JobShape& shape, const std::vector<JobSegment>& segments, std::uint64_t batch) {
  BatchPlace place;
  if (batch >= batches_of(shape, segments)) return place;
  std::uint64_t queries = shape.queries;  // of the manifest
  std::uint64_t before = 0;               // queries of the job before it
  std::uint64_t index = batch;            // of the batch in it
  const auto after = std::upper_bound(segments.begin(), segments.end(), batch,
                                      [](std::uint64_t b, const JobSegment& segment) { return b < segment.first_batch; });
  if (after != segments.begin()) {
    const JobSegment& segment = *(after - 1);
    place.segment = static_cast<std::uint32_t>(after - segments.begin());
    queries = segment.queries;
    before = segment.first_query;
    index = batch - segment.first_batch;
  } else {
    const std::uint64_t pass = batches_per_pass(shape);
    before = batch / pass * shape.queries;
    index = batch % pass;
  }
  place.item = index * shape.batch;
  place.first_query = before + place.item;
  place.queries = static_cast<std::uint32_t>(std::min<std::uint64_t>(shape.batch, queries - place.item));
  return place;
}

}  // namespace idunno
