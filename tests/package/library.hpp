// All that a stranger includes.
#pragma once
#if __has_include(<moe/moe.hpp>)
#include <moe/moe.hpp>
#else
#include <moe/exec/host.hpp>
#endif
