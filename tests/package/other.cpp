// The second translation unit: links only if all that the headers define is inline.
#include "library.hpp"

int threads_of_other(moe::Host const& exec);

int threads_of_other(moe::Host const& exec) { return exec.threads(); }
