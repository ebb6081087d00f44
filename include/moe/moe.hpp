#pragma once
// Everything that a C++ compiler alone can build: the layer, all policies, the Host space.
#include <moe/core/initialize.hpp>
#include <moe/dispatch/local_dispatcher.hpp>
#include <moe/exec/host/primitives.hpp>
#include <moe/expert/ffn.hpp>
#include <moe/expert/shared_expert.hpp>
#include <moe/layer.hpp>
#include <moe/plan/drop_policy.hpp>
#include <moe/route/balance_loss.hpp>
#include <moe/route/expert_choice_router.hpp>
#include <moe/route/given_routing.hpp>
#include <moe/route/linear_gate.hpp>
#include <moe/route/noisy_top_k_router.hpp>
#include <moe/route/renormalize_kept.hpp>
#include <moe/route/scored_router.hpp>
#include <moe/route/selection_bias.hpp>
#include <moe/route/top_k_softmax_router.hpp>
