#pragma once
// moe.hpp and the CUDA space: for .cu files.
#include <moe/exec/cuda/nvcc_only.cuh>

// A policy that cannot run on the device is an error where these headers call it, even if only Host
// would in this file; nvcc by itself warns, and makes a kernel without the call.
#pragma nv_diag_error 20011
#pragma nv_diag_error 20013
#pragma nv_diag_error 20014
#pragma nv_diag_error 20015

#include <moe/comm/cuda/thread_call.cuh>
#include <moe/comm/cuda/thread_window.cuh>
#include <moe/dispatch/cuda/combine.cuh>
#include <moe/dispatch/cuda/gather_rows.cuh>
#include <moe/dispatch/cuda/one_sided.cuh>
#include <moe/dispatch/cuda/wire.cuh>
#include <moe/exec/cuda/primitives.cuh>
#include <moe/expert/cuda/activate.cuh>
#include <moe/expert/cuda/down_backward.cuh>
#include <moe/expert/cuda/up_activated.cuh>
#include <moe/moe.hpp>

#pragma nv_diag_default 20011
#pragma nv_diag_default 20013
#pragma nv_diag_default 20014
#pragma nv_diag_default 20015
