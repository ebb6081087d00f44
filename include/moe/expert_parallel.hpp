#pragma once
// moe.hpp, and experts that are spread over ranks: the dispatcher, and ranks that are threads.
#include <moe/comm/decorators.hpp>
#include <moe/comm/simulated_communicator.hpp>
#include <moe/comm/thread_world.hpp>
#include <moe/comm/window_communicator.hpp>
#include <moe/dispatch/all_to_all_dispatcher.hpp>
#include <moe/dispatch/hierarchical_exchange.hpp>
#include <moe/dispatch/one_sided_exchange.hpp>
#include <moe/moe.hpp>
