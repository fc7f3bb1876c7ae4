#pragma once
/// Which query of a batch ends executors. A batch whose run has ended executors several times is isolated: leases of parts of it
/// (trials: the rest is zeros, nothing is stored) find the smallest prefix that ends an executor by bisecting, its last query is
/// the suspect, and two deaths of that query alone put it into quarantine. Then the batch runs whole again with zeros in its
/// place; should it die once more, the search goes on beyond. Pure: a function of the outcomes, so whoever computes a trial, the
/// same queries are found.
///
/// Deaths that nobody's query caused (somebody killed the executor) lead to a suspect that passes alone: then the batch runs
/// whole again. After kIsolationRounds such searches the batch is given up. A model that ends its executor on zeros alone (the
/// control, before everything else) has no query to blame: the batch is given up at once.
///
/// Deaths of one isolation: at most 2 for the control, and log2(queries) + 3 for each quarantined query and each vain round.

#include <cstdint>
#include <vector>

namespace idunno {

inline constexpr std::uint32_t kIsolationRounds = 3;     ///< searches that find nobody before the batch is given up
inline constexpr std::uint32_t kIsolationDeathsMin = 2;  ///< of a suspect alone, or of the control, before it is believed

class BatchIsolation {
 public:
  /// What to lease next.
  enum class Step : std::uint8_t {
    trial,    ///< the places of trial() but for quarantined(); answered by died() or passed()
    whole,    ///< the batch without quarantined(), for its result; died() goes on searching, its commit is the end
    give_up,  ///< no more: error rows for all
  };
  /// Places [from, to) of the batch.
  struct Trial {
    std::uint32_t from = 0;
    std::uint32_t to = 0;
    [[nodiscard]] bool empty() const { return from == to; }
    bool operator==(const Trial&) const = default;
  };

  explicit BatchIsolation(std::uint32_t queries);  ///< > 0; the whole batch is known to end executors

  [[nodiscard]] Step step() const;
  [[nodiscard]] Trial trial() const;  ///< empty unless the step is a trial
  /// Places that are not to be computed in this step, ascending: the queries in quarantine; in the control, all.
  [[nodiscard]] std::vector<std::uint32_t> masked() const;
  [[nodiscard]] const std::vector<std::uint32_t>& quarantined() const { return quarantined_; }

  /// The executor that ran the present step ended. True: a query has come into quarantine, last_quarantined().
  bool died();
  /// The trial came to its end.
  void passed();
  [[nodiscard]] std::uint32_t last_quarantined() const { return last_; }

 private:
  enum class Phase : std::uint8_t { control, search, confirm, whole, give_up };
  void search();
  void suspect_or_search();
  void in_vain();

  std::uint32_t queries_;
  Phase phase_ = Phase::control;
  std::uint32_t low_ = 0;     ///< the prefix [0, low) does not end executors
  std::uint32_t high_ = 0;    ///< the prefix [0, high) does
  std::uint32_t deaths_ = 0;  ///< of the control or the suspect, in a row
  std::uint32_t rounds_ = 0;  ///< in vain
  std::uint32_t last_ = 0;
  std::vector<std::uint32_t> quarantined_;
};

}  // namespace idunno
