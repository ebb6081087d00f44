#pragma once
// Where one rank's parameters lie in a run's: ranks hold all parameters but experts, of which each
// has its own. What is written to a checkpoint, and what the gradient's norm is taken of, is laid
// out as on one rank.
#include <memory>
#include <vector>

#include <moe/core/params.hpp>

namespace train_lm {

using moe::index_t;

// `count` consecutive parameters.
struct Piece {
  index_t here  = 0;  // where this rank has them; -1: another rank has
  index_t whole = 0;  // where a single rank has them
  index_t count = 0;
  bool on_all   = false;  // the same on every rank
  [[nodiscard]] Piece moved(index_t here_by, index_t whole_by) const
  {
    return {here < 0 ? here : here + here_by, whole + whole_by, count, on_all};
  }
  // Of its copies, the one that counts.
  [[nodiscard]] bool counts_at(int rank) const { return here >= 0 && (!on_all || rank == 0); }
};

struct Pieces {
  std::vector<Piece> list;  // the same on every rank but for `here`
  index_t here  = 0;        // elements of this rank's memory
  index_t whole = 0;        // of a single rank's
};

// The views that P carves for `sizes`, by where they begin.
template <class P, class ExecT>
class Layout {
 public:
  template <class SizesT>
  explicit Layout(SizesT const& sizes)
  {
    moe::Carver<float, ExecT> count;
    P::carve(count, sizes);
    size_   = count.used();
    memory_ = std::make_unique_for_overwrite<float[]>(static_cast<std::size_t>(size_));
    moe::Carver<float, ExecT> carver(memory_.get());
    views_ = P::carve(carver, sizes);
  }
  [[nodiscard]] index_t size() const { return size_; }
  [[nodiscard]] P const& views() const { return views_; }
  template <class ViewT>
  [[nodiscard]] index_t offset(ViewT const& view) const
  {
    return view.empty() ? 0 : view.data_handle() - memory_.get();
  }

 private:
  std::unique_ptr<float[]> memory_;  // addresses to count from: nobody reads or writes it
  P views_;
  index_t size_ = 0;
};

// A part of a layout, view by view: rows (0 or more) of `each` elements from `first` on.
struct Span {
  index_t first = 0, rows = 0, each = 0;
};
template <class P, class ExecT, class PartT>
[[nodiscard]] std::vector<Span> spans(Layout<P, ExecT> const& layout, PartT const& part)
{
  std::vector<Span> all;
  part.for_each([&](char const*, auto const& view, moe::Init) {
    index_t const rows = view.empty() ? 0 : view.extent(0);
    all.push_back({layout.offset(view), rows, rows == 0 ? 0 : view.size() / rows});
  });
  return all;
}

// What every rank has whole.
inline void add_on_all(std::vector<Piece>& to,
                       std::vector<Span> const& here,
                       std::vector<Span> const& whole)
{
  for (std::size_t i = 0; i < whole.size(); ++i) {
    to.push_back({here[i].first, whole[i].first, whole[i].rows * whole[i].each, true});
  }
}
// What has a row for each expert, of which `first` and those after it are here.
inline void add_experts(std::vector<Piece>& to,
                        std::vector<Span> const& here,
                        std::vector<Span> const& whole,
                        index_t first)
{
  for (std::size_t i = 0; i < whole.size(); ++i) {
    for (index_t e = 0; e < whole[i].rows; ++e) {
      bool const is_here = e >= first && e < first + here[i].rows;
      to.push_back({is_here ? here[i].first + (e - first) * whole[i].each : -1,
                    whole[i].first + e * whole[i].each,
                    whole[i].each,
                    false});
    }
  }
}

}  // namespace train_lm
