// error: moe needs C++20: link moe::moe with target_link_libraries, or pass -std=c++20
// flags: -std=c++17
#include <moe/exec/host.hpp>
