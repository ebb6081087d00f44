#pragma once
// A memory plan as numbers and as text.
#include <algorithm>
#include <cstdio>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <moe/core/error.hpp>
#include <moe/exec/host/pooling_resource.hpp>
#include <moe/exec/memory_meter.hpp>
#include <moe/layer/memory_names.hpp>

namespace moe {

// How long a buffer is needed: parameters and their gradients always, what is saved from a forward
// pass to its backward, scratch within its pass.
enum class Lifetime { params, grads, saved, forward, backward, evaluate };

constexpr char const* name_of(Lifetime l)
{
  constexpr char const* names[] = {
      "parameters", "gradients", "saved", "forward", "backward", "evaluate"};
  return names[static_cast<int>(l)];
}

// Buffers of one name; they need not live at the same time.
struct MemoryBuffer {
  Lifetime lifetime;
  std::string name;
  std::size_t bytes;    // most that they are at a time
  std::size_t at_peak;  // when its pass has the most in use; of scratch, at_peak is what counts
  int blocks;           // requests
};

struct MemoryPlan {
  std::vector<MemoryBuffer> buffers;
  std::size_t params = 0, grads = 0;
  std::size_t saved = 0;  // from forward to backward
  // The most in use during a pass, with what is saved, beside parameters and gradients. x, y, dy
  // and dx are the caller's and not in it.
  std::size_t forward = 0, backward = 0, evaluate = 0;
  // What a Host's own pool (PoolingResource) has taken from the system after a training step, with
  // parameters and gradients; 0 on Cuda.
  std::size_t host_pool = 0;

  [[nodiscard]] std::size_t step() const { return std::max(forward, backward); }
  [[nodiscard]] std::size_t training() const { return params + grads + step(); }
  [[nodiscard]] std::size_t inference() const { return params + evaluate; }

  // Of one name, or 0.
  [[nodiscard]] std::size_t bytes(Lifetime lifetime, std::string_view name) const
  {
    for (auto const& b : buffers) {
      if (b.lifetime == lifetime && b.name == name) { return b.bytes; }
    }
    return 0;
  }
  // All of a lifetime, when its pass has the most in use.
  [[nodiscard]] std::size_t at_peak(Lifetime lifetime) const
  {
    std::size_t sum = 0;
    for (auto const& b : buffers) {
      sum += b.lifetime == lifetime ? b.at_peak : 0;
    }
    return sum;
  }
  void add(Lifetime lifetime, std::string const& name, std::size_t bytes, std::size_t at_peak)
  {
    for (auto& b : buffers) {
      if (b.lifetime == lifetime && b.name == name) {
        b.bytes += bytes;
        b.at_peak += at_peak;
        ++b.blocks;
        return;
      }
    }
    buffers.push_back({lifetime, name, bytes, at_peak, 1});
  }
};

namespace detail {

// Blocks of a meter by their names: those of `rest` where it has none.
struct NamedBlocks {
  std::vector<std::pair<std::size_t, std::string>> list;  // bytes, name

  NamedBlocks(MemoryMeter const& meter, BufferNames const& names, char const* rest)
  {
    for (auto const& b : meter.blocks()) {
      auto name = names.of(b);
      list.emplace_back(b.bytes, name.empty() ? rest : std::move(name));
    }
  }
};

// What one pass asked for: the blocks made in the moments [from, to) and not in use at `until`.
class PassBlocks {
 public:
  PassBlocks(MemoryMeter const& meter, std::size_t from, std::size_t to, std::size_t until)
      : from_{from}, to_{to}, all_{&meter.blocks()}
  {
    for (auto const& b : *all_) {
      if (from <= b.made && b.made < to && b.returned <= until) { blocks_.push_back({b, {}}); }
    }
    find_peak();
  }

