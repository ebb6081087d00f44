# PROGRAM, or a SUITE of its cases, under a TOOL of compute-sanitizer. Without a GPU there is nothing
# to look at.
set(cases "")
if(SUITE)
  set(cases "--test-suite=${SUITE}")
endif()
execute_process(COMMAND "${PROGRAM}" --count ${cases}
                RESULT_VARIABLE result OUTPUT_VARIABLE count ERROR_VARIABLE count)
if(result EQUAL 77)
  message("skipped: no CUDA driver or no GPU")
  return()
endif()
if(NOT count MATCHES "filters: [1-9]")
  message(FATAL_ERROR "${PROGRAM} has no cases of the suite '${SUITE}': ${count}")
endif()
# Every call's result is looked at by the library itself; that a GPU has access already is no error.
set(options --tool ${TOOL} --error-exitcode 86 --report-api-errors no)
if(TOOL STREQUAL "memcheck")
  list(APPEND options --track-stream-ordered-races all)
endif()
execute_process(COMMAND "${SANITIZER}" ${options} "${PROGRAM}" ${cases} RESULT_VARIABLE result)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "${TOOL} of ${PROGRAM} ${cases}: ${result}")
endif()
