#pragma once
// moe.hpp and the CUDA space: for .cu files.
#include <moe/exec/cuda/nvcc_only.cuh>

#include <moe/dispatch/cuda/combine.cuh>
#include <moe/exec/cuda/primitives.cuh>
#include <moe/expert/cuda/activate.cuh>
#include <moe/moe.hpp>
