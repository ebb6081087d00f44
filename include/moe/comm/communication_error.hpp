#pragma once
// What a collective throws when it takes several ranks to see what is wrong.
#include <cstdint>
#include <string_view>
#include <vector>

#include <moe/core/error.hpp>

namespace moe {

// A collective that could not be completed. Every rank of the world gets the same one, the first
// cause, and gets it again from every later collective. `rank` is the rank at fault, numbered as in
// the world that was split; `operation` and `sequence` say at which collective: the sequence-th of
// its communicator, counted from 1 (0: before the first).
struct CommunicationError : Error {
  CommunicationError(std::string_view where,
                     std::string_view what,
                     std::string_view was,
                     std::string_view must_be,
                     int at_rank,
                     std::uint64_t at_sequence)
      : Error(where, what, was, must_be, at_rank), sequence{at_sequence}
  {
  }
  std::uint64_t sequence;
};

// Ranks that had not come when a wait had lasted as long as the deadline.
struct TimeoutError : CommunicationError {
  TimeoutError(std::string_view where,
               std::string_view what,
               std::string_view was,
               std::string_view must_be,
               std::vector<int> missing_ranks,
               std::uint64_t at_sequence)
      : CommunicationError(where, what, was, must_be, missing_ranks.at(0), at_sequence),
        missing{std::move(missing_ranks)}
  {
  }
  std::vector<int> missing;  // at least one, ascending
};

}  // namespace moe
