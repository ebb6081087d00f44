#pragma once
// Everything that the stages find by overload on a Cuda handle.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/exec/cuda.cuh>
#include <moe/exec/cuda/gemm.cuh>
#include <moe/exec/cuda/grouped_gemm.cuh>
#include <moe/exec/cuda/grouped_rows.cuh>
#include <moe/exec/cuda/sort.cuh>
#include <moe/exec/cuda/sum_rows.cuh>
#include <moe/plan/cuda/fill_plan.cuh>
#include <moe/route/cuda/count_bad_input.cuh>
#include <moe/route/cuda/route_by_logits.cuh>
