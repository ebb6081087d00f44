# cmake -DPROJECT=... -DBINARY=... -DGENERATOR=... -DOPTIONS=-Da=b|... -DREFUSED=... -DPRINTS=...
#       -P consume.cmake
# Configures PROJECT afresh, builds it, and runs the program consumer where it makes one.
string(REPLACE "|" ";" OPTIONS "${OPTIONS}")
file(REMOVE_RECURSE "${BINARY}")
execute_process(COMMAND "${CMAKE_COMMAND}" -G "${GENERATOR}" -S "${PROJECT}" -B "${BINARY}"
                        ${OPTIONS}
                RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
string(REGEX REPLACE "[ \n]+" " " words "${output}")  # CMake wraps its messages

foreach(message IN ITEMS "${REFUSED}" "${PRINTS}")
  string(FIND "${words}" "${message}" at)
  if(at EQUAL -1)
    message(FATAL_ERROR "configuring should say: ${message}\nbut says:\n${output}")
  endif()
endforeach()
if(REFUSED AND status EQUAL 0)
  message(FATAL_ERROR "configuring should fail, but says:\n${output}")
elseif(REFUSED)
  return()
elseif(NOT status EQUAL 0)
  message(FATAL_ERROR "configuring failed:\n${output}")
endif()

execute_process(COMMAND "${CMAKE_COMMAND}" --build "${BINARY}" COMMAND_ERROR_IS_FATAL ANY)
if(EXISTS "${BINARY}/consumer")
  execute_process(COMMAND "${BINARY}/consumer" COMMAND_ERROR_IS_FATAL ANY)
endif()
