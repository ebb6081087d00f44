// A run from its first line to its last: what rank 0 prints, logs, saves and judges for all.
// On every space.
#include "run.hpp"

#include <chrono>
#include <cstdio>

#include "bigram.hpp"
#include "space.hpp"
#include "trainer.hpp"

namespace train_lm {
namespace {

class Stopwatch {
 public:
  [[nodiscard]] double seconds() const
  {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// The table that --log asks for, closed at the end.
class Log {
 public:
  explicit Log(std::string const& path)
  {
    if (path.empty()) { return; }
    file_ = std::fopen(path.c_str(), "w");
    if (file_ == nullptr) { throw Refused("The log " + path + " cannot be written."); }
    std::fprintf(file_, "step\tloss\tbalance_loss\tworst_load\tdropped\n");
  }
  Log(Log const&)            = delete;
  Log& operator=(Log const&) = delete;
  ~Log()
  {
    if (file_ != nullptr) { std::fclose(file_); }
  }
  void write(index_t step, StepReport const& r)
  {
    if (file_ == nullptr) { return; }
    std::fprintf(file_,
                 "%lld\t%.9g\t%.9g\t%.9g\t%.9g\n",
                 static_cast<long long>(step),
                 r.loss,
                 r.balance_loss,
                 r.worst_load,
                 r.dropped);
  }

 private:
  std::FILE* file_ = nullptr;
};

template <class ExecT>
void train(Trainer<ExecT>& trainer, Corpus const& corpus, Options const& o, bool speaks, Log& log)
{
  Stopwatch const watch;
  index_t const first = trainer.steps_done();
  index_t const last  = o.stop_at > 0 ? std::min(o.stop_at, o.steps) : o.steps;
  while (trainer.steps_done() < last) {
    trainer.step(corpus);
    index_t const step = trainer.steps_done();
    if (step % o.log_every != 0 && step != first + 1 && step != last) { continue; }
    auto const r         = trainer.report();
    double const seconds = watch.seconds(), done = static_cast<double>(step - first);
    if (!speaks) { continue; }
    log.write(step, r);
    std::printf(
        "step %4lld/%lld  loss %.4f  %6.0f tokens/s  busiest expert %.2f x mean  "
        "dropped %.1f%%  %.0f s left\n",
        static_cast<long long>(step),
        static_cast<long long>(o.steps),
        r.loss,
        done * static_cast<double>(o.batch * o.context) / seconds,
        r.worst_load,
        100 * r.dropped,
        seconds / done * static_cast<double>(last - step));
    std::fflush(stdout);
  }
}

// Whether the model beats the bigram model.
template <class ExecT>
bool judge(Trainer<ExecT>& trainer, Corpus const& corpus, Options const& o, bool speaks)
{
  using Experts        = typename Trainer<ExecT>::Experts;
  auto const windows   = corpus.validation(o.validation_bytes);
  auto const bigram    = Bigram(corpus.training_pieces()).tuned(windows.token, windows.target);
  double const loss    = trainer.evaluate(windows, Experts::routed);
  double const silence = trainer.evaluate(windows, Experts::silenced);
  double const better  = bigram.loss - loss;
  if (!speaks) { return better > 0; }
  std::printf("\nvalidation %.4f nat/byte (%.2f bits), bigram %.4f (smoothing %.3g): %s by %.4f\n",
              loss,
              loss / std::log(2.0),
              bigram.loss,
              bigram.smoothing,
              better > 0 ? "better" : "worse",
              std::fabs(better));
  std::printf("routed experts silenced: %.4f (%+.4f)\n", silence, silence - loss);
  if (o.router == "expert-choice") {
    std::printf(
        "expert choice sees the future: which tokens an expert takes depends on later bytes, "
        "so these losses compare with no other router's.\n");
  }
  return better > 0;
}

// Text that goes on from the first bytes of the validation text.
template <class ExecT>
void write_sample(Trainer<ExecT>& trainer, Corpus const& corpus, Options const& o, bool speaks)
{
  if (o.sample_bytes == 0) { return; }
  auto const windows = corpus.validation(o.validation_bytes);
  std::string text;
  for (index_t i = 0; i < std::min<index_t>(o.context, 48); ++i) {
    text += static_cast<char>(windows.token[static_cast<std::size_t>(i)]);
  }
  std::size_t const given = text.size();
  for (index_t i = 0; i < o.sample_bytes; ++i) {
    auto const bits = moe::philox4x32({{static_cast<std::uint32_t>(i), 0, 0, 0x736d706cu}},
                                      {{static_cast<std::uint32_t>(o.seed), 0}});
    text += static_cast<char>(
        trainer.next_byte(text, 0.7, moe::uniform_from<double>(bits[0], bits[1])));
  }
  for (char& c : text) {
    bool const shown = c == '\n' || (c >= ' ' && c <= '~');
    if (!shown) { c = '?'; }
  }
  if (!speaks) { return; }
  std::printf("\n-- given --\n%s\n-- written --\n%s\n-- end --\n",
              text.substr(0, given).c_str(),
              text.substr(given).c_str());
}

// What is about to be trained.
void introduce(Corpus const& corpus, index_t parameters, int ranks, Options const& o)
{
  std::printf("%zu files, %lld bytes to train on; %lld parameters in %lld blocks of %lld experts\n",
              corpus.files().size(),
              static_cast<long long>(corpus.training_bytes()),
              static_cast<long long>(parameters),
              static_cast<long long>(o.layers),
              static_cast<long long>(o.expert_count));
  std::printf("gate %s, router %s, capacity %s, dispatcher %s, experts %s\n\n",
              o.gate.c_str(),
              o.router.c_str(),
              o.capacity.c_str(),
              ranks > 1 ? ("all-to-all of " + std::to_string(ranks) + " ranks").c_str()
                        : o.dispatcher.c_str(),
              o.experts.c_str());
}

}  // namespace

template <class ExecT>
int run_rank(ExecT const& exec, Ranks<ExecT> const& ranks, Options const& o, Checkpoint const* from)
{
  Stopwatch const watch;
  bool const speaks = ranks.rank() == 0;
  if (speaks && !o.save.empty()) { check_writable(o.save); }
  Log log(speaks ? o.log : "");
  auto const corpus = Corpus::read(o.files, o.context);
  Trainer<ExecT> trainer(exec, o, ranks);
  if (speaks) { introduce(corpus, trainer.parameter_count(), ranks.size(), o); }
  if (from != nullptr) {
    trainer.load(*from);
    if (speaks) {
      std::printf("going on after step %lld of %s%s\n",
                  static_cast<long long>(trainer.steps_done()),
                  o.resume.c_str(),
                  from->number("fingerprint") == corpus.fingerprint()
                      ? ""
                      : "; the text has changed since");
    }
  }

  if (!o.eval_only) { train(trainer, corpus, o, speaks, log); }
  if (!trainer.ranks_agree()) {
    throw std::runtime_error("what every rank has of the parameters is no longer the same");
  }
  if (!o.save.empty()) {
    auto const checkpoint = trainer.save(corpus);
    if (speaks) {
      save_checkpoint(o.save, checkpoint);
      std::printf("saved %s\n", o.save.c_str());
    }
  }
  if (!o.eval_only && trainer.steps_done() < o.steps) {
    if (speaks) {
      std::printf("left off after step %lld; --resume %s goes on\n",
                  static_cast<long long>(trainer.steps_done()),
                  o.save.c_str());
    }
    return 0;
  }
  bool const better = judge(trainer, corpus, o, speaks);
  write_sample(trainer, corpus, o, speaks);
  if (speaks) { std::printf("%.0f s in all\n", watch.seconds()); }
  return o.is_default_run() && !better ? 1 : 0;
}
template int run_rank(Space const&, Ranks<Space> const&, Options const&, Checkpoint const*);

#if defined(__CUDACC__)
int run_on_cuda(Options const& o, Checkpoint const* from)
{
  return run_rank(moe::Cuda(nullptr, {.products = products_of(o)}), OneRank<moe::Cuda>{}, o, from);
}
#else
int run_on_host(Options const& o, Checkpoint const* from)
{
  moe::HostOptions const options{.threads  = static_cast<int>(o.threads),
                                 .products = products_of(o)};
  return run_rank(moe::Host(options), OneRank<moe::Host>{}, o, from);
}
#endif

}  // namespace train_lm