  // Names the first run of blocks without names that are as large, made beside all stages.
  void name(NamedBlocks const& named)
  {
    auto const& list = named.list;
    std::vector<std::size_t> beside;
    for (std::size_t i = 0; i < blocks_.size(); ++i) {
      if (is_pass(blocks_[i].first.phase)) { beside.push_back(i); }
    }
    for (std::size_t at = 0; at + list.size() <= beside.size(); ++at) {
      bool same = true;
      for (std::size_t i = 0; same && i < list.size(); ++i) {
        auto const& [block, its_name] = blocks_[beside[at + i]];
        same                          = its_name.empty() && block.bytes == list[i].first;
      }
      if (!same) { continue; }
      for (std::size_t i = 0; i < list.size(); ++i) {
        blocks_[beside[at + i]].second = list[i].second;
      }
      return;
    }
  }
  // All that have none: after their stage; or, beside all stages, that name.
  void name_rest(char const* beside)
  {
    for (auto& [block, its_name] : blocks_) {
      if (!its_name.empty()) { continue; }
      its_name = is_pass(block.phase) ? beside : joined({"scratch of ", name_of(block.phase)});
    }
  }
  [[nodiscard]] std::size_t most_in_use() const { return most_; }

  void add_to(MemoryPlan& plan, Lifetime lifetime) const
  {
    std::vector<std::string> order;
    for (auto const& [block, its_name] : blocks_) {
      if (std::find(order.begin(), order.end(), its_name) == order.end()) {
        order.push_back(its_name);
      }
    }
    for (auto const& its_name : order) {
      MemoryBuffer buffer{lifetime, its_name, 0, 0, 0};
      for (auto const& [block, same] : blocks_) {
        if (same != its_name) { continue; }
        ++buffer.blocks;
        buffer.bytes = std::max(buffer.bytes, live(its_name, block.made));
      }
      buffer.at_peak = live(its_name, peak_);
      plan.buffers.push_back(std::move(buffer));
    }
  }

 private:
  void find_peak()
  {
    for (std::size_t moment = from_ == 0 ? 0 : from_ - 1; moment < to_; ++moment) {
      std::size_t in_use = 0;
      for (auto const& b : *all_) {
        in_use += b.lives_at(moment) ? b.bytes : 0;
      }
      if (in_use > most_) {
        most_ = in_use;
        peak_ = moment;
      }
    }
  }
  [[nodiscard]] std::size_t live(std::string const& of, std::size_t moment) const
  {
    std::size_t sum = 0;
    for (auto const& [block, its_name] : blocks_) {
      sum += its_name == of && block.lives_at(moment) ? block.bytes : 0;
    }
    return sum;
  }

  std::size_t from_, to_;
  std::vector<MeteredBlock> const* all_;
  std::vector<std::pair<MeteredBlock, std::string>> blocks_;
  std::size_t most_ = 0, peak_ = 0;
};

// A PoolingResource gives a returned block to a request of its rounded size and to no other, so it
// takes the most blocks of each size that live at a time.
inline std::size_t pooled(std::vector<MeteredBlock> const& blocks)
{
  std::map<std::size_t, std::map<std::size_t, std::ptrdiff_t>> changes;  // size -> moment -> +-1
  for (auto const& b : blocks) {
    auto& of_size = changes[PoolingResource::rounded(b.bytes)];
    ++of_size[b.made];
    if (b.returned != MeteredBlock::held) { --of_size[b.returned]; }
  }
  std::size_t sum = 0;
  for (auto const& [size, of_size] : changes) {
    std::ptrdiff_t live = 0, most = 0;
    for (auto const& [moment, change] : of_size) {
      live += change;
      most = std::max(most, live);
    }
    sum += size * static_cast<std::size_t>(most);
  }
  return sum;
}

}  // namespace detail

// A table, a line for each buffer, then what the passes need.
[[nodiscard]] inline std::string to_text(MemoryPlan const& plan)
{
  char line[160];
  std::string text;
  auto const add = [&](auto const&... values) {
    (void)std::snprintf(line, sizeof line, values...);
    text += line;
  };
  add("%-11s %-36s %16s %16s %7s\n", "", "buffer", "bytes", "at the peak", "blocks");
  for (auto const& b : plan.buffers) {
    add("%-11s %-36s %16zu %16zu %7d\n",
        name_of(b.lifetime),
        b.name.c_str(),
        b.bytes,
        b.at_peak,
        b.blocks);
  }
  auto const total = [&](char const* what, std::size_t bytes) {
    add("%-48s %16zu\n", what, bytes);
  };
  total("parameters", plan.params);
  total("gradients", plan.grads);
  total("saved for backward", plan.saved);
  total("most in use during forward", plan.forward);
  total("most in use during backward", plan.backward);
  total("most in use during evaluate", plan.evaluate);
  total("a training step, parameters and gradients too", plan.training());
  total("inference, parameters too", plan.inference());
  return text;
}

}  // namespace moe
