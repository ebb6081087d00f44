#pragma once
// Everything that the stages find by overload on a Host handle.
#include <moe/exec/host.hpp>
#include <moe/exec/host/gemm.hpp>
#include <moe/exec/host/grouped_gemm.hpp>
#include <moe/exec/host/grouped_rows.hpp>
#include <moe/exec/host/sort.hpp>
#include <moe/exec/host/sum_rows.hpp>
