#include <fmt/core.h>

#include <algorithm>
#include <filesystem>

#include "bus/clock.h"
#include "bus/units.h"
#include "cli/query.h"
#include "cli/reports.h"
#include "storage/sdfs/dataset_formats.h"

namespace idunno::cli {

namespace {

constexpr char kQueries[] = "/jobs/queries/";
constexpr Duration kLookAgain = std::chrono::milliseconds(500);  ///< events may be lost

double ms_since(Time& from) {
  const Time now = monotonic_now();
  const double passed = std::chrono::duration<double, std::milli>(now - from).count();
  from = now;
  return passed;
}

Status check_files(const std::vector<std::string>& files) {
  if (files.size() > kQueryFilesMax) {
    return Error{Errc::invalid, fmt::format("{} files, {} are possible at once; `idunno fs put` and `idunno submit` take more",
                                            files.size(), kQueryFilesMax)};
  }
  for (const std::string& file : files) {
    std::error_code error;
    if (!std::filesystem::exists(file, error)) return Error{Errc::not_found, fmt::format("no file {}", file)};
    if (!std::filesystem::is_regular_file(file, error)) return Error{Errc::invalid, fmt::format("{} is no file", file)};
    if (!has_image_name(file))
      return Error{Errc::invalid, fmt::format("{} is no .jpg, .jpeg or .png; `idunno submit` takes other data sets", file)};
  }
  return {};
}

/// What the query put into the cluster, and takes out again.
class Traces {
 public:
  explicit Traces(Session& session, std::string folder) : session_(session), folder_(std::move(folder)) {}
  ~Traces() {
    MetadataClient& metadata = session_.metadata();
    if (job_) {
      if (!over_) (void)metadata.call_and_wait(JobControlRequest{job_, JobAction::stop});
      (void)metadata.call_and_wait(JobControlRequest{job_, JobAction::remove});
    }
    if (stored_) (void)metadata.call_and_wait(FsRemoveRequest{{folder_}, true});
  }
  Traces(const Traces&) = delete;
  Traces& operator=(const Traces&) = delete;
  void stored() { stored_ = true; }
  void submitted(JobId job) { job_ = job; }
  void over() { over_ = true; }

 private:
  Session& session_;
  std::string folder_;
  bool stored_ = false;
  JobId job_;
  bool over_ = false;
};

Result<std::vector<Json>> rows_of(Session& session, JobId job) {
  std::vector<Json> rows;
  auto totals = read_results(session, job, false, [&](const ResultBlock& block) -> Status {
    std::string_view left = block.rows.view();
    while (!left.empty()) {
      const std::size_t length = std::min(left.find('\n'), left.size());
      Json row = Json::parse(left.substr(0, length), nullptr, false);
      if (!row.is_object()) return Error{Errc::damaged, "a result row is no JSON object"};
      rows.push_back(std::move(row));
      left.remove_prefix(std::min(length + 1, left.size()));
    }
    return {};
  });
  if (!totals) return totals.error();
  return rows;
}

}  // namespace

Result<std::unique_ptr<JobEnds>> JobEnds::watch(Session& session) {
  static constexpr std::size_t kKept = 256;
  std::unique_ptr<JobEnds> ends(new JobEnds(session));
  auto subscriber = Subscriber::create(session.loop(), session.zmq(), session.keys(), session.config().cluster_hash(),
                                       session.rpc().peers(), [raw = ends.get()](const Envelope& envelope) {
                                         if (envelope.header.type != MessageType::event_notice) return;
                                         const auto notice = envelope.body<EventNotice>();
                                         if (!notice) return;
                                         const std::string& type = notice->event.type;
                                         if (type != "job_done" && type != "job_failed" && type != "job_stopped") return;
                                         if (raw->ended_.size() >= kKept) raw->ended_.erase(raw->ended_.begin());
                                         raw->ended_.push_back(notice->event.job);
                                       });
  if (!subscriber) return subscriber.error();
  ends->subscriber_ = std::move(*subscriber);
  ends->subscriber_->subscribe(kEventTopic);
  return ends;
}

JobEnds::~JobEnds() = default;

Result<JobReport> JobEnds::wait(JobId job, Time deadline) {
  while (true) {
    const auto ended = [&] { return std::find(ended_.begin(), ended_.end(), job) != ended_.end(); };
    (void)session_.loop().run_until(ended, std::min(deadline, monotonic_now() + kLookAgain));
    auto report = job_report(session_, job);
    if (!report) return report.error();
    if (is_over(report->state) || report->state == JobState::queued) return report;
    if (monotonic_now() >= deadline) {
      return Error{Errc::timeout, fmt::format("{} is {} with {} of {} inputs done; say more --timeout", to_string(job),
                                              to_string(report->state), report->done, report->spec.queries)};
    }
  }
}

Result<QueryAnswer> run_query(Session& session, JobEnds& ends, const QueryOptions& options) {
  if (Status files = check_files(options.files); !files) return files.error();
  const Time began = monotonic_now();
  Time at = began;
  QueryAnswer answer;
  const RequestId fresh = session.rpc().fresh_request_id();
  const std::string folder = kQueries + to_hex(fresh.client, fresh.sequence);
  Traces traces(session, folder);

  std::vector<SdfsClient::PutItem> items;
  for (std::size_t i = 0; i < options.files.size(); ++i)  // numbered: the order of paths is the order of the arguments
    items.push_back({options.files[i], fmt::format("{}/{:04}{}", folder, i, lower_extension(options.files[i]))});
  if (auto ready = session.sdfs().refresh_placement(); !ready) return ready.error();
  auto put = session.sdfs().put(items, [](const TransferProgress&) {});
  if (!put) return put.error();
  traces.stored();
  answer.times.put_ms = ms_since(at);

  SubmitOptions submit;
  submit.model = options.model;
  submit.data = folder;
  submit.name = "query";
  submit.top = options.top;
  submit.urgent = true;
  submit.batch =
      std::to_string(options.batch != 0 ? options.batch : std::min<std::size_t>(options.files.size(), kQueryFilesInBatchMax));
  auto job = submit_job(session, submit);
  if (!job) return job.error();
  traces.submitted(*job);
  answer.times.submit_ms = ms_since(at);

  auto report = ends.wait(*job, began + options.timeout);
  if (!report) return report.error();
  answer.times.wait_ms = ms_since(at);
  if (report->state == JobState::queued) return Error{Errc::conflict, "not now: the query " + report->reason};
  traces.over();
  answer.report = std::move(*report);
  if (answer.report.state != JobState::done)
    return Error{Errc::internal, fmt::format("its job {}: {}", to_string(answer.report.state), answer.report.reason)};
  auto rows = rows_of(session, *job);
  if (!rows) return rows.error();
  if (rows->size() != options.files.size())
    return Error{Errc::damaged, fmt::format("{} rows came for {} files", rows->size(), options.files.size())};
  answer.rows = std::move(*rows);
  answer.times.read_ms = ms_since(at);
  answer.times.total_ms = std::chrono::duration<double, std::milli>(monotonic_now() - began).count();
  return answer;
}

}  // namespace idunno::cli
